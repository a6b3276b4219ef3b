//! Loading a generation beside the live one: its bundle is verified on this machine before it touches anything.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use astromech_registry::RegistryError;
use astromech_schemas::manifest::MANIFEST_FILE;
use astromech_schemas::{Fingerprint, Manifest};
use astromech_towers::Towers;
use rdkafka::error::KafkaError;
use tracing::info;

use super::backfill::Survey;
use super::bundles::Bundles;
use super::group;
use super::kill_point::{KillPoint, reached};
use super::lost::refused;
use super::running::{GenerationContext, GenerationVitals, Refilling, Running, config_of};
use super::serving::Serving;
use crate::assemble::{open_index_beside, space, start_rescorer, start_towers};
use crate::config::BackfillSource;
use crate::index::book::{Backfill, Catalog};
use crate::index::{Index, IndexError};
use crate::telemetry::resident_bytes;

/// ONNX Runtime keeps a graph's weights twice while it optimises them.
const MEMORY_PER_GRAPH_BYTE: u64 = 2;

/// Why a generation was not loaded.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    /// The bundle is not taken; it is looked at again only after a restart.
    #[error("{0}")]
    Refused(String),
    /// Something did not answer; it is tried again.
    #[error("{0}")]
    Unanswered(String),
}

impl From<RegistryError> for LoadError {
    fn from(error: RegistryError) -> Self {
        if error.is_transient() { Self::Unanswered(error.to_string()) } else { Self::Refused(error.to_string()) }
    }
}

impl From<IndexError> for LoadError {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::Transient(_) => Self::Unanswered(error.to_string()),
            IndexError::Refused(_) | IndexError::Mismatch(_) => Self::Refused(error.to_string()),
        }
    }
}

/// Every cause of an error in one line.
fn whole(error: &anyhow::Error) -> String {
    format!("{error:#}")
}

/// Loads one generation.
pub(super) struct Loader {
    pub(super) shared: GenerationContext,
    pub(super) bundles: Arc<Bundles>,
    pub(super) catalog: Arc<dyn Catalog>,
    /// The live generation.
    pub(super) live: Fingerprint,
    /// Every generation that runs.
    pub(super) running: BTreeMap<Fingerprint, Arc<Serving>>,
}

impl Loader {
    /// Fetches and verifies the bundle of `fingerprint`, starts its towers (golden vectors are replayed on the provider in use), opens its
    /// collections and begins to fill them.
    ///
    /// # Errors
    /// [`LoadError`], with what was expected and found.
    pub(super) async fn load(self, fingerprint: Fingerprint) -> Result<Running, LoadError> {
        let shared = &self.shared;
        if let Some(reason) = self.bundles.refusal(&fingerprint).await {
            return Err(LoadError::Refused(reason));
        }
        let Some(path) = self.bundles.get(&fingerprint).await? else {
            let short = fingerprint.short();
            return Err(LoadError::Refused(format!("the registry has no bundle {short} any more; fix: publish it again")));
        };
        reached(KillPoint::Downloaded);
        fits(&path, shared.rollout.memory_bytes_max)?;
        let config = config_of(&shared.config, &path);
        let own = GenerationVitals::new(&shared.vitals, Arc::default());
        reached(KillPoint::Replaying);
        let failed = |error: anyhow::Error| LoadError::Refused(whole(&error));
        let towers = start_towers(&config, &own.vitals.metrics, config.rescore.enabled).await.map_err(failed)?;
        if *towers.fingerprint() != fingerprint {
            return Err(LoadError::Refused(format!(
                "{} holds bundle {}, not {}",
                path.display(),
                towers.fingerprint().short(),
                fingerprint.short()
            )));
        }
        let refilling = self.refilling(&towers).await?;
        if refilling.is_none() {
            // Filled from points its group begins where the live one was, before anything is made.
            let kafka = shared.kafka_of(&fingerprint);
            if let Some(problem) = refused(&config, &kafka, &space(&towers), true).await? {
                return Err(LoadError::Refused(problem));
            }
        }
        let writer = open_index_beside(&config, &towers).await?;
        let index = Arc::clone(&writer) as Arc<dyn Index>;
        reached(KillPoint::CollectionsMade);
        let rescorer = start_rescorer(&config, &towers, &index, shared.disk.clone(), &shared.vitals.metrics).map_err(failed)?;
        let serving = Arc::new(Serving::new(towers, writer, rescorer));
        let running = Running::start(shared, &config, serving, own, refilling);
        let running = running.map_err(|error| LoadError::Unanswered(whole(&error)))?;
        info!(bundle = running.bundle(), fingerprint = fingerprint.short(), "a generation runs beside the live one");
        Ok(running)
    }

