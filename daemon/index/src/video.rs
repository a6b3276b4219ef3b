//! Videos: one item, many points, whatever the engine.
//!
//! ```text
//! point_id(video, id)          the item's own point: its text's vector, everything that a hit shows, `head`; a tombstone once deleted
//! frame_point_id(that, n)      frame n: its picture's vector, `video`, `frame`, `frame_time_ms`, what searches filter by
//! ```
//!
//! Every point is written under the guard, so each frame ends in its highest version. What is left is a frame of an older version in a
//! place that the newest one doesn't have. Whoever writes a video therefore reads its own point *after* its write and removes the frames
//! that are older than what stands there. Of two writers that overlap, either the newer one's removal comes after the older one's frames
//! and takes them, or the older one reads the newer version afterwards and takes its own; one that is killed in between has its record
//! read again, and a replay does the same. Until then a search drops frames whose version is not their video's.

use std::collections::{BTreeMap, HashMap, HashSet};

use astromech_schemas::manifest::hex;
use astromech_schemas::results::Outcome;
use astromech_schemas::{Kind, frame_point_id};
use futures::future::try_join_all;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::guard::{Predicate, each_outcome, newest, older, outcome};
use super::payload::{FIELD_CONTENT, FIELD_FRAME, FIELD_FRAME_TIME, FIELD_HEAD, FIELD_VECTORS, FIELD_VIDEO, is_tombstone, order};
use super::{Change, ChangeBody, IndexError, Order, Query, Stored, VECTOR_IMAGE};

/// Most videos of one removal: each is a condition of its own.
const REMOVAL_VIDEOS_MAX: usize = 256;

/// What an engine does for videos, and to remove points.
pub(super) trait Points: Sync {
    /// Writes points of any kind under the guard; returns when they are durable.
    fn write(&self, changes: Vec<&Change>) -> impl Future<Output = Result<(), IndexError>> + Send;

    /// What stands at points of `kind`, tombstones included; unknown ids are left out.
    fn heads(&self, kind: Kind, ids: &[Uuid]) -> impl Future<Output = Result<HashMap<Uuid, Head>, IndexError>> + Send;

    /// Points of videos by id, tombstones included.
    fn read(&self, ids: &[Uuid]) -> impl Future<Output = Result<Vec<Stored>, IndexError>> + Send;

    /// How many points of `kind` that `which` holds for.
    fn count(&self, kind: Kind, which: Predicate) -> impl Future<Output = Result<u64, IndexError>> + Send;

    /// Removes the points of `kind` that `which` holds for; returns when that is durable.
    fn remove(&self, kind: Kind, which: Predicate) -> impl Future<Output = Result<(), IndexError>> + Send;

    /// The nearest frames of up to `videos` videos that are not among `found`, best first; several of one video are allowed. Nothing only
    /// when no other video is left.
    fn frames(
        &self,
        query: &Query,
        found: &[Uuid],
        videos: usize,
    ) -> impl Future<Output = Result<Vec<Stored>, IndexError>> + Send;
}

/// What stands at an item's own point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) order: Order,
    /// Of a video.
    pub(super) content: Option<String>,
}

impl Head {
    /// Of a stored payload; `None` where Astromech did not write it.
    pub(super) fn of(payload: &serde_json::Map<String, Value>) -> Option<Self> {
        let content = payload.get(FIELD_CONTENT).and_then(Value::as_str).map(str::to_owned);
        Some(Self { order: order(payload)?, content })
    }
}

