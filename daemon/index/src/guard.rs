//! The version guard as data: what may be written, and under which condition, whatever the engine.
//!
//! Three facts about Qdrant's engine (server 1.16.3) shape it; each is held by a test of `tests/index/contract.rs`. The embedded engine
//! compares whole numbers in its own transaction ([`Order`]):
//!
//! * One upsert can carry a condition per point. A point that exists and doesn't match stays as it is, so an older change never wins. Nothing
//!   tells which points matched: what stands there afterwards is read.
//! * A range compares through `f64`: above 2^53 (nanosecond clocks live there) neighbouring versions look equal and a newer one would be
//!   dropped. Such versions are therefore compared in two halves that `f64` holds exactly.
//! * An upsert of a point that lies in an indexed segment keeps the vectors that it doesn't name: a tombstone would stay searchable, and
//!   an article that lost its picture would keep it. So each point lists its vectors in its payload, and every batch removes the
//!   vectors that the stored payload doesn't list. That condition looks at the stored point only, so neither a replay nor another writer
//!   in between can make it remove too much.

use std::borrow::Cow;
use std::collections::HashMap;

use astromech_schemas::Kind;
use astromech_schemas::record::TieBreaker;
use astromech_schemas::results::Outcome;
use uuid::Uuid;

use super::payload::{
    FIELD_DELETED, FIELD_DELETED_AT, FIELD_HEAD, FIELD_VECTORS, FIELD_VERSION, FIELD_VERSION_HIGH, FIELD_VERSION_LOW,
    FIELD_VERSION_OFFSET, FIELD_VERSION_SOURCE, VERSION_SPLIT, split,
};
use super::{Change, ChangeBody, IndexError, Order, Space, VECTOR_IMAGE, VECTOR_TEXT, VECTORS};

/// Highest version that an engine stores: payload integers are 64-bit and signed.
pub const VERSION_MAX: u64 = i64::MAX as u64;

