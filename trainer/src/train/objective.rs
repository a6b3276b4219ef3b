//! One step's forward pass: GCPR, and FGR where it is due.

use tch::{Kind, Tensor};

use super::config::LossConfig;
use crate::corpus::NOT_MASKED;
use crate::distil::{DistilError, Lesson};
use crate::inputs::Inputs;
use crate::loss::{
    Draw, FeatureQueue, HeadFigures, POSITIVE_WEIGHT, contrast, distilled_targets, feature_distillation, hard_negatives,
    listwise, masked_cross_entropy, same_concept, same_concept_columns, soft_targets, token_wise, weighted_cross_entropy,
};
use crate::model::{Encoded, MatchLogits, R2d2};
use crate::nn::{Context, Weights};

/// Values of one step's losses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepLosses {
    /// What was minimised.
    pub total: f64,
    /// Contrastive part.
    pub gcpr: f64,
    /// Matching part, where it was due: the mean of both heads.
    pub fgr: Option<f64>,
    /// Of the text-image and of the image-text cross encoder's head, where they were due.
    pub heads: Option<[HeadFigures; 2]>,
    /// Masked language modelling, where it was due.
    pub mlm: Option<f64>,
    /// Feature-guided distillation, where it was due.
    pub fgd: Option<f64>,
    /// Distillation from a teacher: all its terms, weighted.
    pub distil: Option<f64>,
    /// Part of pairs in the batch whose own text is the nearest, before the update.
    pub batch_accuracy: f64,
}

/// Values of the cross encoders' terms.
pub(super) struct CrossTerms {
    fgr: f64,
    heads: [HeadFigures; 2],
    mlm: Option<f64>,
    distil: Option<f64>,
}

impl StepLosses {
    /// Losses of a step that so far has its contrastive part only; `logits` and `same` [B, B] of the batch.
    pub(super) fn of_contrast(loss: &Tensor, logits: &Tensor, same: &Tensor) -> Self {
        let value = loss.double_value(&[]);
        Self {
            total: value,
            gcpr: value,
            fgr: None,
            heads: None,
            mlm: None,
            fgd: None,
            distil: None,
            batch_accuracy: batch_accuracy(logits, same),
        }
    }

    /// With the terms that were not due in this step as they were in an earlier one: where they are due every other step, a log of every
    /// tenth would never have them.
    pub(super) fn with_terms_of(self, earlier: Option<Self>) -> Self {
        let Some(earlier) = earlier else { return self };
        Self {
            fgr: self.fgr.or(earlier.fgr),
            heads: self.heads.or(earlier.heads),
            mlm: self.mlm.or(earlier.mlm),
            fgd: self.fgd.or(earlier.fgd),
            distil: self.distil.or(earlier.distil),
            ..self
        }
    }

    /// Notes a teacher's terms over the embeddings [B, E] of the whole batch, and gives their weighted sum.
    pub(super) fn add_lesson(&mut self, lesson: &Lesson<'_>, embeddings: [&Tensor; 2]) -> Tensor {
        let sum = lesson.embedding_terms(embeddings);
        self.distil = Some(sum.double_value(&[]));
        sum
    }

    /// Notes the terms of the cross encoders.
    pub(super) const fn note_cross(&mut self, terms: &CrossTerms) {
        self.fgr = Some(terms.fgr);
        self.heads = Some(terms.heads);
        self.mlm = terms.mlm;
        if let Some(taught) = terms.distil {
            self.distil = Some(match self.distil {
                Some(before) => before + taught,
                None => taught,
            });
        }
    }
}

/// What the contrastive loss sees beside the batch.
#[derive(Default)]
pub struct Guide<'a> {
    /// The momentum towers: their features are the columns and fill the queue; without them the towers' own features do
    /// (cross-batch memory, Wang et al. 2020).
    pub teacher: Option<&'a Weights>,
    /// Features of recent steps.
    pub queue: Option<&'a mut FeatureQueue>,
    /// Part of the targets that comes from the momentum towers (α of docs/R2D2.md §2.4).
    pub alpha: f64,
    /// What a teacher says of the batch.
    pub lesson: Option<&'a Lesson<'a>>,
}

