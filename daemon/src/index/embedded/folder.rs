//! The index's folder: its lock, what it says it holds, and its shards.
//!
//! ```text
//! ROOT/lock         held by the process that has the index open, with its process id
//! ROOT/meta.json    fingerprint, embedding_dim, bundle
//! ROOT/articles/  ROOT/images/  ROOT/ads/  ROOT/videos/
//! ```

use std::fs::{self, File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use astromech_schemas::{Fingerprint, Similarity};
use serde::{Deserialize, Serialize};

use super::Tuning;
use super::shard::Shards;
use crate::index::{Finding, IndexError, Space, Verdict};

const LOCK_FILE: &str = "lock";
const META_FILE: &str = "meta.json";
/// How a generation is filled, where it is not from the topics; written before the rest.
pub(super) const BACKFILL_FILE: &str = "backfill.json";
/// Version of the folder's layout.
const LAYOUT: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Meta {
    layout: u32,
    fingerprint: Fingerprint,
    embedding_dim: u32,
    #[serde(default, skip_serializing_if = "Similarity::is_cosine")]
    similarity: Similarity,
    bundle: String,
}

/// Opens or creates the folder for `space`.
pub(super) fn open(root: &Path, space: &Space, tuning: Tuning) -> Result<Shards, IndexError> {
    fs::create_dir_all(root).map_err(|error| io(root, "creating it", &error))?;
    let lock = lock(root)?;
    let meta_path = root.join(META_FILE);
    match fs::read(&meta_path) {
        Ok(bytes) => check(root, &bytes, space)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            refuse_foreign(root)?;
            write_meta(root, space)?;
        }
        Err(error) => return Err(io(&meta_path, "reading it", &error)),
    }
    Shards::open(root, space, tuning, lock)
}

/// What [`open`] would find, create or refuse.
pub(super) fn survey(root: &Path, space: &Space) -> Result<Finding, IndexError> {
    let subject = format!("folder {}", root.display());
    let looked = match fs::read(root.join(META_FILE)) {
        Ok(bytes) => check(root, &bytes, space).map(|()| Verdict::Right),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !root.exists() => Ok(Verdict::Create),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => refuse_foreign(root).map(|()| Verdict::Create),
        Err(error) => Err(io(root, "reading it", &error)),
    };
    Finding::of(subject, looked, &format!("collections of bundle {} ({})", space.bundle, space.fingerprint.short()))
}

/// Takes the folder's lock, which the system gives back when this process ends, however it ends.
fn lock(root: &Path) -> Result<File, IndexError> {
    let path = root.join(LOCK_FILE);
    let fail = |error: &std::io::Error| io(&path, "locking it", error);
    let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(|e| fail(&e))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Only for the message: an unreadable file still says who can't have it.
            let _ = file.read_to_string(&mut holder);
            return Err(IndexError::Transient(format!(
                "{} is open in another process (process id {}): stop that one, or give this one a folder of its own",
                root.display(),
                holder.trim()
            )));
        }
        Err(TryLockError::Error(error)) => return Err(fail(&error)),
    }
    file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(|e| fail(&e))?;
    Ok(file)
}

/// A folder without `meta.json` must be empty but for the lock: it may be somebody's data.
fn refuse_foreign(root: &Path) -> Result<(), IndexError> {
    let entries = fs::read_dir(root).map_err(|error| io(root, "listing it", &error))?;
    let foreign = entries.filter_map(Result::ok).map(|entry| entry.file_name()).find(|name| {
        let name = name.to_string_lossy();
        name != LOCK_FILE && !name.starts_with(META_FILE) && !name.starts_with(BACKFILL_FILE)
    });
    match foreign {
        None => Ok(()),
        Some(name) => Err(IndexError::Mismatch(format!(
            "{} has `{}` but no {META_FILE}, so it is not an index: give an empty or a new folder",
            root.display(),
            name.to_string_lossy()
        ))),
    }
}

fn check(root: &Path, bytes: &[u8], space: &Space) -> Result<(), IndexError> {
    let refuse = |what: String| {
        let fix = "start with the bundle that it was made for, give another folder, or delete this one to index anew";
        Err(IndexError::Mismatch(format!("the index in {}: {what}: {fix}", root.display())))
    };
    let meta: Meta = match serde_json::from_slice(bytes) {
        Ok(meta) => meta,
        Err(error) => return refuse(format!("{META_FILE} is not readable ({error})")),
    };
    if meta.layout != LAYOUT {
        return refuse(format!("its layout is {}, this version reads {LAYOUT}", meta.layout));
    }
    if meta.fingerprint != space.fingerprint {
        return refuse(format!(
            "it holds vectors of bundle {} ({}), not of {}",
            meta.bundle, meta.fingerprint, space.fingerprint
        ));
    }
    if meta.embedding_dim != space.embedding_dim {
        return refuse(format!("its vectors have {} numbers, not {}", meta.embedding_dim, space.embedding_dim));
    }
    if meta.similarity != space.similarity {
        return refuse(format!("its similarity is {:?}, this bundle's is {:?}", meta.similarity, space.similarity));
    }
    Ok(())
}

/// Fingerprint and bundle of the index in a folder; `None` where there is none.
pub(super) fn holds(root: &Path) -> Option<(Fingerprint, String)> {
    let meta: Meta = serde_json::from_slice(&fs::read(root.join(META_FILE)).ok()?).ok()?;
    Some((meta.fingerprint, meta.bundle))
}

fn write_meta(root: &Path, space: &Space) -> Result<(), IndexError> {
    let meta = Meta {
        layout: LAYOUT,
        fingerprint: space.fingerprint.clone(),
        embedding_dim: space.embedding_dim,
        similarity: space.similarity,
        bundle: space.bundle.clone(),
    };
    write_whole(root, META_FILE, &meta)
}

/// Writes `value` as JSON to `folder/name`, whole or not at all.
pub(super) fn write_whole(folder: &Path, name: &str, value: &impl Serialize) -> Result<(), IndexError> {
    let path = folder.join(name);
    let temporary = folder.join(format!("{name}.new"));
    let bytes = serde_json::to_vec_pretty(value).map_err(|error| IndexError::Transient(error.to_string()))?;
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(|error| io(&path, "writing it", &error))
}

pub(super) fn io(path: &Path, doing: &str, error: &std::io::Error) -> IndexError {
    IndexError::Transient(format!("{}: {doing}: {error}", path.display()))
}
