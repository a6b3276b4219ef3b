//! Filling a new generation from the points of the live one, for topics that do not hold every item.
//!
//! ```text
//! offsets of the live group -> written down with the new generation, before anything is read -> its own group begins there
//! points of the live generation, kind by kind in the order of their ids -> embedded, written at their own versions -> cursor written down
//! ```
//!
//! A point holds what was applied up to those offsets or later; what lies behind them comes from the topics. Both are written under the
//! version guard, so the order does not matter. Tombstones are copied: a delete holds.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use astromech_schemas::results::RecordPosition;
use astromech_schemas::{Kind, item_text};
use astromech_towers::Towers;
use futures::future::join_all;
use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::kill_point::{KillPoint, reached};
use crate::index::book::{Backfill, Catalog, Cursor};
use crate::index::payload::{FIELD_ID, FIELD_VECTORS, FIELD_VERSION, FIELD_VIDEO, is_tombstone, order};
use crate::index::{Index, IndexError, Order, Page, Scope, Stored, VECTOR_IMAGE};
use crate::pipeline::{BODY_CHARS_MAX, Left, Refill, RefillBody, Refilled, Refiller};
use crate::source::Partition;
use crate::vitals::{Awaited, HaltCause, Unanswered, Vitals};

/// Points that are read, embedded and written together.
const PAGE_POINTS: u32 = 128;
/// How often the cursor is written down, between two pages; at the end of each kind in any case.
const NOTE_EVERY: Duration = Duration::from_secs(2);
/// Points of a page that is only looked at.
const SURVEY_POINTS: u32 = 1024;
/// Items that a message names.
const NAMED_MAX: usize = 5;
/// Items whose loss is logged one by one.
const LOGGED_MAX: u64 = 100;

/// Why an item can't be embedded anew as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// Its picture's bytes were in the record.
    InlinePicture,
    /// Its key frames were in the record: a video's points don't say where all of them came from.
    KeyFrames,
    /// Its body was longer than what a point keeps, and the text tower reads further than that.
    CutText,
}

/// How far a generation is filled, for who waits for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Filled {
    pub(super) read: u64,
    pub(super) items: u64,
    pub(super) left_out: u64,
    pub(super) is_done: bool,
}

/// What a stored point is made of, and what of it is lost.
fn refill(kind: Kind, stored: Stored, towers: &Towers) -> Result<(Refill, Option<Loss>), IndexError> {
    let foreign = |field: &str| {
        IndexError::Mismatch(format!("{kind} point {} has no `{field}`, so Astromech did not write it", stored.point_id).into())
    };
    let id = stored.payload.get(FIELD_ID).and_then(Value::as_str).ok_or_else(|| foreign(FIELD_ID))?.to_owned();
    let Order { version, tie_breaker } = order(&stored.payload).ok_or_else(|| foreign(FIELD_VERSION))?;
    if is_tombstone(&stored.payload) {
        return Ok((Refill { kind, id, version, tie_breaker, source: None, body: RefillBody::Delete }, None));
    }
    let source: Option<RecordPosition> =
        stored.payload.get("source").and_then(|source| serde_json::from_value(source.clone()).ok());
    let field = |name: &str| stored.payload.get(name).and_then(Value::as_str).unwrap_or_default();
    let text = item_text(field("title"), field("body"));
    let image = stored.payload.get("image_url").and_then(Value::as_str).map(str::to_owned);
    let loss = if kind == Kind::Video {
        Some(Loss::KeyFrames)
    } else if image.is_none() && has_picture(&stored.payload) {
        Some(Loss::InlinePicture)
    } else if reads_further(field("title"), field("body"), towers) {
        Some(Loss::CutText)
    } else {
        None
    };
    Ok((
        Refill { kind, id, version, tie_breaker, source, body: RefillBody::Upsert { text, image, payload: stored.payload } },
        loss,
    ))
}

fn has_picture(payload: &Map<String, Value>) -> bool {
    payload.get(FIELD_VECTORS).and_then(Value::as_array).is_some_and(|names| names.iter().any(|name| name == VECTOR_IMAGE))
}

/// Whether the tower reads more of a text than what a point keeps of it.
fn reads_further(title: &str, body: &str, towers: &Towers) -> bool {
    if body.chars().count() < BODY_CHARS_MAX {
        return false;
    }
    // The last word may have been cut, and the pieces of a word depend on all of it.
    let whole = body.trim_end_matches(|c: char| c.is_alphanumeric() && (c as u32) < 0x2E80);
    let tokens = item_text(title, whole).map_or(0, |text| towers.prepare_text(&text).ids().len());
    tokens < towers.manifest().text.max_tokens as usize
}

