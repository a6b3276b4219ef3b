//! Retrieval tasks with their pictures looked up.

use std::collections::HashMap;
use std::path::Path;

use super::EvaluateError;
use crate::corpus::{PublishedSource, Record, RecordFilter, TaskPicture, read_records, read_retrieval_task};

/// One retrieval task.
#[derive(Debug, Clone)]
pub struct TaskItems {
    /// Name of the task.
    pub name: String,
    /// Query texts.
    pub texts: Vec<String>,
    /// The gallery.
    pub pictures: Vec<TaskPicture>,
    /// For each text, which pictures of the gallery are right.
    pub right: Vec<Vec<usize>>,
    /// Rows left out, each named with its line and why.
    pub skipped: Vec<String>,
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
        let by_id: HashMap<String, Record> =
            read_records(corpus, &filter)?.into_iter().map(|record| (record.id.clone(), record)).collect();
        let unknown =
            |id: &str| EvaluateError::UnknownPicture { task: name.to_owned(), id: id.to_owned(), split: split.to_owned() };
        let gallery: Vec<String> = task.gallery().into_iter().map(str::to_owned).collect();
        let place: HashMap<&str, usize> = gallery.iter().enumerate().map(|(index, id)| (id.as_str(), index)).collect();
        let right = task.queries.iter().map(|query| query.images.iter().map(|id| place[id.as_str()]).collect()).collect();
        let picture = |id: &String| {
            let record = by_id.get(id).ok_or_else(|| unknown(id))?;
            let path = corpus.join(&record.image);
            Ok(TaskPicture { id: id.clone(), path, concept: Some(record.concept.clone()) })
        };
        let pictures = gallery.iter().map(picture).collect::<Result<Vec<_>, EvaluateError>>()?;
        let texts = task.queries.into_iter().map(|query| query.text).collect();
        Ok(Self { name: name.to_owned(), texts, pictures, right, skipped: Vec::new() })
    }

    /// Reads a published retrieval set: pictures each once in order of first appearance, one right picture a text (docs/R2D2.md §6.2).
    ///
    /// # Errors
    /// The file can't be read, a row is bad, or a picture is missing.
    pub fn published(source: &PublishedSource) -> Result<Self, EvaluateError> {
        let read = source.read()?;
        let name = format!("{}.{}", source.set.name(), source.split);
        let mut items = Self { name, texts: Vec::new(), pictures: Vec::new(), right: Vec::new(), skipped: read.skipped };
        let mut place: HashMap<String, usize> = HashMap::new();
        for row in read.rows {
            let next = items.pictures.len();
            let index = *place.entry(row.image.clone()).or_insert(next);
            if index == next {
                let path = read.images.join(&row.image);
                items.pictures.push(TaskPicture { id: row.image, path, concept: None });
            }
            items.texts.push(row.text);
            items.right.push(vec![index]);
        }
        Ok(items)
    }

    /// For each picture of the gallery, which texts are right.
    pub(super) fn right_texts(&self) -> Vec<Vec<usize>> {
        let mut texts = vec![Vec::new(); self.pictures.len()];
        for (text, images) in self.right.iter().enumerate() {
            for &image in images {
                texts[image].push(text);
            }
        }
        texts
    }
}
