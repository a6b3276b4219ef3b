//! Places for connections. Where all are taken, a new connection gets the place of the one that has been without a request for longest: so
//! clients that hold connections and ask nothing, however many, keep nobody out, a liveness probe least of all.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Places beyond the limit, for where every connection is in the midst of a request: health and metrics only are answered there.
pub(super) const RESERVED: usize = 16;

/// Every place.
pub(super) struct Places {
    max: usize,
    state: Mutex<State>,
    /// A connection ended, or its request did.
    freed: Notify,
}

#[derive(Default)]
struct State {
    open: usize,
    /// Those of them that were cut and are not gone yet.
    leaving: usize,
    /// Counts the times that a connection became idle.
    turn: u64,
    /// Connections without a request by that turn: the first is the one that has been so for longest.
    idle: BTreeMap<u64, CancellationToken>,
}

impl Places {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max: max.max(1), state: Mutex::default(), freed: Notify::new() })
    }

    /// A place, once there is one.
    pub(super) async fn enter(self: &Arc<Self>) -> Arc<Place> {
        loop {
            let freed = self.freed.notified();
            {
                let mut state = self.state();
                let reserved = state.open >= self.max;
                if !reserved || (state.idle.is_empty() && state.open < self.max + RESERVED) {
                    state.open += 1;
                    drop(state);
                    let place = Place {
                        places: Arc::clone(self),
                        reserved,
                        cut: CancellationToken::new(),
                        idle_since: Mutex::new(None),
                        answered: AtomicBool::new(false),
                    };
                    place.set_idle();
                    return Arc::new(place);
                }
                // One newcomer costs one place.
                if state.leaving == 0 {
                    Self::cut_longest_idle(&mut state);
                }
            }
            freed.await;
        }
    }

    /// Ends the connection that has been without a request for longest; returns whether there was one.
    pub(super) fn make_room(&self) -> bool {
        Self::cut_longest_idle(&mut self.state())
    }

    fn cut_longest_idle(state: &mut State) -> bool {
        let Some((_, cut)) = state.idle.pop_first() else { return false };
        cut.cancel();
        state.leaving += 1;
        true
    }

    // Nothing inside the lock can panic.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one connection, until it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    reserved: bool,
    cut: CancellationToken,
    /// Its turn among the idle.
    idle_since: Mutex<Option<u64>>,
    /// The answer to its request is with hyper, and perhaps not sent yet.
    answered: AtomicBool,
}

impl Place {
    /// Whether it is beyond the limit.
    pub(super) const fn is_reserved(&self) -> bool {
        self.reserved
    }

    /// Cancelled when the place is another's.
    pub(super) const fn cut(&self) -> &CancellationToken {
        &self.cut
    }

    /// A request has come.
    pub(super) fn begin(&self) {
        self.answered.store(false, Ordering::Release);
        let turn = self.idle_since().take();
        if let Some(turn) = turn {
            self.places.state().idle.remove(&turn);
        }
    }

    /// Its whole answer was handed over; it is sent when [`Place::flushed`] is called next.
    pub(super) fn answer(&self) {
        self.answered.store(true, Ordering::Release);
    }

    /// All that was handed over is sent.
    pub(super) fn flushed(&self) {
        if self.answered.swap(false, Ordering::AcqRel) {
            self.set_idle();
            self.places.freed.notify_one();
        }
    }

    fn set_idle(&self) {
        let mut state = self.places.state();
        state.turn += 1;
        let turn = state.turn;
        state.idle.insert(turn, self.cut.clone());
        *self.idle_since() = Some(turn);
    }

    fn idle_since(&self) -> MutexGuard<'_, Option<u64>> {
        self.idle_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let turn = self.idle_since().take();
        let mut state = self.places.state();
        state.open -= 1;
        state.leaving -= usize::from(self.cut.is_cancelled());
        if let Some(turn) = turn {
            state.idle.remove(&turn);
        }
        drop(state);
        self.places.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_newcomer_takes_the_place_of_the_one_that_was_idle_for_longest() {
        let places = Places::new(2);
        let (first, second) = (places.enter().await, places.enter().await);
        // The first is of use again, and then idle for a shorter time than the second.
        first.begin();
        first.answer();
        first.flushed();
        let third = {
            let waiting = places.enter();
            tokio::pin!(waiting);
            assert!(waiting.as_mut().now_or_never().is_none(), "the place is taken until its connection has gone");
            assert!(second.cut().is_cancelled() && !first.cut().is_cancelled());
            drop(second);
            waiting.await
        };
        assert!(!third.is_reserved());
    }

    #[tokio::test]
    async fn a_connection_with_a_request_is_never_cut_and_a_few_places_are_left_for_probes() {
        let places = Places::new(1);
        let busy = places.enter().await;
        busy.begin();
        busy.answer();
        assert!(!places.make_room(), "its answer is not sent yet");
        let mut reserved = Vec::new();
        for _ in 0..RESERVED {
            let place = places.enter().await;
            assert!(place.is_reserved());
            place.begin();
            reserved.push(place);
        }
        assert!(places.enter().now_or_never().is_none(), "everything is taken, and busy");
        busy.flushed();
        assert!(places.enter().now_or_never().is_none());
        assert!(busy.cut().is_cancelled(), "it became idle");
    }
}
