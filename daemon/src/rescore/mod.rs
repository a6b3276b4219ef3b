//! Re-scoring: candidates against a context by the single tower, the one service behind every door (HTTP, search, command line).
//!
//! ```text
//! request -> limits, a place -> context encoded, items looked up -> candidates encoded side by side -> cross tower -> blend, rank
//!                                                |                        |
//!                                                `----- feature cache ----'  (by content hash and fingerprint)
//! ```
//! The towers' live handle is used, with the request's deadline: what is past it is dropped before it costs. One candidate never
//! fails a request: what is wrong with it, or that the deadline passed, is its own problem in the answer.
//!
//! Absent here: HTTP, and any write to the index.

mod blend;
mod cache;
mod context;
mod disk;
mod encode;
mod entry;
mod error;
mod fault;
mod job;
mod metrics;
mod query;
mod source;
mod table;

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use astromech_schemas::Blend;
use astromech_schemas::rescore::{
    CandidateFault, CandidateProblem, ItemRef, ProblemKind, RescoreRequest, RescoreResponse, RescoreTimings, Rescored, Weights,
};
use astromech_towers::Towers;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use blend::best_first;
pub use cache::{StateCache, StateKey};
pub use disk::DiskTier;
pub use entry::States;
pub use error::RescoreError;
pub use metrics::RescoreMetrics;
pub use query::RescoreQuery;
pub use source::{TEXT_CHARS_MAX, check_text};

use crate::config::{Config, RescoreConfig};
use crate::index::Index;
use crate::media::Media;
use crate::prepare::Preparer;
use crate::vitals::Meter;
use blend::{extra, scores, weights};
use encode::Encoder;
use job::{Job, Outcome};

/// Largest weight of a blend, of either sign.
pub const WEIGHT_MAX: f32 = 1000.0;

/// What the service is made of.
pub struct RescoreParts {
    /// The running towers, with the cross tower.
    pub towers: Towers,
    /// Where items are looked up.
    pub index: Arc<dyn Index>,
    /// Where pictures come from.
    pub media: Arc<Media>,
    /// States that were encoded before.
    pub cache: Arc<StateCache>,
    /// Counters.
    pub metrics: Meter<RescoreMetrics>,
}

/// The re-scoring service.
pub struct Rescorer {
    parts: RescoreParts,
    preparer: Preparer,
    config: RescoreConfig,
    blend: Blend,
    batch_max: usize,
    fetches: Arc<Semaphore>,
    requests: Arc<Semaphore>,
}

/// A request's place among those under way.
struct Place {
    metrics: Meter<RescoreMetrics>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.permit.take());
        self.metrics.left();
    }
}

impl Rescorer {
    /// With the limits of `config`.
    pub fn new(config: &Config, parts: RescoreParts) -> Self {
        Self {
            preparer: Preparer::new(parts.towers.clone()),
            blend: parts.towers.manifest().blend.clone().unwrap_or_default(),
            parts: RescoreParts { towers: parts.towers.live(), ..parts },
            batch_max: config.towers.cross.batch_max,
            fetches: Arc::new(Semaphore::new(config.media.in_flight_max)),
            requests: Arc::new(Semaphore::new(config.rescore.requests_in_flight_max)),
            config: config.rescore.clone(),
        }
    }

    /// The limits in use.
    pub const fn config(&self) -> &RescoreConfig {
        &self.config
    }

    /// The cache in use.
    pub const fn cache(&self) -> &Arc<StateCache> {
        &self.parts.cache
    }

    /// Writes what is on its way to the feature cache's disk; for the end of the process.
    pub async fn close(&self) {
        if let Some(disk) = self.parts.cache.disk() {
            disk.close().await;
        }
    }

    /// Scores and ranks a request's candidates, within its `deadline_ms`, else the configured one.
    ///
    /// # Errors
    /// The request is wrong or over a limit, its context can't be had, too many requests are under way, the index does not answer, or
    /// nothing was scored in time. Never because of one candidate.
    pub async fn rescore(&self, request: RescoreRequest) -> Result<RescoreResponse, RescoreError> {
        let deadline = Instant::now() + self.deadline_of(&request)?;
        self.rescore_until(request, deadline).await
    }

