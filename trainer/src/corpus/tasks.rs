//! Retrieval tasks: `tasks/<split>.<domain>.{long,short}.jsonl`.

use std::path::Path;

use serde::Deserialize;

use super::error::CorpusError;
use crate::files::file_error;

/// One retrieval task.
#[derive(Debug, Clone)]
pub struct RetrievalTask {
    /// File name without `.jsonl`.
    pub name: String,
    /// Query texts, each with the ids of its right pictures.
    pub queries: Vec<TaskQuery>,
}

/// One query of a task.
#[derive(Debug, Clone, Deserialize)]
pub struct TaskQuery {
    /// The text.
    pub text: String,
    /// Every right picture.
    pub images: Vec<String>,
}

impl RetrievalTask {
    /// The gallery: every picture named, each once, in first-seen order.
    pub fn gallery(&self) -> Vec<&str> {
        let mut seen = std::collections::HashSet::new();
        self.queries.iter().flat_map(|query| &query.images).map(String::as_str).filter(|id| seen.insert(*id)).collect()
    }
}

/// Reads `<folder>/tasks/<name>.jsonl`.
///
/// # Errors
/// The file is missing or a row is bad (named with its line).
pub fn read_retrieval_task(folder: &Path, name: &str) -> Result<RetrievalTask, CorpusError> {
    let path = folder.join("tasks").join(format!("{name}.jsonl"));
    let text = std::fs::read_to_string(&path).map_err(file_error(&path))?;
    let parse = |(index, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| CorpusError::Row {
            path: path.clone(),
            line: index + 1,
            message: error.to_string(),
        })
    };
    let queries = text.lines().enumerate().map(parse).collect::<Result<Vec<TaskQuery>, _>>()?;
    Ok(RetrievalTask { name: name.to_owned(), queries })
}
