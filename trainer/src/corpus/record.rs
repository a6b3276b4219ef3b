//! JSON Lines records (../shared/corpus/README.md; the fields mirror Zero's).

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::CorpusError;
use crate::files::file_error;

/// One picture with its texts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Record {
    /// Unique id.
    pub id: String,
    /// Picture, relative to the corpus folder.
    pub image: String,
    /// A title.
    pub title: String,
    /// What a user would type.
    pub query: String,
    /// The long text.
    pub content: String,
    /// More queries.
    #[serde(default)]
    pub alt_queries: Vec<String>,
    /// What is shown: records of one concept are positives of each other.
    pub concept: String,
    /// Source family, such as emoji or icon.
    pub domain: String,
    /// The designer or package.
    #[serde(default)]
    pub vendor: String,
    /// Licence of the picture.
    pub licence: String,
    /// Split.
    pub split: String,
}

/// Which records to use.
#[derive(Debug, Clone, Default)]
pub struct RecordFilter {
    /// Allowed splits: also the files that are read, `<split>.jsonl`.
    pub splits: Vec<String>,
    /// Allowed licences, exact; empty allows all.
    pub licences: Vec<String>,
    /// Allowed domains; empty allows all.
    pub domains: Vec<String>,
}

impl RecordFilter {
    fn accepts(&self, record: &Record) -> bool {
        let allowed = |list: &[String], value: &String| list.is_empty() || list.contains(value);
        self.splits.contains(&record.split) && allowed(&self.licences, &record.licence) && allowed(&self.domains, &record.domain)
    }
}

/// Reads the records of a corpus folder that pass the filter, in file order. A bad row is an error that names it.
///
/// # Errors
/// A file is missing, a row is bad (named with its line), or nothing is left.
pub fn read_records(folder: &Path, filter: &RecordFilter) -> Result<Vec<Record>, CorpusError> {
    let mut records = Vec::new();
    for split in &filter.splits {
        let path = folder.join(format!("{split}.jsonl"));
        let text = std::fs::read_to_string(&path).map_err(file_error(&path))?;
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let record = parse(line).map_err(|message| CorpusError::Row { path: path.clone(), line: index + 1, message })?;
            if filter.accepts(&record) {
                records.push(record);
            }
        }
    }
    if records.is_empty() {
        let (splits, licences) = (filter.splits.clone(), filter.licences.clone());
        return Err(CorpusError::Empty { path: folder.to_path_buf(), splits, licences });
    }
    Ok(records)
}

fn parse(line: &str) -> Result<Record, String> {
    let record: Record = serde_json::from_str(line).map_err(|error| error.to_string())?;
    for (field, value) in [("id", &record.id), ("image", &record.image), ("query", &record.query), ("concept", &record.concept)] {
        if value.trim().is_empty() {
            return Err(format!("field `{field}` is empty"));
        }
    }
    let image = PathBuf::from(&record.image);
    if image.is_absolute() || image.components().any(|part| part.as_os_str() == "..") {
        return Err(format!("field `image` = {:?} must stay inside the corpus folder", record.image));
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"id":"a","image":"images/a.png","title":"t","query":"q","content":"c","concept":"x","domain":"d","licence":"MIT","split":"train"}"#;

    fn read(rows: &str) -> Result<Vec<Record>, CorpusError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("train.jsonl"), rows).unwrap();
        let filter = RecordFilter { splits: vec!["train".into()], licences: vec!["MIT".into()], domains: vec![] };
        read_records(folder.path(), &filter)
    }

    #[test]
    fn a_bad_row_is_named_with_its_line_and_field() {
        let missing = GOOD.replace(r#""query":"q","#, "");
        let error = read(&format!("{GOOD}\n\n{missing}\n")).unwrap_err().to_string();
        assert!(error.contains("line 3") && error.contains("query"), "{error}");
        let empty = GOOD.replace(r#""query":"q""#, r#""query":" ""#);
        let error = read(&empty).unwrap_err().to_string();
        assert!(error.contains("line 1") && error.contains("`query` is empty"), "{error}");
    }

    #[test]
    fn a_picture_outside_the_corpus_is_refused() {
        let error = read(&GOOD.replace("images/a.png", "../a.png")).unwrap_err().to_string();
        assert!(error.contains("must stay inside"), "{error}");
    }

    #[test]
    fn records_of_other_licences_are_left_out() {
        let other = GOOD.replace("MIT", "GPL-2.0-or-later");
        assert_eq!(read(&format!("{GOOD}\n{other}\n")).unwrap().len(), 1);
        let error = read(&other).unwrap_err().to_string();
        assert!(error.contains("data.licences"), "{error}");
    }
}
