//! Whether the daemon can do its work, and if not, what is missing.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// Something that must hold before the daemon is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// The daemon was not asked to stop.
    Running,
    /// The bundle is loaded and its golden vectors replayed.
    Bundle,
    /// The index answers and is of the bundle's vector space.
    Index,
    /// Partitions are assigned and the brokers answer.
    Kafka,
    /// The same, of the topic of re-scoring requests.
    RescoreTopic,
    /// The schema registry answered whoever asked last.
    SchemaRegistry,
    /// No result, dead letter or reply waits for a topic that refuses it.
    Publish,
}

impl Condition {
    /// The word in answers and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Bundle => "bundle",
            Self::Index => "index",
            Self::Kafka => "kafka",
            Self::RescoreTopic => "rescore_topic",
            Self::SchemaRegistry => "schema_registry",
            Self::Publish => "publish",
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The named conditions and why each does not hold. Cheap to read; every change is logged once.
#[derive(Debug)]
pub struct Readiness {
    /// Reason by condition; `None` where it holds.
    state: watch::Sender<BTreeMap<Condition, Option<String>>>,
    /// How many wait, by what they wait for.
    waiting: Mutex<BTreeMap<Condition, usize>>,
    /// Of a generation: the daemon's own, written while that generation is live.
    main: Option<(Arc<Readiness>, Arc<AtomicBool>)>,
}

impl Readiness {
    /// Nothing of `conditions` holds yet. A condition not listed here is not required and setting it has no effect.
    pub fn new(conditions: &[Condition]) -> Self {
        let state = conditions.iter().map(|condition| (*condition, Some("not started".to_owned()))).collect();
        Self { state: watch::Sender::new(state), waiting: Mutex::default(), main: None }
    }

    /// What one generation says: into `main` while it is `live`, else nowhere.
    pub fn of_generation(main: &Arc<Self>, live: &Arc<AtomicBool>) -> Self {
        Self { main: Some((Arc::clone(main), Arc::clone(live))), ..Self::new(&[]) }
    }

    /// `condition` holds.
    pub fn set_ready(&self, condition: Condition) {
        self.set(condition, None);
    }

    /// `condition` does not hold, for `reason`: one sentence for a person.
    pub fn set_missing(&self, condition: Condition, reason: impl Into<String>) {
        self.set(condition, Some(reason.into()));
    }

    /// Somebody waits: `condition` does not hold, for `reason`, until this and everybody else's is dropped.
    pub fn wait(self: &Arc<Self>, condition: Condition, reason: impl Into<String>) -> Waiting {
        let readiness = self.main.as_ref().filter(|(_, live)| live.load(Ordering::Acquire)).map_or(self, |(main, _)| main);
        let mut waiting = readiness.waiting();
        *waiting.entry(condition).or_default() += 1;
        readiness.set_missing(condition, reason);
        drop(waiting);
        Waiting { readiness: Arc::clone(readiness), condition }
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<Condition, usize>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What does not hold, with the reason; empty when ready.
    pub fn missing(&self) -> Vec<(Condition, String)> {
        let state = self.state.borrow();
        state.iter().filter_map(|(condition, reason)| Some((*condition, reason.clone()?))).collect()
    }

    /// Every required condition, and whether it holds.
    pub fn conditions(&self) -> Vec<(Condition, bool)> {
        self.state.borrow().iter().map(|(condition, reason)| (*condition, reason.is_none())).collect()
    }

    /// Whether `condition` holds, or is not required.
    pub fn holds(&self, condition: Condition) -> bool {
        self.state.borrow().get(&condition).is_none_or(Option::is_none)
    }

    /// Whether every condition holds.
    pub fn is_ready(&self) -> bool {
        self.state.borrow().values().all(Option::is_none)
    }

    /// Waits until every condition holds.
    pub async fn wait_ready(&self) {
        // The sender is `self`, so the channel can't close while this waits.
        let _ = self.state.subscribe().wait_for(|state| state.values().all(Option::is_none)).await;
    }

    fn set(&self, condition: Condition, reason: Option<String>) {
        if let Some((main, live)) = &self.main {
            if live.load(Ordering::Acquire) {
                main.set(condition, reason);
            }
            return;
        }
        self.state.send_if_modified(|state| {
            let Some(current) = state.get_mut(&condition).filter(|current| **current != reason) else {
                return false;
            };
            match &reason {
                None => tracing::info!(%condition, "ready"),
                Some(reason) => tracing::warn!(%condition, reason, "not ready"),
            }
            *current = reason;
            true
        });
    }
}

/// One that waits for a condition.
#[derive(Debug)]
pub struct Waiting {
    readiness: Arc<Readiness>,
    condition: Condition,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // Held while the condition is set, so that nobody who begins to wait meanwhile is passed over.
        let mut waiting = self.readiness.waiting();
        let left = waiting.entry(self.condition).or_default();
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.readiness.set_ready(self.condition);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_missing_condition_is_listed_with_its_reason() {
        let readiness = Readiness::new(&[Condition::Bundle, Condition::Index]);
        readiness.set_ready(Condition::Bundle);
        readiness.set_missing(Condition::Index, "connection refused");
        assert_eq!(readiness.missing(), [(Condition::Index, "connection refused".to_owned())]);
        assert!(!readiness.is_ready());
        readiness.set_ready(Condition::Index);
        assert!(readiness.is_ready());
    }

    #[test]
    fn a_condition_holds_again_when_the_last_of_those_who_wait_has_ended() {
        let readiness = Arc::new(Readiness::new(&[Condition::Publish]));
        readiness.set_ready(Condition::Publish);
        let first = readiness.wait(Condition::Publish, "no topic");
        let second = readiness.wait(Condition::Publish, "no room");
        drop(first);
        assert_eq!(readiness.missing(), [(Condition::Publish, "no room".to_owned())]);
        // Another attempt of the same one.
        let again = readiness.wait(Condition::Publish, "still no room");
        drop(second);
        assert!(!readiness.is_ready());
        drop(again);
        assert!(readiness.is_ready());
    }

    #[test]
    fn a_condition_that_is_not_required_is_never_missing() {
        let readiness = Readiness::new(&[Condition::Bundle]);
        readiness.set_ready(Condition::Bundle);
        readiness.set_missing(Condition::Kafka, "no broker");
        assert!(readiness.is_ready());
    }

    #[tokio::test]
    async fn waiting_ends_when_the_last_condition_holds() {
        let readiness = Readiness::new(&[Condition::Bundle, Condition::Index]);
        let wait = readiness.wait_ready();
        tokio::pin!(wait);
        assert!(futures::poll!(&mut wait).is_pending());
        readiness.set_ready(Condition::Bundle);
        assert!(futures::poll!(&mut wait).is_pending());
        readiness.set_ready(Condition::Index);
        wait.await;
    }
}
