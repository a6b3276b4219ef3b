//! Starting with rollouts: what is live is found out first, then it is opened, then the roller takes over.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context as _, Result};
use astromech_towers::Towers;
use tokio_util::sync::CancellationToken;

use super::bundles::Bundles;
use super::command::{CommandRequest, Generations};
use super::lost::book_lost;
use super::roller::{Roller, RollerParts};
use super::running::{GenerationContext, GenerationVitals, Running};
use super::serving::{Live, Serving};
use super::traffic::{Requests, Traffic};
use crate::assemble::index_options;
use crate::config::{Config, KafkaConfig, RolloutConfig};
use crate::failure::hinted;
use crate::index::book::Catalog;
use crate::index::{self, IndexError};
use crate::pipeline::KafkaOutlet;
use crate::source::Drained;
use crate::vitals::{Metrics, Vitals};

/// The live generation's bundle, before anything of it runs.
pub struct Started {
    bundles: Arc<Bundles>,
    catalog: Arc<dyn Catalog>,
    rollout: Arc<RolloutConfig>,
    /// The configuration with the live generation's bundle and folder.
    pub config: Config,
    /// Whether the generation that is started first is live still.
    first_is_live: Arc<AtomicBool>,
}

/// What the rest of the daemon gives the roller.
pub struct StartParts {
    /// The configuration as written.
    pub config: Arc<Config>,
    /// Topics and the group's name.
    pub kafka: KafkaConfig,
    /// Where results and dead letters go.
    pub outlet: Arc<KafkaOutlet>,
    /// The daemon's own.
    pub vitals: Vitals,
    /// What answers.
    pub live: Arc<Live>,
    /// How much it has to answer.
    pub requests: Requests,
    /// Stops the daemon.
    pub stop: CancellationToken,
}

impl Started {
    /// Finds out what is live; one attempt.
    ///
    /// # Errors
    /// [`IndexError::Transient`] where the index or the registry does not answer; [`IndexError::Mismatch`] where what is live can't be
    /// loaded by anybody.
    pub async fn find(config: &Config, rollout: &RolloutConfig) -> Result<Self, IndexError> {
        let mismatch = |error: anyhow::Error| IndexError::Mismatch(format!("{error:#}").into());
        let bundles = Bundles::open(rollout, &config.bundle.path).map_err(mismatch)?;
        let catalog = index::catalog(&index_options(config, false))?;
        let live = match catalog.live().await? {
            Some(live) => live,
            None => match book_lost(config, bundles.configured()).await? {
                None => bundles.configured().clone(),
                Some(problem) => return Err(IndexError::Transient(problem.into())),
            },
        };
        let path = bundles.get(&live).await.map_err(|error| {
            let problem = format!("the bundle of the live generation {}: {error}", live.short());
            if error.is_transient() { IndexError::Transient(problem.into()) } else { IndexError::Mismatch(problem.into()) }
        })?;
        let path: PathBuf = path.ok_or_else(|| {
            IndexError::Mismatch(format!(
                "generation {} is live, and neither bundle.path, rollout.bundles nor the registry has its bundle: put it in one of them",
                live.short()
            ).into())
        })?;
        let config = super::running::config_of(config, &path);
        Ok(Self {
            bundles: Arc::new(bundles),
            catalog,
            rollout: Arc::new(rollout.clone()),
            config,
            first_is_live: Arc::new(AtomicBool::new(true)),
        })
    }

    /// Counts of the generation that is started first: into `main` while it is live.
    pub fn metrics(&self, main: &Arc<Metrics>) -> Arc<Metrics> {
        Arc::new(Metrics::of_generation(main, &self.first_is_live))
    }

    /// Writes down that `towers`' generation is live where none was.
    ///
    /// # Errors
    /// As [`Catalog::promote`].
    pub async fn claim(&self, towers: &Towers) -> Result<(), IndexError> {
        if self.catalog.live().await?.is_none() {
            self.catalog.promote(towers.fingerprint()).await?;
        }
        Ok(())
    }

    /// Starts the roller; it ends when the daemon stops, or with the live generation.
    ///
    /// # Errors
    /// The live generation's source or pipeline did not start.
    pub fn roll(self, parts: StartParts, generations: Generations, commands: CommandReceiver) -> Result<Rolling> {
        let StartParts { config, kafka, outlet, vitals, live, requests, stop } = parts;
        let disk = live.serving().rescorer.as_ref().and_then(|rescorer| rescorer.cache().disk().cloned());
        let traffic = Arc::new(Traffic::new(Arc::clone(&live), &vitals.metrics, requests));
        let shared = GenerationContext {
            config,
            rollout: self.rollout,
            kafka: Arc::new(kafka),
            outlet,
            vitals,
            pace: traffic.pace(),
            disk,
            stop,
        };
        let own = GenerationVitals::new(&shared.vitals, self.first_is_live);
        let first = Running::start(&shared, &self.config, live.serving(), own, None)
            .with_context(|| hinted("the live generation did not start", "see the cause above"))?;
        let parts = RollerParts {
            shared,
            bundles: self.bundles,
            catalog: self.catalog,
            live,
            first,
            generations,
            commands: commands.0,
            traffic,
        };
        Ok(Rolling(Box::new(Roller::new(parts))))
    }
}

/// The roller's end of its queue of commands.
pub struct CommandReceiver(tokio::sync::mpsc::Receiver<CommandRequest>);

/// A handle for whoever asks, and the roller's end.
pub fn generations() -> (Generations, CommandReceiver) {
    let (generations, commands) = Generations::new();
    (generations, CommandReceiver(commands))
}

/// A roller that is ready to run.
pub struct Rolling(Box<Roller>);

impl Rolling {
    /// Runs to the end. The indexes of all generations are given back open, for requests that are still answered.
    pub async fn run(self) -> (Vec<Arc<Serving>>, Result<Drained>) {
        self.0.run().await
    }
}
