//! Publishing: files, then the release, then the pointer.

use std::path::Path as FilePath;

use astromech_schemas::Release;
use astromech_schemas::manifest::{BundleFile, MANIFEST_FILE, hex};
use astromech_schemas::release::RELEASE_SCHEMA;
use bytes::Bytes;
use chrono::{SecondsFormat, Utc};
use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use sha2::{Digest as _, Sha256};
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;

use crate::folder::{CheckedFolder, blocking, check_sum, read_error};
use crate::store::{CHUNK_BYTES, json};
use crate::{Registry, RegistryError, Signer};

impl Registry {
    /// Publishes the bundle in the folder `bundle` and makes it current. Every file is held to the manifest first. Publishing the same
    /// bundle again mends what is missing or damaged in the registry and changes nothing else; given a signer, it signs anew.
    ///
    /// # Errors
    /// The bundle is damaged or over a limit, the store is down or refuses, the same vectors are published with another manifest, or
    /// another publisher moved the pointer meanwhile. The pointer stays where it was in each case.
    pub async fn publish(&self, bundle: &FilePath, signer: Option<&Signer>) -> Result<Release, RegistryError> {
        let dir = bundle.to_owned();
        let folder = blocking(bundle, move || CheckedFolder::open(&dir)).await?;
        let fingerprint = &folder.manifest.fingerprint;
        let bytes = folder.manifest.files.iter().map(|file| file.bytes).sum();
        self.check_limits(fingerprint, bytes, folder.manifest.files.len() as u64)?;
        // Before anything is written: what moved since then was not ours.
        let seen = self.store.seen().await?;
        let mut release = self.new_or_published(&folder, bytes).await?;
        for file in &folder.manifest.files {
            self.upload(&folder.dir.join(&file.name), file, &self.store.file(fingerprint, &file.name)).await?;
        }
        self.store.put(&self.store.file(fingerprint, MANIFEST_FILE), folder.manifest_bytes.clone()).await?;
        if let Some(signer) = signer {
            release.signature = Some(signer.sign(&release)?);
        }
        let path = self.store.release(fingerprint);
        self.store.put(&path, json(&release, &path)?).await?;
        if seen.fingerprint.as_ref() != Some(fingerprint) {
            self.store.move_pointer(&seen, fingerprint).await?;
        }
        tracing::info!(%fingerprint, bytes, registry = self.url(), signed = release.signature.is_some(), "published");
        Ok(release)
    }

    /// The release as it is published already, or a new one.
    async fn new_or_published(&self, folder: &CheckedFolder, bytes: u64) -> Result<Release, RegistryError> {
        let manifest = &folder.manifest;
        let manifest_sha256 = folder.manifest_sha256();
        match self.release(&manifest.fingerprint).await {
            Ok(Some(release)) if release.manifest_sha256 == manifest_sha256 => return Ok(release),
            Ok(Some(release)) => {
                let fingerprint = manifest.fingerprint.clone();
                return Err(RegistryError::Published { fingerprint, published: release.manifest_sha256, found: manifest_sha256 });
            }
            // Garbage under this name is mended by publishing, as every error of a reader says.
            Ok(None) | Err(RegistryError::Document { .. } | RegistryError::Disagree { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(Release {
            schema: RELEASE_SCHEMA,
            fingerprint: manifest.fingerprint.clone(),
            name: manifest.name.clone(),
            parent: manifest.parent.clone(),
            published_at: Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
            manifest_sha256,
            bytes,
            files: manifest.files.clone(),
            signature: None,
        })
    }

    /// Uploads one file, in one piece or in parts; it appears whole or not at all. Its sum is taken of what is sent: the file may have
    /// changed since it was checked.
    async fn upload(&self, from: &FilePath, listed: &BundleFile, to: &Path) -> Result<(), RegistryError> {
        let wrong = |error| RegistryError::store("put", to, error);
        let name = || from.display().to_string();
        let mut file = File::open(from).await.map_err(|error| read_error(from, error))?;
        let (mut hash, mut left) = (Sha256::new(), listed.bytes);
        let mut parts = if listed.bytes > CHUNK_BYTES as u64 {
            Some(self.store.objects.put_multipart(to).await.map_err(wrong)?)
        } else {
            None
        };
        loop {
            let mut chunk = vec![0; left.min(CHUNK_BYTES as u64) as usize];
            file.read_exact(&mut chunk).await.map_err(RegistryError::io(from))?;
            left -= chunk.len() as u64;
            let chunk = Bytes::from(chunk);
            let part = chunk.clone();
            hash = blocking(from, move || {
                hash.update(&part);
                Ok(hash)
            })
            .await?;
            if left == 0 {
                // Before the last byte is sent: a file that changed never becomes an object.
                if let Err(error) = check_sum(name, listed, &hex(&hash.finalize())) {
                    if let Some(mut parts) = parts {
                        parts.abort().await.map_err(wrong)?;
                    }
                    return Err(error);
                }
                return match parts {
                    Some(mut parts) => {
                        parts.put_part(chunk.into()).await.map_err(wrong)?;
                        parts.complete().await.map(|_| ()).map_err(wrong)
                    }
                    None => self.store.objects.put(to, chunk.into()).await.map(|_| ()).map_err(wrong),
                };
            }
            if let Some(parts) = &mut parts {
                parts.put_part(chunk.into()).await.map_err(wrong)?;
            }
        }
    }
}
