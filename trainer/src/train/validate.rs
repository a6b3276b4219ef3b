//! Recall of retrieval tasks, computed in the process.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use astromech_towers::Tokenizer;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::corpus::{CorpusError, Pictures, RecordFilter, RetrievalTask, read_records, read_retrieval_task};
use crate::inputs::normalise;
use crate::loss::{Tokens, token_wise};
use crate::model::{Encoded, R2d2};
use crate::nn::{Context, Weights};

/// Pictures or texts encoded at a time.
const ENCODE_BATCH: usize = 128;
/// Pairs that the cross encoders score at a time.
const PAIR_BATCH: i64 = 256;
/// Score of what the first stage left out (docs/R2D2.md §4.1).
const LEFT_OUT: f64 = -100.0;

/// Recalls of one task, each 0..1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recall {
    /// Task name.
    pub task: String,
    /// Queries.
    pub queries: usize,
    /// Pictures.
    pub gallery: usize,
    /// Text to image: any right picture among the first 1, 5, 10.
    pub text_to_image: [f64; 3],
    /// Image to text: any right text among the first 1, 5, 10.
    pub image_to_text: [f64; 3],
    /// Text to image with the cross encoders' second stage over the first stage's best, where it was asked for.
    pub text_to_image_reranked: Option<[f64; 3]>,
    /// Image to text with the second stage.
    pub image_to_text_reranked: Option<[f64; 3]>,
}

/// How recall is measured.
#[derive(Debug, Clone, Copy, Default)]
pub struct ValidateOptions {
    /// Score pairs by their tokens, as a model trained by late interaction wants it.
    pub token_wise: bool,
    /// Candidates that the cross encoders re-rank; 0 leaves the second stage out.
    pub top_k: i64,
}

struct Prepared {
    task: RetrievalTask,
    /// One [3·side·side] row of planar bytes a picture.
    pixels: Vec<Vec<u8>>,
    tokens: Vec<Vec<i64>>,
    /// right[query] = indexes into the gallery.
    right: Vec<Vec<usize>>,
}

/// Tasks with their pictures decoded and texts tokenised once.
pub struct Validator {
    prepared: Vec<Prepared>,
    side: i64,
}

impl Validator {
    /// Reads tasks by name. A task's split is the part of its name before the first dot.
    ///
    /// # Errors
    /// Sizes that are no model, or a task that cannot be read.
    pub fn new(
        corpus: &Path,
        names: &[String],
        side: i64,
        tokenizer: &Tokenizer,
        queries_max: usize,
    ) -> Result<Self, CorpusError> {
        let mut prepared = Vec::new();
        for name in names {
            let mut task = read_retrieval_task(corpus, name)?;
            if queries_max > 0 {
                task.queries.truncate(queries_max);
            }
            let split = name.split('.').next().unwrap_or(name).to_owned();
            let gallery: Vec<String> = task.gallery().into_iter().map(str::to_owned).collect();
            let wanted: HashSet<&str> = gallery.iter().map(String::as_str).collect();
            let filter = RecordFilter { splits: vec![split], ..RecordFilter::default() };
            let mut records = read_records(corpus, &filter)?;
            records.retain(|record| wanted.contains(record.id.as_str()));
            let mut rgb = Pictures::load_rgb(corpus, &records, side as usize)?;
            let pixels = gallery
                .iter()
                .map(|id| {
                    rgb.remove(id).map(|rgb| planar(&rgb)).ok_or_else(|| CorpusError::Row {
                        path: corpus.join("tasks").join(format!("{name}.jsonl")),
                        line: 0,
                        message: format!("picture id {id} is in no record of its split"),
                    })
                })
                .collect::<Result<_, _>>()?;
            let place: HashMap<&str, usize> = gallery.iter().enumerate().map(|(index, id)| (id.as_str(), index)).collect();
            let tokens = task.queries.iter().map(|query| tokenizer.encode(&query.text)).collect();
            let right = task
                .queries
                .iter()
                .map(|query| query.images.iter().filter_map(|id| place.get(id.as_str()).copied()).collect())
                .collect();
            prepared.push(Prepared { task, pixels, tokens, right });
        }
        Ok(Self { prepared, side })
    }

    /// Recall of every task.
    pub fn run(&self, model: &R2d2, w: &Weights, options: ValidateOptions) -> Vec<Recall> {
        tch::no_grad(|| self.prepared.iter().map(|prepared| self.recall(prepared, model, w, options)).collect())
    }

