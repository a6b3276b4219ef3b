//! The registry, and the bundle that is live in it.

use std::path::{Path, PathBuf};

use astromech_registry::{Registry, RegistryError, RegistryOptions, Signer, Trust};
use astromech_schemas::Release;
use tokio::runtime::Runtime;

use super::config::RegistryConfig;
use super::error::RefreshError;

/// The registry with a runtime to speak to it.
pub(super) struct Registered {
    registry: Registry,
    pub runtime: Runtime,
    signer: Option<Signer>,
    trust: Trust,
    keep: usize,
}

fn wrong(error: RegistryError) -> RefreshError {
    RefreshError::of("registry", !error.is_transient(), error)
}

fn secret(path: Option<&PathBuf>) -> Result<Option<String>, RefreshError> {
    let Some(path) = path else { return Ok(None) };
    let text = std::fs::read_to_string(path).map_err(|error| RefreshError::of(path.display().to_string(), true, error))?;
    Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
}

impl Registered {
    /// Opens the registry and the keys.
    pub(super) fn open(config: &RegistryConfig) -> Result<Self, RefreshError> {
        let options = RegistryOptions {
            endpoint: config.endpoint.clone(),
            region: config.region.clone(),
            access_key: secret(config.access_key_file.as_ref())?,
            secret_key: secret(config.secret_key_file.as_ref())?,
            allow_http: config.allow_http,
            create: true,
            ..RegistryOptions::new(&config.url)
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.map_err(RefreshError::failed("registry"))?;
        let password = secret(config.sign_password_file.as_ref())?;
        let signer = config.sign_key.as_ref().map(|key| Signer::from_file(key, password.as_deref())).transpose();
        let trust = config.trust_key.as_ref().map_or_else(|| Ok(Trust::anyone()), |key| Trust::key_file(key));
        let registry = {
            let _guard = runtime.enter();
            Registry::open(&options).map_err(wrong)?
        };
        Ok(Self { registry, runtime, signer: signer.map_err(wrong)?, trust: trust.map_err(wrong)?, keep: config.keep })
    }

    /// The address, without keys.
    pub(super) fn url(&self) -> &str {
        self.registry.url()
    }

    /// The release that is live.
    pub(super) fn current(&self) -> Result<Option<Release>, RefreshError> {
        self.runtime.block_on(self.registry.current()).map_err(wrong)
    }

    /// The live bundle's folder inside `into`, checked; none where nothing was published yet.
    pub(super) fn fetch_current(&self, into: &Path) -> Result<Option<PathBuf>, RefreshError> {
        let Some(release) = self.current()? else { return Ok(None) };
        self.runtime.block_on(self.registry.fetch(&release, into, &self.trust)).map(Some).map_err(wrong)
    }

    /// Publishes a bundle and makes it current; what is published already is mended and made current.
    pub(super) fn publish(&self, bundle: &Path) -> Result<Release, RefreshError> {
        let published = self.runtime.block_on(self.registry.publish(bundle, self.signer.as_ref()));
        let release = match published {
            // The same vectors with other figures: what is there stays, and becomes current.
            Err(RegistryError::Published { fingerprint, .. }) => {
                self.runtime.block_on(self.registry.point(&fingerprint)).map_err(wrong)?;
                let release = self.runtime.block_on(self.registry.release(&fingerprint)).map_err(wrong)?;
                release.ok_or_else(|| wrong(RegistryError::NoRelease { fingerprint }))?
            }
            other => other.map_err(wrong)?,
        };
        if self.keep > 0 {
            // The release is out: that an old one stays is no reason to fail.
            if let Err(error) = self.runtime.block_on(self.registry.retain(self.keep)) {
                tracing::warn!("old releases stay: {error}");
            }
        }
        Ok(release)
    }
}
