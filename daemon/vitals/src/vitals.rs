//! What every part reports to, and must stop with.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::{BackoffLimits, Halt, Meter, Metrics, Readiness, StageMetrics};

/// What a part counts into, says whether it is ready by, stops with, and how it tries again. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Vitals {
    /// Every metric.
    pub metrics: Arc<Metrics>,
    /// What every stage counts alike.
    pub stages: Meter<StageMetrics>,
    /// What holds, and what is waited for.
    pub readiness: Arc<Readiness>,
    /// Stops everything that shares it.
    pub halt: Halt,
    /// Waits between attempts.
    pub backoff: BackoffLimits,
}

impl Vitals {
    /// With a halt of their own.
    pub fn new(metrics: Arc<Metrics>, readiness: Readiness, backoff: BackoffLimits) -> Self {
        Self { stages: metrics.of(), metrics, readiness: Arc::new(readiness), halt: Halt::default(), backoff }
    }

    /// One generation's: what it counts and says is the daemon's while it is `live`; its halt is its own.
    #[must_use]
    pub fn of_generation(&self, live: &Arc<AtomicBool>) -> Self {
        let metrics = Arc::new(Metrics::of_generation(&self.metrics, live));
        Self::new(metrics, Readiness::of_generation(&self.readiness, live), self.backoff)
    }
}
