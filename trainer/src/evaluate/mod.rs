//! Measures a bundle on retrieval tasks through the towers crate: what is measured is what is served.

mod floor;
mod recall;
mod report;

use std::collections::HashMap;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use astromech_towers::{ImageStates, MatchScore, TextStates, Towers, TowersError};
use thiserror::Error;
use tokio::task::JoinSet;

pub use floor::PixelFloor;
pub use recall::{Recalls, best_rank, recalls, top_k};
pub use report::{Report, TaskReport};

use crate::corpus::{CorpusError, Record, RecordFilter, read_records, read_retrieval_task};

/// Work handed to the towers at a time; their own queues are bounded too.
const IN_FLIGHT_MAX: usize = 128;
/// Requests to the cross tower at a time, each of `top_k` pairs.
const MATCHES_IN_FLIGHT_MAX: usize = 8;
/// Score of what the first stage left out (r2d2.md §4.1).
const LEFT_OUT: f32 = -100.0;

/// An evaluation that can't be made.
#[derive(Debug, Error)]
pub enum EvaluateError {
    /// The bundle or a batch.
    #[error(transparent)]
    Towers(#[from] TowersError),
    /// Tasks, records or pictures.
    #[error(transparent)]
    Corpus(#[from] CorpusError),
    /// A task that names a picture of no record.
    #[error("task {task} names picture {id}, which is in no record of split {split}; unpack the corpus again")]
    UnknownPicture {
        /// Task.
        task: String,
        /// Picture.
        id: String,
        /// Split.
        split: String,
    },
    /// A worker ended by a panic.
    #[error("a worker of the evaluation ended early: {0}")]
    Worker(String),
}

/// One task with its pictures looked up.
pub struct TaskItems {
    /// Name of the task.
    pub name: String,
    /// Query texts.
    pub texts: Vec<String>,
    /// The gallery.
    pub records: Vec<Record>,
    /// For each text, which pictures of the gallery are right.
    pub right: Vec<Vec<usize>>,
}

impl TaskItems {
    /// Reads `tasks/<name>.jsonl` of a corpus folder; its split is the name up to the first dot.
    ///
    /// # Errors
    /// The task or its split can't be read, or the task names an unknown picture.
    pub fn load(corpus: &Path, name: &str) -> Result<Self, EvaluateError> {
        let task = read_retrieval_task(corpus, name)?;
        let split = name.split('.').next().unwrap_or(name);
        let filter = RecordFilter { splits: vec![split.to_owned()], ..RecordFilter::default() };
        let mut by_id: HashMap<String, Record> =
            read_records(corpus, &filter)?.into_iter().map(|record| (record.id.clone(), record)).collect();
        let unknown =
            |id: &str| EvaluateError::UnknownPicture { task: name.to_owned(), id: id.to_owned(), split: split.to_owned() };
        let gallery: Vec<String> = task.gallery().into_iter().map(str::to_owned).collect();
        let place: HashMap<&str, usize> = gallery.iter().enumerate().map(|(index, id)| (id.as_str(), index)).collect();
        let right = task.queries.iter().map(|query| query.images.iter().map(|id| place[id.as_str()]).collect()).collect();
        let records =
            gallery.iter().map(|id| by_id.remove(id).ok_or_else(|| unknown(id))).collect::<Result<Vec<_>, EvaluateError>>()?;
        let texts = task.queries.into_iter().map(|query| query.text).collect();
        Ok(Self { name: name.to_owned(), texts, records, right })
    }

    /// For each picture of the gallery, which texts are right.
    fn right_texts(&self) -> Vec<Vec<usize>> {
        let mut texts = vec![Vec::new(); self.records.len()];
        for (text, images) in self.right.iter().enumerate() {
            for &image in images {
                texts[image].push(text);
            }
        }
        texts
    }
}

/// How a task is measured.
#[derive(Debug, Clone, Copy)]
pub struct EvaluateOptions {
    /// Candidates of the first stage that the cross tower re-ranks (r2d2.md §4.1); 0 leaves the second stage out.
    pub top_k: usize,
}

struct Item<S> {
    embedding: Vec<f32>,
    states: Arc<S>,
}

/// Measures one task.
///
/// # Errors
/// A picture can't be read, or the towers fail.
pub async fn evaluate(
    towers: &Towers,
    corpus: &Path,
    items: &TaskItems,
    options: EvaluateOptions,
) -> Result<TaskReport, EvaluateError> {
    let images = encode_images(towers, corpus, &items.records).await?;
    let texts = encode_texts(towers, &items.texts).await?;
    let cosine = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let by_text: Vec<Vec<f32>> =
        texts.iter().map(|text| images.iter().map(|image| cosine(&text.embedding, &image.embedding)).collect()).collect();
    let by_image: Vec<Vec<f32>> = (0..images.len()).map(|image| by_text.iter().map(|scores| scores[image]).collect()).collect();
    let right_texts = items.right_texts();

    let mut report = TaskReport {
        task: items.name.clone(),
        queries: items.texts.len(),
        gallery: items.records.len(),
        text_to_image: recall_of(&by_text, &items.right),
        image_to_text: recall_of(&by_image, &right_texts),
        top_k: options.top_k,
        text_to_image_reranked: None,
        image_to_text_reranked: None,
        floor_text_to_image: None,
    };
    if options.top_k > 0 {
        let t2i = rerank(towers, &images, &texts, &by_text, Direction::TextToImage, options.top_k).await?;
        report.text_to_image_reranked = Some(recall_of(&t2i, &items.right));
        let i2t = rerank(towers, &images, &texts, &by_image, Direction::ImageToText, options.top_k).await?;
        report.image_to_text_reranked = Some(recall_of(&i2t, &right_texts));
    }
    Ok(report)
}

fn recall_of(scores: &[Vec<f32>], right: &[Vec<usize>]) -> Recalls {
    let ranks: Vec<_> = scores.iter().zip(right).map(|(scores, right)| best_rank(scores, right)).collect();
    recalls(&ranks)
}

async fn encode_images(towers: &Towers, corpus: &Path, records: &[Record]) -> Result<Vec<Item<ImageStates>>, EvaluateError> {
    let work = records.iter().map(|record| {
        let (towers, path, id) = (towers.clone(), corpus.join(&record.image), record.id.clone());
        async move {
            let prepare = {
                let towers = towers.clone();
                tokio::task::spawn_blocking(move || {
                    let bytes = std::fs::read(&path).map_err(CorpusError::io(&path))?;
                    towers.prepare_image(&bytes).map_err(|error| CorpusError::Picture { id, path, message: error.to_string() })
                })
            };
            let prepared = prepare.await.map_err(|error| EvaluateError::Worker(error.to_string()))??;
            let encoded = towers.embed_image_states(prepared).await?;
            Ok(Item { embedding: encoded.embedding, states: encoded.states })
        }
    });
    in_order(work, IN_FLIGHT_MAX).await
}

async fn encode_texts(towers: &Towers, texts: &[String]) -> Result<Vec<Item<TextStates>>, EvaluateError> {
    let work = texts.iter().map(|text| {
        let (towers, text) = (towers.clone(), text.clone());
        async move {
            let encoded = towers.embed_text_states(towers.prepare_text(&text)).await?;
            Ok(Item { embedding: encoded.embedding, states: encoded.states })
        }
    });
    in_order(work, IN_FLIGHT_MAX).await
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    TextToImage,
    ImageToText,
}

/// Second stage: match + cosine for the `k` best of each query, −100 for the rest (r2d2.md §4.1).
async fn rerank(
    towers: &Towers,
    images: &[Item<ImageStates>],
    texts: &[Item<TextStates>],
    first: &[Vec<f32>],
    direction: Direction,
    k: usize,
) -> Result<Vec<Vec<f32>>, EvaluateError> {
    let work = first.iter().enumerate().map(|(query, cosines)| {
        let chosen = top_k(cosines, k);
        let towers = towers.clone();
        let (image_states, text_states, pairs): (Vec<_>, Vec<_>, Vec<_>) = match direction {
            Direction::TextToImage => (
                chosen.iter().map(|&image| Arc::clone(&images[image].states)).collect(),
                vec![Arc::clone(&texts[query].states)],
                (0..chosen.len() as u32).map(|image| (image, 0)).collect(),
            ),
            Direction::ImageToText => (
                vec![Arc::clone(&images[query].states)],
                chosen.iter().map(|&text| Arc::clone(&texts[text].states)).collect(),
                (0..chosen.len() as u32).map(|text| (0, text)).collect(),
            ),
        };
        let mut scores = vec![LEFT_OUT; cosines.len()];
        let cosines: Vec<f32> = chosen.iter().map(|&index| cosines[index]).collect();
        async move {
            let matches: Vec<MatchScore> = towers.match_pairs(image_states, text_states, pairs).await?;
            for ((index, cosine), matched) in chosen.into_iter().zip(cosines).zip(matches) {
                scores[index] = matched.score() + cosine;
            }
            Ok(scores)
        }
    });
    in_order(work, MATCHES_IN_FLIGHT_MAX).await
}

/// Runs futures with at most `in_flight_max` started at a time; the results keep the order.
async fn in_order<T, F>(work: impl Iterator<Item = F>, in_flight_max: usize) -> Result<Vec<T>, EvaluateError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, EvaluateError>> + Send + 'static,
{
    let mut running = JoinSet::new();
    let mut results: Vec<Option<T>> = Vec::new();
    let mut work = work.enumerate();
    loop {
        while running.len() < in_flight_max {
            let Some((index, future)) = work.next() else { break };
            results.push(None);
            running.spawn(async move { (index, future.await) });
        }
        let Some(joined) = running.join_next().await else { break };
        let (index, result) = joined.map_err(|error| EvaluateError::Worker(error.to_string()))?;
        results[index] = Some(result?);
    }
    Ok(results.into_iter().flatten().collect())
}