    fn recall(&self, prepared: &Prepared, model: &R2d2, w: &Weights, options: ValidateOptions) -> Recall {
        let images: Vec<Encoded> = prepared
            .pixels
            .chunks(ENCODE_BATCH)
            .map(|chunk| {
                let bytes = chunk.concat();
                let pixels = Tensor::from_data_size(&bytes, &[chunk.len() as i64, 3, self.side, self.side], Kind::Uint8)
                    .to_device(w.device());
                model.encode_image(w, &normalise(&pixels), None, Context::EVAL)
            })
            .collect();
        let texts: Vec<Texts> = prepared.tokens.chunks(ENCODE_BATCH).map(|chunk| encode_texts(chunk, model, w)).collect();
        let scores = if options.token_wise {
            late_interaction(model, w, &texts, &images)
        } else {
            joined(texts.iter().map(|chunk| &chunk.encoded.embedding))
                .matmul(&joined(images.iter().map(|chunk| &chunk.embedding)).tr())
        };
        let mut relevant = vec![0.0f32; prepared.right.len() * prepared.pixels.len()];
        for (query, right) in prepared.right.iter().enumerate() {
            for &image in right {
                relevant[query * prepared.pixels.len() + image] = 1.0;
            }
        }
        let relevant = Tensor::from_slice(&relevant).view([prepared.right.len() as i64, -1]).to_device(w.device());
        let reranked = (options.top_k > 0).then(|| {
            let stage = SecondStage::new(model, w, &texts, &images);
            let by_text = second_stage(&scores, options.top_k, |texts, images| stage.matched(images, texts));
            let by_image = second_stage(&scores.tr(), options.top_k, |images, texts| stage.matched(images, texts));
            [recall_at(&by_text, &relevant), recall_at(&by_image, &relevant.tr())]
        });
        Recall {
            task: prepared.task.name.clone(),
            queries: prepared.right.len(),
            gallery: prepared.pixels.len(),
            text_to_image: recall_at(&scores, &relevant),
            image_to_text: recall_at(&scores.tr(), &relevant.tr()),
            text_to_image_reranked: reranked.map(|[by_text, _]| by_text),
            image_to_text_reranked: reranked.map(|[_, by_image]| by_image),
        }
    }
}

/// Texts encoded at a time, with the mask of their tokens [B, L].
struct Texts {
    encoded: Encoded,
    mask: Tensor,
}

/// FILIP's text view of every pair (mean over the text's tokens of the best image token), [texts, images].
fn late_interaction(model: &R2d2, w: &Weights, texts: &[Texts], images: &[Encoded]) -> Tensor {
    let tokens: Vec<Tokens> = images.iter().map(|chunk| model.image_tokens(w, &chunk.states)).collect();
    let rows = texts.iter().map(|chunk| {
        let text = model.text_tokens(w, &chunk.encoded.states, &chunk.mask);
        let columns: Vec<Tensor> = tokens
            .iter()
            .map(|image| {
                let [_, by_text] = token_wise(image, &text);
                by_text.tr()
            })
            .collect();
        Tensor::cat(&columns, 1)
    });
    Tensor::cat(&rows.collect::<Vec<_>>(), 0)
}

/// Rows of several tensors in one.
fn joined<'t>(parts: impl Iterator<Item = &'t Tensor>) -> Tensor {
    Tensor::cat(&parts.collect::<Vec<_>>(), 0)
}

/// The cross encoders over states of a whole task.
struct SecondStage<'a> {
    model: &'a R2d2,
    w: &'a Weights,
    images: Tensor,
    texts: Tensor,
    mask: Tensor,
}

impl<'a> SecondStage<'a> {
    fn new(model: &'a R2d2, w: &'a Weights, texts: &[Texts], images: &[Encoded]) -> Self {
        let length = texts.iter().map(|chunk| chunk.mask.size()[1]).max().unwrap_or(0);
        let states = texts.iter().map(|chunk| {
            let missing = length - chunk.mask.size()[1];
            chunk.encoded.states.constant_pad_nd([0, 0, 0, missing])
        });
        let masks = texts.iter().map(|chunk| chunk.mask.constant_pad_nd([0, length - chunk.mask.size()[1]]));
        let images = joined(images.iter().map(|chunk| &chunk.states));
        let (states, masks) = (states.collect::<Vec<_>>(), masks.collect::<Vec<_>>());
        Self { model, w, images, texts: Tensor::cat(&states, 0), mask: Tensor::cat(&masks, 0) }
    }

