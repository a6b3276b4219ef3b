//! One released model: a folder with a manifest, three graphs, a vocabulary and golden vectors.

use std::path::{Path, PathBuf};

use astromech_schemas::Manifest;

use crate::TowersError;

/// A bundle whose files were checked against its manifest.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The bundle's folder.
    pub dir: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
}

impl Bundle {
    /// Opens the bundle in `dir`: reads the manifest, checks the size and sha-256 of every file it lists.
    ///
    /// # Errors
    /// A file is missing or differs (the error names file, expected and found), or the manifest is wrong.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, TowersError> {
        todo!("{:?}", dir.as_ref())
    }
}
