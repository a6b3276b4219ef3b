//! A running generation: towers, index, and the source and pipeline that keep the index in step.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use astromech_schemas::Fingerprint;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::backfill::{Filled, Filling};
use super::group_name;
use super::ingest::Ingest;
use super::serving::Serving;
use crate::assemble::TowerMetrics;
use crate::config::{Config, KafkaConfig, RolloutConfig};
use crate::index::Index;
use crate::index::book::{Backfill, Catalog};
use crate::pipeline::{KafkaOutlet, Pace, Throttle};
use crate::rescore::DiskTier;
use crate::source::Drained;
use crate::vitals::{Halt, Metrics, Vitals};

/// What every generation of a daemon shares.
#[derive(Clone)]
pub(super) struct GenerationContext {
    pub(super) config: Arc<Config>,
    pub(super) rollout: Arc<RolloutConfig>,
    pub(super) kafka: Arc<KafkaConfig>,
    pub(super) outlet: Arc<KafkaOutlet>,
    /// The daemon's, of all of them.
    pub(super) vitals: Vitals,
    /// How fast live traffic goes.
    pub(super) pace: Pace,
    /// The feature cache's tier on disk, of all of them.
    pub(super) disk: Option<Arc<DiskTier>>,
    pub(super) stop: CancellationToken,
}

impl GenerationContext {
    /// Topics, and the consumer group of one generation.
    pub(super) fn kafka_of(&self, fingerprint: &Fingerprint) -> KafkaConfig {
        KafkaConfig { group: group_name(&self.kafka.group, fingerprint), ..KafkaConfig::clone(&self.kafka) }
    }
}

/// The configuration of one generation: its bundle.
pub(super) fn config_of(config: &Config, bundle: &Path) -> Config {
    let mut config = config.clone();
    bundle.clone_into(&mut config.bundle.path);
    config
}

/// A running generation.
pub(super) struct Running {
    pub(super) serving: Arc<Serving>,
    pub(super) halt: Halt,
    live: Arc<AtomicBool>,
    throttle: Arc<Throttle>,
    stop: CancellationToken,
    task: JoinHandle<Result<Drained>>,
    /// How far it is filled from another generation's points, where it is.
    filled: Option<watch::Receiver<Filled>>,
}

/// What a generation is filled from beside the topics.
pub(super) struct Refilling {
    pub(super) state: Backfill,
    pub(super) from: Arc<dyn Index>,
    pub(super) catalog: Arc<dyn Catalog>,
}

/// What a generation counts and says.
pub(super) struct GenerationVitals {
    pub(super) live: Arc<AtomicBool>,
    pub(super) vitals: Vitals,
}

impl GenerationVitals {
    /// Heard while the generation is live.
    pub(super) fn new(daemon: &Vitals, live: Arc<AtomicBool>) -> Self {
        Self { vitals: daemon.of_generation(&live), live }
    }
}

impl Running {
    /// Starts source and pipeline over towers and index that run.
    pub(super) fn start(
        shared: &GenerationContext,
        config: &Config,
        serving: Arc<Serving>,
        own: GenerationVitals,
        refilling: Option<Refilling>,
    ) -> Result<Self> {
        let rollout = &shared.rollout;
        let throttle = Throttle::new(rollout.records_per_second_busy, rollout.records_per_second_max, Arc::clone(&shared.pace));
        let throttle = Arc::new(throttle);
        throttle.set_open(own.live.load(Ordering::Acquire));
        let (vitals, stop) = (own.vitals, shared.stop.child_token());
        let halt = vitals.halt.clone();
        let ingest = Ingest {
            config,
            kafka: shared.kafka_of(serving.towers.fingerprint()),
            serving: Arc::clone(&serving),
            outlet: Arc::clone(&shared.outlet),
            vitals: vitals.clone(),
            throttle: Some(Arc::clone(&throttle)),
        };
        let (reading, refiller) = ingest.start_refillable(stop.clone())?;
        let (progress, filled) = watch::channel(Filled::default());
        let filled = refilling.is_some().then_some(filled);
        let filling = refilling.map(|Refilling { state, from, catalog }| Filling {
            catalog,
            state,
            from,
            towers: serving.towers.clone(),
            refiller,
            lost_max: rollout.backfill_lost_max,
            vitals,
            progress,
        });
        let ending = stop.clone();
        let task = async move {
            let fill = async {
                if let Some(filling) = filling {
                    filling.run(ending).await;
                }
            };
            tokio::join!(reading.end(), fill).0
        };
        Ok(Self { serving, halt, live: own.live, throttle, stop, task: tokio::spawn(task), filled })
    }

    pub(super) fn fingerprint(&self) -> &Fingerprint {
        self.serving.towers.fingerprint()
    }

    pub(super) fn bundle(&self) -> &str {
        &self.serving.towers.manifest().name
    }

    /// Whether what it counts and says is the daemon's.
    pub(super) fn set_live(&self, live: bool) {
        self.live.store(live, Ordering::Release);
        // One that was live keeps up with live traffic, or there would be no going back to it.
        self.throttle.set_open(true);
    }

    /// Says which provider, precision and vector space answer.
    pub(super) fn announce(&self, metrics: &Metrics) {
        let towers = &self.serving.towers;
        metrics.of::<TowerMetrics>().set_provider(
            towers.provider_in_use(),
            towers.precision().as_str(),
            towers.fingerprint().as_str(),
        );
    }

    /// How far it is filled from points; `None` where it is filled from the topics alone.
    pub(super) fn filled(&self) -> Option<watch::Receiver<Filled>> {
        self.filled.clone()
    }

    /// Whether it has ended by itself.
    pub(super) fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Stops reading and waits until what was read is written. The index stays open for who reads from it.
    pub(super) async fn drain(self) -> (Arc<Serving>, Result<Drained>) {
        self.stop.cancel();
        let drained = self.task.await;
        let drained = match self.halt.cause() {
            Some(cause) => Err(cause.clone().into()),
            None => drained.map_err(anyhow::Error::from).and_then(|drained| drained),
        };
        (self.serving, drained)
    }
}
