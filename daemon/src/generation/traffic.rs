//! What live traffic does now.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Instant;

use super::serving::Live;
use super::throttle::Pace;
use crate::telemetry::Metrics;

/// The newest sample counts a quarter: with one each half second the rate is that of about two seconds.
const SMOOTHING: f64 = 0.25;

/// Measures how many records a second the live generation reads, and tells whether it has something to do.
pub(super) struct Traffic {
    live: Arc<Live>,
    metrics: Arc<Metrics>,
    rate: Mutex<Rate>,
}

struct Rate {
    sampled: Instant,
    consumed: u64,
    per_second: f64,
}

impl Traffic {
    pub(super) fn new(live: Arc<Live>, metrics: Arc<Metrics>) -> Self {
        let consumed = metrics.records_consumed_total();
        Self { live, metrics, rate: Mutex::new(Rate { sampled: Instant::now(), consumed, per_second: 0.0 }) }
    }

    /// Takes a sample; called now and then.
    pub(super) fn sample(&self) {
        let consumed = self.metrics.records_consumed_total();
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = rate.sampled.elapsed().as_secs_f64();
        if seconds > 0.0 {
            let per_second = consumed.saturating_sub(rate.consumed) as f64 / seconds;
            *rate = Rate {
                sampled: Instant::now(),
                consumed,
                per_second: rate.per_second + SMOOTHING * (per_second - rate.per_second),
            };
        }
    }

    /// Records a second while something live is under way.
    fn now(&self) -> Option<f64> {
        let depths = self.live.serving().towers.queue_depths();
        let busy =
            self.metrics.records_in_flight() + self.metrics.http_in_flight() + depths.image + depths.text + depths.cross > 0;
        busy.then(|| self.rate.lock().unwrap_or_else(PoisonError::into_inner).per_second)
    }

    /// As the throttle asks for it.
    pub(super) fn pace(self: &Arc<Self>) -> Pace {
        let traffic = Arc::clone(self);
        Arc::new(move || traffic.now())
    }
}
