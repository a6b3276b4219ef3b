//! Files that take what memory does not: items shared out by the hash of their key, then brought together key by key.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::files::file_error;
use crate::zero::fault::ZeroError;

/// Parts that a file is cut into when its keys do not fit in memory.
const SPLIT: usize = 16;
/// Times a file is cut before the pipeline gives up: 16^6 parts are beyond any log.
const DEPTH_MAX: u64 = 6;
/// Most files of one step, so that they can all be open.
const PARTS_MAX: u64 = 128;
const BUFFER_BYTES: usize = 64 * 1024;
/// Bytes of a MiB.
pub(crate) const MIB: u64 = 1024 * 1024;
/// Tables are counted by their contents, and may take one part in so many of the memory that is free: the allocator, the growing of
/// tables and their sorting take about as much again.
pub(crate) const TABLE_PART: u64 = 4;

/// A 64-bit hash that never changes between builds: FNV-1a with the finaliser of SplitMix64.
pub(crate) fn hash64(seed: u64, bytes: &[u8]) -> u64 {
    let start = 0xCBF2_9CE4_8422_2325 ^ mix(seed);
    mix(bytes.iter().fold(start, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)))
}

/// The finaliser of SplitMix64.
pub(crate) fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// Number of files for so many bytes, so that each fits into the tables.
pub(crate) fn parts_for(bytes: u64, table_bytes: u64) -> usize {
    // What is in memory takes about twice what it takes as JSON.
    (bytes * 2 / table_bytes.max(1) + 1).min(PARTS_MAX) as usize
}

/// Open files of one step, JSON Lines.
pub(crate) struct Parts {
    files: Vec<(PathBuf, BufWriter<File>)>,
    seed: u64,
    /// Bytes written.
    pub bytes: u64,
    line: Vec<u8>,
}

impl Parts {
    pub(crate) fn create(folder: &Path, name: &str, count: usize, seed: u64) -> Result<Self, ZeroError> {
        let open = |index| {
            let path = folder.join(format!("{name}-{index:03}.jsonl"));
            let file = File::create(&path).map_err(file_error(&path))?;
            Ok((path, BufWriter::with_capacity(BUFFER_BYTES, file)))
        };
        let files = (0..count.max(1)).map(open).collect::<Result<_, ZeroError>>()?;
        Ok(Self { files, seed, bytes: 0, line: Vec::new() })
    }

    pub(crate) fn write<T: Serialize>(&mut self, key: &str, item: &T) -> Result<(), ZeroError> {
        let index = (hash64(self.seed, key.as_bytes()) % self.files.len() as u64) as usize;
        let (path, file) = &mut self.files[index];
        self.line.clear();
        serde_json::to_writer(&mut self.line, item).map_err(std::io::Error::other).map_err(file_error(&*path))?;
        self.line.push(b'\n');
        self.bytes += self.line.len() as u64;
        Ok(file.write_all(&self.line).map_err(file_error(&*path))?)
    }

    pub(crate) fn finish(self) -> Result<Vec<PathBuf>, ZeroError> {
        let close = |(path, mut file): (PathBuf, BufWriter<File>)| {
            file.flush().map_err(file_error(&path))?;
            Ok(path)
        };
        self.files.into_iter().map(close).collect()
    }
}

/// The items of a file written by [`Parts`].
pub(crate) fn items<T: DeserializeOwned>(path: &Path) -> Result<impl Iterator<Item = Result<T, ZeroError>> + use<T>, ZeroError> {
    let file = File::open(path).map_err(file_error(path))?;
    let path = path.to_path_buf();
    let lines = BufReader::with_capacity(BUFFER_BYTES, file).lines();
    Ok(lines.map(move |line| {
        let line = line.map_err(file_error(&path))?;
        Ok(serde_json::from_str(&line).map_err(std::io::Error::other).map_err(file_error(&path))?)
    }))
}

