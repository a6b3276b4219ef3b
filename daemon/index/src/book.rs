//! The book of generations: which there are and which is live, as the index itself keeps it.

use std::collections::BTreeMap;

use astromech_schemas::results::RecordPosition;
use astromech_schemas::{Fingerprint, Kind};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{IndexError, Space};

/// Why a generation that is not live is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// It was live until a newer one was; going back to it is one change of the aliases.
    Retired,
    /// It was live and was given up by a rollback: the daemon never makes it live again by itself.
    Held,
    /// A newer bundle was published before it was live.
    Superseded,
}

impl Mark {
    /// The word in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retired => "retired",
            Self::Held => "held",
            Self::Superseded => "superseded",
        }
    }
}

/// A mark, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {
    /// Why it is kept.
    pub mark: Mark,
    /// Since then, milliseconds since 1970.
    pub since_ms: u64,
}

/// A generation that the index holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredGeneration {
    /// Its vector space.
    pub fingerprint: Fingerprint,
    /// Name of its bundle, for people.
    pub bundle: String,
    /// Why it is kept; `None` for the live one and for one that is being filled.
    pub noted: Option<Noted>,
}

/// Offsets by topic and partition.
pub type Offsets = BTreeMap<String, BTreeMap<i32, i64>>;

/// How far a generation is filled from the points of another (`rollout.backfill = "collection"`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backfill {
    /// The generation whose points are read.
    pub from: Fingerprint,
    /// Where its consumer group was before the first point was read: what is before is in its points, what is behind comes from the
    /// topics. Every partition of the topics is in it.
    pub start: Offsets,
    /// Whether the new generation's group begins there.
    pub group_set: bool,
    /// Where reading goes on.
    pub cursor: Cursor,
    /// Items that were read.
    pub read: u64,
    /// Items that lost their picture or a part of their text.
    pub lost: u64,
    /// Those of them that have nothing left to embed and are not in the new generation.
    pub left_out: u64,
}

/// The next point to read; all before it, in the order of kinds and ids, are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cursor {
    /// Place of the kind in `Kind::ALL`; behind the last of them everything is read.
    pub kind: usize,
    /// Id of the point; `None` for the first.
    pub point: Option<Uuid>,
}

impl Backfill {
    /// From the points of `from`, whose group was at `start`; nothing is read yet.
    pub fn new(from: Fingerprint, start: Offsets) -> Self {
        let cursor = Cursor { kind: 0, point: None };
        Self { from, start, group_set: false, cursor, read: 0, lost: 0, left_out: 0 }
    }

    /// The kind that is read; `None` once everything is.
    pub fn kind(&self) -> Option<Kind> {
        Kind::ALL.get(self.cursor.kind).copied()
    }

    /// Whether everything is read and written.
    pub fn is_done(&self) -> bool {
        self.kind().is_none()
    }

    /// Whether the record at `place` is read from its topic by the new generation's group.
    pub fn comes_from_topic(&self, place: &RecordPosition) -> bool {
        let start = self.start.get(&place.topic).and_then(|partitions| partitions.get(&place.partition));
        start.is_some_and(|start| place.offset >= *start)
    }
}

/// Real name of the collection of `kind` in the vector space `fingerprint`, for example `images-0a1b2c3d4e5f`.
pub fn collection_name(kind: Kind, fingerprint: &Fingerprint) -> String {
    format!("{}-{}", kind.collection(), fingerprint.short())
}

/// The index's own book of generations. It is the only place where it is written what is live, so several daemons agree by looking.
pub trait Catalog: Send + Sync {
    /// The live generation; `None` where there is none yet.
    fn live(&self) -> BoxFuture<'_, Result<Option<Fingerprint>, IndexError>>;

    /// Every generation that the index holds.
    fn generations(&self) -> BoxFuture<'_, Result<Vec<StoredGeneration>, IndexError>>;

    /// Makes `fingerprint` live, of all kinds at once or not at all. Its collections must be there.
    fn promote<'a>(&'a self, fingerprint: &'a Fingerprint) -> BoxFuture<'a, Result<(), IndexError>>;

    /// Writes down why a generation is kept, or that it is no longer.
    fn note<'a>(&'a self, fingerprint: &'a Fingerprint, noted: Option<Noted>) -> BoxFuture<'a, Result<(), IndexError>>;

    /// Begins the generation `space`, filled as `plan` says, unless it is there already. Returns how the one that is there is filled:
    /// of several daemons that begin it at the same time one's plan counts for all. `None` where it is filled from the topics.
    fn begin<'a>(&'a self, space: &'a Space, plan: &'a Backfill) -> BoxFuture<'a, Result<Option<Backfill>, IndexError>>;

    /// How far a generation is filled; `None` where it is filled from the topics, or is not there.
    fn backfill<'a>(&'a self, fingerprint: &'a Fingerprint) -> BoxFuture<'a, Result<Option<Backfill>, IndexError>>;

    /// Writes down how far a generation is filled.
    fn note_backfill<'a>(&'a self, fingerprint: &'a Fingerprint, state: &'a Backfill) -> BoxFuture<'a, Result<(), IndexError>>;

    /// Deletes a generation's collections; one that is live is refused, one that is gone is fine.
    fn drop_generation<'a>(&'a self, fingerprint: &'a Fingerprint) -> BoxFuture<'a, Result<(), IndexError>>;
}