/// The matching loss, and what it was computed of.
struct Ranked {
    loss: Tensor,
    heads: [HeadFigures; 2],
    mlm: Option<Tensor>,
    /// Places of the pairs' pictures and texts, [P] each.
    index: [Tensor; 2],
    matched: MatchLogits,
}

/// The model and its loss settings.
pub struct Objective<'a> {
    /// Architecture.
    pub model: &'a R2d2,
    /// Settings.
    pub loss: &'a LossConfig,
}

impl Objective<'_> {
    fn context(&self) -> Context {
        Context {
            train: true,
            dropout: self.loss.dropout,
            attention_dropout: self.loss.attention_dropout,
            drop_path: self.loss.drop_path,
        }
    }

    /// Image and text encoded. Enhanced training: where the cross encoders run, the masked text is the one that every term sees.
    pub(super) fn encode(&self, w: &Weights, inputs: &Inputs, with_itm: bool) -> [Encoded; 2] {
        let image = self.model.encode_image(w, &inputs.pixels, inputs.keep.as_ref(), self.context());
        let masked = inputs.masked.as_ref().filter(|_| with_itm);
        let ids = masked.map_or(&inputs.ids, |[hidden, _]| hidden);
        [image, self.model.encode_text(w, ids, &inputs.mask, self.context())]
    }

    fn temperature(&self, w: &Weights) -> Tensor {
        let temperature = self.model.temperature(w);
        if self.loss.learn_temperature { temperature.shallow_clone() } else { temperature.detach() }
    }

    /// Forward pass; the tensor returned is to be differentiated.
    ///
    /// # Errors
    /// A teacher's towers failed.
    pub fn forward(
        &self,
        w: &Weights,
        inputs: &Inputs,
        with_itm: bool,
        guide: &mut Guide<'_>,
    ) -> Result<(Tensor, StepLosses), DistilError> {
        let [image, text] = self.encode(w, inputs, with_itm);
        self.terms(w, inputs, [&image, &text], with_itm, guide)
    }

    /// Every term over a batch that is encoded, summed with its weights.
    ///
    /// # Errors
    /// A teacher's towers failed.
    pub(super) fn terms(
        &self,
        w: &Weights,
        inputs: &Inputs,
        [image, text]: [&Encoded; 2],
        with_itm: bool,
        guide: &mut Guide<'_>,
    ) -> Result<(Tensor, StepLosses), DistilError> {
        let temperature = self.temperature(w);
        let same = same_concept(&inputs.concepts);
        let embeddings = [&image.embedding, &text.embedding];
        let (mut total, fgd, logits) = if self.loss.token_wise {
            let [by_image, by_text] = self.late_interaction(w, inputs, [image, text]).map(|scores| scores / &temperature);
            let targets = soft_targets(&same, self.loss.label_smoothing);
            let loss = contrast(&by_image, &targets, None) + contrast(&by_text.tr(), &targets, None);
            (loss / 2.0, None, by_image.detach())
        } else {
            let (loss, fgd) = self.contrastive(inputs, embeddings, with_itm, &temperature, guide);
            (loss, fgd, batch_logits(embeddings, &temperature))
        };
        let mut losses = StepLosses::of_contrast(&total, &logits, &same);
        if let Some(fgd) = fgd {
            losses.fgd = Some(fgd.double_value(&[]));
            total += fgd * self.loss.fgd_weight;
        }
        if let Some(lesson) = guide.lesson {
            total += losses.add_lesson(lesson, embeddings);
        }
        if with_itm && let Some((terms, weighted)) = self.cross_terms(w, inputs, [image, text], &logits, guide.lesson)? {
            losses.note_cross(&terms);
            total += weighted;
        }
        losses.total = total.double_value(&[]);
        Ok((total, losses))
    }

    /// The terms of the cross encoders, and their weighted sum; `None` where no negative can be drawn.
    fn cross_terms(
        &self,
        w: &Weights,
        inputs: &Inputs,
        encoded: [&Encoded; 2],
        logits: &Tensor,
        lesson: Option<&Lesson<'_>>,
    ) -> Result<Option<(CrossTerms, Tensor)>, DistilError> {
        let Some(ranked) = self.fgr(w, inputs, encoded, logits) else { return Ok(None) };
        let Ranked { loss, heads, mlm, index: [image_index, text_index], matched } = ranked;
        let value = |term: &Tensor| term.double_value(&[]);
        let mut terms = CrossTerms { fgr: value(&loss), heads, mlm: mlm.as_ref().map(value), distil: None };
        let mut weighted = loss * self.loss.fgr_weight;
        if let Some(mlm) = mlm {
            weighted += mlm * self.loss.mlm_weight;
        }
        if let Some(lesson) = lesson
            && let Some(taught) = lesson.score_term([&image_index, &text_index], &matched)?
        {
            terms.distil = Some(value(&taught));
            weighted += taught;
        }
        Ok(Some((terms, weighted)))
    }

    /// FILIP's similarities of the batch, both views [B, B] with images as rows.
    fn late_interaction(&self, w: &Weights, inputs: &Inputs, [image, text]: [&Encoded; 2]) -> [Tensor; 2] {
        let image = self.model.image_tokens(w, &image.states);
        token_wise(&image, &self.model.text_tokens(w, &text.states, &inputs.mask))
    }

    /// Features of the momentum towers for the batch, without gradient.
    fn teach(&self, teacher: &Weights, inputs: &Inputs) -> [Tensor; 2] {
        tch::no_grad(|| {
            let image = self.model.encode_image(teacher, &inputs.pixels, inputs.keep.as_ref(), Context::EVAL);
            let text = self.model.encode_text(teacher, &inputs.ids, &inputs.mask, Context::EVAL);
            [image.embedding, text.embedding]
        })
    }

    /// GCPR over the batch and the queue (docs/R2D2.md §2.1, §2.4), and FgD (§2.5) where the text is masked and the momentum towers saw it
    /// whole; afterwards the batch's features join the queue.
    fn contrastive(
        &self,
        inputs: &Inputs,
        [image, text]: [&Tensor; 2],
        with_itm: bool,
        temperature: &Tensor,
        guide: &mut Guide<'_>,
    ) -> (Tensor, Option<Tensor>) {
        let with_fgd = with_itm && inputs.masked.is_some() && self.loss.fgd_weight > 0.0;
        let read = guide.alpha > 0.0 || self.loss.momentum_columns || guide.queue.is_some() || with_fgd;
        let taught = guide.teacher.filter(|_| read).map(|teacher| self.teach(teacher, inputs));
        let [batch_images, batch_texts] = taught.as_ref().map_or([image, text], |[image, text]| [image, text]);
        let [column_images, column_texts] = if self.loss.momentum_columns { [batch_images, batch_texts] } else { [image, text] };
        let held = guide.queue.as_deref().filter(|queue| queue.filled() > 0);
        let join = |own: &Tensor, queued: Option<&Tensor>| match queued {
            Some(queued) => Tensor::cat(&[own, queued], 0),
            None => own.shallow_clone(),
        };
        let image_columns = join(column_images, held.map(|queue| &queue.image));
        let text_columns = join(column_texts, held.map(|queue| &queue.text));
        let concepts = join(&inputs.concepts, held.map(|queue| &queue.concepts));
        let own_weights = Tensor::ones([inputs.concepts.size()[0]], (Kind::Float, image.device()));
        let weights = held.map(|queue| join(&own_weights, Some(&queue.weights)));
        let targets = soft_targets(&same_concept_columns(&inputs.concepts, &concepts), self.loss.label_smoothing);
        let direction = |anchor: &Tensor, taught: Option<&Tensor>, columns: &Tensor| {
            let targets = match taught {
                Some(taught) if guide.alpha > 0.0 => {
                    distilled_targets(&targets, &(taught.matmul(&columns.tr()) / temperature).detach(), guide.alpha)
                }
                _ => targets.shallow_clone(),
            };
            contrast(&(anchor.matmul(&columns.tr()) / temperature), &targets, weights.as_ref())
        };
        let taught_by = |side: usize| taught.as_ref().map(|taught| &taught[side]);
        let loss = direction(image, taught_by(0), &text_columns) + direction(text, taught_by(1), &image_columns);
        let fgd = taught.as_ref().filter(|_| with_fgd).map(|[_, taught]| {
            let over = |anchor: &Tensor| anchor.matmul(&image_columns.tr()) / temperature;
            feature_distillation(&over(text), &over(taught))
        });
        if let Some(queue) = guide.queue.as_deref_mut() {
            queue.push(batch_images, batch_texts, &inputs.concepts);
        }
        (loss / 2.0, fgd)
    }

    /// FGR over the first anchors of the batch, so that the number of pairs stays bounded; and masked language modelling over the
    /// matching ones among them.
    fn fgr(&self, w: &Weights, inputs: &Inputs, [image, text]: [&Encoded; 2], logits: &Tensor) -> Option<Ranked> {
        let (anchors, count) = (self.loss.fgr_anchors(logits.size()[0]), self.loss.fgr_negatives);
        // Another concept's pair with the same words is no mismatch.
        let same = same_concept(&inputs.concepts).logical_or(&same_concept(&inputs.first_with_text));
        let negatives = hard_negatives(logits, &same, Draw { anchors, count, uniform: self.loss.fgr_uniform })?;
        let own = Tensor::arange(anchors, (Kind::Int64, logits.device()));
        let repeated = own.repeat_interleave_self_int(count, None, None);
        let image_index = Tensor::cat(&[&own, &negatives.image_of_text.reshape([-1]), &repeated], 0);
        let text_index = Tensor::cat(&[&own, &repeated, &negatives.text_of_image.reshape([-1])], 0);
        let labels = Tensor::cat(&[own.ones_like(), repeated.zeros_like(), repeated.zeros_like()], 0);
        let states =
            |encoded: &Encoded| if self.loss.itm_detach { encoded.states.detach() } else { encoded.states.shallow_clone() };
        let matched = self.model.match_pairs(
            w,
            &states(image).index_select(0, &image_index),
            &states(text).index_select(0, &text_index),
            &inputs.mask.index_select(0, &text_index),
            self.context(),
        );
        let of_head = |logits: &Tensor| {
            let loss = weighted_cross_entropy(logits, &labels, POSITIVE_WEIGHT * count as f64);
            let figures = HeadFigures::of(logits, anchors, count, loss.double_value(&[]));
            if self.loss.fgr_listwise_weight == 0.0 {
                return (loss, figures);
            }
            (loss + listwise(logits, anchors, count) * self.loss.fgr_listwise_weight, figures)
        };
        let ((text_loss, text_head), (image_loss, image_head)) = (of_head(&matched.text), of_head(&matched.image));
        let mlm = inputs.masked.as_ref().and_then(|[_, labels]| {
            let labels = labels.narrow(0, 0, anchors).reshape([-1]);
            let places = labels.not_equal(NOT_MASKED).nonzero().squeeze_dim(1);
            let states = matched.text_states.narrow(0, 0, anchors);
            let states = states.reshape([labels.size()[0], -1]).index_select(0, &places);
            let logits = self.model.guess_tokens(w, &states).filter(|_| places.size()[0] > 0)?;
            Some(masked_cross_entropy(&logits, &labels.index_select(0, &places)))
        });
        let (loss, heads) = ((text_loss + image_loss) / 2.0, [text_head, image_head]);
        Some(Ranked { loss, heads, mlm, index: [image_index, text_index], matched })
    }
}

/// Image-to-text logits of a batch [B, B], without gradient.
fn batch_logits([image, text]: [&Tensor; 2], temperature: &Tensor) -> Tensor {
    tch::no_grad(|| image.matmul(&text.tr()) / temperature)
}

fn batch_accuracy(logits: &Tensor, same: &Tensor) -> f64 {
    let best = logits.argmax(1, true);
    same.gather(1, &best, false).to_kind(Kind::Float).mean(Kind::Float).double_value(&[])
}
