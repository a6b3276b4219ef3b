//! What live traffic does now.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Instant;

use super::serving::Live;
use crate::pipeline::{LiveTraffic, Pace};
use crate::source::SourceMetrics;
use crate::vitals::{Meter, Metrics, Queue, QueueMetrics};

/// The newest sample counts a quarter: with one each half second the rate is that of about two seconds.
const SMOOTHING: f64 = 0.25;
/// Live records under way that take longer than this at the rate they are read at are a backlog, seconds. A record takes about a tenth.
const BACKLOG_SECONDS: f64 = 0.5;
/// Fewer records under way are never a backlog: the rate of the first half second is not known yet.
const BACKLOG_MIN: usize = 128;

/// Asks how many requests are being answered now.
pub type Requests = Arc<dyn Fn() -> usize + Send + Sync>;

/// Measures how many records a second the live generation reads, and tells whether it has something to do.
pub(super) struct Traffic {
    live: Arc<Live>,
    source: Meter<SourceMetrics>,
    queues: Meter<QueueMetrics>,
    requests: Requests,
    rate: Mutex<Rate>,
}

struct Rate {
    sampled: Instant,
    consumed: u64,
    per_second: f64,
}

impl Traffic {
    /// `metrics` are the daemon's, into which its live generation counts.
    pub(super) fn new(live: Arc<Live>, metrics: &Metrics, requests: Requests) -> Self {
        let (source, queues) = (metrics.of::<SourceMetrics>(), metrics.of());
        let rate = Rate { sampled: Instant::now(), consumed: source.records_consumed_total(), per_second: 0.0 };
        Self { live, source, queues, requests, rate: Mutex::new(rate) }
    }

    /// Takes a sample; called now and then.
    pub(super) fn sample(&self) {
        let consumed = self.source.records_consumed_total();
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

    fn now(&self) -> LiveTraffic {
        let depths = self.live.serving().towers.queue_depths();
        let records = self.queues.depth(Queue::Records);
        if records + (self.requests)() + depths.image + depths.text + depths.cross == 0 {
            return LiveTraffic::Idle;
        }
        let per_second = self.rate.lock().unwrap_or_else(PoisonError::into_inner).per_second;
        live_traffic(records, per_second)
    }

    /// As the throttle asks for it.
    pub(super) fn pace(self: &Arc<Self>) -> Pace {
        let traffic = Arc::clone(self);
        Arc::new(move || traffic.now())
    }
}

/// What `records` under way mean where `per_second` are read.
fn live_traffic(records: usize, per_second: f64) -> LiveTraffic {
    if records > BACKLOG_MIN && records as f64 > per_second * BACKLOG_SECONDS {
        LiveTraffic::Behind
    } else {
        LiveTraffic::Steady { per_second }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_records_that_pile_up_are_told_from_those_that_flow() {
        assert_eq!(live_traffic(80, 800.0), LiveTraffic::Steady { per_second: 800.0 }, "a tenth of a second each");
        assert_eq!(live_traffic(1024, 800.0), LiveTraffic::Behind, "as many as may be under way");
        assert_eq!(live_traffic(100, 10.0), LiveTraffic::Steady { per_second: 10.0 }, "too few to tell");
    }
}
