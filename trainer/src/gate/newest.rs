//! Tasks of a corpus's own records: of a snapshot of the newest data, which nobody wrote tasks for.

use std::path::Path;

use super::Newest;
use crate::corpus::{CorpusError, MatchPair, MatchPairs, Record, RecordFilter, TaskPicture, read_records};
use crate::evaluate::TaskItems;

/// A retrieval task (each title asks for its record's picture; records of one title share what is right) and a matching task (each
/// picture with its title, and with the title of the record half the set away).
pub(super) fn tasks(corpus: &Path, newest: &Newest) -> Result<(TaskItems, MatchPairs), CorpusError> {
    let filter = RecordFilter { splits: newest.splits.clone(), ..RecordFilter::default() };
    let records: Vec<Record> = read_records(corpus, &filter)?.into_iter().filter(|record| !text(record).is_empty()).collect();
    let records = evenly(records, newest.records_max);
    let pictures: Vec<TaskPicture> = records
        .iter()
        .map(|record| TaskPicture {
            id: record.id.clone(),
            path: corpus.join(&record.image),
            concept: Some(record.concept.clone()).filter(|concept| !concept.is_empty()),
        })
        .collect();
    let name = "records".to_owned();
    let mut items = TaskItems { name, texts: Vec::new(), pictures: pictures.clone(), right: Vec::new(), skipped: Vec::new() };
    let mut place = std::collections::HashMap::new();
    for (index, record) in records.iter().enumerate() {
        let next = items.texts.len();
        let at = *place.entry(text(record)).or_insert(next);
        if at == next {
            items.texts.push(text(record).to_owned());
            items.right.push(Vec::new());
        }
        items.right[at].push(index);
    }
    let mut pairs = Vec::with_capacity(2 * records.len());
    for (index, record) in records.iter().enumerate() {
        pairs.push(MatchPair { picture: index, text: text(record).to_owned(), label: true });
        let other = text(&records[(index + records.len() / 2) % records.len()]);
        if other != text(record) {
            pairs.push(MatchPair { picture: index, text: other.to_owned(), label: false });
        }
    }
    Ok((items, MatchPairs { name: "records.match".to_owned(), pictures, pairs, skipped: Vec::new() }))
}

/// What a record is asked by.
fn text(record: &Record) -> &str {
    let title = record.title.trim();
    if title.is_empty() { record.query.trim() } else { title }
}

/// At most `most` of them, from the first to the last.
fn evenly(records: Vec<Record>, most: usize) -> Vec<Record> {
    let count = records.len();
    if count <= most {
        return records;
    }
    let mut taken = 0;
    let wanted = |taken: usize| taken * count / most;
    let mut kept = Vec::with_capacity(most);
    for (index, record) in records.into_iter().enumerate() {
        if taken < most && index == wanted(taken) {
            kept.push(record);
            taken += 1;
        }
    }
    kept
}
