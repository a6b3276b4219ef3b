//! Recall of retrieval tasks, computed in the process.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use astromech_towers::Tokenizer;
use serde::Serialize;
use tch::{Kind, Tensor};

use super::objective::normalise;
use crate::corpus::{CorpusError, Pictures, RecordFilter, RetrievalTask, read_records, read_retrieval_task};
use crate::model::R2d2;
use crate::nn::{Context, Weights};

/// Pictures or texts encoded at a time.
const ENCODE_BATCH: usize = 128;

/// Recalls of one task, each 0..1.
#[derive(Debug, Clone, PartialEq, Serialize)]
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

    /// Recall of every task by cosine alone.
    pub fn run(&self, model: &R2d2, w: &Weights) -> Vec<Recall> {
        tch::no_grad(|| self.prepared.iter().map(|prepared| self.recall(prepared, model, w)).collect())
    }

    fn recall(&self, prepared: &Prepared, model: &R2d2, w: &Weights) -> Recall {
        let images: Vec<Tensor> = prepared
            .pixels
            .chunks(ENCODE_BATCH)
            .map(|chunk| {
                let bytes = chunk.concat();
                let pixels = Tensor::from_data_size(&bytes, &[chunk.len() as i64, 3, self.side, self.side], Kind::Uint8);
                model.encode_image(w, &normalise(&pixels), None, Context::EVAL).embedding
            })
            .collect();
        let texts: Vec<Tensor> = prepared.tokens.chunks(ENCODE_BATCH).map(|chunk| encode_texts(chunk, model, w)).collect();
        let scores = Tensor::cat(&texts, 0).matmul(&Tensor::cat(&images, 0).tr());
        let mut relevant = vec![0.0f32; prepared.right.len() * prepared.pixels.len()];
        for (query, right) in prepared.right.iter().enumerate() {
            for &image in right {
                relevant[query * prepared.pixels.len() + image] = 1.0;
            }
        }
        let relevant = Tensor::from_slice(&relevant).view([prepared.right.len() as i64, -1]);
        Recall {
            task: prepared.task.name.clone(),
            queries: prepared.right.len(),
            gallery: prepared.pixels.len(),
            text_to_image: recall_at(&scores, &relevant),
            image_to_text: recall_at(&scores.tr(), &relevant.tr()),
        }
    }
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

fn encode_texts(chunk: &[Vec<i64>], model: &R2d2, w: &Weights) -> Tensor {
    let length = chunk.iter().map(Vec::len).max().unwrap_or(0);
    let mut ids = vec![0i64; chunk.len() * length];
    let mut mask = vec![0i64; chunk.len() * length];
    for (row, tokens) in chunk.iter().enumerate() {
        ids[row * length..][..tokens.len()].copy_from_slice(tokens);
        mask[row * length..][..tokens.len()].fill(1);
    }
    let shaped = |values: &[i64]| Tensor::from_slice(values).view([chunk.len() as i64, length as i64]);
    model.encode_text(w, &shaped(&ids), &shaped(&mask), Context::EVAL).embedding
}

fn planar(rgb: &[u8]) -> Vec<u8> {
    (0..3).flat_map(|channel| rgb.iter().skip(channel).step_by(3).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recall_counts_a_row_once_however_many_columns_are_right() {
        let scores = Tensor::from_slice(&[0.9f32, 0.1, 0.5, 0.2, 0.8, 0.7]).view([2, 3]);
        let relevant = Tensor::from_slice(&[0.0f32, 1.0, 1.0, 0.0, 1.0, 1.0]).view([2, 3]);
        let found = recall_at(&scores, &relevant);
        assert!(found.iter().zip([0.5, 1.0, 1.0]).all(|(found, expected)| (found - expected).abs() < 1e-6), "{found:?}");
    }
}
