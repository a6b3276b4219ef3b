//! Near-duplicates among any number of records: what shares a band's key is compared, and the better one leads.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};

use super::spill::{MIB, TABLE_PART, mix};
use crate::files::file_error;
use crate::zero::fault::ZeroError;

/// Files of one kind of bands.
const FILES: usize = 64;
/// Times a file is cut further when it does not fit in memory.
const DEPTH_MAX: u32 = 4;
const ENTRY_BYTES: usize = 24;

/// A band of a record.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Entry {
    /// Records with the same key are compared.
    pub key: u64,
    /// What is compared, where it fits.
    pub payload: u64,
    /// The record's score.
    pub score: f32,
    /// The record's number.
    pub number: u32,
}

impl Entry {
    fn to_bytes(self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..8].copy_from_slice(&self.key.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.payload.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.score.to_le_bytes());
        bytes[20..].copy_from_slice(&self.number.to_le_bytes());
        bytes
    }

    fn of_bytes(bytes: &[u8]) -> Self {
        let long = |at: usize| (0..8).fold(0u64, |value, i| value | u64::from(bytes[at + i]) << (8 * i));
        let tail = long(16);
        Self { key: long(0), payload: long(8), score: f32::from_bits(tail as u32), number: (tail >> 32) as u32 }
    }
}

/// Bands on disk, by key.
pub(super) struct Bands {
    files: Vec<(PathBuf, BufWriter<File>)>,
    salt: u64,
}

impl Bands {
    pub(super) fn create(folder: &Path, name: &str, salt: u64) -> Result<Self, ZeroError> {
        let open = |index| {
            let path = folder.join(format!("{name}-{index:02}.bands"));
            let file = File::create(&path).map_err(file_error(&path))?;
            Ok((path, BufWriter::new(file)))
        };
        Ok(Self { files: (0..FILES).map(open).collect::<Result<_, ZeroError>>()?, salt })
    }

    pub(super) fn write(&mut self, entry: Entry) -> Result<(), ZeroError> {
        let index = (mix(entry.key ^ self.salt) % FILES as u64) as usize;
        let (path, file) = &mut self.files[index];
        Ok(file.write_all(&entry.to_bytes()).map_err(file_error(&*path))?)
    }

    pub(super) fn finish(self) -> Result<Vec<PathBuf>, ZeroError> {
        let close = |(path, mut file): (PathBuf, BufWriter<File>)| {
            file.flush().map_err(file_error(&path))?;
            Ok(path)
        };
        self.files.into_iter().map(close).collect()
    }
}

/// What comparing needs.
pub(super) struct Comparison<'a> {
    /// Bytes that entries may take.
    pub table_bytes: u64,
    /// Leaders that an entry is compared with.
    pub compare_max: usize,
    /// True where two entries are near-duplicates; the first leads.
    pub near: &'a mut dyn FnMut(&Entry, &Entry) -> Result<bool, ZeroError>,
}

impl Comparison<'_> {
    /// Compares within each key and enters what is found. Removes the files. Answers how many entries met too many leaders to be compared
    /// with all.
    pub(super) fn run(&mut self, files: &[PathBuf], leaders: &mut Leaders) -> Result<u64, ZeroError> {
        files.iter().try_fold(0, |cut, file| Ok(cut + self.one(file, 0, leaders)?))
    }

    fn one(&mut self, file: &Path, depth: u32, leaders: &mut Leaders) -> Result<u64, ZeroError> {
        let bytes = std::fs::metadata(file).map_err(file_error(file))?.len();
        if bytes > self.table_bytes {
            if depth == DEPTH_MAX {
                let (needed_mib, max_mib) = (bytes * TABLE_PART / MIB + 1, self.table_bytes * TABLE_PART / MIB);
                let fix = "raise minhash_rows or lower hamming_max: too many records share one key";
                return Err(ZeroError::Memory { step: "comparing near-duplicates", needed_mib, max_mib, fix });
            }
            let folder = file.parent().unwrap_or_else(|| Path::new("."));
            let name = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or("part").to_owned();
            let mut parts = Bands::create(folder, &name, mix(u64::from(depth) + 1))?;
            read_entries(file, &mut |entry| parts.write(entry))?;
            std::fs::remove_file(file).map_err(file_error(file))?;
            return parts.finish()?.iter().try_fold(0, |cut, part| Ok(cut + self.one(part, depth + 1, leaders)?));
        }
        let mut entries = Vec::with_capacity(bytes as usize / ENTRY_BYTES);
        read_entries(file, &mut |entry| {
            entries.push(entry);
            Ok(())
        })?;
        std::fs::remove_file(file).map_err(file_error(file))?;
        entries.sort_by(|a, b| a.key.cmp(&b.key).then(b.score.total_cmp(&a.score)).then(a.number.cmp(&b.number)));
        entries.chunk_by(|a, b| a.key == b.key).try_fold(0, |cut, bucket| Ok(cut + self.bucket(bucket, leaders)?))
    }

    /// The best come first: each follows the first leader that it resembles, or leads itself.
    fn bucket(&mut self, bucket: &[Entry], found: &mut Leaders) -> Result<u64, ZeroError> {
        let (mut leaders, mut cut): (Vec<&Entry>, u64) = (Vec::new(), 0);
        for entry in bucket {
            let mut follows = false;
            for leader in &leaders {
                if (self.near)(leader, entry)? {
                    found.follow(entry.number, leader.number);
                    follows = true;
                    break;
                }
            }
            if !follows && leaders.len() < self.compare_max {
                leaders.push(entry);
            } else if !follows {
                cut += 1;
            }
        }
        Ok(cut)
    }
}

