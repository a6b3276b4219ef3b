//! What a search may find, by the fields of items.

use uuid::Uuid;

use super::guard::Predicate;
use super::payload::FIELD_VIDEO;

/// Narrows a search; nothing where empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SearchFilter {
    /// Every one of these tags.
    pub tags: Vec<String>,
    /// One of these languages, as items name them.
    pub languages: Vec<String>,
    /// Published then or later, milliseconds since 1970.
    pub time_ms_from: Option<i64>,
    /// Published then or earlier, milliseconds since 1970.
    pub time_ms_to: Option<i64>,
    /// Frames of one of these videos, by the videos' point ids.
    pub videos: Vec<Uuid>,
}

impl SearchFilter {
    /// As a predicate of a stored point; `None` where everything may be found.
    pub(super) fn predicate(&self) -> Option<Predicate> {
        let is = |field: &'static str, word: &String| Predicate::EqualsKeyword(field, word.clone().into());
        let mut all: Vec<Predicate> = self.tags.iter().map(|tag| is("tags", tag)).collect();
        if !self.languages.is_empty() {
            all.push(Predicate::Any(self.languages.iter().map(|language| is("language", language)).collect()));
        }
        if self.time_ms_from.is_some() || self.time_ms_to.is_some() {
            all.push(Predicate::Between("time_ms", self.time_ms_from, self.time_ms_to));
        }
        if !self.videos.is_empty() {
            all.push(of_videos(&self.videos));
        }
        (!all.is_empty()).then_some(Predicate::All(all, Vec::new()))
    }

    /// As [`Self::predicate`], and no frame of `found`.
    pub(super) fn predicate_beside(&self, found: &[Uuid]) -> Option<Predicate> {
        let rest = self.predicate();
        if found.is_empty() {
            return rest;
        }
        Some(Predicate::All(rest.into_iter().collect(), vec![of_videos(found)]))
    }
}

fn of_videos(videos: &[Uuid]) -> Predicate {
    Predicate::Any(videos.iter().map(|video| Predicate::EqualsKeyword(FIELD_VIDEO, video.to_string().into())).collect())
}