    /// Match probability of pairs, [P], of places [P] each.
    fn matched(&self, images: &Tensor, texts: &Tensor) -> Tensor {
        let (images, texts) = (images.split(PAIR_BATCH, 0), texts.split(PAIR_BATCH, 0));
        let parts = images.iter().zip(&texts).map(|(image, text)| {
            let (states, mask) = (self.texts.index_select(0, text), self.mask.index_select(0, text));
            let logits = self.model.match_pairs(self.w, &self.images.index_select(0, image), &states, &mask, Context::EVAL);
            let p = |logits: &Tensor| logits.softmax(1, Kind::Float).select(1, 1);
            (p(&logits.text) + p(&logits.image)) / 2.0
        });
        Tensor::cat(&parts.collect::<Vec<_>>(), 0)
    }
}

/// Second stage of docs/R2D2.md §4.1 for every row of first scores: match + first score for its `k` best columns, −100 for the rest. `matched`
/// gives the match of rows and columns [P] by their places.
fn second_stage(scores: &Tensor, k: i64, matched: impl Fn(&Tensor, &Tensor) -> Tensor) -> Tensor {
    let k = k.min(scores.size()[1]);
    let (best, chosen) = scores.topk(k, 1, true, true);
    let rows = Tensor::arange(scores.size()[0], (Kind::Int64, scores.device())).repeat_interleave_self_int(k, None, None);
    let matched = matched(&rows, &chosen.reshape([-1])).view([-1, k]) + best;
    scores.full_like(LEFT_OUT).scatter(1, &chosen, &matched)
}

/// Part of rows with any relevant column among the best 1, 5, 10.
fn recall_at(scores: &Tensor, relevant: &Tensor) -> [f64; 3] {
    let columns = scores.size()[1];
    [1, 5, 10].map(|k| {
        let (_, best) = scores.topk(k.min(columns), 1, true, true);
        let hit = relevant.gather(1, &best, false).amax([1i64].as_slice(), false);
        hit.mean(Kind::Float).double_value(&[])
    })
}

fn encode_texts(chunk: &[Vec<i64>], model: &R2d2, w: &Weights) -> Texts {
    let length = chunk.iter().map(Vec::len).max().unwrap_or(0);
    let mut ids = vec![0i64; chunk.len() * length];
    let mut mask = vec![0i64; chunk.len() * length];
    for (row, tokens) in chunk.iter().enumerate() {
        ids[row * length..][..tokens.len()].copy_from_slice(tokens);
        mask[row * length..][..tokens.len()].fill(1);
    }
    let shaped = |values: &[i64]| Tensor::from_slice(values).view([chunk.len() as i64, length as i64]).to_device(w.device());
    let mask = shaped(&mask);
    Texts { encoded: model.encode_text(w, &shaped(&ids), &mask, Context::EVAL), mask }
}

fn planar(rgb: &[u8]) -> Vec<u8> {
    (0..3).flat_map(|channel| rgb.iter().skip(channel).step_by(3).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_stage_adds_the_match_to_the_best_and_leaves_the_rest_last() {
        let scores = Tensor::from_slice(&[0.5f32, 0.4, 0.1, 0.2, 0.3, 0.9]).view([2, 3]);
        // The match of row r and column c is r + c / 10.
        let found = second_stage(&scores, 2, |rows, columns| rows.to_kind(Kind::Float) + columns.to_kind(Kind::Float) / 10.0);
        let expected = Tensor::from_slice(&[0.5f32, 0.5, -100.0, -100.0, 1.4, 2.1]).view([2, 3]);
        assert!((found - expected).abs().max().double_value(&[]) < 1e-6);
    }

    #[test]
    fn recall_counts_a_row_once_however_many_columns_are_right() {
        let scores = Tensor::from_slice(&[0.9f32, 0.1, 0.5, 0.2, 0.8, 0.7]).view([2, 3]);
        let relevant = Tensor::from_slice(&[0.0f32, 1.0, 1.0, 0.0, 1.0, 1.0]).view([2, 3]);
        let found = recall_at(&scores, &relevant);
        assert!(found.iter().zip([0.5, 1.0, 1.0]).all(|(found, expected)| (found - expected).abs() < 1e-6), "{found:?}");
    }
}
