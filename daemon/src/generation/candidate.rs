//! The generation that is being made ready.

use std::time::{Duration, Instant};

use astromech_schemas::Fingerprint;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::backfill::Filled;
use super::heads::{Behind, Heads};
use super::verify::NotYet;
use crate::config::KafkaConfig;

/// Time between two looks at the broker.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Looks over which the speed is averaged: the newest counts a fifth.
const SPEED_SMOOTHING: f64 = 0.2;

/// What a look at the broker gives back, with what looked.
type Looked = (Heads, Result<Behind, rdkafka::error::KafkaError>);

/// Progress of one generation on its way to being live.
pub(super) struct Candidate {
    pub(super) fingerprint: Fingerprint,
    looking: Option<JoinHandle<Looked>>,
    heads: Option<Heads>,
    looked: Instant,
    pub(super) behind: Option<Behind>,
    /// Points and records it still had to take when it was looked at last.
    remained: Option<u64>,
    /// Points and records a second.
    speed: Option<f64>,
    /// How far it is filled from points; `None` where it is filled from the topics alone.
    filled: Option<watch::Receiver<Filled>>,
    /// Since when it is at the live head and is compared.
    pub(super) verifying: Option<Instant>,
    /// What it waits for, for a person.
    pub(super) waits_for: Option<String>,
}

impl Candidate {
    /// # Errors
    /// A property that librdkafka refuses.
    pub(super) fn new(
        fingerprint: Fingerprint,
        kafka: &KafkaConfig,
        filled: Option<watch::Receiver<Filled>>,
    ) -> Result<Self, rdkafka::error::KafkaError> {
        Ok(Self {
            fingerprint,
            looking: None,
            heads: Some(Heads::new(kafka)?),
            looked: Instant::now(),
            behind: None,
            remained: None,
            speed: None,
            filled,
            verifying: None,
            waits_for: None,
        })
    }

    /// Looks how far it is; returns whether it is at the live head. Never waits for the broker.
    pub(super) async fn look(&mut self) -> bool {
        if let Some(mut heads) = self.heads.take_if(|_| self.looked.elapsed() >= LOOK_EVERY || self.behind.is_none()) {
            self.looking = Some(tokio::task::spawn_blocking(move || {
                let behind = heads.look();
                (heads, behind)
            }));
        }
        if let Some(looking) = self.looking.take_if(|looking| looking.is_finished()) {
            match looking.await {
                Ok((heads, behind)) => {
                    self.heads = Some(heads);
                    self.note(behind);
                }
                Err(error) => self.waits_for = Some(format!("looking at the broker failed: {error}")),
            }
        }
        self.behind.is_some_and(|behind| behind.at_head) && self.filled().is_none_or(|filled| filled.is_done)
    }

    fn filled(&self) -> Option<Filled> {
        self.filled.as_ref().map(|filled| *filled.borrow())
    }

    /// Items that had nothing left to embed and are not in it.
    pub(super) fn left_out(&self) -> u64 {
        self.filled().unwrap_or_default().left_out
    }

    /// Points and records it still has to take, and all of them.
    fn remaining(&self) -> Option<(u64, u64)> {
        let (behind, filled) = (self.behind?, self.filled().unwrap_or_default());
        Some((behind.remaining + filled.items.saturating_sub(filled.read), behind.records.max(behind.remaining) + filled.items))
    }

    /// Whether some of it is filled and some is not.
    pub(super) fn is_begun(&self) -> bool {
        self.remaining().is_some_and(|(remaining, of)| remaining > 0 && remaining < of)
    }

    /// Share that it has, 0 to 1.
    pub(super) fn progress(&self) -> Option<f64> {
        let (remaining, of) = self.remaining()?;
        Some(if of == 0 { 1.0 } else { of.saturating_sub(remaining) as f64 / of as f64 })
    }

    fn note(&mut self, behind: Result<Behind, rdkafka::error::KafkaError>) {
        let now = Instant::now();
        let behind = match behind {
            Ok(behind) => behind,
            Err(error) => {
                self.waits_for = Some(format!("the broker does not answer: {error}"));
                return;
            }
        };
        self.behind = Some(behind);
        let remaining = self.remaining().unwrap_or_default().0;
        if let Some(before) = self.remained {
            let seconds = now.duration_since(self.looked).as_secs_f64().max(0.001);
            let speed = before.saturating_sub(remaining) as f64 / seconds;
            self.speed = Some(self.speed.map_or(speed, |old| old + SPEED_SMOOTHING * (speed - old)));
        }
        (self.looked, self.remained) = (now, Some(remaining));
        self.waits_for = match self.filled() {
            Some(filled) if !filled.is_done => {
                let points = filled.items.saturating_sub(filled.read);
                Some(format!("{points} of {} points, {} records", filled.items, behind.remaining))
            }
            _ => (!behind.at_head).then(|| format!("{} of {} records", behind.remaining, behind.records)),
        };
    }

    /// Seconds until it is at the live head at its present speed.
    pub(super) fn eta_seconds(&self) -> Option<u64> {
        let ((remaining, _), speed) = (self.remaining()?, self.speed?);
        if remaining == 0 {
            return Some(0);
        }
        (speed > f64::EPSILON).then(|| (remaining as f64 / speed).ceil() as u64)
    }

    /// What a comparison found; `Some` with the reason once it has failed for too long.
    pub(super) fn differs(&mut self, problem: &NotYet, verify_max: Duration) -> Option<String> {
        let since = *self.verifying.get_or_insert_with(Instant::now);
        self.waits_for = Some(problem.to_string());
        match problem {
            NotYet::Differs(problem) if since.elapsed() >= verify_max => Some(format!(
                "it still differs {} s after it was at the live head (rollout.verify_ms_max): {problem}",
                since.elapsed().as_secs()
            )),
            // What does not answer says nothing about the generation.
            NotYet::Unanswered(_) | NotYet::Differs(_) => None,
        }
    }
}
