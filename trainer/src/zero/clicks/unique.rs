//! Pictures, each once, and their near-duplicates.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::near::{Bands, Comparison, Entry, Leaders, hash_keys};
use super::pair::{Pair, insert_best, keep_best};
use super::spill::{Grouping, MIB, TABLE_PART, items};
use super::text::{band_keys, grams, normalise, similar};
use super::{NearDuplicates, Pipeline, Spilled, picture_key};
use crate::files::file_error;
use crate::zero::fault::ZeroError;

/// A picture with the queries that it is kept for, the best first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Picture {
    /// SHA-256, or its name where no file was read.
    pub key: String,
    pub pairs: Vec<Pair>,
}

impl Picture {
    pub(super) fn score(&self) -> f32 {
        self.pairs.first().map_or(0.0, |pair| pair.score as f32)
    }

    /// Hashes of the 3-grams of its text; none where the text is too short to be compared.
    fn grams(&self, chars_min: usize) -> Option<Vec<u64>> {
        let pair = self.pairs.first()?;
        let text = normalise(&format!("{}{}", pair.title, pair.content));
        (text.len() >= chars_min.max(3)).then(|| grams(&text))
    }
}

/// Pictures in a file, numbered in its order.
pub(super) struct Unique {
    path: PathBuf,
    offsets: PathBuf,
    pub count: u64,
}

impl Unique {
    pub(super) fn pictures(&self) -> Result<impl Iterator<Item = Result<Picture, ZeroError>> + use<>, ZeroError> {
        items::<Picture>(&self.path)
    }

    /// Opens the file for pictures by number.
    fn reader(&self) -> Result<impl Fn(u32) -> Result<Picture, ZeroError> + use<>, ZeroError> {
        let file = File::open(&self.path).map_err(file_error(&self.path))?;
        let offsets = File::open(&self.offsets).map_err(file_error(&self.offsets))?;
        let path = self.path.clone();
        Ok(move |number: u32| {
            let mut ends = [0u8; 16];
            offsets.read_exact_at(&mut ends, u64::from(number) * 8).map_err(file_error(&path))?;
            let end_of = |at: usize| (0..8).fold(0u64, |value, i| value | u64::from(ends[at + i]) << (8 * i));
            let (from, to) = (end_of(0), end_of(8));
            let mut line = vec![0; (to - from) as usize];
            file.read_exact_at(&mut line, from).map_err(file_error(&path))?;
            Ok(serde_json::from_slice(&line).map_err(std::io::Error::other).map_err(file_error(&path))?)
        })
    }
}

impl Pipeline<'_> {
    /// Brings the pairs of each picture together and keeps the best of them.
    pub(super) fn unique_pictures(&mut self, ranked: Spilled) -> Result<Unique, ZeroError> {
        let config = self.config;
        let (path, offsets) = (self.spill.join("pictures.jsonl"), self.spill.join("pictures.offsets"));
        let mut file = BufWriter::new(File::create(&path).map_err(file_error(&path))?);
        let mut ends = BufWriter::new(File::create(&offsets).map_err(file_error(&offsets))?);
        ends.write_all(&0u64.to_le_bytes()).map_err(file_error(&offsets))?;
        let fold = |best: &mut Vec<Pair>, pair: Pair| insert_best(best, pair, config.queries_per_image);
        let grouping = Grouping { table_bytes: self.table_bytes, key: &picture_key, fold: &fold };
        let (mut count, mut kept, mut end) = (0u64, 0u64, 0u64);
        grouping.run(ranked.files, &mut |key, mut pairs| {
            keep_best(&mut pairs, config.queries_per_image);
            count += 1;
            kept += pairs.len() as u64;
            let mut line =
                serde_json::to_vec(&Picture { key, pairs }).map_err(std::io::Error::other).map_err(file_error(&path))?;
            line.push(b'\n');
            end += line.len() as u64;
            file.write_all(&line).map_err(file_error(&path))?;
            Ok(ends.write_all(&end.to_le_bytes()).map_err(file_error(&offsets))?)
        })?;
        file.flush().map_err(file_error(&path))?;
        ends.flush().map_err(file_error(&offsets))?;
        let given = self.stats.steps.last().map_or(0, |step| step.left);
        self.stats.step("same_picture", given, kept, &[("queries_per_image", given - kept)]);
        // Scores and leaders stay in memory, and may take half of it.
        let needed = count * 8;
        if needed > self.table_bytes * TABLE_PART / 2 || count > u64::from(u32::MAX) {
            let (needed_mib, max_mib) = (needed * 2 / MIB + 1, self.table_bytes * TABLE_PART / MIB);
            let fix = "raise score_min or impressions_min";
            return Err(ZeroError::Memory { step: "comparing near-duplicates", needed_mib, max_mib, fix });
        }
        Ok(Unique { path, offsets, count })
    }

    /// Finds near-duplicates by look and by text.
    pub(super) fn near_duplicates(&mut self, unique: &Unique) -> Result<Leaders, ZeroError> {
        let config = self.config;
        let mut looks = Bands::create(self.spill, "looks", 0)?;
        let mut texts = Bands::create(self.spill, "texts", 0)?;
        let mut scores = Vec::with_capacity(unique.count as usize);
        for (number, picture) in unique.pictures()?.enumerate() {
            let picture = picture?;
            let (number, score) = (number as u32, picture.score());
            scores.push(score);
            if let Some(payload) = picture.pairs.first().and_then(|pair| pair.dhash) {
                for key in hash_keys(payload, config.hamming_max) {
                    looks.write(Entry { key, payload, score, number })?;
                }
            }
            if config.text_similarity_min <= 1.0
                && let Some(grams) = picture.grams(config.text_chars_min)
            {
                for key in band_keys(&grams, config.minhash_bands, config.minhash_rows) {
                    texts.write(Entry { key, payload: 0, score, number })?;
                }
            }
        }
        let mut leaders = Leaders::new(scores);
        let mut near = |a: &Entry, b: &Entry| Ok((a.payload ^ b.payload).count_ones() <= config.hamming_max);
        let (table_bytes, compare_max) = (self.table_bytes / 2, config.compare_max);
        let mut cut = Comparison { table_bytes, compare_max, near: &mut near }.run(&looks.finish()?, &mut leaders)?;
        let by_look = leaders.followers();
        let read = unique.reader()?;
        let mut cache: HashMap<u32, Rc<Vec<u64>>> = HashMap::new();
        let mut grams_of = |number: u32| -> Result<Rc<Vec<u64>>, ZeroError> {
            if let Some(known) = cache.get(&number) {
                return Ok(Rc::clone(known));
            }
            if cache.len() > 2 * compare_max {
                cache.clear();
            }
            let grams = Rc::new(read(number)?.grams(config.text_chars_min).unwrap_or_default());
            cache.insert(number, Rc::clone(&grams));
            Ok(grams)
        };
        let mut near = |a: &Entry, b: &Entry| {
            let (a, b) = (grams_of(a.number)?, grams_of(b.number)?);
            Ok(similar(&a, &b, config.text_similarity_min))
        };
        cut += Comparison { table_bytes, compare_max, near: &mut near }.run(&texts.finish()?, &mut leaders)?;
        let by_text = leaders.followers() - by_look;
        self.stats.comparisons_cut = cut;
        if config.near_duplicates == NearDuplicates::Drop {
            let removed = [("near_by_look", by_look), ("near_by_text", by_text)];
            self.stats.step("near_pictures", unique.count, unique.count - by_look - by_text, &removed);
        } else {
            self.stats.step("near_pictures", unique.count, unique.count, &[]);
        }
        Ok(leaders)
    }
}
