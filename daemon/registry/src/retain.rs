//! Retention: old releases go, the current one never.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use astromech_schemas::{Fingerprint, Release};
use chrono::{DateTime, Utc};
use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{ObjectStore as _, ObjectStoreExt as _};

use crate::{Registry, RegistryError};

/// Files without a release are removed when the newest of them is this old: until then a publisher may be at work on them.
pub const ORPHAN_AGE: Duration = Duration::from_hours(24);

impl Registry {
    /// Keeps the `keep` newest releases and the current one, removes the others, and what dead publishers left more than
    /// [`ORPHAN_AGE`] ago. Returns the removed releases. A release goes before its files, so that none is listed that can't be fetched.
    ///
    /// # Errors
    /// The store is down or refuses; what was removed until then stays removed, and the next call goes on.
    pub async fn retain(&self, keep: usize) -> Result<Vec<Release>, RegistryError> {
        let releases = self.list().await?;
        let mut removed = Vec::new();
        for release in releases.iter().skip(keep) {
            // Looked at each time: somebody may point back to an old one at this moment.
            if self.store.seen().await?.fingerprint.as_ref() == Some(&release.fingerprint) {
                continue;
            }
            self.delete(&self.store.release(&release.fingerprint)).await?;
            self.delete_files(&release.fingerprint).await?;
            tracing::info!(fingerprint = %release.fingerprint, registry = self.url(), "an old release was removed");
            removed.push(release.clone());
        }
        self.remove_orphans().await?;
        Ok(removed)
    }

    async fn delete(&self, path: &Path) -> Result<(), RegistryError> {
        match self.store.objects.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(RegistryError::store("delete", path, error)),
        }
    }

    async fn delete_files(&self, fingerprint: &Fingerprint) -> Result<(), RegistryError> {
        let folder = self.store.bundle(fingerprint);
        let listed = self.store.objects.list(Some(&folder)).try_collect::<Vec<_>>().await;
        for object in listed.map_err(|error| RegistryError::store("list", &folder, error))? {
            self.delete(&object.location).await?;
        }
        Ok(())
    }

    async fn remove_orphans(&self) -> Result<(), RegistryError> {
        let folder = self.store.bundles();
        let listed = self.store.objects.list(Some(&folder)).try_collect::<Vec<_>>().await;
        let mut newest = BTreeMap::<Fingerprint, DateTime<Utc>>::new();
        for object in listed.map_err(|error| RegistryError::store("list", &folder, error))? {
            let owner =
                object.location.prefix_match(&folder).and_then(|mut rest| rest.next().map(|part| part.as_ref().to_owned()));
            if let Some(fingerprint) = owner.and_then(|name| Fingerprint::try_from(name).ok()) {
                let time = newest.entry(fingerprint).or_insert(object.last_modified);
                *time = (*time).max(object.last_modified);
            }
        }
        // The releases as they are now, garbage among them: whose document can't be read may still be mended.
        let folder = self.store.releases();
        let listed = self.store.objects.list(Some(&folder)).try_collect::<Vec<_>>().await;
        let listed = listed.map_err(|error| RegistryError::store("list", &folder, error))?;
        let known: BTreeSet<_> = listed.iter().filter_map(|object| object.location.filename()?.strip_suffix(".json")).collect();
        let now = Utc::now();
        for (fingerprint, time) in newest {
            let old = (now - time).to_std().is_ok_and(|age| age > ORPHAN_AGE);
            if old && !known.contains(fingerprint.as_str()) {
                self.delete_files(&fingerprint).await?;
                tracing::info!(%fingerprint, registry = self.url(), "the files of a publisher that did not end were removed");
            }
        }
        Ok(())
    }
}
