//! Fetching: nothing appears under a bundle's name before every byte of it was checked.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path as FilePath, PathBuf};

use astromech_schemas::manifest::{BundleFile, MANIFEST_FILE, hex};
use astromech_schemas::{Fingerprint, Manifest, Release};
use object_store::{GetOptions, ObjectStore as _};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::folder::{CheckedFolder, blocking, check_sum, read_manifest, sha256};
use crate::store::{CHUNK_BYTES, try_lock};
use crate::{Registry, RegistryError, Trust};

/// Start of the names of folders that are being filled.
const PARTIAL: &str = ".partial-";
/// Start of the names of folders that were replaced.
const OLD: &str = ".old-";

/// Where a bundle comes to lie, and the names that are used beside it on the way.
struct Spot {
    into: PathBuf,
    target: PathBuf,
    lock: PathBuf,
    partial: String,
    old: String,
}

impl Registry {
    /// Brings the release's bundle to `into/<fingerprint>` and returns that folder. What is there already and whole is returned as it
    /// is; what is there and damaged is replaced. One process at a time fetches into a folder.
    ///
    /// # Errors
    /// The signature is refused, the release is over a limit, a file is missing or differs, the store is down, or the folder can't be
    /// written. Nothing new lies in `into` then.
    pub async fn fetch(&self, release: &Release, into: &FilePath, trust: &Trust) -> Result<PathBuf, RegistryError> {
        let target = into.join(release.fingerprint.as_str());
        let spot = Spot {
            into: into.to_owned(),
            target: target.clone(),
            lock: into.join(".fetch.lock"),
            partial: PARTIAL.to_owned(),
            old: OLD.to_owned(),
        };
        self.fetch_at(release, spot, trust).await.map(|_| target)
    }

    /// As [`Registry::fetch`], to the folder `target` itself; returns whether it was fetched, `false` where it is there already. Another
    /// bundle there is replaced at once. A link is followed. `target` is no mount point.
    ///
    /// # Errors
    /// As [`Registry::fetch`]; or `target` holds something that is no bundle. What was there is there then.
    pub async fn fetch_to(&self, release: &Release, target: &FilePath, trust: &Trust) -> Result<bool, RegistryError> {
        let target = fs::canonicalize(target).unwrap_or_else(|_| target.to_owned());
        check_is_ours(&target)?;
        let name = target.file_name().ok_or_else(|| RegistryError::NoBundle { path: target.clone() })?.to_string_lossy();
        let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(FilePath::new("."));
        let spot = Spot {
            into: parent.to_owned(),
            lock: parent.join(format!(".{name}.lock")),
            partial: format!(".{name}{PARTIAL}"),
            old: format!(".{name}{OLD}"),
            target: target.clone(),
        };
        self.fetch_at(release, spot, trust).await
    }

    /// Returns whether it was fetched.
    async fn fetch_at(&self, release: &Release, spot: Spot, trust: &Trust) -> Result<bool, RegistryError> {
        trust.check(release)?;
        let garbage = |error| RegistryError::Document { path: self.store.release(&release.fingerprint).to_string(), error };
        release.check().map_err(garbage)?;
        self.check_limits(&release.fingerprint, release.bytes, release.files.len() as u64)?;
        let (into, expected) = (spot.into.clone(), release.clone());
        // Held to the end.
        let (_lock, spot, whole) = blocking(&into, move || {
            fs::create_dir_all(&spot.into).map_err(RegistryError::io(&spot.into))?;
            let lock = try_lock(&spot.lock)?;
            spot.sweep()?;
            let whole = is_whole(&spot.target, &expected);
            Ok((lock, spot, whole))
        })
        .await?;
        if whole {
            return Ok(false);
        }
        let partial = tempfile::Builder::new().prefix(&spot.partial).tempdir_in(&into).map_err(RegistryError::io(&into))?;
        self.download_manifest(release, partial.path()).await?;
        for file in &release.files {
            self.download(&release.fingerprint, file, &partial.path().join(&file.name)).await?;
        }
        blocking(&into, move || spot.place(partial)).await?;
        tracing::info!(fingerprint = %release.fingerprint, bytes = release.bytes, registry = self.url(), "fetched");
        Ok(true)
    }

    async fn download_manifest(&self, release: &Release, partial: &FilePath) -> Result<(), RegistryError> {
        let path = self.store.file(&release.fingerprint, MANIFEST_FILE);
        let name = path.to_string();
        let Some((bytes, _)) = self.store.document(&path).await? else { return Err(RegistryError::Missing { path: name }) };
        let found = sha256(&bytes);
        if found != release.manifest_sha256 {
            return Err(RegistryError::Checksum { path: name, expected: release.manifest_sha256.clone(), found });
        }
        let manifest = read_manifest(&name, &bytes)?;
        let disagree = |field, expected: String, found: String| {
            Err(RegistryError::Disagree { fingerprint: release.fingerprint.clone(), field, expected, found })
        };
        if manifest.fingerprint != release.fingerprint {
            return disagree("fingerprint", release.fingerprint.to_string(), manifest.fingerprint.to_string());
        }
        if manifest.files != release.files {
            return disagree("files", format!("{} entries", release.files.len()), format!("{} other ones", manifest.files.len()));
        }
        let target = partial.join(MANIFEST_FILE);
        let mut file = create(&target)?;
        file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(RegistryError::io(&target))
    }

