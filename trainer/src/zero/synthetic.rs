//! Made-up records in any number, to measure the stream itself: no file, no picture, the same parser as real shards.

use std::io::{Read, Write as _};

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
        let mut state = self.next.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let texts = LENGTHS.map(|length| {
            let draw = |_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                CHARACTERS[(state >> 60) as usize]
            };
            (0..length).map(draw).collect::<String>()
        });
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
