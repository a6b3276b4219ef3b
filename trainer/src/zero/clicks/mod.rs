//! From a click log to records: pairs of query and picture summed, filtered by click-through rate, ranked, freed of duplicates, sampled.
//! Each step reads files and writes files, so that memory is bounded whatever the log's size.

mod config;
mod near;
mod output;
mod pair;
mod picture;
mod sample;
pub(crate) mod spill;
mod stats;
mod text;
mod unique;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use self::pair::{Pair, insert_best, keep_best, score};
use self::picture::{Seen, identify};
use self::spill::{Grouping, MIB, Parts, TABLE_PART, parts_for};
use super::columns::Lookup;
use super::fault::{Ledger, ZeroError};
use super::shards::list_shards;
use crate::files::file_error;

pub use config::{ClickConfig, NearDuplicates, ScoreMethod};
pub use stats::{Stats, Step, Stratum, process_mib};

/// File of the statistics; it is written last, so that its presence says that the records are whole.
pub const STATS_FILE: &str = "STATS.json";
/// Folder inside the output that takes what memory does not; it is removed at the end.
const SPILL_FOLDER: &str = ".spill";
/// Least memory above what the program takes before it begins, MiB: a hundred open files have buffers too.
const MEMORY_MIN_MIB: u64 = 48;
/// Pictures identified at a time, on all threads.
const IDENTIFY_CHUNK: usize = 256;

/// Makes records of a click log: shards `zero-000000.jsonl` and [`STATS_FILE`] in `out`.
///
/// # Errors
/// A setting outside its range, an output folder that is not empty, no log, too many faulty rows, or files that cannot be written.
pub fn run(config: &ClickConfig, out: &Path) -> Result<Stats, ZeroError> {
    config.validate()?;
    std::fs::create_dir_all(out).map_err(file_error(out))?;
    if std::fs::read_dir(out).map_err(file_error(out))?.next().is_some() {
        let value = out.display().to_string();
        return Err(ZeroError::Setting { field: "out", value, limit: "a new or empty folder" });
    }
    let before_mib = process_mib("VmRSS");
    let free_mib = config.memory_max_mib.saturating_sub(before_mib);
    if free_mib < MEMORY_MIN_MIB {
        let (needed_mib, max_mib) = (before_mib + MEMORY_MIN_MIB, config.memory_max_mib);
        let fix = "nothing else helps: the program and its libraries are in it";
        return Err(ZeroError::Memory { step: "the pipeline", needed_mib, max_mib, fix });
    }
    let table_bytes = free_mib * MIB / TABLE_PART;
    let spill = out.join(SPILL_FOLDER);
    std::fs::create_dir(&spill).map_err(file_error(&spill))?;
    let mut pipeline = Pipeline { config, table_bytes, spill: &spill, stats: Stats::new(config) };
    let result = pipeline.steps(out);
    let removed = std::fs::remove_dir_all(&spill).map_err(file_error(&spill));
    result?;
    removed?;
    let mut stats = pipeline.stats;
    stats.peak_rss_mib = process_mib("VmHWM");
    let path = out.join(STATS_FILE);
    let bytes = serde_json::to_vec_pretty(&stats).map_err(std::io::Error::other).map_err(file_error(&path))?;
    std::fs::write(&path, bytes).map_err(file_error(&path))?;
    Ok(stats)
}

struct Pipeline<'a> {
    config: &'a ClickConfig,
    /// Bytes that tables in memory may take.
    table_bytes: u64,
    spill: &'a Path,
    stats: Stats,
}

/// Files of a step and their bytes.
struct Spilled {
    files: Vec<PathBuf>,
    bytes: u64,
}