    /// One file, in ranges: each request is short, and memory holds one of them.
    async fn download(&self, fingerprint: &Fingerprint, listed: &BundleFile, to: &FilePath) -> Result<(), RegistryError> {
        let path = self.store.file(fingerprint, &listed.name);
        let (mut file, mut hash, mut at) = (create(to)?, Sha256::new(), 0_u64);
        loop {
            let end = listed.bytes.min(at + CHUNK_BYTES as u64);
            let wrong = |error| match error {
                object_store::Error::NotFound { .. } => RegistryError::Missing { path: path.to_string() },
                error => RegistryError::store("get", &path, error),
            };
            // An empty range is none that a server knows.
            let options = if end > at { GetOptions::new().with_range(Some(at..end)) } else { GetOptions::new().with_head(true) };
            let result = self.store.objects.get_opts(&path, options).await.map_err(|error| match error {
                // The object ends before the range begins.
                error if at > 0 && !matches!(error, object_store::Error::NotFound { .. }) => {
                    RegistryError::store("get", &path, error)
                }
                error => wrong(error),
            })?;
            let found = result.meta.size;
            if found != listed.bytes {
                return Err(RegistryError::Size { path: path.to_string(), expected: listed.bytes, found });
            }
            if end > at {
                let bytes = result.bytes().await.map_err(wrong)?;
                at += bytes.len() as u64;
                let target = to.to_owned();
                (file, hash) = blocking(to, move || {
                    hash.update(&bytes);
                    file.write_all(&bytes).map_err(RegistryError::io(&target))?;
                    Ok((file, hash))
                })
                .await?;
            }
            if at >= listed.bytes {
                break;
            }
        }
        check_sum(|| path.to_string(), listed, &hex(&hash.finalize()))?;
        let target = to.to_owned();
        blocking(to, move || file.sync_all().map_err(RegistryError::io(&target))).await
    }
}

fn create(path: &FilePath) -> Result<fs::File, RegistryError> {
    fs::File::create_new(path).map_err(RegistryError::io(path))
}

/// Whether the folder is the release's bundle, byte by byte.
fn is_whole(dir: &FilePath, release: &Release) -> bool {
    if !dir.exists() {
        return false;
    }
    match CheckedFolder::open(dir) {
        Ok(folder) => folder.manifest_sha256() == release.manifest_sha256,
        Err(error) => {
            tracing::warn!(%error, dir = %dir.display(), "the fetched bundle is damaged: it is fetched again");
            false
        }
    }
}

impl Spot {
    /// Removes what processes left that died while they fetched; the lock says that none is at it.
    fn sweep(&self) -> Result<(), RegistryError> {
        for entry in fs::read_dir(&self.into).map_err(RegistryError::io(&self.into))? {
            let entry = entry.map_err(RegistryError::io(&self.into))?;
            let name = entry.file_name();
            let left = name.to_str().is_some_and(|name| name.starts_with(&self.partial) || name.starts_with(&self.old));
            if left {
                fs::remove_dir_all(entry.path()).map_err(RegistryError::io(&entry.path()))?;
            }
        }
        Ok(())
    }

    /// Gives the checked folder its name.
    fn place(&self, partial: TempDir) -> Result<(), RegistryError> {
        let (into, target) = (&self.into, &self.target);
        let sync = |path: &FilePath| fs::File::open(path).and_then(|folder| folder.sync_all()).map_err(RegistryError::io(path));
        readable(partial.path())?;
        sync(partial.path())?;
        if target.exists() {
            // At once where the file system can; the folder that is dropped is then the old one.
            if renameat_with(CWD, partial.path(), CWD, target, RenameFlags::EXCHANGE).is_ok() {
                return sync(into);
            }
            let old = tempfile::Builder::new().prefix(&self.old).tempdir_in(into).map_err(RegistryError::io(into))?;
            fs::rename(target, old.path().join("bundle")).map_err(RegistryError::io(target))?;
        }
        let path = partial.keep();
        fs::rename(&path, target).map_err(RegistryError::io(target))?;
        sync(into)
    }
}

/// The whole bundle in `dir`, every byte of it read; none where nothing is there.
///
/// # Errors
/// A damaged bundle, something that is no bundle ([`RegistryError::NoBundle`]), or what can't be read.
pub fn bundle_at(dir: &FilePath) -> Result<Option<Manifest>, RegistryError> {
    if check_is_ours(dir)? { CheckedFolder::open(dir).map(|folder| Some(folder.manifest)) } else { Ok(None) }
}

/// Whether `dir` is a bundle's folder; `false` where nothing is in it.
///
/// # Errors
/// Something else is there.
fn check_is_ours(dir: &FilePath) -> Result<bool, RegistryError> {
    let other = || RegistryError::NoBundle { path: dir.to_owned() };
    match fs::read_dir(dir) {
        Ok(_) if dir.join(MANIFEST_FILE).is_file() => Ok(true),
        Ok(mut entries) => {
            if entries.next().is_none() {
                Ok(false)
            } else {
                Err(other())
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) if error.kind() == ErrorKind::NotADirectory => Err(other()),
        Err(error) => Err(RegistryError::io(dir)(error)),
    }
}

/// A temporary folder is its owner's alone; a bundle is as readable as other folders are.
fn readable(dir: &FilePath) -> Result<(), RegistryError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).map_err(RegistryError::io(dir))?;
    }
    Ok(())
}