/// What filling from points would lose.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Survey {
    inline_pictures: u64,
    videos: u64,
    cut_texts: u64,
    named: Vec<String>,
}

impl Survey {
    /// Reads the points of `from` without embedding one.
    ///
    /// # Errors
    /// The index does not answer, or holds points that Astromech did not write.
    pub(super) async fn take(from: &dyn Index, towers: &Towers, plan: &Backfill) -> Result<Self, IndexError> {
        let mut survey = Self::default();
        for kind in Kind::ALL {
            let mut next = None;
            loop {
                let page = from.scroll(kind, Scope::Live, next, SURVEY_POINTS).await?;
                for stored in page.points {
                    let (item, loss) = refill(kind, stored, towers)?;
                    survey.count(&item, loss.filter(|_| !item.source.as_ref().is_some_and(|at| plan.comes_from_topic(at))));
                }
                next = page.next;
                if next.is_none() {
                    break;
                }
            }
        }
        Ok(survey)
    }

    fn count(&mut self, item: &Refill, loss: Option<Loss>) {
        match loss {
            None => return,
            Some(Loss::InlinePicture) => self.inline_pictures += 1,
            Some(Loss::KeyFrames) => self.videos += 1,
            Some(Loss::CutText) => self.cut_texts += 1,
        }
        if self.named.len() < NAMED_MAX {
            self.named.push(format!("{} `{}`", item.kind, item.id));
        }
    }

    /// Why the bundle is refused where more than `lost_max` items would lose something.
    pub(super) fn problem(&self, lost_max: u64) -> Option<String> {
        let lost = self.inline_pictures + self.videos + self.cut_texts;
        (lost > lost_max).then(|| {
            format!(
                "{lost} items can't be embedded anew from their points, over rollout.backfill_lost_max = {lost_max}: {} had their picture \
                 inline in a record, {} are videos, {} had a text that is longer than what a point keeps (first: {}); fix: send these items once more, with \
                 the address of the picture, or set rollout.backfill_lost_max = {lost} and let them go without",
                self.inline_pictures,
                self.videos,
                self.cut_texts,
                self.named.join(", ")
            )
        })
    }
}

/// Fills one generation.
pub(super) struct Filling {
    pub(super) catalog: Arc<dyn Catalog>,
    pub(super) state: Backfill,
    /// Whose points are read.
    pub(super) from: Arc<dyn Index>,
    pub(super) towers: Towers,
    pub(super) refiller: Refiller,
    pub(super) lost_max: u64,
    pub(super) vitals: Vitals,
    pub(super) progress: watch::Sender<Filled>,
}

