//! Picture hosts, each by itself: how many pictures are fetched from one at once, and when it is left alone because it does not answer.
//! A host that is down or slow thereby costs itself only: the others' pictures go on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{info, warn};
use url::Url;

use super::MediaError;
use super::metrics::MediaMetrics;
use crate::config::MediaConfig;
use crate::vitals::Meter;

/// Hosts that are remembered; beyond it those that nobody waits for are forgotten.
const HOSTS_MAX: usize = 4096;

/// Every host that was asked lately.
pub(super) struct Hosts {
    in_flight_max: usize,
    failures_max: usize,
    pause: Duration,
    known: Mutex<HashMap<String, Arc<Host>>>,
    pub(super) metrics: Option<Meter<MediaMetrics>>,
}

struct Host {
    /// Name and port.
    name: String,
    places: Arc<Semaphore>,
    health: Mutex<Health>,
}

#[derive(Default)]
struct Health {
    /// Failures since the last answer.
    failures: usize,
    /// Left alone until then.
    paused_until: Option<Instant>,
    /// One picture is tried, to see whether the host answers again.
    probing: bool,
}

impl Hosts {
    pub(super) fn new(config: &MediaConfig) -> Self {
        let MediaConfig { host_in_flight_max, host_failures_max, host_pause, .. } = *config;
        Self {
            in_flight_max: host_in_flight_max,
            failures_max: host_failures_max,
            pause: host_pause,
            known: Mutex::default(),
            metrics: None,
        }
    }

    /// Waits for a place at the host of `url`.
    ///
    /// # Errors
    /// [`MediaError::HostPaused`] at once while the host is left alone.
    pub(super) async fn turn(&self, url: &Url) -> Result<HostTurn, MediaError> {
        // With or without the dot of the root it is one host.
        let host = url.host_str().unwrap_or_default().trim_end_matches('.');
        let name = format!("{host}:{}", url.port_or_known_default().unwrap_or_default());
        let host = self.host(&name);
        // By itself, so that its lock is given back before the next is taken.
        let paused = host.health().paused_for();
        if let Some(wait) = paused {
            return Err(host.paused(wait));
        }
        let place = Arc::clone(&host.places).acquire_owned().await;
        let place = place.map_err(|_| MediaError::Transient(format!("host {name}: the daemon is stopping")))?;
        // Looked at again: while this one waited, others may have failed.
        let probe = host.begin(self.pause)?;
        let metrics = self.metrics.clone();
        Ok(HostTurn { host, failures_max: self.failures_max, pause: self.pause, probe, metrics, _place: place })
    }

    fn host(&self, name: &str) -> Arc<Host> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(host) = known.get(name) {
            return Arc::clone(host);
        }
        if known.len() >= HOSTS_MAX {
            known.retain(|_, host| Arc::strong_count(host) > 1);
        }
        let places = Arc::new(Semaphore::new(self.in_flight_max));
        let host = Arc::new(Host { name: name.to_owned(), places, health: Mutex::default() });
        known.insert(name.to_owned(), Arc::clone(&host));
        host
    }
}

impl Host {
    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn paused(&self, wait: Duration) -> MediaError {
        let failures = self.health().failures;
        let detail = format!("host {} failed {failures} times in a row and is left alone for {} ms", self.name, wait.as_millis());
        MediaError::HostPaused { detail, wait }
    }

    /// Begins a fetch; `true` where it is the one that looks whether the host answers again.
    fn begin(&self, pause: Duration) -> Result<bool, MediaError> {
        let wait = {
            let mut health = self.health();
            match (health.paused_until, health.paused_for()) {
                (None, _) => return Ok(false),
                (Some(_), None) if !health.probing => {
                    health.probing = true;
                    return Ok(true);
                }
                // Until the one that looks has an answer.
                (Some(_), None) => pause / 4,
                (Some(_), Some(wait)) => wait,
            }
        };
        Err(self.paused(wait))
    }
}

impl Health {
    fn paused_for(&self) -> Option<Duration> {
        self.paused_until.and_then(|until| until.checked_duration_since(Instant::now())).filter(|wait| !wait.is_zero())
    }
}

