//! What the teacher says of one batch.

use tch::{Tensor, no_grad};

use super::bundle::Items;
use super::{DistilConfig, DistilError, Teacher};
use crate::inputs::Inputs;
use crate::loss::{divergence, embedding_distance, score_distance};
use crate::model::{Encoded, MatchLogits};
use crate::nn::{Context, Precision};

enum States {
    Tensors { image: Tensor, text: Tensor, mask: Tensor },
    Items(Items),
}

/// The teacher's view of one batch.
pub struct Lesson<'a> {
    config: &'a DistilConfig,
    teacher: &'a Teacher,
    /// Of pictures and texts, [B, E] each.
    embeddings: [Tensor; 2],
    states: States,
}

impl Teacher {
    /// Encodes the batch: whole pictures, whole texts, no gradient.
    ///
    /// # Errors
    /// A bundle's towers failed.
    pub fn teach<'a>(&'a self, config: &'a DistilConfig, inputs: &Inputs) -> Result<Lesson<'a>, DistilError> {
        let (embeddings, states) = match self {
            Self::Checkpoint(loaded) => no_grad(|| {
                let w = loaded.params.weights_of(loaded.params.flat(), Precision::F32);
                let pixels = inputs.pixels_at(loaded.model.config.vision.image);
                let (ids, mask) = inputs.whole_text();
                let Encoded { embedding: image, states: image_states } =
                    loaded.model.encode_image(&w, &pixels, None, Context::EVAL);
                let Encoded { embedding: text, states: text_states } = loaded.model.encode_text(&w, ids, mask, Context::EVAL);
                let states = States::Tensors { image: image_states, text: text_states, mask: mask.shallow_clone() };
                ([image, text], states)
            }),
            Self::Bundle(bundle) => {
                let (embeddings, items) = bundle.teach(inputs)?;
                (embeddings, States::Items(items))
            }
        };
        Ok(Lesson { config, teacher: self, embeddings, states })
    }
}

impl Lesson<'_> {
    /// The terms over the student's embeddings of the batch, [B, E'] each, weighted and summed.
    pub fn embedding_terms(&self, [image, text]: [&Tensor; 2]) -> Tensor {
        let [taught_image, taught_text] = &self.embeddings;
        let c = self.config;
        let mut sum = Tensor::from(0.0f32).to_device(image.device());
        if c.similarity_weight > 0.0 {
            let own = image.matmul(&text.tr()) / c.temperature;
            let taught = taught_image.matmul(&taught_text.tr()) / c.temperature;
            let both = divergence(&own, &taught) + divergence(&own.tr(), &taught.tr());
            sum += both * (c.similarity_weight / 2.0);
        }
        if c.embedding_weight > 0.0 {
            let both = embedding_distance(image, taught_image) + embedding_distance(text, taught_text);
            sum += both * (c.embedding_weight / 2.0);
        }
        sum
    }

    /// The term over the match scores of the pairs (`image_index`, `text_index`), `[P]` i64 each; `None` where it has no
    /// weight.
    ///
    /// # Errors
    /// A bundle's cross tower failed.
    pub fn score_term(
        &self,
        [image_index, text_index]: [&Tensor; 2],
        matched: &MatchLogits,
    ) -> Result<Option<Tensor>, DistilError> {
        if self.config.score_weight <= 0.0 {
            return Ok(None);
        }
        let [text, image] = match (self.teacher, &self.states) {
            (Teacher::Checkpoint(loaded), States::Tensors { image, text, mask }) => no_grad(|| {
                let w = loaded.params.weights_of(loaded.params.flat(), Precision::F32);
                let of = |states: &Tensor, index: &Tensor| states.index_select(0, index);
                let (image, text, mask) = (of(image, image_index), of(text, text_index), of(mask, text_index));
                let (text, image) = loaded.model.match_pairs(&w, &image, &text, &mask, Context::EVAL).probabilities();
                [text, image]
            }),
            (Teacher::Bundle(bundle), States::Items(items)) => {
                let numbers = |index: &Tensor| (0..index.size()[0]).map(|at| index.int64_value(&[at])).collect::<Vec<i64>>();
                let pairs: Vec<_> = numbers(image_index).into_iter().zip(numbers(text_index)).collect();
                bundle.match_pairs(items, &pairs)?.map(|taught| taught.to_device(matched.text.device()))
            }
            // A lesson's states are of its teacher's kind.
            (Teacher::Checkpoint(_), States::Items(_)) | (Teacher::Bundle(_), States::Tensors { .. }) => return Ok(None),
        };
        let both = score_distance(&matched.text, &text) + score_distance(&matched.image, &image);
        Ok(Some(both * (self.config.score_weight / 2.0)))
    }
}
