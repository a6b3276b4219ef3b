//! Promise 5, once: what may pass is waited for and tried again, however long it takes, and whoever looks can see what is waited for.

use std::time::{Duration, Instant};

use crate::{Backoff, Condition, Stage, Vitals, Waiting};

/// What is waited for: which of its errors pass, and who hears of them.
pub struct Awaited<'a, E> {
    may_pass: fn(&E) -> bool,
    warn: &'a (dyn Fn(&E, Duration) + Sync),
    pause: fn(&E) -> Option<Duration>,
    stage: Option<Stage>,
    readiness: Shown<E>,
    latest: Option<Instant>,
}

/// How readiness shows that something is waited for, and in which words of the error.
enum Shown<E> {
    Not,
    Missing(Condition, fn(&E) -> &str),
    WhileWaiting(Condition, fn(&E) -> &str),
}

impl<'a, E> Awaited<'a, E> {
    /// Errors that `may_pass` are told to `warn`, with the wait before the next attempt. It says so in the log, in its own words and no more
    /// often than is of use: many may wait for the same.
    pub fn new(may_pass: fn(&E) -> bool, warn: &'a (dyn Fn(&E, Duration) + Sync)) -> Self {
        Self { may_pass, warn, pause: |_| None, stage: None, readiness: Shown::Not, latest: None }
    }

    /// Repeated attempts are counted as those of `stage`.
    #[must_use]
    pub fn counted(self, stage: Stage) -> Self {
        Self { stage: Some(stage), ..self }
    }

    /// An error with a `pause` says how long not to ask. Nothing was tried, so no attempt is counted.
    #[must_use]
    pub fn paused(self, pause: fn(&E) -> Option<Duration>) -> Self {
        Self { pause, ..self }
    }

    /// `condition` does not hold from the first failure on, for the `reason` in it. Whoever learns that it does says so: an answer here
    /// need not prove it.
    #[must_use]
    pub fn missing(self, condition: Condition, reason: fn(&E) -> &str) -> Self {
        Self { readiness: Shown::Missing(condition, reason), ..self }
    }

    /// `condition` does not hold while this or anybody else waits for it.
    #[must_use]
    pub fn missing_while_waiting(self, condition: Condition, reason: fn(&E) -> &str) -> Self {
        Self { readiness: Shown::WhileWaiting(condition, reason), ..self }
    }

    /// No attempt begins at `latest` or after it.
    #[must_use]
    pub fn latest(self, latest: Instant) -> Self {
        Self { latest: Some(latest), ..self }
    }
}

/// Why there is no answer. A wait that nothing ends has an `X` without values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unanswered<E, X> {
    /// It will not pass, or not before the latest attempt.
    Failed(E),
    /// This ended the wait.
    Ended(X),
}

impl Vitals {
    /// Attempts until there is an answer, an error that will not pass, or until `ends` comes during a wait: an attempt under way is never
    /// cut off.
    ///
    /// # Errors
    /// See [`Unanswered`].
    pub async fn until_it_answers<T, E, X, F>(
        &self,
        awaited: Awaited<'_, E>,
        ends: impl Future<Output = X>,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, Unanswered<E, X>>
    where
        F: Future<Output = Result<T, E>>,
    {
        let mut backoff = Backoff::new(self.backoff);
        // That of a failure is let go only once that of the next is there.
        let mut _shown = None;
        tokio::pin!(ends);
        loop {
            let error = match attempt().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if !(awaited.may_pass)(&error) {
                return Err(Unanswered::Failed(error));
            }
            let pause = (awaited.pause)(&error);
            let step = backoff.next_wait();
            let wait = pause.map_or(step, |pause| pause + step.min(self.backoff.min));
            if awaited.latest.is_some_and(|latest| Instant::now() + wait >= latest) {
                return Err(Unanswered::Failed(error));
            }
            if let (Some(stage), None) = (awaited.stage, pause) {
                self.stages.retry(stage);
            }
            _shown = self.show(&awaited.readiness, &error);
            (awaited.warn)(&error, wait);
            drop(error);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                ended = &mut ends => return Err(Unanswered::Ended(ended)),
            }
        }
    }