/// Applies changes of any kind; what became of each.
pub(super) async fn apply(points: &impl Points, changes: &[Change]) -> Result<Vec<Outcome>, IndexError> {
    let kept = newest(changes);
    let (videos, mut all): (Vec<&Change>, Vec<&Change>) = kept.iter().partition(|change| change.kind == Kind::Video);
    let ids: Vec<Uuid> = videos.iter().map(|change| change.point_id).collect();
    let before = if ids.is_empty() { HashMap::new() } else { points.heads(Kind::Video, &ids).await? };
    let expanded: Vec<Change> = videos.into_iter().flat_map(|change| expand(change, before.get(&change.point_id))).collect();
    all.extend(&expanded);
    points.write(all).await?;
    let after = standing(points, &kept).await?;
    let standing: Vec<(&Uuid, &Head)> = ids.iter().filter_map(|id| after.get_key_value(id)).collect();
    for part in standing.chunks(REMOVAL_VIDEOS_MAX) {
        let surplus = part.iter().map(|(video, head)| surplus(video, head.order)).collect();
        points.remove(Kind::Video, Predicate::Any(surplus)).await?;
    }
    let became = |change: &&Change| {
        let stored = after.get(&change.point_id).map(|head| head.order);
        (change.point_id, (change.order(), outcome(change, stored)))
    };
    Ok(each_outcome(changes, &kept.iter().map(became).collect()))
}

/// What stands at the points of `changes` now.
async fn standing(points: &impl Points, changes: &[&Change]) -> Result<HashMap<Uuid, Head>, IndexError> {
    let mut by_kind: BTreeMap<Kind, Vec<Uuid>> = BTreeMap::new();
    for change in changes {
        by_kind.entry(change.kind).or_default().push(change.point_id);
    }
    let heads = by_kind.iter().map(|(kind, ids)| points.heads(*kind, ids));
    Ok(try_join_all(heads).await?.into_iter().flatten().collect())
}

/// Frames of `video` that are older than what stands at `order`.
fn surplus(video: &Uuid, order: Order) -> Predicate {
    Predicate::All(vec![Predicate::EqualsKeyword(FIELD_VIDEO, video.to_string().into()), older(order)], Vec::new())
}

/// The points of one change of a video. Its frames are left out where `stored` says that the item's own point will be refused: a newer
/// change, or one of the same order with another content.
fn expand(change: &Change, stored: Option<&Head>) -> Vec<Change> {
    let ChangeBody::Video { text, frames, payload } = &change.body else { return vec![change.clone()] };
    let content = content(change);
    let mut payload = payload.clone();
    payload.insert(FIELD_HEAD.to_owned(), true.into());
    payload.insert(FIELD_CONTENT.to_owned(), content.clone().into());
    let head = Change { body: ChangeBody::Upsert { text: text.clone(), image: None, payload }, ..without_body(change) };
    let refused = stored.is_some_and(|stored| {
        stored.order > change.order() || (stored.order == change.order() && stored.content.as_deref() != Some(content.as_str()))
    });
    if refused {
        return vec![head];
    }
    let frames = frames.iter().zip(0_u32..).map(|(frame, number)| {
        let mut payload = frame.payload.clone();
        payload.insert(FIELD_VIDEO.to_owned(), change.point_id.to_string().into());
        payload.insert(FIELD_FRAME.to_owned(), number.into());
        payload.insert(FIELD_FRAME_TIME.to_owned(), frame.time_ms.into());
        let body = ChangeBody::Upsert { text: None, image: Some(frame.image.clone()), payload };
        Change { point_id: frame_point_id(change.point_id, number), body, ..without_body(change) }
    });
    std::iter::once(head).chain(frames).collect()
}

/// The points of one change of any kind, the item's own first.
#[cfg(feature = "embedded")]
pub(super) fn points_of(change: &Change) -> Vec<Change> {
    expand(change, None)
}

fn without_body(change: &Change) -> Change {
    Change { id: change.id.clone(), fingerprint: change.fingerprint.clone(), body: ChangeBody::Delete, ..*change }
}

/// Tells records of one version apart; vectors are left out, which a replay may compute a little differently.
fn content(change: &Change) -> String {
    let mut said = Vec::new();
    if let ChangeBody::Video { frames, payload, .. } = &change.body {
        said.extend(Value::Object(payload.clone()).to_string().into_bytes());
        for frame in frames {
            said.extend(frame.time_ms.to_be_bytes());
            said.extend(Value::Object(frame.payload.clone()).to_string().into_bytes());
        }
    }
    hex(&Sha256::digest(&said))
}

