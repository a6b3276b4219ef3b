//! What must hold of the topics and of Qdrant after the daemon has worked.

use std::collections::{BTreeMap, BTreeSet};

use astromech_schemas::dead_letter::{HEADER_OFFSET, HEADER_PARTITION, HEADER_REASON, HEADER_TOPIC};
use astromech_schemas::results::ResultMessage;
use astromech_schemas::{Kind, Manifest, point_id};

use crate::items::Expected;
use crate::kafka::{KafkaClient, Sent, Topics};
use crate::points::{Point, Snapshot};

/// How far a stored vector's length may be from 1.
const UNIT_TOLERANCE: f32 = 1e-3;

/// What the daemon said about records: results and dead letters, by the (partition, offset) of the record.
#[derive(Debug, Default)]
pub struct Answers {
    /// Results; more than one where a record was applied again.
    pub results: BTreeMap<(i32, i64), Vec<ResultMessage>>,
    /// Dead letters; more than one where a record was judged again.
    pub dead_letters: BTreeMap<(i32, i64), Vec<Sent>>,
}

impl Answers {
    /// Reads both topics to their ends.
    pub fn read(client: &KafkaClient, topics: &Topics) -> Self {
        let from_json = |value: &[u8]| astromech_schemas::error::from_json(value).unwrap_or_else(|e| panic!("result: {e}"));
        Self::read_as(client, topics, from_json)
    }

    /// As [`Answers::read`], with results that are not JSON.
    pub fn read_as(client: &KafkaClient, topics: &Topics, from: impl Fn(&[u8]) -> ResultMessage) -> Self {
        let mut answers = Self::default();
        for sent in client.read_all(&topics.results) {
            let value = sent.record.value.as_deref().expect("a result has a value");
            let result = from(value);
            assert_eq!(result.source.topic, topics.changes, "{result:?}");
            assert_eq!(sent.record.key.as_deref(), Some(result.id.as_bytes()), "a result's key is the item's id");
            answers.results.entry((result.source.partition, result.source.offset)).or_default().push(result);
        }
        for sent in client.read_all(&topics.dead_letters) {
            assert_eq!(header(&sent, HEADER_TOPIC), topics.changes);
            let number = |name| header(&sent, name).parse::<i64>().unwrap_or_else(|e| panic!("{name}: {e}"));
            let partition = i32::try_from(number(HEADER_PARTITION)).expect("a partition's number");
            answers.dead_letters.entry((partition, number(HEADER_OFFSET))).or_default().push(sent);
        }
        answers
    }

    /// Promise 1: every record has its result or its dead letter, and not both.
    pub fn assert_nothing_lost(&self, sent: &[Sent]) {
        let lost = self.missing(sent);
        assert!(
            lost.is_empty(),
            "{} of {} records have neither result nor dead letter: {:?}",
            lost.len(),
            sent.len(),
            &lost[..lost.len().min(20)]
        );
        let both: Vec<_> = self.results.keys().filter(|position| self.dead_letters.contains_key(position)).collect();
        assert!(both.is_empty(), "records with a result and a dead letter: {both:?}");
    }

    /// Partition and offset of each record that has neither result nor dead letter.
    pub fn missing(&self, sent: &[Sent]) -> Vec<(i32, i64)> {
        sent.iter().map(|s| (s.partition, s.offset)).filter(|position| !self.has(position)).collect()
    }

    fn has(&self, position: &(i32, i64)) -> bool {
        self.results.contains_key(position) || self.dead_letters.contains_key(position)
    }

    /// Results and dead letters beyond the first of a record.
    pub fn repeats(&self) -> usize {
        let results = self.results.values().map(|results| results.len() - 1).sum::<usize>();
        results + self.dead_letters.values().map(|letters| letters.len() - 1).sum::<usize>()
    }

    /// Transient is not poison: no dead letters.
    pub fn assert_no_dead_letters(&self) {
        let letters =
            self.dead_letters.values().flatten().map(|letter| (header(letter, HEADER_REASON), letter.partition, letter.offset));
        let letters: Vec<_> = letters.collect();
        assert!(letters.is_empty(), "dead letters: {letters:?}");
    }
}

/// Header `name` of a record as text; panics where it is absent.
pub fn header(sent: &Sent, name: &str) -> String {
    let found = sent.record.headers.iter().find(|(key, _)| key == name);
    let (_, value) = found.unwrap_or_else(|| panic!("no header {name} in {:?}", sent.record.headers));
    String::from_utf8_lossy(value).into_owned()
}

/// Qdrant holds exactly what is expected: each item at its version, in this space, with its vectors and title, tombstones for deletes,
/// and no point more.
pub fn assert_stored(snapshot: &Snapshot, expected: &Expected, manifest: &Manifest) {
    for kind in Kind::ALL {
        let wanted = expected.0.keys().filter(|(of, _)| *of == kind).map(|(_, id)| point_id(kind, id)).collect::<BTreeSet<_>>();
        let stored = snapshot[&kind].keys().copied().collect::<BTreeSet<_>>();
        let missing: Vec<_> = expected.0.keys().filter(|(of, id)| *of == kind && !stored.contains(&point_id(kind, id))).collect();
        assert!(
            missing.is_empty(),
            "{} of {} {kind} items have no point: {:?}",
            missing.len(),
            wanted.len(),
            &missing[..missing.len().min(10)]
        );
        let surplus: Vec<_> = stored.difference(&wanted).collect();
        assert!(surplus.is_empty(), "{kind} points that nobody sent: {surplus:?}");
    }
    for ((kind, id), wanted) in &expected.0 {
        let point = &snapshot[kind][&point_id(*kind, id)];
        let what = format!("{kind} {id}: {:?}", point.payload);
        assert_eq!(point.version(), wanted.version, "version of {what}");
        assert_eq!(point.text("fingerprint"), manifest.fingerprint.as_str(), "fingerprint of {what}");
        assert_eq!(point.text("id"), id, "id of {what}");
        assert_eq!(point.text("kind"), kind.as_str(), "kind of {what}");
        assert_eq!(point.is_tombstone(), wanted.item.is_none(), "tombstone of {what}");
        let names = wanted.item.as_ref().map(|item| item.vectors.clone()).unwrap_or_default();
        assert_eq!(point.vectors.keys().map(String::as_str).collect::<BTreeSet<_>>(), names, "vectors of {what}");
        if let Some(item) = &wanted.item {
            assert_eq!(point.text("title"), item.title, "title of {what}");
        }
        assert_vectors(point, manifest, &what);
    }
}

fn assert_vectors(point: &Point, manifest: &Manifest, what: &str) {
    for (name, vector) in &point.vectors {
        assert_eq!(vector.len(), manifest.embedding_dim as usize, "length of vector {name} of {what}");
        let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        assert!((norm - 1.0).abs() < UNIT_TOLERANCE, "vector {name} of {what} has the length {norm}");
    }
}

/// Both snapshots are equal, point by point, vectors bit by bit.
pub fn assert_same(before: &Snapshot, after: &Snapshot) {
    for kind in Kind::ALL {
        let keys = |snapshot: &Snapshot| snapshot[&kind].keys().copied().collect::<Vec<_>>();
        assert_eq!(keys(before), keys(after), "points of {kind}");
        for (id, point) in &before[&kind] {
            let now = &after[&kind][id];
            assert_eq!(point.payload, now.payload, "payload of {kind} {id}");
            assert!(point.vectors == now.vectors, "the vectors of {kind} {id} changed: {:?}", point.payload);
        }
    }
}

/// Cosine of two vectors.
pub fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