/// How items of one key come together.
pub(crate) struct Grouping<'a, T, A> {
    /// Bytes the table may take.
    pub table_bytes: u64,
    /// The key of an item.
    pub key: &'a dyn Fn(&T) -> String,
    /// Takes an item into its group; answers how many bytes the group grew or shrank.
    pub fold: &'a dyn Fn(&mut A, T) -> i64,
}

impl<T: Serialize + DeserializeOwned, A: Default> Grouping<'_, T, A> {
    /// Brings the items of each file together and gives every group to `each`, in the order of keys within a file. Removes the files.
    pub(crate) fn run(
        &self,
        files: Vec<PathBuf>,
        each: &mut dyn FnMut(String, A) -> Result<(), ZeroError>,
    ) -> Result<(), ZeroError> {
        files.into_iter().try_for_each(|file| self.one(&file, 1, each))
    }

    fn one(&self, file: &Path, depth: u64, each: &mut dyn FnMut(String, A) -> Result<(), ZeroError>) -> Result<(), ZeroError> {
        /// What an entry of the table takes beside its key and its group.
        const ENTRY_BYTES: i64 = 96;
        let mut groups: HashMap<String, A> = HashMap::new();
        let mut bytes = 0i64;
        for item in items::<T>(file)? {
            let item = item?;
            let key = (self.key)(&item);
            if !groups.contains_key(&key) {
                bytes += key.len() as i64 + ENTRY_BYTES;
            }
            bytes += (self.fold)(groups.entry(key).or_default(), item);
            if bytes > self.table_bytes as i64 {
                drop(groups);
                return self.split(file, depth, each);
            }
        }
        std::fs::remove_file(file).map_err(file_error(file))?;
        let mut sorted: Vec<(String, A)> = groups.into_iter().collect();
        sorted.sort_by(|a, b| a.0.cmp(&b.0));
        sorted.into_iter().try_for_each(|(key, group)| each(key, group))
    }

    fn split(&self, file: &Path, depth: u64, each: &mut dyn FnMut(String, A) -> Result<(), ZeroError>) -> Result<(), ZeroError> {
        if depth > DEPTH_MAX {
            let max_mib = self.table_bytes * TABLE_PART / MIB;
            let fix = "keep fewer images_per_query and queries_per_image";
            return Err(ZeroError::Memory { step: "the largest group", needed_mib: 2 * max_mib, max_mib, fix });
        }
        let folder = file.parent().unwrap_or_else(|| Path::new("."));
        let name = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or("part").to_owned();
        let mut parts = Parts::create(folder, &name, SPLIT, depth.wrapping_mul(0x9E37))?;
        for item in items::<T>(file)? {
            let item = item?;
            parts.write(&(self.key)(&item), &item)?;
        }
        std::fs::remove_file(file).map_err(file_error(file))?;
        parts.finish()?.iter().try_for_each(|part| self.one(part, depth + 1, each))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_whole_however_little_memory_there_is() {
        let folder = tempfile::tempdir().unwrap();
        let sums = |table_bytes| {
            let mut parts = Parts::create(folder.path(), "sum", 2, 1).unwrap();
            for number in 0..3000u64 {
                parts.write(&(number % 700).to_string(), &(number % 700, 1u64)).unwrap();
            }
            let mut sums = Vec::new();
            let key = |item: &(u64, u64)| item.0.to_string();
            let fold = |sum: &mut u64, item: (u64, u64)| {
                *sum += item.1;
                0
            };
            let grouping = Grouping { table_bytes, key: &key, fold: &fold };
            grouping
                .run(parts.finish().unwrap(), &mut |key, sum| {
                    sums.push((key, sum));
                    Ok(())
                })
                .unwrap();
            sums.sort();
            sums
        };
        let all = sums(u64::MAX / 4);
        assert_eq!(all.len(), 700);
        assert_eq!(all.iter().map(|(_, sum)| sum).sum::<u64>(), 3000);
        assert_eq!(sums(10_000), all);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
