//! Loading a generation beside the live one: its bundle is verified on this machine before it touches anything.

use std::path::Path;
use std::sync::Arc;

use astromech_registry::RegistryError;
use astromech_schemas::manifest::MANIFEST_FILE;
use astromech_schemas::{Fingerprint, Manifest};
use tracing::info;

use super::beside::{Running, Shared, Voice, config_of};
use super::bundles::Bundles;
use super::serving::Serving;
use crate::assemble::{open_index_beside, start_rescorer, start_towers};
use crate::config::Config;
use crate::index::IndexError;
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

/// Fetches and verifies the bundle of `fingerprint`, starts its towers (golden vectors are replayed on the provider in use), opens its
/// collections and begins to fill them.
///
/// # Errors
/// [`LoadError`], with what was expected and found.
pub(super) async fn load(shared: &Shared, bundles: &Bundles, fingerprint: &Fingerprint) -> Result<Running, LoadError> {
    if let Some(reason) = bundles.refusal(fingerprint).await {
        return Err(LoadError::Refused(reason));
    }
    let Some(path) = bundles.get(fingerprint).await? else {
        let short = fingerprint.short();
        return Err(LoadError::Refused(format!("the registry has no bundle {short} any more; fix: publish it again")));
    };
    fits(&path, shared.rollout.memory_bytes_max)?;
    let config = config_of(&shared.config, fingerprint, &path);
    let voice = Voice::new(&shared.metrics, &shared.readiness, false);
    let refused = |error: anyhow::Error| LoadError::Refused(whole(&error));
    let towers = start_towers(&config, &voice.metrics, config.rescore.enabled).await.map_err(refused)?;
    if towers.fingerprint() != fingerprint {
        return Err(LoadError::Refused(format!(
            "{} holds bundle {}, not {}",
            path.display(),
            towers.fingerprint().short(),
            fingerprint.short()
        )));
    }
    let index = open_index_beside(&config, &towers).await?;
    let rescorer = start_rescorer(&config, &towers, &index, shared.disk.clone(), &shared.metrics).map_err(refused)?;
    let serving = Arc::new(Serving { towers, index, rescorer });
    let running = Running::start(shared, &config, serving, voice).map_err(|error| LoadError::Unanswered(whole(&error)))?;
    info!(bundle = running.bundle(), fingerprint = fingerprint.short(), "a generation runs beside the live one");
    Ok(running)
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

/// The first generation of a start: configured or live already, and opened as a daemon without rollouts opens it.
pub(super) fn first(shared: &Shared, config: &Config, serving: Arc<Serving>) -> anyhow::Result<Running> {
    Running::start(shared, config, serving, Voice::new(&shared.metrics, &shared.readiness, true))
}
