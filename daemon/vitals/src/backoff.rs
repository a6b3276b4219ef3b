//! Waits between attempts: doubling from a first to a longest, with jitter so that many waiters don't come back at once.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

/// The first and the longest wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackoffLimits {
    /// First wait.
    pub min: Duration,
    /// Longest wait.
    pub max: Duration,
}

/// The waits of one thing that is tried again and again.
#[derive(Debug)]
pub struct Backoff {
    limits: BackoffLimits,
    next: Duration,
}

impl Backoff {
    /// Starts at the first wait.
    pub fn new(limits: BackoffLimits) -> Self {
        Self { limits, next: limits.min }
    }

    /// The wait before the next attempt: between half and all of the current step.
    pub fn next_wait(&mut self) -> Duration {
        let step = self.next.min(self.limits.max);
        self.next = (step * 2).min(self.limits.max);
        // A fresh RandomState is the standard library's own source of randomness.
        let random = RandomState::new().hash_one(step) % 1024;
        step / 2 + (step / 2).mul_f64(random as f64 / 1023.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_stay_within_half_of_their_step() {
        let limits = BackoffLimits { min: Duration::from_millis(100), max: Duration::from_secs(1) };
        let mut backoff = Backoff::new(limits);
        for step in [100, 200, 400, 800, 1000, 1000] {
            let wait = backoff.next_wait();
            assert!(wait >= Duration::from_millis(step / 2) && wait <= Duration::from_millis(step), "{wait:?} of {step}");
        }
    }
}
