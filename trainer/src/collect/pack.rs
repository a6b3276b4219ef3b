//! From pairs to shards: the click-log pipeline, then webdataset tar files with the pictures in them.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use astromech_schemas::manifest::hex;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::config::CollectConfig;
use super::error::CollectError;
use super::join::Joined;
use super::manifest::{MANIFEST_FILE, REJECTS_FILE, Records, SNAPSHOT_SCHEMA, ShardFile, SnapshotManifest};
use super::plan::Plan;
use crate::files::{file_error, write_atomically};
use crate::zero::clicks::{ClickConfig, Stats, run};

/// Folder of the snapshot inside the work folder, until it is whole.
pub(super) const SNAPSHOT_FOLDER: &str = "snapshot";
/// Largest part of the records that is held out.
const HELD_OUT_PART: u64 = 5;

/// A record as the pipeline writes it.
#[derive(Deserialize)]
struct Record {
    id: String,
    image: String,
    query: String,
    title: String,
    content: String,
    url: String,
    image_hash: String,
    impressions: u64,
    clicks: u64,
    score: f64,
    group: Option<u64>,
}

impl Record {
    /// What is held out together: a picture, or its near-duplicates.
    fn concept(&self) -> String {
        match self.group {
            Some(group) => hex(&Sha256::digest(group.to_le_bytes())),
            None => self.image_hash.clone(),
        }
    }

    fn json(&self) -> serde_json::Value {
        // The query of a picture that nobody was shown is its own text.
        let query = if self.impressions == 0 { "" } else { &self.query };
        let mut json = json!({
            "id": self.id, "query": query, "title": self.title, "content": self.content, "url": self.url,
            "impressions": self.impressions, "clicks": self.clicks, "score": self.score,
        });
        if let Some(group) = self.group {
            json["group"] = group.into();
        }
        json
    }
}

/// Writes the snapshot into its folder inside `work`.
pub(super) fn pack(
    config: &CollectConfig,
    plan: &Plan,
    joined: Joined,
    work: &Path,
    digest: &str,
) -> Result<SnapshotManifest, CollectError> {
    let (filtered, out) = (work.join("filtered"), work.join(SNAPSHOT_FOLDER));
    for folder in [&filtered, &out] {
        if folder.exists() {
            std::fs::remove_dir_all(folder).map_err(file_error(folder))?;
        }
    }
    std::fs::create_dir(&out).map_err(file_error(&out))?;
    let stats = if joined.rows == 0 { None } else { Some(filter(config, &joined, &filtered)?) };
    let names: Vec<PathBuf> = stats.iter().flat_map(|stats| &stats.shards).map(|name| filtered.join(name)).collect();
    let held_out = held_out(&names, config.held_out as u64, stats.as_ref().map_or(0, |stats| stats.records))?;
    let limits = (config.filter.shard_records, config.shard_bytes);
    let mut train = Shards::new(&out, "train", limits);
    let mut held = Shards::new(&out, "held-out", limits);
    each(&names, &mut |record| {
        let shards = if held_out.contains(&record.concept()) { &mut held } else { &mut train };
        shards.write(&record, &joined.pictures)
    })?;
    let (train, held) = (train.finish()?, held.finish()?);
    let count = |shards: &[ShardFile]| shards.iter().map(|shard| shard.records).sum();
    let records = Records { train: count(&train), held_out: count(&held) };
    let rejects = work.join(REJECTS_FILE);
    std::fs::copy(&rejects, out.join(REJECTS_FILE)).map_err(file_error(&rejects))?;
    let manifest = SnapshotManifest {
        schema: SNAPSHOT_SCHEMA,
        config_sha256: digest.to_owned(),
        topics: plan.topics.clone(),
        counts: joined.counts,
        rejects: joined.rejects,
        filter: serde_json::to_value(stats.map(|stats| stats.steps)).unwrap_or_default(),
        records,
        shards: train.into_iter().chain(held).collect(),
    };
    let path = out.join(MANIFEST_FILE);
    let bytes = serde_json::to_vec_pretty(&manifest).map_err(std::io::Error::other).map_err(file_error(&path))?;
    write_atomically(&path, |at| std::fs::write(at, &bytes)).map_err(file_error(&path))?;
    Ok(manifest)
}

