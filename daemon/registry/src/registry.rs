//! The registry: which releases there are, and which one is current.

use astromech_schemas::{Fingerprint, Release};
use chrono::DateTime;
use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{ObjectStore as _, ObjectStoreExt as _};

use crate::store::Store;
use crate::{RegistryError, RegistryLimits, RegistryOptions};

/// Bundles that were published. Cheap to clone; calls may run at the same time, in this process and in others.
#[derive(Debug, Clone)]
pub struct Registry {
    pub(crate) store: Store,
    pub(crate) limits: RegistryLimits,
    url: String,
}

impl Registry {
    /// Opens the registry. Object storage is not spoken to yet.
    ///
    /// # Errors
    /// The address is none that is known, or the folder is not there.
    pub fn open(options: &RegistryOptions) -> Result<Self, RegistryError> {
        Ok(Self { store: Store::open(options)?, limits: options.limits.clone(), url: options.url.clone() })
    }

    /// The address it was opened with; it holds no keys.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The release that the pointer names; none where nothing was published yet.
    ///
    /// # Errors
    /// The store is down, the pointer or the release is garbage, or the pointer names a release that is not there.
    pub async fn current(&self) -> Result<Option<Release>, RegistryError> {
        let Some(fingerprint) = self.store.seen().await?.fingerprint else { return Ok(None) };
        match self.release(&fingerprint).await? {
            Some(release) => Ok(Some(release)),
            None => Err(RegistryError::NoRelease { fingerprint }),
        }
    }

    /// The release of that fingerprint, current or not; none where it was never published.
    ///
    /// # Errors
    /// The store is down, or the release is garbage.
    pub async fn release(&self, fingerprint: &Fingerprint) -> Result<Option<Release>, RegistryError> {
        let path = self.store.release(fingerprint);
        match self.read_release(&path).await? {
            Some(release) if release.fingerprint != *fingerprint => Err(RegistryError::Disagree {
                fingerprint: fingerprint.clone(),
                field: "fingerprint",
                expected: fingerprint.to_string(),
                found: release.fingerprint.to_string(),
            }),
            other => Ok(other),
        }
    }

    /// Every release, the newest first. One that is garbage is left out and told to the log: it must not hide the others.
    ///
    /// # Errors
    /// The store is down.
    pub async fn list(&self) -> Result<Vec<Release>, RegistryError> {
        let folder = self.store.releases();
        let listed = self.store.objects.list(Some(&folder)).try_collect::<Vec<_>>().await;
        let listed = listed.map_err(|error| RegistryError::store("list", &folder, error))?;
        let mut releases = Vec::with_capacity(listed.len());
        for object in listed.into_iter().filter(|object| object.location.extension() == Some("json")) {
            match self.read_release(&object.location).await {
                Ok(release) => releases.extend(release),
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => tracing::warn!(%error, path = %object.location, "a release is left out"),
            }
        }
        releases.sort_by(|a, b| published(b).cmp(&published(a)).then_with(|| a.fingerprint.cmp(&b.fingerprint)));
        Ok(releases)
    }

    /// Makes a release current that is in the registry already, for example an earlier one.
    ///
    /// # Errors
    /// The store is down, there is no such release, one of its files is missing, or another publisher moved the pointer meanwhile.
    pub async fn point(&self, fingerprint: &Fingerprint) -> Result<(), RegistryError> {
        let seen = self.store.seen().await?;
        let release =
            self.release(fingerprint).await?.ok_or_else(|| RegistryError::NoRelease { fingerprint: fingerprint.clone() })?;
        for file in &release.files {
            let path = self.store.file(fingerprint, &file.name);
            let found = match self.store.objects.head(&path).await {
                Ok(meta) => meta.size,
                Err(object_store::Error::NotFound { .. }) => return Err(RegistryError::Missing { path: path.to_string() }),
                Err(error) => return Err(RegistryError::store("head", &path, error)),
            };
            if found != file.bytes {
                return Err(RegistryError::Size { path: path.to_string(), expected: file.bytes, found });
            }
        }
        if seen.fingerprint.as_ref() == Some(fingerprint) {
            return Ok(());
        }
        self.store.move_pointer(&seen, fingerprint).await
    }

    async fn read_release(&self, path: &Path) -> Result<Option<Release>, RegistryError> {
        let Some((bytes, _)) = self.store.document(path).await? else { return Ok(None) };
        Release::from_json(&bytes).map(Some).map_err(|error| RegistryError::Document { path: path.to_string(), error })
    }

    pub(crate) fn check_limits(&self, fingerprint: &Fingerprint, bytes: u64, files: u64) -> Result<(), RegistryError> {
        let limits =
            [("bundle_bytes", bytes, self.limits.bundle_bytes_max), ("bundle_files", files, self.limits.bundle_files_max)];
        match limits.into_iter().find(|(_, found, limit)| found > limit) {
            Some((field, found, limit)) => {
                Err(RegistryError::OverLimit { fingerprint: fingerprint.clone(), field, found, limit })
            }
            None => Ok(()),
        }
    }
}

/// Time of publication; one that can't be read is the oldest.
fn published(release: &Release) -> Option<DateTime<chrono::FixedOffset>> {
    DateTime::parse_from_rfc3339(&release.published_at).ok()
}
