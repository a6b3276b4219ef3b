//! Pairs of a picture and a text with a label: what matching trains on and is measured by.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::error::CorpusError;
use super::published::{json_row, missing_picture};
use super::record::{RecordFilter, read_records};
use super::rows::{label_field, object, read_rows, text_field};

/// A picture of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskPicture {
    /// Id of its record, or its file name.
    pub id: String,
    /// Where it lies.
    pub path: PathBuf,
    /// What it shows, where the corpus says so.
    pub concept: Option<String>,
}

/// One pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatchPair {
    /// Index among the pictures.
    pub picture: usize,
    /// The text.
    pub text: String,
    /// True where they match.
    pub label: bool,
}

/// Pairs with their pictures looked up.
#[derive(Debug, Clone, Default)]
pub struct MatchPairs {
    /// Name of the task: its file name up to the extension.
    pub name: String,
    /// Pictures, each once, in first-seen order.
    pub pictures: Vec<TaskPicture>,
    /// Pairs, in file order.
    pub pairs: Vec<MatchPair>,
    /// Rows left out, each named with its line and why.
    pub skipped: Vec<String>,
}

/// Where pairs are read from. Three formats, told apart by the file: JSON Lines of `image` (id of a record of `corpus`), `text` and
/// `label`; JSON Lines of `image_path`, `text`, `label` as Zero publishes them; `.tsv` lines of picture, text and label.
#[derive(Debug, Clone)]
pub struct PairSource {
    /// The file.
    pub path: PathBuf,
    /// Corpus folder that record ids are looked up in; the split is the file's name up to the first dot.
    pub corpus: Option<PathBuf>,
    /// Folder that `image_path` and the first column of a `.tsv` are relative to.
    pub images: Option<PathBuf>,
    /// Leave out rows whose picture is not there, and name them; else such a row is an error.
    pub skip_missing: bool,
}

enum Place {
    /// Id of a record.
    Record(String),
    /// File in the folder of pictures.
    File(String),
}

impl PairSource {
    /// Reads the pairs.
    ///
    /// # Errors
    /// The file can't be read, a row is bad, or a picture is not known or not there.
    pub fn read(&self) -> Result<MatchPairs, CorpusError> {
        let tabs = self.path.extension().is_some_and(|extension| extension == "tsv");
        let rows = read_rows(&self.path, |line| if tabs { tab_row(line).map(Some) } else { any_json_row(line).map(Some) })?;
        let file = self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let mut pairs =
            MatchPairs { name: file.rsplit_once('.').map_or(file, |(name, _)| name).to_owned(), ..MatchPairs::default() };
        let mut known: HashMap<String, usize> = HashMap::new();
        let records = match &self.corpus {
            Some(corpus) if rows.iter().any(|(_, row)| matches!(row.1, Place::Record(_))) => {
                let split = file.split('.').next().unwrap_or(file).to_owned();
                let filter = RecordFilter { splits: vec![split], ..RecordFilter::default() };
                read_records(corpus, &filter)?.into_iter().map(|record| (record.id.clone(), record)).collect()
            }
            _ => HashMap::new(),
        };
        for (line, (text, place, label)) in rows {
            let bad = |message| CorpusError::Row { path: self.path.clone(), line, message };
            let picture = match (&place, &self.corpus, &self.images) {
                (Place::Record(id), Some(corpus), _) => {
                    let record = records.get(id);
                    let record =
                        record.ok_or_else(|| bad(format!("field `image` names {id}, which is in no record of its split")))?;
                    let path = corpus.join(&record.image);
                    TaskPicture { id: id.clone(), path, concept: Some(record.concept.clone()) }
                }
                (Place::File(name), _, Some(images)) => {
                    let path = images.join(name);
                    if !path.is_file() {
                        let message = missing_picture(images, name);
                        if !self.skip_missing {
                            return Err(bad(message));
                        }
                        pairs.skipped.push(format!("line {line}: {message}"));
                        continue;
                    }
                    TaskPicture { id: name.clone(), path, concept: None }
                }
                (Place::Record(_), None, _) => return Err(bad("field `image` needs a corpus folder".to_owned())),
                (Place::File(_), _, None) => return Err(bad("its picture needs a folder of pictures".to_owned())),
            };
            let next = pairs.pictures.len();
            let index = *known.entry(picture.id.clone()).or_insert(next);
            if index == next {
                pairs.pictures.push(picture);
            }
            pairs.pairs.push(MatchPair { picture: index, text, label });
        }
        Ok(pairs)
    }

    /// A task of a corpus: `tasks/<name>.jsonl`.
    pub fn corpus_task(corpus: &Path, name: &str) -> Self {
        let path = corpus.join("tasks").join(format!("{name}.jsonl"));
        Self { path, corpus: Some(corpus.to_path_buf()), images: None, skip_missing: false }
    }
}

type Parsed = (String, Place, bool);

fn any_json_row(line: &str) -> Result<Parsed, String> {
    let row = object(line)?;
    if row.get("image_path").is_some() {
        let (text, image, label) = json_row(line, true)?;
        return Ok((text, Place::File(image), label == Some(true)));
    }
    if row.get("image").is_none() {
        return Err("field `image_path` is missing, and so is `image`, a record's id".to_owned());
    }
    Ok((text_field(&row, "text")?, Place::Record(text_field(&row, "image")?), label_field(&row, "label")?))
}

fn tab_row(line: &str) -> Result<Parsed, String> {
    let columns: Vec<&str> = line.split('\t').map(str::trim).collect();
    let [image, text, label] = columns[..] else {
        return Err(format!("there are {} columns; write picture, text and label with tabs between", columns.len()));
    };
    for (column, value) in [("picture", image), ("text", text)] {
        if value.is_empty() {
            return Err(format!("column `{column}` is empty"));
        }
    }
    if Path::new(image).is_absolute() || Path::new(image).components().any(|part| part.as_os_str() == "..") {
        return Err(format!("column `picture` = {image:?} must stay inside the folder of pictures"));
    }
    match label {
        "1" => Ok((text.to_owned(), Place::File(image.to_owned()), true)),
        "0" => Ok((text.to_owned(), Place::File(image.to_owned()), false)),
        other => Err(format!("column `label` is {other:?}; it must be 0 or 1")),
    }
}
