//! A folder that is written beside its place and moved there when it is whole.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use astromech_schemas::manifest::{BundleFile, MANIFEST_FILE, hex};
use sha2::{Digest as _, Sha256};

use super::error::ReleaseError;
use crate::files::file_error;

/// A bundle in the making. Dropped before [`StagedFolder::publish`], it leaves nothing.
pub(super) struct StagedFolder {
    out: PathBuf,
    staging: PathBuf,
    files: Vec<BundleFile>,
    replace: bool,
}

impl StagedFolder {
    /// Makes the staging folder beside `out`.
    pub(super) fn create(out: &Path, replace: bool) -> Result<Self, ReleaseError> {
        if out.exists() && !replace {
            return Err(ReleaseError::Exists { path: out.to_owned() });
        }
        let staging = neighbour(out, "new")?;
        if let Some(parent) = out.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::create_dir_all(parent).map_err(file_error(parent))?;
        }
        fs::create_dir(&staging).map_err(file_error(&staging))?;
        Ok(Self { out: out.to_owned(), staging, files: Vec::new(), replace })
    }

    /// Writes one file of the bundle.
    pub(super) fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), ReleaseError> {
        self.write_synced(name, bytes)?;
        self.files.push(bundle_file(name, bytes));
        self.files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(())
    }

    /// Takes over one file of another bundle.
    pub(super) fn copy(&mut self, from: &Path, name: &str) -> Result<(), ReleaseError> {
        let bytes = fs::read(from).map_err(file_error(from))?;
        self.write(name, &bytes)
    }

    /// Writes the manifest, which does not list itself.
    pub(super) fn write_manifest(&mut self, json: &[u8]) -> Result<(), ReleaseError> {
        self.write_synced(MANIFEST_FILE, json)
    }

    fn write_synced(&self, name: &str, bytes: &[u8]) -> Result<(), ReleaseError> {
        let path = self.staging.join(name);
        let write = || {
            let mut file = File::create(&path)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        Ok(write().map_err(file_error(&path))?)
    }

    /// Takes back one file of the bundle.
    pub(super) fn remove(&mut self, name: &str) -> Result<(), ReleaseError> {
        let path = self.staging.join(name);
        fs::remove_file(&path).map_err(file_error(&path))?;
        self.files.retain(|file| file.name != name);
        Ok(())
    }

    /// Where the bundle lies until it is published.
    pub(super) fn path(&self) -> &Path {
        &self.staging
    }

    /// What was written, sorted by name.
    pub(super) fn files(&self) -> &[BundleFile] {
        &self.files
    }

    /// Moves the folder to its place. An old bundle is there until the instant it is moved aside, and comes back if the move fails.
    pub(super) fn publish(self) -> Result<(), ReleaseError> {
        let sync = |path: &Path| File::open(path).and_then(|folder| folder.sync_all()).map_err(file_error(path));
        sync(&self.staging)?;
        if self.replace && self.out.exists() {
            let old = neighbour(&self.out, "old")?;
            fs::rename(&self.out, &old).map_err(file_error(&self.out))?;
            if let Err(source) = fs::rename(&self.staging, &self.out) {
                fs::rename(&old, &self.out).map_err(file_error(&self.out))?;
                return Err(file_error(&self.out)(source).into());
            }
            fs::remove_dir_all(&old).map_err(file_error(&old))?;
        } else {
            fs::rename(&self.staging, &self.out).map_err(file_error(&self.out))?;
        }
        match self.out.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => Ok(sync(parent)?),
            None => Ok(()),
        }
    }
}

impl Drop for StagedFolder {
    fn drop(&mut self) {
        // Moved away when published; else there is nobody left to tell of a failure to clean up.
        let _ = fs::remove_dir_all(&self.staging);
    }
}

fn bundle_file(name: &str, bytes: &[u8]) -> BundleFile {
    BundleFile { name: name.to_owned(), bytes: bytes.len() as u64, sha256: sha256(bytes) }
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn neighbour(out: &Path, word: &str) -> Result<PathBuf, ReleaseError> {
    let name = out.file_name().and_then(|name| name.to_str()).ok_or_else(|| ReleaseError::Setting {
        field: "out",
        value: out.display().to_string(),
        problem: "it must end in the name of a folder".to_owned(),
    })?;
    Ok(out.with_file_name(format!(".{name}.{word}.{}", std::process::id())))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_appears_whole_or_not_at_all_and_an_old_one_is_replaced_only_when_asked() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("bundle");
        let mut staged = StagedFolder::create(&out, false).unwrap();
        staged.write("a", b"1").unwrap();
        drop(staged);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

        let mut staged = StagedFolder::create(&out, false).unwrap();
        staged.write("b", b"1").unwrap();
        staged.write("a", b"22").unwrap();
        assert_eq!(staged.files().iter().map(|file| (file.name.as_str(), file.bytes)).collect::<Vec<_>>(), [("a", 2), ("b", 1)]);
        assert!(!out.exists());
        staged.publish().unwrap();
        assert_eq!(fs::read(out.join("a")).unwrap(), b"22");

        assert!(matches!(StagedFolder::create(&out, false), Err(ReleaseError::Exists { .. })));
        let mut staged = StagedFolder::create(&out, true).unwrap();
        staged.write("c", b"3").unwrap();
        staged.publish().unwrap();
        assert!(!out.join("a").exists());
        assert_eq!(fs::read(out.join("c")).unwrap(), b"3");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
