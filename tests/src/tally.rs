//! What is wrong with an index, counted: the torture run's verdict against its model.

use astromech_schemas::{Manifest, point_id};

use crate::items::Expected;
use crate::points::Snapshot;

/// Faults by their kind; all are 0 where the promises hold.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Items of the model.
    pub items: usize,
    /// Items without a point.
    pub lost: usize,
    /// Points of a version below the model's.
    pub stale: usize,
    /// Points that are live where the model says deleted.
    pub resurrected: usize,
    /// Points of another fingerprint, or with the title or the vectors of another version than their own.
    pub mixed: usize,
    /// Points that the model does not know, or of a version above the model's.
    pub surplus: usize,
}

impl Tally {
    /// Compares every point with the model.
    pub fn of(snapshot: &Snapshot, expected: &Expected, manifest: &Manifest) -> Self {
        let mut tally = Self { items: expected.0.len(), ..Self::default() };
        for ((kind, id), wanted) in &expected.0 {
            let Some(point) = snapshot[kind].get(&point_id(*kind, id)) else {
                tally.lost += 1;
                continue;
            };
            tally.stale += usize::from(point.version() < wanted.version);
            tally.surplus += usize::from(point.version() > wanted.version);
            tally.resurrected += usize::from(wanted.item.is_none() && !point.is_tombstone());
            let of_this_version = wanted.item.as_ref().is_none_or(|item| {
                point.text("title") == item.title && point.vectors.keys().map(String::as_str).eq(item.vectors.iter().copied())
            });
            let mixed = point.text("fingerprint") != manifest.fingerprint.as_str()
                || (point.version() == wanted.version && !of_this_version);
            tally.mixed += usize::from(mixed);
        }
        let stored: usize = snapshot.values().map(std::collections::BTreeMap::len).sum();
        tally.surplus += stored.saturating_sub(tally.items - tally.lost);
        tally
    }

    /// Whether the index equals the model.
    pub const fn is_clean(&self) -> bool {
        self.lost + self.stale + self.resurrected + self.mixed + self.surplus == 0
    }
}