/// A place at a host, given back when dropped.
pub(super) struct HostTurn {
    host: Arc<Host>,
    failures_max: usize,
    pause: Duration,
    probe: bool,
    metrics: Option<Meter<MediaMetrics>>,
    _place: OwnedSemaphorePermit,
}

impl HostTurn {
    /// The host answered, or it did not.
    pub(super) fn ended(&self, answered: bool) {
        let mut health = self.host.health();
        if answered {
            if health.paused_until.is_some() {
                info!(host = self.host.name, "the picture host answers again");
            }
            *health = Health::default();
            return;
        }
        health.failures = health.failures.saturating_add(1);
        if self.probe || health.failures == self.failures_max {
            health.paused_until = Some(Instant::now() + self.pause);
            if let Some(metrics) = &self.metrics {
                metrics.host_paused();
            }
            warn!(host = self.host.name, failures = health.failures, pause = ?self.pause, "the picture host is left alone for a while");
        }
    }
}

impl Drop for HostTurn {
    fn drop(&mut self) {
        if self.probe {
            self.host.health().probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(in_flight_max: usize, failures_max: usize, pause: Duration) -> Hosts {
        Hosts { in_flight_max, failures_max, pause, known: Mutex::default(), metrics: None }
    }

    fn url(host: &str) -> Url {
        Url::parse(&format!("http://{host}/a")).unwrap()
    }

    #[tokio::test]
    async fn failures_in_a_row_pause_a_host_and_no_other_and_one_answer_forgets_them() {
        let hosts = hosts(4, 3, Duration::from_mins(1));
        for answered in [false, false, true, false, false] {
            hosts.turn(&url("a")).await.unwrap().ended(answered);
        }
        assert!(hosts.turn(&url("a")).await.is_ok(), "two failures since the last answer");
        hosts.turn(&url("a")).await.unwrap().ended(false);
        assert!(matches!(hosts.turn(&url("a")).await.err(), Some(MediaError::HostPaused { .. })));
        for same in ["A", "a.", "a。", "ａ"] {
            assert!(matches!(hosts.turn(&url(same)).await.err(), Some(MediaError::HostPaused { .. })), "{same}");
        }
        assert!(hosts.turn(&url("a:81")).await.is_ok() && hosts.turn(&url("b")).await.is_ok());
    }

    #[tokio::test]
    async fn after_the_pause_one_looks_and_the_others_wait_for_what_it_finds() {
        let hosts = hosts(4, 1, Duration::from_millis(20));
        hosts.turn(&url("a")).await.unwrap().ended(false);
        let probe = loop {
            match hosts.turn(&url("a")).await {
                Ok(probe) => break probe,
                Err(MediaError::HostPaused { wait, .. }) => tokio::time::sleep(wait).await,
                Err(other) => panic!("{other}"),
            }
        };
        assert!(hosts.turn(&url("a")).await.is_err(), "one looks at a time");
        drop(probe);
        let probe = hosts.turn(&url("a")).await.expect("the one that looked was given up, another may");
        probe.ended(true);
        drop(probe);
        let both = (hosts.turn(&url("a")).await, hosts.turn(&url("a")).await);
        assert!(both.0.is_ok() && both.1.is_ok());
    }

    #[tokio::test]
    async fn no_more_than_so_many_are_fetched_from_one_host_at_once() {
        let hosts = hosts(2, 3, Duration::from_secs(1));
        let held = (hosts.turn(&url("a")).await.unwrap(), hosts.turn(&url("a")).await.unwrap());
        let third = tokio::time::timeout(Duration::from_millis(20), async { hosts.turn(&url("a")).await.map(drop) });
        assert!(third.await.is_err(), "the third waits");
        assert!(hosts.turn(&url("b")).await.is_ok(), "another host does not");
        drop(held);
        assert!(hosts.turn(&url("a")).await.is_ok());
    }

    #[tokio::test]
    async fn the_number_of_hosts_remembered_is_bounded() {
        let hosts = hosts(1, 1, Duration::from_secs(1));
        for number in 0..=HOSTS_MAX {
            hosts.turn(&url(&format!("h{number}"))).await.unwrap().ended(false);
        }
        assert!(hosts.known.lock().unwrap().len() <= HOSTS_MAX);
    }
}