/// The nearest videos by their nearest frame, best first. A video that is being replaced may be missing for that moment.
pub(super) async fn search(points: &impl Points, query: &Query) -> Result<Vec<Stored>, IndexError> {
    let most = query.limit as usize;
    let (mut known, mut found, mut best) = (HashSet::new(), Vec::new(), Vec::new());
    // Each round finds another video or is the last.
    while best.len() < most {
        let before = best.len();
        for frame in points.frames(query, &found, most - before).await? {
            if let Some(video) = video_of(&frame)
                && best.len() < most
                && known.insert(video)
            {
                best.push((video, frame));
                found.push(video);
            }
        }
        if best.len() == before {
            break;
        }
    }
    best.sort_by(|(_, a), (_, b)| b.score.total_cmp(&a.score));
    let mut heads: HashMap<Uuid, Stored> =
        points.read(&found).await?.into_iter().map(|stored| (stored.point_id, stored)).collect();
    Ok(best.into_iter().filter_map(|(video, frame)| with_frame(heads.remove(&video)?, frame)).collect())
}

fn video_of(frame: &Stored) -> Option<Uuid> {
    frame.payload.get(FIELD_VIDEO).and_then(Value::as_str).and_then(|id| Uuid::parse_str(id).ok())
}

/// A video's own point with the fields and the score of one of its frames; `None` where the two are not of one change.
pub fn with_frame(head: Stored, frame: Stored) -> Option<Stored> {
    if is_tombstone(&head.payload) || order(&head.payload) != order(&frame.payload) || video_of(&frame) != Some(head.point_id) {
        return None;
    }
    let Stored { point_id, mut payload, .. } = head;
    for (field, value) in frame.payload {
        if field != FIELD_VECTORS && field != FIELD_VIDEO {
            payload.insert(field, value);
        }
    }
    if let Some(Value::Array(names)) = payload.get_mut(FIELD_VECTORS) {
        names.push(VECTOR_IMAGE.into());
    }
    Some(Stored { point_id, score: frame.score, payload })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::collections::BTreeMap;
    use std::pin::Pin;
    use std::sync::Mutex;
    use std::task::{Context, Poll, Waker};

    use astromech_schemas::{Fingerprint, point_id};
    use serde_json::Map;

    use super::super::FramePoint;
    use super::super::payload::FIELD_VERSION;
    use super::*;

    /// Stored payloads, replaced by the guard's rule; each operation is one step that another writer may come before.
    #[derive(Default)]
    struct Model(Mutex<BTreeMap<Uuid, Map<String, Value>>>);

    type Writing<'a> = Pin<Box<dyn Future<Output = Result<Vec<Outcome>, IndexError>> + 'a>>;

    fn version(payload: &Map<String, Value>) -> u64 {
        payload[FIELD_VERSION].as_u64().unwrap()
    }

    async fn step() {
        let mut waited = false;
        std::future::poll_fn(move |_| if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    impl Points for Model {
        async fn write(&self, changes: Vec<&Change>) -> Result<(), IndexError> {
            // Point by point, the item's own first: a request may be cut off anywhere.
            for change in changes {
                step().await;
                let mut points = self.0.lock().unwrap();
                if points.get(&change.point_id).is_none_or(|stored| order(stored) < Some(change.order())) {
                    points.insert(change.point_id, crate::payload::build(change));
                }
            }
            Ok(())
        }

        async fn heads(&self, _: Kind, ids: &[Uuid]) -> Result<HashMap<Uuid, Head>, IndexError> {
            step().await;
            let points = self.0.lock().unwrap();
            Ok(ids.iter().filter_map(|id| Some((*id, Head::of(points.get(id)?)?))).collect())
        }

        async fn read(&self, _: &[Uuid]) -> Result<Vec<Stored>, IndexError> {
            Ok(Vec::new())
        }

        async fn count(&self, _: Kind, which: Predicate) -> Result<u64, IndexError> {
            Ok(self.0.lock().unwrap().values().filter(|payload| holds(&which, payload)).count() as u64)
        }

        async fn remove(&self, _: Kind, which: Predicate) -> Result<(), IndexError> {
            step().await;
            self.0.lock().unwrap().retain(|_, payload| !holds(&which, payload));
            Ok(())
        }

        async fn frames(&self, _: &Query, _: &[Uuid], _: usize) -> Result<Vec<Stored>, IndexError> {
            Ok(Vec::new())
        }
    }

    fn holds(condition: &Predicate, payload: &Map<String, Value>) -> bool {
        match condition {
            Predicate::Any(any) => any.iter().any(|one| holds(one, payload)),
            Predicate::All(all, none) => all.iter().all(|one| holds(one, payload)) && !none.iter().any(|one| holds(one, payload)),
            Predicate::EqualsKeyword(field, word) => payload.get(*field).and_then(Value::as_str) == Some(&**word),
            Predicate::EqualsInteger(field, value) => payload.get(*field).and_then(Value::as_i64) == Some(*value),
            Predicate::IsEmpty(field) => !payload.contains_key(*field),
            Predicate::Less(field, value) => payload.get(*field).and_then(Value::as_i64).is_some_and(|found| found < *value),
            other => panic!("not used here: {other:?}"),
        }
    }

    fn change(version: u64, frames: Option<usize>) -> Change {
        let frame = FramePoint { image: vec![1.0], time_ms: 0, payload: Map::new() };
        let body = match frames {
            Some(count) => ChangeBody::Video { text: None, frames: vec![frame; count], payload: Map::new() },
            None => ChangeBody::Delete,
        };
        let fingerprint = Fingerprint::try_from("a".repeat(64)).unwrap();
        Change {
            kind: Kind::Video,
            id: "v".to_owned(),
            point_id: point_id(Kind::Video, "v"),
            version,
            tie_breaker: None,
            fingerprint,
            body,
        }
    }

    /// Polls one of two writers a step, as the bits of `schedule` say; one that is `killed` goes no further than so many steps.
    fn interleave(model: &Model, writers: [&[Change]; 2], schedule: u32, killed: [usize; 2]) {
        let mut context = Context::from_waker(Waker::noop());
        let mut running: Vec<Option<Writing<'_>>> = Vec::new();
        for changes in writers {
            running.push(Some(Box::pin(apply(model, changes))));
        }
        let mut steps = [0; 2];
        for bit in (0..u32::BITS).cycle() {
            let mut which = (schedule >> bit & 1) as usize;
            if running[which].is_none() {
                which = 1 - which;
            }
            let Some(writer) = &mut running[which] else { break };
            steps[which] += 1;
            if steps[which] > killed[which] || writer.as_mut().poll(&mut context).is_ready() {
                running[which] = None;
            }
        }
    }

    fn versions(model: &Model) -> (u64, Vec<u64>) {
        let points = model.0.lock().unwrap();
        let own = version(&points[&point_id(Kind::Video, "v")]);
        (own, points.values().filter(|payload| payload.contains_key(FIELD_VIDEO)).map(version).collect())
    }

    #[test]
    fn two_writers_that_overlap_in_any_way_leave_the_frames_of_the_newer_version_only() {
        for (older, newer) in [(Some(4), Some(2)), (Some(2), Some(3)), (Some(3), None), (None, Some(2))] {
            let (first, second) = ([change(1, older)], [change(2, newer)]);
            for schedule in 0..1_u32 << 16 {
                let model = Model::default();
                interleave(&model, [&first, &second], schedule | schedule.reverse_bits(), [usize::MAX; 2]);
                assert_eq!(versions(&model), (2, vec![2; newer.unwrap_or(0)]), "{older:?} {newer:?} {schedule:016b}");
            }
        }
    }

    #[test]
    fn writers_that_are_killed_anywhere_are_made_good_by_the_replay_of_their_records_in_any_order() {
        let (first, second) = ([change(1, Some(4))], [change(2, Some(2))]);
        for schedule in (0..1_u32 << 16).step_by(97) {
            for killed in (0..10).flat_map(|a| (0..10).map(move |b| [a, b])) {
                for order in [[&first, &second], [&second, &first]] {
                    let model = Model::default();
                    interleave(&model, [&first, &second], schedule, killed);
                    for changes in order {
                        interleave(&model, [changes, &[]], 0, [usize::MAX; 2]);
                    }
                    assert_eq!(versions(&model), (2, vec![2; 2]), "{schedule:016b} {killed:?}");
                }
            }
        }
    }
}
