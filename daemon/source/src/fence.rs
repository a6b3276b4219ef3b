//! The fence of one partition (promise 4: nothing after revoke).
//!
//! Two parties know it. Whoever writes for a record of the partition (to the index, the results or the dead letters) enters first, and
//! holds the guard until the record is acknowledged; a closed fence lets nobody in. Whoever gives the partition away closes the fence and
//! then waits until the last guard is dropped. The order at revoke: close, wait for idle, commit the prefix, give up the partition.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio_util::sync::CancellationToken;

/// The fence. Open until [`Fence::close`]; it never opens again: a partition that comes back gets a new one.
#[derive(Debug, Default)]
pub struct Fence {
    inside: Mutex<Inside>,
    idle: Condvar,
    closed: CancellationToken,
}

#[derive(Debug, Default)]
struct Inside {
    closed: bool,
    guards: usize,
}

/// The right to write. Dropping it is leaving.
#[derive(Debug)]
pub struct FenceGuard {
    fence: Arc<Fence>,
}

impl Fence {
    /// An open fence.
    pub fn open() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// The right to write, or `None` once the fence is closed. Decided under one lock with [`Fence::close`], so no write can begin after
    /// `close` has returned.
    pub fn enter(self: &Arc<Self>) -> Option<FenceGuard> {
        let mut inside = self.lock();
        if inside.closed {
            return None;
        }
        inside.guards += 1;
        Some(FenceGuard { fence: Arc::clone(self) })
    }

    /// Lets nobody in from now on.
    pub fn close(&self) {
        self.lock().closed = true;
        self.closed.cancel();
    }

    /// Whether nobody is let in any more.
    pub fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Returns when the fence is closed: for waits that a write depends on (a retry, a fetch), so that they end with the partition.
    pub async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Blocks until nobody is inside, at most until `deadline`. Returns whether nobody is.
    pub fn wait_idle(&self, deadline: Instant) -> bool {
        let mut inside = self.lock();
        while inside.guards > 0 {
            let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                return false;
            };
            inside = self.idle.wait_timeout(inside, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    // Nothing inside the lock can panic, and a counter stays right in any case.
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FenceGuard {
    fn drop(&mut self) {
        let mut inside = self.fence.lock();
        inside.guards -= 1;
        if inside.guards == 0 {
            self.fence.idle.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[test]
    fn nobody_enters_a_closed_fence() {
        let fence = Fence::open();
        assert!(fence.enter().is_some());
        fence.close();
        assert!(fence.enter().is_none());
        assert!(fence.is_closed());
    }

    #[test]
    fn closing_waits_for_those_inside() {
        let fence = Fence::open();
        let guard = fence.enter().unwrap();
        fence.close();
        assert!(!fence.wait_idle(Instant::now()), "one is inside");
        let left = Arc::new(AtomicBool::new(false));
        let leaver = thread::spawn({
            let left = Arc::clone(&left);
            move || {
                left.store(true, Ordering::SeqCst);
                drop(guard);
            }
        });
        assert!(fence.wait_idle(soon()));
        assert!(left.load(Ordering::SeqCst), "idle before the last one left");
        leaver.join().unwrap();
    }

    #[test]
    fn an_idle_fence_needs_no_waiting() {
        let fence = Fence::open();
        assert!(fence.wait_idle(Instant::now()));
    }

    #[test]
    fn no_write_begins_after_close_has_returned_whatever_the_interleaving() {
        for _ in 0..50 {
            let fence = Fence::open();
            let (closed, late) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
            let writers: Vec<_> = (0..4)
                .map(|_| {
                    let (fence, closed, late) = (Arc::clone(&fence), Arc::clone(&closed), Arc::clone(&late));
                    thread::spawn(move || {
                        loop {
                            let closed_before = closed.load(Ordering::SeqCst);
                            match fence.enter() {
                                Some(_) if closed_before => drop(late.fetch_add(1, Ordering::SeqCst)),
                                Some(guard) => drop(guard),
                                None => break,
                            }
                        }
                    })
                })
                .collect();
            thread::yield_now();
            fence.close();
            closed.store(true, Ordering::SeqCst);
            assert!(fence.wait_idle(soon()));
            for writer in writers {
                writer.join().unwrap();
            }
            assert_eq!(late.load(Ordering::SeqCst), 0);
        }
    }

    #[tokio::test]
    async fn waits_end_when_the_fence_closes() {
        let fence = Fence::open();
        let waiter = tokio::spawn({
            let fence = Arc::clone(&fence);
            async move { fence.closed().await }
        });
        fence.close();
        waiter.await.unwrap();
    }
}