fn filter(config: &CollectConfig, joined: &Joined, out: &Path) -> Result<Stats, CollectError> {
    let own = ClickConfig::default();
    let settings = ClickConfig {
        impressions: vec![joined.log.display().to_string()],
        image_root: Some(joined.pictures.clone()),
        columns: own.columns,
        tsv_columns: None,
        unshown: true,
        ..config.filter.clone()
    };
    Ok(run(&settings, out)?)
}

/// Concepts that are held out: those with the smallest hashes.
fn held_out(names: &[PathBuf], wanted: u64, records: u64) -> Result<BTreeSet<String>, CollectError> {
    let wanted = wanted.min(records / HELD_OUT_PART);
    let mut held = BTreeSet::new();
    each(names, &mut |record| {
        held.insert(record.concept());
        if held.len() as u64 > wanted {
            held.pop_last();
        }
        Ok(())
    })?;
    Ok(held)
}

fn each(names: &[PathBuf], take: &mut dyn FnMut(Record) -> Result<(), CollectError>) -> Result<(), CollectError> {
    for path in names {
        let file = File::open(path).map_err(file_error(path))?;
        for line in BufReader::new(file).lines() {
            let line = line.map_err(file_error(path))?;
            take(serde_json::from_str(&line).map_err(std::io::Error::other).map_err(file_error(path))?)?;
        }
    }
    Ok(())
}

/// Counts and hashes what passes.
struct Hashing {
    file: BufWriter<File>,
    sha256: Sha256,
    bytes: u64,
}

impl Write for Hashing {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(buffer)?;
        self.sha256.update(&buffer[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// Tar files of a bounded number of records and bytes.
struct Shards<'a> {
    out: &'a Path,
    name: &'static str,
    records_max: u64,
    bytes_max: u64,
    open: Option<(String, u64, tar::Builder<Hashing>)>,
    done: Vec<ShardFile>,
}

impl<'a> Shards<'a> {
    fn new(out: &'a Path, name: &'static str, (records_max, bytes_max): (u64, u64)) -> Self {
        Self { out, name, records_max, bytes_max, open: None, done: Vec::new() }
    }

    fn write(&mut self, record: &Record, pictures: &Path) -> Result<(), CollectError> {
        let path = pictures.join(&record.image);
        let picture = std::fs::read(&path).map_err(file_error(&path))?;
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or("jpg").to_owned();
        let json = record.json().to_string();
        let full = self.open.as_ref().is_some_and(|(_, records, tar)| {
            *records >= self.records_max || tar.get_ref().bytes + picture.len() as u64 > self.bytes_max
        });
        if full {
            self.close()?;
        }
        let (name, records, tar) = match &mut self.open {
            Some(open) => open,
            None => self.open.insert(Self::create(self.out, self.name, self.done.len())?),
        };
        let at = self.out.join(&*name);
        *records += 1;
        append(tar, &format!("{}.{ending}", record.id), &picture).map_err(file_error(&at))?;
        Ok(append(tar, &format!("{}.json", record.id), json.as_bytes()).map_err(file_error(&at))?)
    }

    fn create(out: &Path, name: &str, number: usize) -> Result<(String, u64, tar::Builder<Hashing>), CollectError> {
        let name = format!("{name}-{number:06}.tar");
        let path = out.join(&name);
        let file = File::create(&path).map_err(file_error(&path))?;
        let hashing = Hashing { file: BufWriter::new(file), sha256: Sha256::new(), bytes: 0 };
        Ok((name, 0, tar::Builder::new(hashing)))
    }

    fn close(&mut self) -> Result<(), CollectError> {
        let Some((name, records, tar)) = self.open.take() else { return Ok(()) };
        let path = self.out.join(&name);
        let finish = || {
            let mut hashing = tar.into_inner()?;
            hashing.file.flush()?;
            hashing.file.get_ref().sync_all()?;
            Ok((hashing.bytes, hex(&hashing.sha256.finalize())))
        };
        let (bytes, sha256) = finish().map_err(file_error(&path))?;
        self.done.push(ShardFile { name, records, bytes, sha256 });
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<ShardFile>, CollectError> {
        self.close()?;
        Ok(self.done)
    }
}

fn append(tar: &mut tar::Builder<Hashing>, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    // No time: the same records make the same file.
    header.set_mtime(0);
    tar.append_data(&mut header, name, bytes)
}