    /// What is left to be filled from points, with the generation's group where it has to begin; `None` where it is filled from the
    /// topics, or is filled.
    async fn refilling(&self, towers: &Towers) -> Result<Option<Refilling>, LoadError> {
        let fingerprint = towers.fingerprint();
        let state = match self.catalog.backfill(fingerprint).await? {
            Some(state) => Some(state),
            None if self.shared.rollout.backfill == BackfillSource::Collection => self.begin(towers).await?,
            None => None,
        };
        let Some(mut state) = state.filter(|state| !state.is_done()) else { return Ok(None) };
        let from = self.running.get(&state.from).map(|serving| Arc::clone(&serving.index));
        let Some(from) = from else { return Err(self.without(&state.from).await?) };
        if !state.group_set {
            let (kafka, start) = (self.shared.kafka_of(fingerprint), state.start.clone());
            asked(move || group::set(&kafka, &start)).await?;
            state.group_set = true;
            self.catalog.note_backfill(fingerprint, &state).await?;
        }
        Ok(Some(Refilling { state, from, catalog: Arc::clone(&self.catalog) }))
    }

    /// Writes down where the live group is, then looks what its points would lose, then begins the generation.
    async fn begin(&self, towers: &Towers) -> Result<Option<Backfill>, LoadError> {
        if *towers.fingerprint() == self.live
            || self.catalog.generations().await?.iter().any(|one| one.fingerprint == *towers.fingerprint())
        {
            // It is filled from the topics already, or was.
            return Ok(None);
        }
        let Some(live) = self.running.get(&self.live) else {
            return Err(LoadError::Unanswered("the live generation does not run here yet".to_owned()));
        };
        let kafka = self.shared.kafka_of(&self.live);
        let start = asked(move || group::committed(&kafka)).await?;
        let plan = Backfill::new(self.live.clone(), start);
        let survey = Survey::take(&*live.index, towers, &plan).await?;
        if let Some(problem) = survey.problem(self.shared.rollout.backfill_lost_max) {
            return Err(LoadError::Refused(problem));
        }
        Ok(self.catalog.begin(&space(towers), &plan).await?)
    }

    /// Why filling can't go on where the generation `from` does not run here.
    async fn without(&self, from: &Fingerprint) -> Result<LoadError, LoadError> {
        let stored = self.catalog.generations().await?;
        Ok(if stored.iter().any(|one| one.fingerprint == *from) {
            LoadError::Unanswered(format!(
                "it is filled from the points of generation {}, which does not run here yet",
                from.short()
            ))
        } else {
            LoadError::Refused(format!(
                "it was being filled from the points of generation {}, which is gone; fix: `astromech generations drop` it, and start again",
                from.short()
            ))
        })
    }
}

/// Asks the broker, on a blocking thread.
async fn asked<T: Send + 'static>(ask: impl FnOnce() -> Result<T, KafkaError> + Send + 'static) -> Result<T, LoadError> {
    let unanswered = |problem: String| LoadError::Unanswered(format!("the broker does not answer: {problem}"));
    let answer = tokio::task::spawn_blocking(ask).await.map_err(|error| unanswered(error.to_string()))?;
    answer.map_err(|error| unanswered(error.to_string()))
}

/// Refuses a bundle that would not fit beside the live one.
fn fits(bundle: &Path, bytes_max: u64) -> Result<(), LoadError> {
    let manifest = std::fs::read(bundle.join(MANIFEST_FILE)).map_err(|error| LoadError::Unanswered(error.to_string()))?;
    let manifest = Manifest::from_json(&manifest).map_err(|error| LoadError::Refused(error.to_string()))?;
    let graphs = manifest.files.iter().filter(|file| Path::new(&file.name).extension().is_some_and(|end| end == "onnx"));
    // The graphs of one precision are loaded; the largest three are no less.
    let mut sizes: Vec<u64> = graphs.map(|file| file.bytes).collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    let needed = sizes.iter().take(3).sum::<u64>().saturating_mul(MEMORY_PER_GRAPH_BYTE);
    let used = resident_bytes();
    if used.saturating_add(needed) > bytes_max {
        return Err(LoadError::Refused(format!(
            "its graphs may need {needed} bytes beside the {used} of this process, over rollout.memory_bytes_max = {bytes_max}; fix: \
             raise it, or publish a smaller model"
        )));
    }
    Ok(())
}
