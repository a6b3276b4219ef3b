//! Made-up records in any number, to measure the stream itself: no file, no picture, the same parser as real shards.

use std::io::{Read, Write as _};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::record::SYNTHETIC_IMAGE;

/// Characters that texts are made of.
const CHARACTERS: [char; 16] = ['红', '绿', '蓝', '黄', '猫', '狗', '山', '水', '花', '鸟', '车', '船', '天', '海', '人', '家'];
/// Characters of a query, a title and a content.
const LENGTHS: [usize; 3] = [4, 12, 40];

/// The JSON Lines of one synthetic shard, made while they are read.
pub struct SyntheticLines {
    next: u64,
    end: u64,
    line: Vec<u8>,
    given: usize,
}

impl SyntheticLines {
    /// Shard `index` of shards of `records` records.
    pub fn new(index: u64, records: u64) -> Self {
        // Numbers of shards lie far apart, so that a shorter last one repeats none.
        let first = index << 32;
        Self { next: first, end: first + records, line: Vec::new(), given: 0 }
    }

    fn make_line(&mut self) {
        let mut rng = StdRng::seed_from_u64(self.next);
        let texts =
            LENGTHS.map(|length| (0..length).map(|_| CHARACTERS[rng.random_range(0..CHARACTERS.len())]).collect::<String>());
        let [query, title, content] = texts;
        self.line.clear();
        self.given = 0;
        // Writing to memory does not fail.
        let _ = writeln!(
            self.line,
            r#"{{"id":"s{}","image":"{SYNTHETIC_IMAGE}","query":"{query}","title":"{title}","content":"{content}","url":"https://example.invalid/{}"}}"#,
            self.next, self.next
        );
        self.next += 1;
    }
}

impl Read for SyntheticLines {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.given == self.line.len() {
            if self.next == self.end {
                return Ok(0);
            }
            self.make_line();
        }
        let length = buffer.len().min(self.line.len() - self.given);
        buffer[..length].copy_from_slice(&self.line[self.given..self.given + length]);
        self.given += length;
        Ok(length)
    }
}