    /// As [`Rescorer::rescore`], and ending at `latest` at the latest: a door that cuts requests off wants what is scored before it does.
    ///
    /// # Errors
    /// As [`Rescorer::rescore`].
    pub async fn rescore_before(&self, request: RescoreRequest, latest: Instant) -> Result<RescoreResponse, RescoreError> {
        let deadline = Instant::now() + self.deadline_of(&request)?;
        self.rescore_until(request, deadline.min(latest)).await
    }

    /// Time that a request has: its `deadline_ms`, else the configured one.
    ///
    /// # Errors
    /// It asks for more than it may.
    pub fn deadline_of(&self, request: &RescoreRequest) -> Result<Duration, RescoreError> {
        let most = self.config.deadline_max.as_millis() as u64;
        match request.deadline_ms {
            None => Ok(self.config.deadline),
            Some(ms) if (1..=most).contains(&ms) => Ok(Duration::from_millis(ms)),
            Some(ms) => {
                let problem = format!("{ms} is outside 1 to rescore.deadline_ms_max = {most} ms");
                Err(RescoreError::Invalid { field: "deadline_ms", problem, fix: "send a time in that range" })
            }
        }
    }

    /// As [`Rescorer::rescore`], with a deadline of the caller's: a door where requests wait knows better when they came.
    ///
    /// # Errors
    /// As [`Rescorer::rescore`].
    pub async fn rescore_until(&self, request: RescoreRequest, deadline: Instant) -> Result<RescoreResponse, RescoreError> {
        let started = Instant::now();
        let answered = self.answer(request, started, deadline).await;
        self.parts.metrics.answered(answered.is_ok(), started.elapsed());
        answered
    }

    async fn answer(
        &self,
        request: RescoreRequest,
        started: Instant,
        deadline: Instant,
    ) -> Result<RescoreResponse, RescoreError> {
        self.check(&request)?;
        let place = self.enter()?;
        let RescoreRequest { context, candidates, mode, weights: set, k, .. } = request;
        let weights = weights(&self.config.weights, mode, set);
        let items: Vec<Option<ItemRef>> = candidates.iter().map(|candidate| candidate.item.clone()).collect();
        let extras: Vec<Result<f32, CandidateFault>> = candidates.iter().map(|candidate| extra(candidate, &weights)).collect();
        let encoder = self.encoder(deadline);
        let prepared = async {
            let items = items.iter().flatten().chain(&context.item);
            let mut found = context::look_up(&*self.parts.index, items).await?;
            let context = context::encode(&encoder, context, &found, mode).await?;
            let candidates = candidates.iter().filter_map(|candidate| candidate.item.as_ref());
            found.nearest_frames(&*self.parts.index, &context.encoded, candidates).await?;
            Ok::<_, RescoreError>((context, found))
        };
        let (context::Context { encoded, problem }, found) = self.in_time(started, deadline, prepared).await?;
        let sources = candidates.into_iter().zip(&extras).map(|(candidate, extra)| match extra {
            Ok(_) => found.of_candidate(candidate),
            Err(fault) => Err(fault.clone()),
        });
        let sources = sources.collect();
        let context_ms = ms(started);
        let scoring = Instant::now();
        let job = Arc::new(Job { encoder, context: encoded, mode, batch_max: self.batch_max });
        let outcomes = job.run(sources, deadline).await;
        drop(place);
        let extras = extras.into_iter().map(Result::unwrap_or_default);
        let ranked = self.rank(outcomes, extras, items, &weights);
        if ranked.scored == 0 && ranked.problems.iter().any(|problem| problem.kind == ProblemKind::Deadline) {
            return Err(self.past(started, deadline));
        }
        let Ranked { mut results, problems, scored } = ranked;
        results.truncate(k.map_or(usize::MAX, |k| k as usize));
        if job.context.text.is_some() {
            for result in &mut results {
                result.frame = result.item.as_ref().and_then(|item| found.frame(item));
            }
        }
        Ok(RescoreResponse {
            fingerprint: self.parts.towers.fingerprint().clone(),
            mode,
            weights,
            blend: self.blend.clone(),
            results,
            scored,
            problems,
            context_problem: problem,
            cache: job.encoder.cache_use(),
            timings: RescoreTimings { context_ms, score_ms: ms(scoring), total_ms: ms(started) },
        })
    }