/// What may hold of a stored point; each engine translates it into its own filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Predicate {
    /// The point is one of these.
    HasId(Vec<Uuid>),
    /// The payload's integer is lower.
    Less(&'static str, i64),
    /// The payload's integer is equal.
    EqualsInteger(&'static str, i64),
    /// The payload's keyword, or one of its keywords, is equal.
    EqualsKeyword(&'static str, Cow<'static, str>),
    /// The payload's integer lies between these, both included; below 2^53, where `f64` is exact.
    Between(&'static str, Option<i64>, Option<i64>),
    /// The payload has no such field.
    IsEmpty(&'static str),
    /// The payload's field is `true`.
    IsTrue(&'static str),
    /// The point holds this named vector.
    HasVector(&'static str),
    /// Every one of these holds, and none of the second list does.
    All(Vec<Predicate>, Vec<Predicate>),
    /// At least one of these holds.
    Any(Vec<Predicate>),
}

/// What became of a change, where `stored` stands now. One that is less than it has not arrived at the replica that was read.
pub(super) fn outcome(change: &Change, stored: Option<Order>) -> Outcome {
    if stored.is_some_and(|stored| stored > change.order()) { Outcome::Superseded } else { Outcome::Applied }
}

/// The guard of one batch: a stored point may be replaced when it is one of `points` and its change is older than the one given here.
pub(super) fn guard(points: impl IntoIterator<Item = (Uuid, Order)>) -> Predicate {
    Predicate::Any(
        points.into_iter().map(|(id, order)| Predicate::All(vec![Predicate::HasId(vec![id]), older(order)], vec![])).collect(),
    )
}

/// The stored change is older than one that stands at `order`.
pub(super) fn older(order: Order) -> Predicate {
    let Order { version, tie_breaker } = order;
    let Some(TieBreaker { offset, source }) = tie_breaker else { return lower(version) };
    // Below 2^53, both.
    let (offset, source) = (offset as i64, source as i64);
    let same_offset = vec![Predicate::EqualsInteger(FIELD_VERSION_OFFSET, offset), Predicate::Less(FIELD_VERSION_SOURCE, source)];
    let before = Predicate::Any(vec![
        Predicate::IsEmpty(FIELD_VERSION_OFFSET),
        Predicate::Less(FIELD_VERSION_OFFSET, offset),
        Predicate::All(same_offset, vec![]),
    ]);
    Predicate::Any(vec![lower(version), Predicate::All(vec![same(version), before], vec![])])
}

/// The stored version is `version`.
fn same(version: u64) -> Predicate {
    match split(version) {
        None => Predicate::EqualsInteger(FIELD_VERSION, version as i64),
        Some((high, low)) => Predicate::All(
            vec![Predicate::EqualsInteger(FIELD_VERSION_HIGH, high), Predicate::EqualsInteger(FIELD_VERSION_LOW, low)],
            vec![],
        ),
    }
}

/// The stored version is lower than `version`.
fn lower(version: u64) -> Predicate {
    match split(version) {
        None => Predicate::Less(FIELD_VERSION, version as i64),
        Some((high, low)) => Predicate::Any(vec![
            Predicate::Less(FIELD_VERSION, VERSION_SPLIT as i64),
            Predicate::Less(FIELD_VERSION_HIGH, high),
            Predicate::All(
                vec![Predicate::EqualsInteger(FIELD_VERSION_HIGH, high), Predicate::Less(FIELD_VERSION_LOW, low)],
                vec![],
            ),
        ]),
    }
}

/// Which stored points hold a vector that their own payload doesn't list, among the points of `changes` that may.
/// One entry a named vector; none when every change names both.
pub(super) fn leftovers(changes: &[&Change]) -> Vec<(&'static str, Predicate)> {
    VECTORS
        .into_iter()
        .filter_map(|name| {
            let ids: Vec<Uuid> =
                changes.iter().filter(|change| change.vector(name).is_none()).map(|change| change.point_id).collect();
            (!ids.is_empty()).then(|| {
                let holds = vec![Predicate::HasId(ids), Predicate::HasVector(name)];
                (name, Predicate::All(holds, vec![Predicate::EqualsKeyword(FIELD_VECTORS, name.into())]))
            })
        })
        .collect()
}

/// The stored point is a live item: of videos their own points, without the frames. Of other kinds nearly every point is told by its
/// vectors, without a look at its payload.
pub(super) fn live(kind: Kind) -> Predicate {
    if kind == Kind::Video {
        return Predicate::IsTrue(FIELD_HEAD);
    }
    let mut any = VECTORS.map(Predicate::HasVector).to_vec();
    any.push(Predicate::All(vec![], vec![Predicate::IsTrue(FIELD_DELETED)]));
    Predicate::Any(any)
}

/// The stored point is a tombstone that was written before `before_ms`, milliseconds since 1970.
pub(super) fn expired(before_ms: u64) -> Predicate {
    // Far below 2^53, where the engine's numbers are exact.
    Predicate::All(vec![Predicate::IsTrue(FIELD_DELETED), Predicate::Less(FIELD_DELETED_AT, before_ms as i64)], vec![])
}

/// One change an item: the newest wins, and of equal ones the later one. The order of first appearance is kept.
pub(super) fn newest(changes: &[Change]) -> Vec<&Change> {
    let mut place: HashMap<Uuid, usize> = HashMap::with_capacity(changes.len());
    let mut kept: Vec<&Change> = Vec::with_capacity(changes.len());
    for change in changes {
        match place.get(&change.point_id) {
            Some(&index) if kept[index].order() <= change.order() => kept[index] = change,
            Some(_) => {}
            None => {
                place.insert(change.point_id, kept.len());
                kept.push(change);
            }
        }
    }
    kept
}

/// What became of each of `changes`, of which those that [`newest`] keeps were applied with these outcomes.
pub(super) fn each_outcome(changes: &[Change], kept: &HashMap<Uuid, (Order, Outcome)>) -> Vec<Outcome> {
    let of = |change: &Change| match kept.get(&change.point_id) {
        Some((order, outcome)) if *order == change.order() => *outcome,
        _ => Outcome::Superseded,
    };
    changes.iter().map(of).collect()
}

/// Refuses what must never reach an engine: a vector of another space, length or of non-finite numbers, and a version that can't be stored.
pub(super) fn check(changes: &[Change], space: &Space) -> Result<(), IndexError> {
    let fingerprint = &space.fingerprint;
    for change in changes {
        let item = || format!("{} `{}`", change.kind, change.id);
        if change.fingerprint != *fingerprint {
            return Err(IndexError::Mismatch(format!(
                "{} was embedded by bundle {}, this index holds vectors of bundle {fingerprint}: embed it with the index's own bundle",
                item(),
                change.fingerprint
            ).into()));
        }
        if (change.kind == Kind::Video) == matches!(change.body, ChangeBody::Upsert { .. })
            && !matches!(change.body, ChangeBody::Delete)
        {
            return Err(IndexError::Refused(format!("{} is not written in the form of its kind", item()).into()));
        }
        if change.version > VERSION_MAX {
            return Err(IndexError::Refused(format!("version {} of {} is above {VERSION_MAX}", change.version, item()).into()));
        }
        for name in VECTORS {
            if let Some(vector) = change.vector(name) {
                check_vector(vector, space.embedding_dim, space.vectors_max(name))
                    .map_err(|problem| IndexError::Mismatch(format!("vector `{name}` of {}: {problem}", item()).into()))?;
            }
        }
        if let ChangeBody::Video { frames, .. } = &change.body {
            for (number, frame) in frames.iter().enumerate() {
                check_vector(&frame.image, space.embedding_dim, space.vectors_max(VECTOR_IMAGE))
                    .map_err(|problem| IndexError::Mismatch(format!("frame {number} of {}: {problem}", item()).into()))?;
            }
        }
    }
    Ok(())
}

/// Says what is wrong with 1 to `vectors_max` vectors one after another, if anything.
pub(super) fn check_vector(vector: &[f32], embedding_dim: u32, vectors_max: usize) -> Result<(), String> {
    let (vectors, rest) = (vector.len() / embedding_dim as usize, vector.len() % embedding_dim as usize);
    if rest != 0 || !(1..=vectors_max).contains(&vectors) {
        let of = if vectors_max == 1 { String::new() } else { format!(" a token and at most {vectors_max} tokens") };
        return Err(format!("has {} numbers, this index has {embedding_dim}{of}", vector.len()));
    }
    if let Some(place) = vector.iter().position(|value| !value.is_finite()) {
        return Err(format!("number {place} is {}, not a finite number", vector[place]));
    }
    Ok(())
}

impl Change {
    /// The vector of that name, if this change writes one.
    pub(super) fn vector(&self, name: &str) -> Option<&[f32]> {
        match &self.body {
            ChangeBody::Upsert { text, .. } | ChangeBody::Video { text, .. } if name == VECTOR_TEXT => text.as_deref(),
            ChangeBody::Upsert { image, .. } if name == VECTOR_IMAGE => image.as_deref(),
            _ => None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use astromech_schemas::{Fingerprint, Similarity, point_id};

    use super::*;

    fn change(id: &str, version: u64) -> Change {
        Change {
            kind: Kind::Image,
            id: id.to_owned(),
            point_id: point_id(Kind::Image, id),
            version,
            tie_breaker: None,
            fingerprint: Fingerprint::try_from("0".repeat(64)).unwrap(),
            body: ChangeBody::Delete,
        }
    }

    #[test]
    fn of_several_changes_of_an_item_the_highest_version_is_kept_and_ties_keep_the_later() {
        let mut changes = vec![change("a", 2), change("b", 1), change("a", 3), change("a", 1), change("b", 1)];
        changes[4].body = ChangeBody::Upsert { text: None, image: None, payload: serde_json::Map::new() };
        let kept = newest(&changes);
        assert_eq!(kept.iter().map(|c| (c.id.as_str(), c.version)).collect::<Vec<_>>(), [("a", 3), ("b", 1)]);
        assert!(matches!(kept[1].body, ChangeBody::Upsert { .. }));
    }

    #[test]
    fn versions_that_a_float_would_confuse_are_compared_in_halves() {
        assert_eq!(split(VERSION_SPLIT - 1), None);
        assert_eq!(split(VERSION_SPLIT), Some((1 << 21, 0)));
        let (high, low) = split(VERSION_MAX).unwrap();
        assert_eq!((high, low), ((1 << 31) - 1, (1 << 32) - 1));
        // Both halves are whole numbers that f64 holds exactly.
        assert!(high < VERSION_SPLIT as i64 && low < VERSION_SPLIT as i64);
    }

    #[test]
    fn a_version_above_the_engines_integers_is_refused_by_name() {
        let change = change("a", VERSION_MAX + 1);
        let (fingerprint, bundle) = (change.fingerprint.clone(), String::new());
        let space = Space { fingerprint, embedding_dim: 4, similarity: Similarity::Cosine, bundle };
        let error = check(&[change], &space).unwrap_err();
        assert!(error.to_string().contains("image `a`"), "{error}");
    }
}
