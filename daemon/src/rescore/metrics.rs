//! Metrics of re-scoring and of its feature cache.

use std::time::Duration;

use astromech_schemas::rescore::{ProblemKind, Side};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::vitals::{MetricSet, Registrar, labels, seconds};

/// Outcome of a candidate that was scored; others have the words of [`ProblemKind`].
const SCORED: &str = "scored";
const ANSWERED: &str = "answered";
const REFUSED: &str = "refused";

labels! {
    OutcomeLabel { outcome: &'static str }
    LookLabel { side: &'static str, tier: &'static str }
    TierLabel { tier: &'static str }
}

/// Where a state of the feature cache lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheTier {
    /// Looked at first.
    Memory,
    /// Looked at for what memory does not have.
    Disk,
}

impl CacheTier {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "disk",
        }
    }
}

/// Counters of re-scoring.
#[derive(Debug)]
pub struct RescoreMetrics {
    requests: Family<OutcomeLabel, Counter>,
    candidates: Family<OutcomeLabel, Counter>,
    seconds: Histogram,
    in_flight: Gauge,
    cache_hits: Family<LookLabel, Counter>,
    cache_misses: Family<LookLabel, Counter>,
    cache_items: Gauge,
    cache_bytes: Family<TierLabel, Gauge>,
    cache_disk_up: Gauge,
}

impl MetricSet for RescoreMetrics {
    fn register(r: &mut Registrar<'_>) -> Self {
        let disk_up = "Whether the feature cache has its tier on disk; 0 where none is configured, or it can't be used";
        let misses = "States that a tier of the feature cache did not have; the disk is asked after memory";
        let metrics = Self {
            requests: r.add("rescore_requests", "Re-scoring requests answered, and those refused"),
            candidates: r.add("rescore_candidates", "Candidates scored, and those that were not by reason"),
            seconds: r.add_seconds("rescore", "Time of one re-scoring request", seconds()),
            in_flight: r.add("rescore_in_flight", "Re-scoring requests under way"),
            cache_hits: r.add("rescore_cache_hits", "States found in a tier of the feature cache"),
            cache_misses: r.add("rescore_cache_misses", misses),
            cache_items: r.add("rescore_cache_items", "Items in the feature cache's memory"),
            cache_bytes: r.add("rescore_cache_bytes", "Bytes of the feature cache: held in memory, taken of the disk"),
            cache_disk_up: r.add("rescore_cache_disk_up", disk_up),
        };
        for tier in [CacheTier::Memory, CacheTier::Disk] {
            for side in Side::ALL {
                let label = LookLabel { side: side.as_str(), tier: tier.as_str() };
                let _ = (metrics.cache_hits.get_or_create(&label).get(), metrics.cache_misses.get_or_create(&label).get());
            }
            let _ = metrics.cache_bytes.get_or_create(&TierLabel { tier: tier.as_str() }).get();
        }
        for outcome in [ANSWERED, REFUSED] {
            let _ = metrics.requests.get_or_create(&OutcomeLabel { outcome }).get();
        }
        for outcome in ProblemKind::ALL.iter().map(|kind| kind.as_str()).chain([SCORED]) {
            let _ = metrics.candidates.get_or_create(&OutcomeLabel { outcome }).get();
        }
        metrics
    }
}

impl RescoreMetrics {
    /// A request ended after `time`; `answered` or refused.
    pub fn answered(&self, answered: bool, time: Duration) {
        let outcome = if answered { ANSWERED } else { REFUSED };
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

    /// A tier was asked for the states of one side.
    pub fn cache_looked(&self, side: Side, tier: CacheTier, hit: bool) {
        let counters = if hit { &self.cache_hits } else { &self.cache_misses };
        counters.get_or_create(&LookLabel { side: side.as_str(), tier: tier.as_str() }).inc();
    }

    /// What the memory holds.
    pub fn set_cache(&self, items: usize, bytes: u64) {
        self.cache_items.set(items as i64);
        self.set_bytes(CacheTier::Memory, bytes);
    }

    /// Whether there is a tier on disk, and the bytes that it takes.
    pub fn set_disk(&self, up: bool, bytes: u64) {
        self.cache_disk_up.set(i64::from(up));
        self.set_bytes(CacheTier::Disk, bytes);
    }

    fn set_bytes(&self, tier: CacheTier, bytes: u64) {
        let gauge = self.cache_bytes.get_or_create(&TierLabel { tier: tier.as_str() });
        gauge.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}
