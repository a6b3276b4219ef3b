//! Pictures and texts through the towers, a bounded number at a time.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use astromech_towers::{EmbeddedStates, ImageStates, PreparedImage, TextStates, Towers};
use tokio::task::JoinSet;

use super::EvaluateError;
use crate::corpus::{CorpusError, TaskPicture};
use crate::files::file_error;

/// Work handed to the towers at a time; their own queues are bounded too.
pub(super) const IN_FLIGHT_MAX: usize = 128;

/// A text with what the cross tower reads of it.
pub(super) struct Text {
    /// What it is compared by: its embedding, or its tokens' vectors one after another.
    pub(super) vectors: Vec<f32>,
    /// Only where a second stage follows.
    pub(super) states: Option<Arc<TextStates>>,
}

/// What all pictures are compared by. Their states are not kept: a gallery's would not fit the memory.
pub(super) async fn encode_images(towers: &Towers, pictures: &[TaskPicture]) -> Result<Vec<Vec<f32>>, EvaluateError> {
    let work = pictures.iter().map(|picture| {
        let (towers, picture) = (towers.clone(), picture.clone());
        async move {
            let prepared = prepare(&towers, picture).await?;
            Ok(towers.embed_image(prepared).await?.vectors().to_vec())
        }
    });
    in_order(work, IN_FLIGHT_MAX).await
}

/// One picture with its states.
pub(super) async fn encode_picture(towers: &Towers, picture: TaskPicture) -> Result<EmbeddedStates<ImageStates>, EvaluateError> {
    let prepared = prepare(towers, picture).await?;
    Ok(towers.embed_image_states(prepared).await?)
}

/// All texts, with their states where `with_states`.
pub(super) async fn encode_texts(towers: &Towers, texts: &[String], with_states: bool) -> Result<Vec<Text>, EvaluateError> {
    let work = texts.iter().map(|text| {
        let (towers, text) = (towers.clone(), text.clone());
        async move {
            let prepared = towers.prepare_text(&text);
            if with_states {
                let encoded = towers.embed_text_states(prepared).await?;
                Ok(Text { vectors: encoded.vectors().to_vec(), states: Some(encoded.states) })
            } else {
                Ok(Text { vectors: towers.embed_text(prepared).await?.vectors().to_vec(), states: None })
            }
        }
    });
    in_order(work, IN_FLIGHT_MAX).await
}

async fn prepare(towers: &Towers, picture: TaskPicture) -> Result<PreparedImage, EvaluateError> {
    let towers = towers.clone();
    let TaskPicture { id, path, .. } = picture;
    let prepared = tokio::task::spawn_blocking(move || read_picture(&towers, id, path));
    Ok(prepared.await.map_err(|error| EvaluateError::Worker(error.to_string()))??)
}

fn read_picture(towers: &Towers, id: String, path: PathBuf) -> Result<PreparedImage, CorpusError> {
    let bytes = std::fs::read(&path).map_err(file_error(&path))?;
    towers.prepare_image(&bytes).map_err(|error| CorpusError::Picture { id, path, message: error.to_string() })
}

/// Runs futures with at most `in_flight_max` started at a time; the results keep the order.
pub(super) async fn in_order<T, F>(work: impl Iterator<Item = F>, in_flight_max: usize) -> Result<Vec<T>, EvaluateError>
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
