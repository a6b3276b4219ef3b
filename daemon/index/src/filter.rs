//! What a search may find, by the fields of items.

use uuid::Uuid;

use super::guard::Condition;
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
    /// As a condition on a stored point; `None` where everything may be found.
    pub(super) fn condition(&self) -> Option<Condition> {
        let is = |field: &'static str, word: &String| Condition::EqualsKeyword(field, word.clone().into());
        let mut all: Vec<Condition> = self.tags.iter().map(|tag| is("tags", tag)).collect();
        if !self.languages.is_empty() {
            all.push(Condition::Any(self.languages.iter().map(|language| is("language", language)).collect()));
        }
        if self.time_ms_from.is_some() || self.time_ms_to.is_some() {
            all.push(Condition::Between("time_ms", self.time_ms_from, self.time_ms_to));
        }
        if !self.videos.is_empty() {
            all.push(of_videos(&self.videos));
        }
        (!all.is_empty()).then_some(Condition::All(all, Vec::new()))
    }

    /// As [`Self::condition`], and no frame of `found`.
    pub(super) fn condition_beside(&self, found: &[Uuid]) -> Option<Condition> {
        let rest = self.condition();
        if found.is_empty() {
            return rest;
        }
        Some(Condition::All(rest.into_iter().collect(), vec![of_videos(found)]))
    }
}

fn of_videos(videos: &[Uuid]) -> Condition {
    Condition::Any(videos.iter().map(|video| Condition::EqualsKeyword(FIELD_VIDEO, video.to_string().into())).collect())
}
