//! Warnings that would be said again and again while something is down: at once, then at growing intervals, with how many were held back.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between the first warning and the second; it doubles from there.
const INTERVAL_FIRST: Duration = Duration::from_secs(1);
/// Longest interval between two of the same.
const INTERVAL_MAX: Duration = Duration::from_mins(5);
/// What did not happen for so long begins anew.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(1);
/// Most different warnings that one place tells apart; the rest count as one.
const KEYS_MAX: usize = 64;
/// What they count as.
const OTHERS: &str = "others";

/// One place in the code that warns. Made to be a `static`.
#[derive(Debug, Default)]
pub struct WarnLimiter(Mutex<BTreeMap<String, Said>>);

#[derive(Debug)]
struct Said {
    /// When it is said again at the earliest.
    next: Instant,
    /// The interval after that.
    interval: Duration,
    /// When it last happened.
    happened: Instant,
    held_back: u64,
}

impl WarnLimiter {
    /// Nothing was said yet.
    pub const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    /// Whether the warning of `key` is said now, and how many of it were held back since it was last said.
    pub fn due(&self, key: &str) -> Option<u64> {
        self.due_at(key, Instant::now())
    }

    fn due_at(&self, key: &str, now: Instant) -> Option<u64> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.contains_key(key) && all.len() >= KEYS_MAX {
            all.retain(|_, said| now.duration_since(said.happened) < FORGOTTEN_AFTER);
        }
        let key = if all.contains_key(key) || all.len() < KEYS_MAX { key } else { OTHERS };
        let Some(said) = all.get_mut(key).filter(|said| now.duration_since(said.happened) < FORGOTTEN_AFTER) else {
            let said = Said { next: now + INTERVAL_FIRST, interval: INTERVAL_FIRST, happened: now, held_back: 0 };
            return Some(all.insert(key.to_owned(), said).map_or(0, |before| before.held_back));
        };
        said.happened = now;
        if now < said.next {
            said.held_back += 1;
            return None;
        }
        said.interval = (said.interval * 2).min(INTERVAL_MAX);
        said.next = now + said.interval;
        Some(std::mem::take(&mut said.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_is_said_at_once_and_then_at_growing_intervals_with_how_many_were_held_back() {
        let (quiet, start) = (WarnLimiter::new(), Instant::now());
        let said: Vec<(u64, u64)> =
            (0..=3600).filter_map(|second| Some((second, quiet.due_at("down", start + Duration::from_secs(second))?))).collect();
        assert_eq!(said[..5], [(0, 0), (1, 0), (3, 1), (7, 3), (15, 7)]);
        assert!(said.windows(2).all(|two| two[1].0 - two[0].0 <= INTERVAL_MAX.as_secs()), "{said:?}");
        assert!(said.len() < 25, "{said:?}");
    }

    #[test]
    fn what_was_over_for_a_while_is_said_at_once_and_others_are_not_held_back_by_it() {
        let (quiet, start) = (WarnLimiter::new(), Instant::now());
        assert_eq!(quiet.due_at("a", start), Some(0));
        assert_eq!(quiet.due_at("a", start), None);
        assert_eq!(quiet.due_at("b", start), Some(0));
        assert_eq!(quiet.due_at("a", start + FORGOTTEN_AFTER), Some(1));
    }

    #[test]
    fn however_many_kinds_there_are_only_so_many_are_kept() {
        let (quiet, now) = (WarnLimiter::new(), Instant::now());
        let said = (0..10_000).filter(|n| quiet.due_at(&format!("host {n}"), now).is_some()).count();
        assert_eq!(said, KEYS_MAX + 1);
    }
}
