//! Live traffic first: how fast a generation that is not live may take records.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// What live traffic does, as a generation beside it has to know it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LiveTraffic {
    /// Nothing live is under way.
    Idle,
    /// Live traffic is kept up with.
    Steady {
        /// Records that the live generation reads, each second.
        per_second: f64,
    },
    /// Live records arrive faster than they are applied: this machine has nothing to spare.
    Behind,
}

/// Asks what live traffic does now.
pub type Pace = Arc<dyn Fn() -> LiveTraffic + Send + Sync>;

/// Lets records of one generation through: a few while the live generation is behind, little faster than live traffic while it keeps up,
/// else at a high rate.
pub struct Throttle {
    pace: Pace,
    /// Records a second beyond those of live traffic, while it is under way.
    per_second_busy: f64,
    /// Time between two records otherwise.
    gap_free: Duration,
    /// A live generation waits for nothing.
    open: AtomicBool,
    /// When the next record may pass.
    next: Mutex<Instant>,
}

impl Throttle {
    /// While live traffic is under way, `per_second_busy` records a second more than it reads itself, so that its head comes nearer; while
    /// it is behind, `per_second_busy` alone; else at most `per_second_free`; 0 of the latter is no limit.
    pub fn new(per_second_busy: u32, per_second_free: u32, pace: Pace) -> Self {
        Self {
            pace,
            per_second_busy: f64::from(per_second_busy.max(1)),
            gap_free: Duration::from_secs(1).checked_div(per_second_free).unwrap_or(Duration::ZERO),
            open: AtomicBool::new(false),
            next: Mutex::new(Instant::now()),
        }
    }

    /// Whether records pass without waiting: those of the live generation do, and those of one that was live.
    pub fn set_open(&self, open: bool) {
        self.open.store(open, Ordering::Release);
    }

    /// Waits for this record's turn.
    pub async fn turn(&self) {
        if self.open.load(Ordering::Acquire) {
            return;
        }
        // Waiting with the lock held is the order of the turns.
        let mut next = self.next.lock().await;
        let now = Instant::now();
        let due = self.due(*next, now, (self.pace)());
        *next = due;
        if due > now && !self.open.load(Ordering::Acquire) {
            sleep_until(due).await;
        }
    }

    /// When a record that asks at `now` may pass, where the one before it passed at `before`.
    fn due(&self, before: Instant, now: Instant, live: LiveTraffic) -> Instant {
        let gap = match live {
            LiveTraffic::Idle => self.gap_free,
            LiveTraffic::Steady { per_second } => Duration::from_secs(1).div_f64(self.per_second_busy + per_second.max(0.0)),
            LiveTraffic::Behind => Duration::from_secs(1).div_f64(self.per_second_busy),
        };
        // A rate that was not used up is not saved: the next second is not faster for it.
        now.max(before + gap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steady(per_second: f64) -> LiveTraffic {
        LiveTraffic::Steady { per_second }
    }

    #[test]
    fn records_wait_while_live_traffic_is_under_way_and_only_then() {
        let throttle = Throttle::new(10, 0, Arc::new(|| LiveTraffic::Idle));
        let start = Instant::now();
        let first = throttle.due(start, start, steady(0.0));
        assert_eq!(first - start, Duration::from_millis(100));
        assert_eq!(throttle.due(first, start, steady(0.0)) - first, Duration::from_millis(100));
        assert_eq!(
            throttle.due(first, start, steady(90.0)) - first,
            Duration::from_millis(10),
            "faster than live traffic by ten a second"
        );
        assert_eq!(
            throttle.due(first, start, LiveTraffic::Behind) - first,
            Duration::from_millis(100),
            "as good as nothing while live records wait"
        );
        assert_eq!(
            throttle.due(start, start + Duration::from_secs(5), steady(0.0)) - start,
            Duration::from_secs(5),
            "nothing is saved"
        );
        assert_eq!(throttle.due(first, first, LiveTraffic::Idle), first, "no limit where nothing live is under way");
    }

    #[tokio::test]
    async fn a_generation_that_went_live_waits_no_more() {
        let throttle = Throttle::new(1, 1, Arc::new(|| steady(0.0)));
        throttle.set_open(true);
        let day = std::iter::repeat_with(|| throttle.turn()).take(86_400);
        for turn in day {
            assert!(futures::FutureExt::now_or_never(turn).is_some());
        }
    }
}
