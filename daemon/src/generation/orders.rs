//! What people ask of the roller, and what it tells them.

use std::collections::BTreeMap;

use astromech_schemas::Fingerprint;
use tracing::warn;

use super::command::{Command, RollError};
use super::kill_point::{KillPoint, reached};
use super::metrics::{GenerationMetrics, RolloutEnd};
use super::roller::{Roller, noted};
use super::status::{GenerationState, GenerationStatus, Rollout};
use crate::index::IndexError;
use crate::index::book::Mark;

impl From<IndexError> for RollError {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::Transient(_) => Self::Unanswered(error.to_string()),
            IndexError::Refused(_) | IndexError::Mismatch(_) => Self::Conflict(error.to_string()),
        }
    }
}

impl Roller {
    pub(super) async fn carry_out(&mut self, command: Command) -> Result<Fingerprint, RollError> {
        match command {
            Command::Promote(prefix) => {
                let fingerprint = self.find(&prefix)?;
                self.promote(fingerprint).await
            }
            Command::Rollback => {
                let fingerprint = self.before()?;
                self.promote(fingerprint).await
            }
            Command::Drop(prefix) => {
                let fingerprint = self.find(&prefix)?;
                if fingerprint == self.live_is {
                    let fix = "fix: promote another one first, or roll back";
                    return Err(RollError::Conflict(format!("generation {} is live; {fix}", fingerprint.short())));
                }
                let was_candidate = self.candidate.take_if(|candidate| candidate.fingerprint == fingerprint).is_some();
                if was_candidate || self.is_wanted(&fingerprint) {
                    // The registry points at it: without a reason it would be fetched and made live once more.
                    let reason = "it was dropped by hand";
                    self.bundles.refuse(&fingerprint, reason).await;
                    self.note_refused(&fingerprint, "", reason);
                }
                // What is cut off here is ended by the next daemon that looks for what is kept no longer.
                if let Err(error) = self.catalog.note(&fingerprint, Some(noted(Mark::Superseded))).await {
                    warn!(%error, fingerprint = fingerprint.short(), "a generation that is dropped was not noted");
                }
                self.drop_for_good(&fingerprint).await.map_err(|error| RollError::Unanswered(format!("{error:#}")))?;
                Ok(fingerprint)
            }
        }
    }

    /// The one generation whose fingerprint begins so.
    fn find(&self, prefix: &str) -> Result<Fingerprint, RollError> {
        let stored = self.stored.iter().map(|stored| &stored.fingerprint);
        let known: std::collections::BTreeSet<_> = stored.chain(self.running.keys()).collect();
        let mut found = known.into_iter().filter(|fingerprint| !prefix.is_empty() && fingerprint.as_str().starts_with(prefix));
        match (found.next(), found.next()) {
            (Some(one), None) => Ok(one.clone()),
            (None, _) => Err(RollError::Unknown(prefix.to_owned())),
            (Some(_), Some(_)) => {
                Err(RollError::Conflict(format!("several fingerprints begin with `{prefix}`; fix: write more of it")))
            }
        }
    }

    /// The generation that was live last.
    fn before(&self) -> Result<Fingerprint, RollError> {
        let kept = self
            .stored
            .iter()
            .filter(|stored| stored.fingerprint != self.live_is && self.running.contains_key(&stored.fingerprint));
        let retired =
            kept.filter_map(|stored| Some((stored.noted.filter(|noted| noted.mark == Mark::Retired)?.since_ms, stored)));
        let newest = retired.max_by_key(|(since_ms, _)| *since_ms);
        newest.map(|(_, stored)| stored.fingerprint.clone()).ok_or_else(|| {
            RollError::Conflict(
                "no generation that was live before is kept here; fix: publish the earlier bundle again".to_owned(),
            )
        })
    }

    async fn promote(&mut self, fingerprint: Fingerprint) -> Result<Fingerprint, RollError> {
        if fingerprint == self.live_is {
            return Ok(fingerprint);
        }
        if !self.running.contains_key(&fingerprint) {
            let problem =
                format!("generation {} does not run in this daemon yet; fix: try again once it does", fingerprint.short());
            return Err(RollError::Conflict(problem));
        }
        if self.candidate.as_ref().is_some_and(|candidate| candidate.fingerprint == fingerprint) {
            let problem = format!(
                "generation {} is still being filled and goes live by itself; fix: wait, see `astromech generations list`",
                fingerprint.short()
            );
            return Err(RollError::Conflict(problem));
        }
        // The note first: from here on no daemon makes the generation that is given up live again by itself.
        self.catalog.note(&self.live_is, Some(noted(Mark::Held))).await?;
        reached(KillPoint::BeforeRollback);
        self.catalog.promote(&fingerprint).await?;
        reached(KillPoint::AfterRollback);
        self.shared.vitals.metrics.of::<GenerationMetrics>().rollout_ended(RolloutEnd::RolledBack);
        self.follow(&fingerprint);
        Ok(fingerprint)
    }

    /// Tells the world what there is.
    pub(super) fn report(&self) {
        let mut generations = Vec::new();
        for (fingerprint, running) in &self.running {
            let candidate = self.candidate.as_ref().filter(|candidate| candidate.fingerprint == *fingerprint);
            let note = self.noted(fingerprint).filter(|_| *fingerprint != self.live_is);
            let state = match (candidate, note.map(|note| note.mark)) {
                _ if *fingerprint == self.live_is => GenerationState::Live,
                (Some(candidate), _) if candidate.verifying.is_some() => GenerationState::Verifying,
                (Some(_), _) | (None, None | Some(Mark::Superseded)) => GenerationState::Filling,
                (None, Some(Mark::Retired)) => GenerationState::Retired,
                (None, Some(Mark::Held)) => GenerationState::Held,
            };
            generations.push(GenerationStatus {
                fingerprint: fingerprint.clone(),
                bundle: running.bundle().to_owned(),
                state,
                since_ms: note.map(|note| note.since_ms),
                points: self.points.get(fingerprint).cloned().unwrap_or_default(),
                lag_records: candidate.and_then(|candidate| candidate.behind).map(|behind| behind.remaining),
                progress: candidate.and_then(super::candidate::Candidate::progress),
                eta_seconds: candidate.and_then(super::candidate::Candidate::eta_seconds),
                waits_for: candidate.and_then(|candidate| candidate.waits_for.clone()),
            });
        }
        let stored = self.stored.iter().filter(|stored| !self.running.contains_key(&stored.fingerprint));
        generations.extend(stored.map(|stored| GenerationStatus {
            fingerprint: stored.fingerprint.clone(),
            bundle: stored.bundle.clone(),
            state: GenerationState::Stored,
            since_ms: stored.noted.map(|note| note.since_ms),
            points: BTreeMap::new(),
            lag_records: None,
            progress: None,
            eta_seconds: None,
            waits_for: None,
        }));
        generations.sort_by_key(|generation| generation.state != GenerationState::Live);
        let measured = generations.iter().map(|generation| {
            let lag = generation.lag_records.unwrap_or_default();
            (generation.fingerprint.as_str(), generation.state.as_str(), lag, generation.eta_seconds)
        });
        self.shared.vitals.metrics.of::<GenerationMetrics>().set_generations(measured);
        self.generations.report(Rollout {
            generations,
            refused: self.refused.values().cloned().collect(),
            registry_problem: self.registry_problem.clone(),
        });
    }
}
