//! A bundle's folder on this machine: its files against its manifest.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use astromech_schemas::Manifest;
use astromech_schemas::manifest::{BundleFile, MANIFEST_FILE, hex};
use sha2::{Digest as _, Sha256};

use crate::RegistryError;
use crate::store::DOCUMENT_BYTES_MAX;

const READ_BYTES: usize = 1 << 20;

/// A folder whose files are those of its manifest.
#[derive(Debug)]
pub(crate) struct CheckedFolder {
    pub(crate) dir: PathBuf,
    pub(crate) manifest: Manifest,
    pub(crate) manifest_bytes: Vec<u8>,
}

impl CheckedFolder {
    /// Reads every byte of the folder: about a second a gigabyte.
    pub(crate) fn open(dir: &Path) -> Result<Self, RegistryError> {
        let path = dir.join(MANIFEST_FILE);
        let mut manifest_bytes = Vec::new();
        let file = File::open(&path).map_err(|error| read_error(&path, error))?;
        file.take(DOCUMENT_BYTES_MAX + 1).read_to_end(&mut manifest_bytes).map_err(RegistryError::io(&path))?;
        let manifest = read_manifest(&path.display().to_string(), &manifest_bytes)?;
        for file in &manifest.files {
            check_file(&dir.join(&file.name), file)?;
        }
        Ok(Self { dir: dir.to_owned(), manifest, manifest_bytes })
    }

    pub(crate) fn manifest_sha256(&self) -> String {
        sha256(&self.manifest_bytes)
    }
}

/// The manifest in `bytes`, which lie in `path`.
pub(crate) fn read_manifest(path: &str, bytes: &[u8]) -> Result<Manifest, RegistryError> {
    Manifest::from_json(bytes).map_err(|error| RegistryError::Document { path: path.to_owned(), error })
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn read_error(path: &Path, error: std::io::Error) -> RegistryError {
    match error.kind() {
        ErrorKind::NotFound => RegistryError::Missing { path: path.display().to_string() },
        _ => RegistryError::io(path)(error),
    }
}

fn check_file(path: &Path, listed: &BundleFile) -> Result<(), RegistryError> {
    let mut file = File::open(path).map_err(|error| read_error(path, error))?;
    let found = file.metadata().map_err(RegistryError::io(path))?.len();
    let name = || path.display().to_string();
    if found != listed.bytes {
        return Err(RegistryError::Size { path: name(), expected: listed.bytes, found });
    }
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; READ_BYTES]);
    loop {
        let count = file.read(&mut buffer).map_err(RegistryError::io(path))?;
        if count == 0 {
            break;
        }
        hash.update(&buffer[..count]);
    }
    check_sum(name, listed, &hex(&hash.finalize()))
}

pub(crate) fn check_sum(path: impl FnOnce() -> String, listed: &BundleFile, found: &str) -> Result<(), RegistryError> {
    if found == listed.sha256 {
        return Ok(());
    }
    Err(RegistryError::Checksum { path: path(), expected: listed.sha256.clone(), found: found.to_owned() })
}

/// Runs work that blocks away from the threads that answer.
pub(crate) async fn blocking<T: Send + 'static>(
    what: &Path,
    work: impl FnOnce() -> Result<T, RegistryError> + Send + 'static,
) -> Result<T, RegistryError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(RegistryError::io(what)(std::io::Error::other(error))),
    }
}
