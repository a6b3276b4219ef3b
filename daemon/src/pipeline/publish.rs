//! Publishing until the broker has it: results and dead letters here, replies to re-scoring requests.

use std::time::{Duration, Instant};

use tracing::warn;

use super::outlet::PublishError;
use crate::source::{Fence, FenceGuard};
use crate::vitals::{Awaited, Condition, HaltCause, Stage, Unanswered, Vitals, WarnLimiter};

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
    /// Attempts are timed and counted; something waits to be published; a producer that gives up for good stops the daemon.
    pub vitals: Vitals,
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
        let warn = |error: &PublishError, wait: Duration| {
            let problem = error.text();
            if let Some(repeated) = UNPUBLISHED.due(problem) {
                warn!(problem, ?wait, repeated, "publishing failed; trying again");
            }
        };
        let broker = Awaited::new(PublishError::is_transient, &warn)
            .counted(Stage::Publish)
            .missing_while_waiting(Condition::Publish, PublishError::text);
        let timed = || {
            let attempt = attempt();
            async {
                let started = Instant::now();
                let published = attempt.await;
                self.vitals.stages.took(Stage::Publish, started.elapsed());
                published
            }
        };
        match self.vitals.until_it_answers(broker, fence.closed(), timed).await {
            Ok(()) => Ok(()),
            Err(Unanswered::Ended(())) => Err(Left::Fenced),
            Err(Unanswered::Failed(error)) => {
                self.vitals.halt.halt(HaltCause::Publish(error.text().to_owned()));
                Err(Left::Halted)
            }
        }
    }
}
