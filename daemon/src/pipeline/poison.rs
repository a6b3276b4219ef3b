//! The poison breaker (promise 5): when most of the last records are dead letters, the producer or the configuration is wrong, and going on
//! would move a whole topic into the dead letters.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Looks at the last records.
#[derive(Debug)]
pub struct PoisonBreaker {
    window: usize,
    share_max: f64,
    last: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    dead: usize,
    records: VecDeque<bool>,
}

impl PoisonBreaker {
    /// Breaks when at least `share_max` of the last `window` records are dead letters.
    pub fn new(window: usize, share_max: f64) -> Self {
        Self { window, share_max, last: Mutex::default() }
    }

    /// A record was applied.
    pub fn applied(&self) {
        self.push(false);
    }

    /// A record is about to become a dead letter. Returns the number of dead letters in the window when that is too many: then it must not
    /// be published, and the daemon stops.
    pub fn dead(&self) -> Option<usize> {
        self.push(true)
    }

    /// How many records are looked at.
    pub const fn window(&self) -> usize {
        self.window
    }

    fn push(&self, dead: bool) -> Option<usize> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.records.push_back(dead);
        last.dead += usize::from(dead);
        if last.records.len() > self.window && last.records.pop_front() == Some(true) {
            last.dead -= 1;
        }
        let full = last.records.len() >= self.window;
        (dead && full && last.dead as f64 >= self.share_max * self.window as f64).then_some(last.dead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_bad_records_among_good_ones_do_not_break() {
        let breaker = PoisonBreaker::new(10, 0.8);
        for round in 0..100 {
            if round % 3 == 0 { assert_eq!(breaker.dead(), None) } else { breaker.applied() }
        }
    }

    #[test]
    fn most_of_a_window_breaks_and_not_before_it_is_full() {
        let breaker = PoisonBreaker::new(10, 0.8);
        for _ in 0..9 {
            assert_eq!(breaker.dead(), None);
        }
        assert_eq!(breaker.dead(), Some(10));
    }

    #[test]
    fn old_records_leave_the_window() {
        let breaker = PoisonBreaker::new(10, 0.8);
        for _ in 0..9 {
            assert_eq!(breaker.dead(), None);
        }
        (0..100).for_each(|_| breaker.applied());
        assert_eq!(breaker.dead(), None);
    }
}
