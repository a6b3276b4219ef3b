//! Swap tasks, as Winoground has them: two pictures and two captions of the same words, each caption true of one picture.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;

use super::error::CorpusError;
use super::pairs::TaskPicture;
use super::record::{Record, RecordFilter, read_records};
use super::rows::read_rows;

/// One pair of near twins.
#[derive(Debug, Clone)]
pub struct SwapPair {
    /// What is exchanged between them.
    pub kind: String,
    /// The captions.
    pub texts: [String; 2],
    /// The pictures: the first caption is true of the first.
    pub pictures: [TaskPicture; 2],
}

/// A swap task.
#[derive(Debug, Clone)]
pub struct SwapTask {
    /// File name without `.jsonl`.
    pub name: String,
    /// The pairs.
    pub pairs: Vec<SwapPair>,
}

#[derive(Deserialize)]
struct Row {
    kind: String,
    texts: [String; 2],
    images: [String; 2],
}

impl SwapTask {
    /// Reads `tasks/<name>.jsonl` of a corpus folder: rows of `kind`, two `texts`, and two `images`, ids of records of the split that the
    /// name begins with.
    ///
    /// # Errors
    /// The task or its split can't be read, or a row is bad (named with its line).
    pub fn read(corpus: &Path, name: &str) -> Result<Self, CorpusError> {
        let split = name.split('.').next().unwrap_or(name);
        let filter = RecordFilter { splits: vec![split.to_owned()], ..RecordFilter::default() };
        let records: HashMap<String, Record> =
            read_records(corpus, &filter)?.into_iter().map(|record| (record.id.clone(), record)).collect();
        let path = corpus.join("tasks").join(format!("{name}.jsonl"));
        let picture = |id: &String| {
            let record = records.get(id).ok_or_else(|| format!("field `images`: {id} is in no record of split {split}"))?;
            let path = corpus.join(&record.image);
            Ok::<_, String>(TaskPicture { id: id.clone(), path, concept: Some(record.concept.clone()) })
        };
        let pairs = read_rows(&path, |line| {
            let Row { kind, texts, images: [one, other] } = serde_json::from_str(line).map_err(|error| error.to_string())?;
            if let Some(empty) = texts.iter().position(|text| text.trim().is_empty()) {
                return Err(format!("field `texts`: number {} is empty", empty + 1));
            }
            Ok(Some(SwapPair { kind, texts, pictures: [picture(&one)?, picture(&other)?] }))
        })?;
        Ok(Self { name: name.to_owned(), pairs: pairs.into_iter().map(|(_, pair)| pair).collect() })
    }
}