    fn show<E>(&self, shown: &Shown<E>, error: &E) -> Option<Waiting> {
        match shown {
            Shown::Not => None,
            Shown::Missing(condition, reason) => {
                self.readiness.set_missing(*condition, reason(error));
                None
            }
            Shown::WhileWaiting(condition, reason) => Some(self.readiness.wait(*condition, reason(error))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::convert::Infallible;
    use std::future::{pending, ready};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::{BackoffLimits, Metrics, Readiness};

    #[derive(Debug, PartialEq, Eq)]
    enum Failure {
        Passes(&'static str),
        Paused(Duration),
        Lasts,
    }

    impl Failure {
        fn passes(&self) -> bool {
            *self != Self::Lasts
        }

        fn pause(&self) -> Option<Duration> {
            if let Self::Paused(pause) = self { Some(*pause) } else { None }
        }

        fn text(&self) -> &str {
            if let Self::Passes(text) = self { text } else { "" }
        }
    }

    const DOWN: Failure = Failure::Passes("down");

    /// Everything is ready; waits of `wait`.
    fn vitals(wait: Duration) -> Vitals {
        let readiness = Readiness::new(&[Condition::Index]);
        readiness.set_ready(Condition::Index);
        Vitals::new(Arc::new(Metrics::new()), readiness, BackoffLimits { min: wait, max: wait })
    }

    fn soon() -> Vitals {
        vitals(Duration::from_millis(2))
    }

    fn never() -> impl Future<Output = Infallible> {
        pending()
    }

    fn retries(vitals: &Vitals) -> String {
        let line = |line: &&str| line.starts_with("astromech_retries_total{stage=\"index\"} ");
        let metrics = vitals.metrics.encode();
        let found = metrics.lines().find(line).and_then(|line| line.rsplit(' ').next());
        found.unwrap_or_default().to_owned()
    }

    #[tokio::test]
    async fn promise_5_what_may_pass_is_tried_until_it_answers_and_each_failure_is_counted_and_told() {
        let (vitals, attempts, told) = (soon(), Cell::new(0), AtomicUsize::new(0));
        let warn = |error: &Failure, wait: Duration| {
            assert!(*error == DOWN && wait <= vitals.backoff.max);
            told.fetch_add(1, Ordering::Relaxed);
        };
        let awaited = Awaited::new(Failure::passes, &warn).counted(Stage::Index);
        let attempt = || {
            attempts.set(attempts.get() + 1);
            ready(if attempts.get() > 20 { Ok(attempts.get()) } else { Err(DOWN) })
        };
        assert_eq!(vitals.until_it_answers(awaited, never(), attempt).await, Ok(21));
        assert_eq!((told.into_inner(), retries(&vitals).as_str()), (20, "20"));
    }

    #[tokio::test]
    async fn what_never_passes_is_given_back_at_once_and_is_no_repeated_attempt() {
        let (vitals, attempts) = (soon(), Cell::new(0));
        let warn = |_: &Failure, _: Duration| panic!("nothing is waited for");
        let awaited = Awaited::new(Failure::passes, &warn).counted(Stage::Index).missing(Condition::Index, Failure::text);
        let attempt = || {
            attempts.set(attempts.get() + 1);
            ready(Err::<(), _>(Failure::Lasts))
        };
        assert_eq!(vitals.until_it_answers(awaited, never(), attempt).await, Err(Unanswered::Failed(Failure::Lasts)));
        assert_eq!((attempts.get(), retries(&vitals).as_str(), vitals.readiness.is_ready()), (1, "0", true));
    }

    #[tokio::test]
    async fn a_wait_ends_early_but_no_attempt_under_way_does() {
        let vitals = vitals(Duration::from_hours(1));
        let begun = Cell::new(0);
        let attempt = || async {
            begun.set(begun.get() + 1);
            // The end is there from the beginning.
            tokio::time::sleep(Duration::from_millis(20)).await;
            if begun.get() == 1 { Err(DOWN) } else { Ok(()) }
        };
        let awaited = Awaited::new(Failure::passes, &|_, _| ());
        let ended = vitals.until_it_answers(awaited, ready("stopped"), attempt).await;
        assert_eq!((ended, begun.get()), (Err(Unanswered::Ended("stopped")), 1));
    }

    #[tokio::test]
    async fn a_pause_is_waited_for_and_is_no_repeated_attempt() {
        let (vitals, pause, attempts) = (soon(), Duration::from_millis(30), Cell::new(0));
        let started = Instant::now();
        let awaited = Awaited::new(Failure::passes, &|_, _| ()).counted(Stage::Index).paused(Failure::pause);
        let attempt = || {
            attempts.set(attempts.get() + 1);
            ready(if attempts.get() > 1 { Ok(()) } else { Err(Failure::Paused(pause)) })
        };
        assert_eq!(vitals.until_it_answers(awaited, never(), attempt).await, Ok(()));
        assert!(started.elapsed() >= pause);
        assert_eq!(retries(&vitals), "0");
    }

    #[tokio::test]
    async fn no_attempt_begins_after_the_latest() {
        let (latest, attempts) = (Instant::now() + Duration::from_mins(1), Cell::new(0));
        let attempt = || {
            attempts.set(attempts.get() + 1);
            ready(if attempts.get() == 3 { Ok(()) } else { Err(DOWN) })
        };
        let awaited = || Awaited::new(Failure::passes, &|_, _| ()).latest(latest).counted(Stage::Index);
        let slow = vitals(Duration::from_hours(1));
        let given_up = slow.until_it_answers(awaited(), never(), attempt).await;
        assert_eq!((given_up, attempts.get()), (Err(Unanswered::Failed(DOWN)), 1));
        assert!(Instant::now() < latest, "it is given up at once where the wait is too long");
        assert_eq!(retries(&slow), "0");
        assert_eq!(soon().until_it_answers(awaited(), never(), attempt).await, Ok(()), "it is tried again while there is time");
    }

    #[tokio::test]
    async fn readiness_shows_what_is_waited_for_and_who_may_say_that_it_is_over() {
        let (vitals, attempts) = (soon(), Cell::new(0));
        let attempt = || {
            attempts.set(attempts.get() + 1);
            // Every second one fails, and finds what it left.
            ready(if attempts.get() % 2 == 0 { Ok(vitals.readiness.missing()) } else { Err(DOWN) })
        };
        let missing = vec![(Condition::Index, "down".to_owned())];
        let awaited = Awaited::new(Failure::passes, &|_, _| ()).missing_while_waiting(Condition::Index, Failure::text);
        assert_eq!(vitals.until_it_answers(awaited, never(), attempt).await.as_ref(), Ok(&missing));
        assert!(vitals.readiness.is_ready(), "nobody waits any more");
        let awaited = Awaited::new(Failure::passes, &|_, _| ()).missing(Condition::Index, Failure::text);
        assert_eq!(vitals.until_it_answers(awaited, never(), attempt).await.as_ref(), Ok(&missing));
        assert_eq!(vitals.readiness.missing(), missing, "the answer alone does not say that it holds");
    }
}