impl Filling {
    /// Runs until everything is written, or `stop`. Goes on where it was when it is run again.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        // Its fence is what ends waits and keeps writes from beginning once the generation is stopped.
        let partition = Partition::new(Arc::from("points"), 0);
        let halt = self.vitals.halt.clone();
        tokio::select! {
            () = stop.cancelled() => partition.fence().close(),
            () = halt.token().cancelled() => partition.fence().close(),
            () = self.fill(&partition) => {}
        }
    }

    async fn fill(&mut self, partition: &Arc<Partition>) {
        let items = self.retried(|filling| filling.from.counts()).await.values().sum();
        let fingerprint = self.towers.fingerprint().clone();
        info!(from = self.state.from.short(), to = fingerprint.short(), items, "a generation is filled from points");
        let mut noted = Instant::now();
        loop {
            self.tell(items);
            let Some(kind) = self.state.kind() else { break };
            let next = self.state.cursor.point;
            let page = self.retried(move |filling| filling.from.scroll(kind, Scope::All, next, PAGE_POINTS)).await;
            if !self.page(kind, page, partition).await {
                return;
            }
            // A page that was not noted is written once more after a kill; a note costs a server more than a page.
            if self.state.cursor.point.is_none() || noted.elapsed() >= NOTE_EVERY {
                self.retried(|filling| filling.catalog.note_backfill(filling.towers.fingerprint(), &filling.state)).await;
                reached(KillPoint::MidFill);
                self.catch_up().await;
                noted = Instant::now();
            }
        }
        info!(fingerprint = fingerprint.short(), read = self.state.read, lost = self.state.lost, "filled from points");
    }

    fn tell(&self, items: u64) {
        let Backfill { read, left_out, .. } = self.state;
        self.progress.send_replace(Filled { read, items: items.max(read), left_out, is_done: self.state.is_done() });
    }

    /// Another daemon that fills the same generation may be further: all before its cursor is written.
    async fn catch_up(&mut self) {
        let other = self.retried(|filling| filling.catalog.backfill(filling.towers.fingerprint())).await;
        if let Some(other) = other.filter(|other| other.cursor > self.state.cursor) {
            self.state = other;
        }
    }

    /// Writes a page; false where the generation is stopped, or given up.
    async fn page(&mut self, kind: Kind, page: Page, partition: &Arc<Partition>) -> bool {
        let Page { points, next } = page;
        let written = join_all(points.into_iter().map(|stored| self.point(kind, stored, partition))).await;
        for written in written {
            match written {
                Ok(One { is_item, lost, left_out }) => {
                    self.state.read += u64::from(is_item);
                    self.state.lost += u64::from(lost);
                    self.state.left_out += u64::from(left_out);
                }
                Err(NotFilled::Left) => return false,
                Err(NotFilled::Index(problem)) => {
                    self.vitals.halt.halt(HaltCause::Mismatch(problem));
                    return false;
                }
            }
        }
        if self.state.lost > self.lost_max {
            self.vitals.halt.halt(HaltCause::Backfill(format!(
                "{} items or more lose their picture, a part of their text or all by being filled from points, over \
                 rollout.backfill_lost_max = {}; the log names them; fix: make their pictures readable again, or raise it",
                self.state.lost, self.lost_max
            )));
            return false;
        }
        let Cursor { kind: place, .. } = self.state.cursor;
        self.state.cursor = match next {
            Some(next) => Cursor { kind: place, point: Some(next) },
            None => Cursor { kind: place + 1, point: None },
        };
        true
    }

    async fn point(&self, kind: Kind, stored: Stored, partition: &Arc<Partition>) -> Result<One, NotFilled> {
        if stored.payload.contains_key(FIELD_VIDEO) {
            // A key frame: its video's own point stands for it.
            return Ok(One { is_item: false, lost: false, left_out: false });
        }
        let (item, loss) = refill(kind, stored, &self.towers).map_err(|error| NotFilled::Index(error.to_string()))?;
        let is_item = item.body != RefillBody::Delete;
        if loss.is_some() && item.source.as_ref().is_some_and(|at| self.state.comes_from_topic(at)) {
            // The group reads its record. Writing what is left would keep that out: it has the same version.
            return Ok(One { is_item, lost: false, left_out: false });
        }
        if loss == Some(Loss::KeyFrames) {
            self.log_lost(kind, &item.id, "a video's key frames are read from its record alone");
            return Ok(One { is_item, lost: true, left_out: true });
        }
        let (id, empty) = (item.id.clone(), is_empty(&item.body));
        if empty {
            self.log_lost(kind, &id, "its picture was inline in its record, and it has no text");
            return Ok(One { is_item, lost: true, left_out: true });
        }
        let written = self.refiller.write(item, partition).await.map_err(|left| match left {
            Left::Fenced | Left::Halted => NotFilled::Left,
        })?;
        let (fault, left_out) = match &written {
            Refilled::Whole => (None, false),
            Refilled::WithoutPicture(fault) => (Some(fault.detail.as_str()), false),
            Refilled::LeftOut(fault) => (Some(fault.detail.as_str()), true),
        };
        let cause = fault.or_else(|| {
            Some(match loss? {
                // Left out above.
                Loss::KeyFrames => return None,
                Loss::InlinePicture => "its picture was inline in its record",
                Loss::CutText => "its text is longer than what a point keeps",
            })
        });
        if let Some(cause) = cause {
            self.log_lost(kind, &id, cause);
        }
        Ok(One { is_item, lost: cause.is_some(), left_out })
    }

    fn log_lost(&self, kind: Kind, id: &str, cause: &str) {
        if self.state.lost <= LOGGED_MAX {
            warn!(%kind, id, cause, "an item is not embedded anew as it was");
        }
    }

    /// Tries until it is answered.
    async fn retried<'s, T, F>(&'s self, ask: impl Fn(&'s Self) -> F) -> T
    where
        F: Future<Output = Result<T, IndexError>>,
    {
        let warn = |error: &IndexError, _: Duration| warn!(%error, "filling from points waits for the index");
        let index = Awaited::new(IndexError::is_transient, &warn);
        match self.vitals.until_it_answers(index, pending::<Infallible>(), || ask(self)).await {
            Ok(answer) => answer,
            Err(Unanswered::Failed(error)) => {
                self.vitals.halt.halt(HaltCause::Mismatch(error.to_string()));
                // The halt ends the generation, and this wait with it.
                pending().await
            }
        }
    }
}

/// What became of one point.
struct One {
    is_item: bool,
    lost: bool,
    left_out: bool,
}

/// Why a page was not written to its end.
enum NotFilled {
    Left,
    Index(String),
}

/// Whether an item has nothing to embed.
fn is_empty(body: &RefillBody) -> bool {
    matches!(body, RefillBody::Upsert { text: None, image: None, .. })
}
