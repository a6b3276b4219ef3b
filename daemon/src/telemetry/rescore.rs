//! Metrics of re-scoring and of its feature cache.

use std::time::Duration;

use astromech_schemas::rescore::{ProblemKind, Side};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::metrics::SECONDS_BUCKETS;

/// Outcome of a candidate that was scored; others have the words of [`ProblemKind`].
const SCORED: &str = "scored";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SideLabel {
    side: &'static str,
}

/// Counters of re-scoring.
#[derive(Debug)]
pub struct RescoreMetrics {
    requests: Family<OutcomeLabel, Counter>,
    candidates: Family<OutcomeLabel, Counter>,
    seconds: Histogram,
    in_flight: Gauge,
    cache_hits: Family<SideLabel, Counter>,
    cache_misses: Family<SideLabel, Counter>,
    cache_items: Gauge,
    cache_bytes: Gauge,
}

impl RescoreMetrics {
    pub(super) fn new() -> Self {
        let metrics = Self {
            requests: Family::default(),
            candidates: Family::default(),
            seconds: Histogram::new(SECONDS_BUCKETS),
            in_flight: Gauge::default(),
            cache_hits: Family::default(),
            cache_misses: Family::default(),
            cache_items: Gauge::default(),
            cache_bytes: Gauge::default(),
        };
        for side in Side::ALL {
            let label = SideLabel { side: side.as_str() };
            let _ = (metrics.cache_hits.get_or_create(&label).get(), metrics.cache_misses.get_or_create(&label).get());
        }
        for outcome in ProblemKind::ALL.iter().map(|kind| kind.as_str()).chain([SCORED]) {
            let _ = metrics.candidates.get_or_create(&OutcomeLabel { outcome }).get();
        }
        metrics
    }

    pub(super) fn register(&self, r: &mut Registry) {
        r.register("rescore_requests", "Re-scoring requests answered, and those refused", self.requests.clone());
        r.register("rescore_candidates", "Candidates scored, and those that were not by reason", self.candidates.clone());
        r.register_with_unit("rescore", "Time of one re-scoring request", Unit::Seconds, self.seconds.clone());
        r.register("rescore_in_flight", "Re-scoring requests under way", self.in_flight.clone());
        r.register("rescore_cache_hits", "States found in the feature cache", self.cache_hits.clone());
        r.register("rescore_cache_misses", "States that had to be encoded", self.cache_misses.clone());
        r.register("rescore_cache_items", "Items in the feature cache", self.cache_items.clone());
        r.register("rescore_cache_bytes", "Bytes in the feature cache", self.cache_bytes.clone());
    }

    /// A request ended after `time`; `answered` or refused.
    pub fn answered(&self, answered: bool, time: Duration) {
        let outcome = if answered { "answered" } else { "refused" };
        self.requests.get_or_create(&OutcomeLabel { outcome }).inc();
        self.seconds.observe(time.as_secs_f64());
    }

    /// `candidates` were scored.
    pub fn scored(&self, candidates: usize) {
        self.candidates.get_or_create(&OutcomeLabel { outcome: SCORED }).inc_by(candidates as u64);
    }

    /// One candidate was not scored.
    pub fn problem(&self, kind: ProblemKind) {
        self.candidates.get_or_create(&OutcomeLabel { outcome: kind.as_str() }).inc();
    }

    /// A request has begun.
    pub fn entered(&self) {
        self.in_flight.inc();
    }

    /// A request has ended.
    pub fn left(&self) {
        self.in_flight.dec();
    }

    /// The cache was asked for the states of one side.
    pub fn cache_looked(&self, side: Side, hit: bool) {
        let counters = if hit { &self.cache_hits } else { &self.cache_misses };
        counters.get_or_create(&SideLabel { side: side.as_str() }).inc();
    }

    /// What the cache holds.
    pub fn set_cache(&self, items: usize, bytes: u64) {
        self.cache_items.set(items as i64);
        self.cache_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}
