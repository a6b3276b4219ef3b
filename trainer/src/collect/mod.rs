//! Topics to training data: `trainer collect` reads the item topics and the click-log topic between two positions that are fixed at its
//! start, and writes a snapshot folder: Zero's records with their pictures as webdataset shards, and a manifest.
//!
//! Three parts, each of which goes through files and so takes bounded memory: `read` spools every partition, `join` keeps the newest
//! version of each item and brings its clicks to it, `pack` filters by click-through rate, drops duplicates (`zero::clicks`) and writes
//! the shards. Killed at any instant, the same call goes on and makes the same snapshot.

mod broker;
mod config;
mod decode;
mod error;
mod join;
mod manifest;
mod pack;
mod pictures;
mod plan;
mod read;
mod spool;
pub mod time;
mod window;

use std::path::{Path, PathBuf};

pub use config::{Bound, BrokerConfig, ClickTopic, CollectConfig, ItemTopic, VersionSource};
pub use error::CollectError;
pub use manifest::{
    Counts, MANIFEST_FILE, REJECTS_FILE, Records, SHARDS_HELD_OUT, SHARDS_TRAIN, SNAPSHOT_SCHEMA, ShardFile, SnapshotManifest,
};
pub use plan::new_records;
pub use window::{PartitionWindow, Role, TopicWindow};

use crate::files::file_error;
use crate::stop::StopFlag;
use plan::Plan;

/// The folder that a snapshot is made in: beside it, so that it can be moved to its place in one step.
fn work_folder(out: &Path) -> Result<PathBuf, CollectError> {
    let name = out.file_name().and_then(|name| name.to_str()).ok_or_else(|| CollectError::Setting {
        field: "out",
        value: out.display().to_string(),
        limit: "the name of a new folder",
    })?;
    Ok(out.with_file_name(format!(".{name}.collecting")))
}

/// Writes the snapshot `out`, or goes on with what a call that ended early left beside it. A snapshot that is there already is
/// answered as it is where it was made by the same configuration.
///
/// # Errors
/// A configuration or a topic that can't be used, a broker that doesn't answer, too many rejects, files that can't be written, or a
/// stop that was asked for.
pub fn collect(config: &CollectConfig, out: &Path, stop: &StopFlag) -> Result<SnapshotManifest, CollectError> {
    config.validate()?;
    let digest = config.digest();
    let work = work_folder(out)?;
    if out.join(MANIFEST_FILE).is_file() {
        let manifest = SnapshotManifest::read(&out.join(MANIFEST_FILE))?;
        if manifest.config_sha256 != digest {
            return Err(CollectError::OtherWork { path: out.to_owned() });
        }
        if work.exists() {
            std::fs::remove_dir_all(&work).map_err(file_error(&work))?;
        }
        return Ok(manifest);
    }
    std::fs::create_dir_all(&work).map_err(file_error(&work))?;
    let lock_path = work.join(".lock");
    let lock = std::fs::File::create(&lock_path).map_err(file_error(&lock_path))?;
    if lock.try_lock().is_err() {
        return Err(CollectError::Busy { path: work });
    }
    let plan = Plan::open(config, &digest, &work, stop)?;
    read::read(config, &plan, &work, stop)?;
    if stop.is_set() {
        return Err(CollectError::Stopped);
    }
    let joined = join::join(config, &plan, &work)?;
    tracing::info!(items = joined.counts.items, rejects = ?joined.rejects, "joined");
    if stop.is_set() {
        return Err(CollectError::Stopped);
    }
    let manifest = pack::pack(config, &plan, joined, &work, &digest)?;
    let whole = work.join(pack::SNAPSHOT_FOLDER);
    std::fs::rename(&whole, out).map_err(file_error(out))?;
    std::fs::remove_dir_all(&work).map_err(file_error(&work))?;
    Ok(manifest)
}
