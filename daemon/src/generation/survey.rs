//! Generations as a start would find them, without starting any.

use astromech_schemas::{Fingerprint, Release};

use super::bundles::Bundles;
use crate::assemble::index_options;
use crate::config::{Config, RolloutConfig};
use crate::index::book::StoredGeneration;
use crate::index::{self, IndexError};

/// What the index's book and the registry say.
#[derive(Debug, Clone)]
pub struct Rollouts {
    /// What is live; `None` before the first start.
    pub live: Option<Fingerprint>,
    /// Every generation that the index holds.
    pub stored: Vec<StoredGeneration>,
    /// What the registry points at.
    pub published: Option<Release>,
}

/// Reads the book and the registry's pointer; fetches and changes nothing.
///
/// # Errors
/// [`IndexError::Transient`] where the index or the registry does not answer; [`IndexError::Mismatch`] where they hold what no daemon
/// could use.
pub async fn look(config: &Config, rollout: &RolloutConfig) -> Result<Rollouts, IndexError> {
    let mismatch = |error: anyhow::Error| IndexError::Mismatch(format!("{error:#}").into());
    let bundles = Bundles::open(rollout, &config.bundle.path).map_err(mismatch)?;
    let catalog = index::catalog(&index_options(config, false))?;
    let published = bundles.current().await.map_err(|error| {
        let problem = format!("the registry: {error}");
        if error.is_transient() { IndexError::Transient(problem.into()) } else { IndexError::Mismatch(problem.into()) }
    })?;
    Ok(Rollouts { live: catalog.live().await?, stored: catalog.generations().await?, published })
}