impl Pipeline<'_> {
    fn steps(&mut self, out: &Path) -> Result<(), ZeroError> {
        let rows = self.read()?;
        let pairs = self.aggregate(rows)?;
        let ranked = self.rank(pairs)?;
        let unique = self.unique_pictures(ranked)?;
        let leaders = self.near_duplicates(&unique)?;
        self.write(&unique, &leaders, out)
    }

    fn parts(&self, name: &str, bytes: u64, seed: u64) -> Result<Parts, ZeroError> {
        Parts::create(self.spill, name, parts_for(bytes, self.table_bytes), seed)
    }

    /// Reads the log into files by pair.
    fn read(&mut self) -> Result<Spilled, ZeroError> {
        let shards = list_shards(&self.config.impressions)?;
        let bytes = shards.iter().map(|shard| std::fs::metadata(&shard.path).map_or(0, |file| file.len())).sum();
        let lookup = Arc::new(Lookup::new(self.config.columns.clone()));
        let mut ledger = Ledger::new(self.config.limits());
        let mut parts = self.parts("rows", bytes, 1)?;
        let mut kept = 0u64;
        for shard in &shards {
            let rows = match shard.open(&lookup, self.config.tsv_columns.as_deref()) {
                Ok(rows) => rows,
                Err(fault) => {
                    ledger.bad(&fault)?;
                    continue;
                }
            };
            for row in rows {
                match row.and_then(|row| Pair::from_row(row, &lookup)) {
                    Ok(pair) => {
                        ledger.good();
                        parts.write(&format!("{}\0{}", pair.query, pair.image_key()), &pair)?;
                        kept += 1;
                    }
                    Err(fault) => ledger.bad(&fault)?,
                }
            }
        }
        if kept == 0 {
            let (counts, first) = (ledger.summary(), ledger.first().unwrap_or("they are empty").to_owned());
            return Err(ZeroError::Empty { shards: shards.len(), counts, first });
        }
        let removed: Vec<_> = ledger.counts().iter().map(|(kind, &count)| (kind.as_str(), count)).collect();
        self.stats.step("read", kept + ledger.total(), kept, &removed);
        self.stats.faults = ledger.counts().clone();
        Ok(Spilled { bytes: parts.bytes, files: parts.finish()? })
    }

    /// Sums the rows of each pair, rates it, and marks what passes; pairs that do not still count for their query's frequency.
    fn aggregate(&mut self, rows: Spilled) -> Result<Spilled, ZeroError> {
        let config = self.config;
        let mut parts = self.parts("pairs", rows.bytes, 2)?;
        let (mut pairs, mut seldom, mut low) = (0u64, 0u64, 0u64);
        let key = |pair: &Pair| format!("{}\0{}", pair.query, pair.image_key());
        let fold = |sum: &mut Option<Pair>, pair: Pair| match sum {
            None => {
                let bytes = pair.bytes();
                *sum = Some(pair);
                bytes
            }
            Some(sum) => {
                let before = sum.bytes();
                sum.add(pair);
                sum.bytes() - before
            }
        };
        let grouping = Grouping { table_bytes: self.table_bytes, key: &key, fold: &fold };
        grouping.run(rows.files, &mut |_, sum| {
            let Some(mut pair) = sum else { return Ok(()) };
            pairs += 1;
            pair.score = score(config, pair.clicks, pair.impressions);
            if pair.impressions == 0 && config.unshown {
                pair.score = 0.0;
                return parts.write(&pair.query, &pair);
            }
            if pair.impressions < config.impressions_min {
                seldom += 1;
            } else if pair.score < config.score_min {
                low += 1;
            } else {
                return parts.write(&pair.query, &pair);
            }
            let light = Pair { query: pair.query, impressions: pair.impressions, score: LEFT_OUT, ..Pair::default() };
            parts.write(&light.query, &light)
        })?;
        let read = self.stats.steps.last().map_or(0, |step| step.left);
        self.stats.step("sum_pairs", read, pairs, &[("rows_of_one_pair", read - pairs)]);
        let kept = pairs - seldom - low;
        self.stats.step("filter", pairs, kept, &[("impressions_min", seldom), ("score_min", low)]);
        Ok(Spilled { bytes: parts.bytes, files: parts.finish()? })
    }

    /// Keeps the best pictures of each query, and identifies them.
    fn rank(&mut self, pairs: Spilled) -> Result<Spilled, ZeroError> {
        let config = self.config;
        let mut parts = self.parts("ranked", pairs.bytes, 3)?;
        let mut pictures = [0u64; 4];
        let mut kept = 0u64;
        let key = |pair: &Pair| pair.query.clone();
        let fold = |(impressions, best): &mut (u64, Vec<Pair>), pair: Pair| {
            *impressions = impressions.saturating_add(pair.impressions);
            if pair.score < 0.0 { 0 } else { insert_best(best, pair, config.images_per_query) }
        };
        let mut chunk: Vec<Pair> = Vec::with_capacity(IDENTIFY_CHUNK);
        let mut flush = |chunk: &mut Vec<Pair>| {
            let seen: Vec<Seen> = chunk.par_iter_mut().map(|pair| identify(pair, config.image_root.as_deref())).collect();
            for &seen in &seen {
                pictures[seen as usize] += 1;
            }
            chunk.drain(..).try_for_each(|pair| parts.write(&picture_key(&pair), &pair))
        };
        let grouping = Grouping { table_bytes: self.table_bytes, key: &key, fold: &fold };
        grouping.run(pairs.files, &mut |_, (impressions, mut best)| {
            keep_best(&mut best, config.images_per_query);
            for mut pair in best {
                pair.query_impressions = impressions;
                kept += 1;
                chunk.push(pair);
                if chunk.len() >= IDENTIFY_CHUNK {
                    flush(&mut chunk)?;
                }
            }
            Ok(())
        })?;
        flush(&mut chunk)?;
        let given = self.stats.steps.last().map_or(0, |step| step.left);
        self.stats.step("rank", given, kept, &[("images_per_query", given - kept)]);
        self.stats.pictures = ["decoded", "undecodable", "elsewhere", "missing"].into_iter().zip(pictures).collect();
        Ok(Spilled { bytes: parts.bytes, files: parts.finish()? })
    }
}

/// Score of a pair that did not pass.
const LEFT_OUT: f64 = -1.0;

/// What tells pictures apart once files were read.
fn picture_key(pair: &Pair) -> String {
    if pair.hash.is_empty() { format!("name:{}", pair.image) } else { pair.hash.clone() }
}