fn read_entries(file: &Path, each: &mut dyn FnMut(Entry) -> Result<(), ZeroError>) -> Result<(), ZeroError> {
    let length = std::fs::metadata(file).map_err(file_error(file))?.len();
    let mut reader = BufReader::new(File::open(file).map_err(file_error(file))?);
    let mut bytes = [0; ENTRY_BYTES];
    for _ in 0..length / ENTRY_BYTES as u64 {
        reader.read_exact(&mut bytes).map_err(file_error(file))?;
        each(Entry::of_bytes(&bytes))?;
    }
    Ok(())
}

/// For each record the best one that it is a near-duplicate of: 8 bytes a record.
pub(super) struct Leaders {
    leader: Vec<u32>,
    scores: Vec<f32>,
}

impl Leaders {
    /// Every record leads itself.
    pub(super) fn new(scores: Vec<f32>) -> Self {
        Self { leader: (0..scores.len() as u32).collect(), scores }
    }

    /// `number` resembles `better`. The best of all it resembles stays, in whatever order they are found.
    pub(super) fn follow(&mut self, number: u32, better: u32) {
        let own = self.leader[number as usize];
        if own == number || self.above(better, own) {
            self.leader[number as usize] = better;
        }
    }

    fn above(&self, a: u32, b: u32) -> bool {
        self.scores[b as usize].total_cmp(&self.scores[a as usize]).then(a.cmp(&b)).is_lt()
    }

    /// True for a record that follows another.
    pub(super) fn follows(&self, number: u32) -> bool {
        self.leader[number as usize] != number
    }

    /// The end of the chain of leaders. A leader is always better, so there is no ring.
    pub(super) fn root(&self, number: u32) -> u32 {
        let mut at = number;
        while self.follows(at) {
            at = self.leader[at as usize];
        }
        at
    }

    /// Records that follow.
    pub(super) fn followers(&self) -> u64 {
        (0..self.leader.len() as u32).filter(|&number| self.follows(number)).count() as u64
    }
}

/// Keys of a picture's hash: of two hashes that differ in at most `hamming_max` bits, one of `hamming_max` + 1 pieces is the same.
pub(super) fn hash_keys(hash: u64, hamming_max: u32) -> Vec<u64> {
    let pieces = hamming_max + 1;
    let piece = |index: u32| {
        let (from, to) = (64 * index / pieces, 64 * (index + 1) / pieces);
        let bits = hash >> from & (u64::MAX >> (64 - (to - from)));
        mix(bits ^ mix(u64::from(index) + 1))
    };
    (0..pieces).map(piece).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_within_the_distance_share_a_key() {
        let hash = 0x1234_5678_9ABC_DEF0u64;
        for flips in [[0u32, 17, 40], [63, 62, 61], [5, 33, 50]] {
            let other = flips.iter().fold(hash, |hash, &bit| hash ^ (1 << bit));
            let shared = hash_keys(hash, 3).iter().zip(hash_keys(other, 3)).filter(|(a, b)| **a == *b).count();
            assert!(shared >= 1);
        }
        assert_eq!(hash_keys(hash, 0).len(), 1);
    }

    #[test]
    fn the_better_one_leads_however_little_memory_there_is() {
        let folder = tempfile::tempdir().unwrap();
        let run = |table_bytes| {
            let mut bands = Bands::create(folder.path(), "t", 0).unwrap();
            let scores: Vec<f32> = (0..1000).map(|number| (number % 7) as f32).collect();
            for number in 0..1000u32 {
                let entry = Entry { key: u64::from(number / 10), payload: 0, score: scores[number as usize], number };
                bands.write(entry).unwrap();
            }
            let mut leaders = Leaders::new(scores);
            let mut near = |_: &Entry, _: &Entry| Ok(true);
            let mut comparison = Comparison { table_bytes, compare_max: 10, near: &mut near };
            comparison.run(&bands.finish().unwrap(), &mut leaders).unwrap();
            (0..1000).map(|number| leaders.root(number)).collect::<Vec<u32>>()
        };
        let roots = run(1 << 20);
        assert_eq!(&roots[..10], &[6; 10]);
        assert_eq!(run(24 * 10), roots);
    }
}