    /// Limits of a request.
    fn check(&self, request: &RescoreRequest) -> Result<(), RescoreError> {
        let invalid = |field, problem: &str, fix| Err(RescoreError::Invalid { field, problem: problem.to_owned(), fix });
        let (candidates, candidates_max) = (request.candidates.len(), self.config.candidates_max);
        if candidates == 0 {
            return invalid("candidates", "there are none", "send at least one candidate");
        }
        if candidates > candidates_max {
            return Err(RescoreError::TooMany { candidates, candidates_max });
        }
        if request.k == Some(0) {
            return invalid("k", "0 results", "send at least 1, or leave it out");
        }
        let set = request.weights.unwrap_or_default();
        let weights =
            [("weights.itm", set.itm), ("weights.itc", set.itc), ("weights.prior", set.prior), ("weights.bid", set.bid)];
        for (field, weight) in weights {
            // So is what is configured; beyond it a score would be no number any more.
            if weight.is_some_and(|weight| weight.is_nan() || weight.abs() > WEIGHT_MAX) {
                return invalid(field, &format!("outside -{WEIGHT_MAX} to {WEIGHT_MAX}"), "send a number in that range");
            }
        }
        context::check(&request.context, request.mode)
    }

    /// A place, if there is one: a queue here would only hide the overload from the client.
    fn enter(&self) -> Result<Place, RescoreError> {
        let overloaded = |_| RescoreError::Overloaded { requests_in_flight_max: self.config.requests_in_flight_max };
        let permit = Arc::clone(&self.requests).try_acquire_owned().map_err(overloaded)?;
        self.parts.metrics.entered();
        Ok(Place { metrics: self.parts.metrics.clone(), permit: Some(permit) })
    }

    fn encoder(&self, deadline: Instant) -> Encoder {
        Encoder {
            towers: self.parts.towers.until(deadline),
            cache: Arc::clone(&self.parts.cache),
            media: Arc::clone(&self.parts.media),
            preparer: self.preparer.clone(),
            fetches: Arc::clone(&self.fetches),
            hits: AtomicU32::new(0),
            misses: AtomicU32::new(0),
        }
    }

    /// `work` as far as it ends before `deadline`, also where a tower has dropped the context for it.
    async fn in_time<T>(
        &self,
        started: Instant,
        deadline: Instant,
        work: impl Future<Output = Result<T, RescoreError>>,
    ) -> Result<T, RescoreError> {
        match tokio::time::timeout_at(deadline.into(), work).await {
            Err(_) => Err(self.past(started, deadline)),
            Ok(Err(RescoreError::Context(fault))) if fault.kind == ProblemKind::Deadline => Err(self.past(started, deadline)),
            Ok(result) => result,
        }
    }

    fn past(&self, started: Instant, deadline: Instant) -> RescoreError {
        RescoreError::Deadline {
            deadline_ms: deadline.saturating_duration_since(started).as_millis() as u64,
            deadline_ms_max: self.config.deadline_max.as_millis() as u64,
        }
    }

    /// Ranks what was scored, and lists what was not.
    fn rank(
        &self,
        outcomes: Vec<Outcome>,
        extras: impl Iterator<Item = f32>,
        mut items: Vec<Option<ItemRef>>,
        weights: &Weights,
    ) -> Ranked {
        let (mut results, mut problems) = (Vec::with_capacity(outcomes.len()), Vec::new());
        for (index, (outcome, extra)) in outcomes.into_iter().zip(extras).enumerate() {
            let (place, item) = (index as u32, items[index].take());
            match outcome {
                Ok(mut pairs) => {
                    let scores = scores(&pairs, &self.blend, weights, extra);
                    if pairs.len() < 2 {
                        pairs.clear();
                    }
                    results.push(Rescored { rank: 0, index: place, item, frame: None, scores, pairs });
                }
                Err(CandidateFault { kind, detail }) => problems.push(CandidateProblem { index: place, item, kind, detail }),
            }
        }
        self.parts.metrics.scored(results.len());
        for problem in &problems {
            self.parts.metrics.problem(problem.kind);
        }
        best_first(&mut results, |result: &Rescored| result.scores.score);
        for (result, rank) in results.iter_mut().zip(1..) {
            result.rank = rank;
        }
        Ranked { scored: results.len() as u32, results, problems }
    }
}

/// A request's candidates, ranked.
struct Ranked {
    results: Vec<Rescored>,
    problems: Vec<CandidateProblem>,
    scored: u32,
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
