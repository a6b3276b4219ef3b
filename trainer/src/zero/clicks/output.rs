//! Draws the sample and writes the shards.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::Pipeline;
use super::config::NearDuplicates;
use super::near::Leaders;
use super::pair::Pair;
use super::sample::{Chosen, Counts, lot, stratum};
use super::spill::hash64;
use super::stats::Stratum;
use super::unique::{Picture, Unique};
use crate::files::file_error;
use crate::zero::fault::ZeroError;

/// Hexadecimal digits of a picture's SHA-256 in its id: 80 bits.
const ID_DIGITS: usize = 20;

/// A pair that stays, under its id.
struct Kept<'a> {
    id: String,
    pair: &'a Pair,
    stratum: usize,
    lot: u64,
}

impl Pipeline<'_> {
    /// Draws the sample in two passes over the pictures, and writes it in a third.
    pub(super) fn write(&mut self, unique: &Unique, leaders: &Leaders, out: &Path) -> Result<(), ZeroError> {
        let mut counts = Counts::new();
        self.each_kept(unique, leaders, &mut |kept, _| {
            counts.add(kept.stratum, kept.lot);
            Ok(())
        })?;
        let totals = counts.totals();
        let all: u64 = totals.iter().sum();
        let records = if self.config.records == 0 { all } else { self.config.records.min(all) };
        let mut border = counts.border(records);
        self.each_kept(unique, leaders, &mut |kept, _| {
            border.add(kept.stratum, kept.lot);
            Ok(())
        })?;
        let strata = totals.iter().zip(border.wanted()).enumerate().filter(|(_, (of, _))| **of > 0);
        let strata: Vec<Stratum> =
            strata.map(|(stratum, (&of, &drawn))| Stratum { query_impressions: (1u64 << stratum) >> 1, of, drawn }).collect();
        let mut shards = Shards { out, per_shard: self.config.shard_records, open: None, written: 0, names: Vec::new() };
        let groups = self.groups(leaders, unique)?;
        self.write_chosen(unique, leaders, &border.chosen(), &groups, &mut shards)?;
        shards.close()?;
        self.stats.strata = strata;
        self.stats.step("sample", all, shards.written, &[("not_drawn", all - shards.written)]);
        self.stats.records = shards.written;
        self.stats.shards = shards.names;
        Ok(())
    }

    /// Gives every pair of every picture that stays to `each`, with the picture's number.
    fn each_kept(
        &self,
        unique: &Unique,
        leaders: &Leaders,
        each: &mut dyn FnMut(&Kept<'_>, u32) -> Result<(), ZeroError>,
    ) -> Result<(), ZeroError> {
        for (number, picture) in unique.pictures()?.enumerate() {
            let (number, picture) = (number as u32, picture?);
            if self.config.near_duplicates == NearDuplicates::Drop && leaders.follows(number) {
                continue;
            }
            for (index, pair) in picture.pairs.iter().enumerate() {
                let id = id_of(&picture, index);
                let lot = lot(self.config.seed, &id);
                each(&Kept { id, pair, stratum: stratum(pair.query_impressions), lot }, number)?;
            }
        }
        Ok(())
    }

    /// Pictures whose records share a group: those that lead others, where near-duplicates stay, and those with several queries.
    fn groups(&self, leaders: &Leaders, unique: &Unique) -> Result<HashSet<u32>, ZeroError> {
        let mut groups = HashSet::new();
        if self.config.near_duplicates == NearDuplicates::Group {
            let numbers = 0..unique.count as u32;
            groups.extend(numbers.filter(|&number| leaders.follows(number)).map(|number| leaders.root(number)));
        }
        if self.config.queries_per_image > 1 {
            for (number, picture) in unique.pictures()?.enumerate() {
                if picture?.pairs.len() > 1 {
                    groups.insert(self.group_of(leaders, number as u32));
                }
            }
        }
        Ok(groups)
    }

    fn group_of(&self, leaders: &Leaders, number: u32) -> u32 {
        if self.config.near_duplicates == NearDuplicates::Group { leaders.root(number) } else { number }
    }

    fn write_chosen(
        &self,
        unique: &Unique,
        leaders: &Leaders,
        chosen: &Chosen,
        groups: &HashSet<u32>,
        shards: &mut Shards<'_>,
    ) -> Result<(), ZeroError> {
        self.each_kept(unique, leaders, &mut |kept, number| {
            if !chosen.takes(kept.stratum, kept.lot) {
                return Ok(());
            }
            let pair = kept.pair;
            let mut record = json!({
                "id": kept.id, "image": pair.image, "query": pair.query, "title": pair.title, "content": pair.content, "url": pair.url,
                "image_hash": pair.hash, "impressions": pair.impressions, "clicks": pair.clicks, "score": pair.score,
            });
            let group = self.group_of(leaders, number);
            if groups.contains(&group) {
                record["group"] = json!(group);
            }
            shards.write(&record.to_string())
        })
    }
}

/// The beginning of the picture's SHA-256, or a hash of its name; a further query of it has its number behind.
fn id_of(picture: &Picture, index: usize) -> String {
    let base = match picture.key.get(..ID_DIGITS) {
        Some(digits) if !picture.key.starts_with("name:") => digits.to_owned(),
        _ => format!("n{:016x}", hash64(0, picture.key.as_bytes())),
    };
    if index == 0 { base } else { format!("{base}-{index}") }
}

/// JSON Lines files of a fixed number of records.
struct Shards<'a> {
    out: &'a Path,
    per_shard: u64,
    open: Option<(PathBuf, BufWriter<File>)>,
    written: u64,
    names: Vec<String>,
}

impl Shards<'_> {
    fn write(&mut self, line: &str) -> Result<(), ZeroError> {
        if self.written.is_multiple_of(self.per_shard) {
            self.close()?;
            let name = format!("zero-{:06}.jsonl", self.written / self.per_shard);
            let path = self.out.join(&name);
            let file = File::create(&path).map_err(file_error(&path))?;
            self.open = Some((path, BufWriter::new(file)));
            self.names.push(name);
        }
        self.written += 1;
        match &mut self.open {
            Some((path, file)) => Ok(writeln!(file, "{line}").map_err(file_error(&*path))?),
            None => Ok(()),
        }
    }

    fn close(&mut self) -> Result<(), ZeroError> {
        match self.open.take() {
            Some((path, mut file)) => Ok(file.flush().map_err(file_error(&path))?),
            None => Ok(()),
        }
    }
}
