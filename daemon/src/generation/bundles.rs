//! Where the bundle of a generation lies: the configured one, a verified copy of a published one, or the registry.

use std::path::{Path, PathBuf};

use astromech_registry::{Registry, RegistryError, RegistryOptions, Trust};
use astromech_schemas::manifest::MANIFEST_FILE;
use astromech_schemas::{Fingerprint, Manifest, Release};

use super::kill_point::download_begins;
use crate::config::{RegistryConfig, RolloutConfig, Secret};

/// The bundles that this daemon can load.
pub struct Bundles {
    registry: Registry,
    trust: Trust,
    /// `rollout.bundles`.
    folder: PathBuf,
    /// `bundle.path`, and what it holds.
    configured: (PathBuf, Fingerprint),
}

impl Bundles {
    /// With the registry of `rollout` and the configured bundle.
    ///
    /// # Errors
    /// An address, a credential or a key that the registry does not take; a configured bundle without a readable manifest.
    pub fn open(rollout: &RolloutConfig, configured: &Path) -> anyhow::Result<Self> {
        let manifest = std::fs::read(configured.join(MANIFEST_FILE))?;
        let fingerprint = Manifest::from_json(&manifest)?.fingerprint;
        Ok(Self {
            registry: Registry::open(&registry_options(&rollout.registry))?,
            trust: match &rollout.public_key {
                Some(key) => Trust::keys(&[key])?,
                None => Trust::anyone(),
            },
            folder: rollout.bundles.clone(),
            configured: (configured.to_owned(), fingerprint),
        })
    }

    /// What the configured bundle holds.
    pub fn configured(&self) -> &Fingerprint {
        &self.configured.1
    }

    /// The release that the registry points at.
    ///
    /// # Errors
    /// The registry does not answer, or its pointer is garbage.
    pub async fn current(&self) -> Result<Option<Release>, RegistryError> {
        self.registry.current().await
    }

    /// Folder of a verified bundle of `fingerprint`; it is fetched where it is not here. `None` where nobody has it.
    ///
    /// # Errors
    /// As `Registry::fetch`.
    pub async fn get(&self, fingerprint: &Fingerprint) -> Result<Option<PathBuf>, RegistryError> {
        if *fingerprint == self.configured.1 {
            return Ok(Some(self.configured.0.clone()));
        }
        let here = self.folder.join(fingerprint.as_str());
        if here.join(MANIFEST_FILE).is_file() {
            // It was renamed here after it was verified, and its files are read against the manifest once more when it is opened.
            return Ok(Some(here));
        }
        let Some(release) = self.registry.release(fingerprint).await? else { return Ok(None) };
        download_begins(&self.folder);
        self.registry.fetch(&release, &self.folder, &self.trust).await.map(Some)
    }

    /// Removes the copy of a bundle that is no longer needed.
    pub async fn forget(&self, fingerprint: &Fingerprint) {
        let here = self.folder.join(fingerprint.as_str());
        if let Err(error) = tokio::fs::remove_dir_all(&here).await
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, folder = %here.display(), "the bundle was not removed");
        }
    }

    /// Why a bundle was refused at an earlier start of this daemon.
    pub async fn refusal(&self, fingerprint: &Fingerprint) -> Option<String> {
        tokio::fs::read_to_string(self.refusal_file(fingerprint)).await.ok()
    }

    /// Keeps why a bundle was refused, so that a restart does not fill its collections once more.
    pub async fn refuse(&self, fingerprint: &Fingerprint, reason: &str) {
        let file = self.refusal_file(fingerprint);
        let written = async {
            tokio::fs::create_dir_all(&self.folder).await?;
            tokio::fs::write(&file, reason).await
        };
        if let Err(error) = written.await {
            tracing::warn!(%error, file = %file.display(), "the refusal was not kept: it is tried again after a restart");
        }
    }

    fn refusal_file(&self, fingerprint: &Fingerprint) -> PathBuf {
        self.folder.join(format!("{}.refused", fingerprint.as_str()))
    }
}

/// How the configured registry is opened.
pub fn registry_options(registry: &RegistryConfig) -> RegistryOptions {
    let secret = |secret: &Option<Secret>| secret.as_ref().map(|secret| secret.reveal().to_owned());
    RegistryOptions {
        endpoint: Some(registry.endpoint.clone()).filter(|endpoint| !endpoint.is_empty()),
        region: Some(registry.region.clone()).filter(|region| !region.is_empty()),
        access_key: secret(&registry.access_key),
        secret_key: secret(&registry.secret_key),
        allow_http: registry.allow_http,
        ..RegistryOptions::new(registry.url.clone())
    }
}
