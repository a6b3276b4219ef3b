//! Publishing until the broker has it: results and dead letters here, replies to re-scoring requests.

use std::sync::Arc;
use std::time::Instant;

use tracing::warn;

use super::backoff::{Backoff, BackoffLimits};
use super::halt::{Halt, HaltCause};
use super::outlet::PublishError;
use crate::source::{Fence, FenceGuard};
use crate::vitals::{Condition, Meter, Readiness, Stage, StageMetrics, WarnLimiter};

/// Why a record was left unfinished. It is not acknowledged, so whoever owns its partition next reads it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// The partition was taken away.
    Fenced,
    /// The daemon is stopping.
    Halted,
}

/// Every record under way tries again by itself: said for one of them.
static UNPUBLISHED: WarnLimiter = WarnLimiter::new();

/// Publishes as often as it takes.
pub struct Publisher {
    /// Attempts are timed and counted.
    pub stages: Meter<StageMetrics>,
    /// Says that something waits to be published.
    pub readiness: Arc<Readiness>,
    /// Stops the daemon where a producer gives up for good.
    pub halt: Halt,
    /// Waits between attempts.
    pub backoff: BackoffLimits,
}

impl Publisher {
    /// Publishes by `attempt`, as often as it takes. The caller holds `_guard`, of this `fence`, until it has acknowledged.
    ///
    /// # Errors
    /// The partition was taken away while it was waited for another attempt, or the producer gave up for good.
    pub async fn publish<F>(&self, fence: &Fence, _guard: &FenceGuard, attempt: impl Fn() -> F) -> Result<(), Left>
    where
        F: Future<Output = Result<(), PublishError>>,
    {
        let mut backoff = Backoff::new(self.backoff);
        // One of another attempt is let go only once the next is there.
        let mut _waiting = None;
        loop {
            let started = Instant::now();
            let published = attempt().await;
            self.stages.took(Stage::Publish, started.elapsed());
            match published {
                Ok(()) => return Ok(()),
                Err(PublishError::Fatal(problem)) => {
                    self.halt.halt(HaltCause::Publish(problem));
                    return Err(Left::Halted);
                }
                Err(PublishError::Transient(problem)) => {
                    let wait = backoff.next_wait();
                    self.stages.retry(Stage::Publish);
                    _waiting = Some(self.readiness.wait(Condition::Publish, problem.as_str()));
                    if let Some(repeated) = UNPUBLISHED.due(&problem) {
                        warn!(problem, ?wait, repeated, "publishing failed; trying again");
                    }
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = fence.closed() => return Err(Left::Fenced),
                    }
                }
            }
        }
    }
}
