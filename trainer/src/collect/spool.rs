//! One file a partition, a line a record. A line names its offset, so the last whole line says where to go on: nothing else is kept.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use astromech_schemas::Kind;
use astromech_schemas::record::TieBreaker;
use serde::{Deserialize, Serialize};

use super::error::CollectError;
use super::pictures::PictureRef;
use super::plan::Source;
use crate::files::file_error;

const BUFFER_BYTES: usize = 256 * 1024;

/// One record as it was read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Line {
    /// Number of the partition in the plan.
    pub source: u32,
    pub offset: i64,
    #[serde(flatten)]
    pub body: Body,
}

/// Texts of an item.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Texts {
    pub title: String,
    pub content: String,
    pub link: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub(super) enum Body {
    // A spool of an earlier trainer has no `tie`.
    Upsert { kind: Kind, id: String, version: u64, tie: Option<TieBreaker>, texts: Texts, picture: Option<PictureRef> },
    Delete { kind: Kind, id: String, version: u64, tie: Option<TieBreaker> },
    Click { kind: Kind, id: String, query: String, impressions: u64, clicks: u64 },
    Reject { reason: String, detail: String },
}

impl Line {
    /// What brings changes and clicks of one item together; none of a refused record.
    pub(super) fn key(&self) -> Option<String> {
        match &self.body {
            Body::Upsert { kind, id, .. } | Body::Delete { kind, id, .. } | Body::Click { kind, id, .. } => {
                Some(format!("{kind}\0{id}"))
            }
            Body::Reject { .. } => None,
        }
    }
}

/// File of a partition.
pub(super) fn spool_path(work: &Path, number: u32) -> PathBuf {
    work.join("spool").join(format!("{number:06}.jsonl"))
}

/// The open file of a partition.
pub(super) struct Spool {
    path: PathBuf,
    file: BufWriter<File>,
    line: Vec<u8>,
    /// Offset of the next record that is wanted.
    pub next: i64,
}

impl Spool {
    /// Opens the file at its end; a line that was not written to its end is cut off.
    pub(super) fn open(work: &Path, source: &Source<'_>) -> Result<Self, CollectError> {
        let path = spool_path(work, source.number);
        let file = OpenOptions::new().create(true).read(true).append(true).open(&path).map_err(file_error(&path))?;
        let (whole, last) = whole_lines(&file).map_err(file_error(&path))?;
        file.set_len(whole).map_err(file_error(&path))?;
        let next = last.map_or(source.window.from, |offset| offset + 1);
        Ok(Self { path, file: BufWriter::with_capacity(BUFFER_BYTES, file), line: Vec::new(), next })
    }

    pub(super) fn write(&mut self, line: &Line) -> Result<(), CollectError> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, line).map_err(std::io::Error::other).map_err(file_error(&self.path))?;
        self.line.push(b'\n');
        self.next = line.offset + 1;
        Ok(self.file.write_all(&self.line).map_err(file_error(&self.path))?)
    }

    pub(super) fn flush(&mut self) -> Result<(), CollectError> {
        Ok(self.file.flush().map_err(file_error(&self.path))?)
    }
}

/// Bytes of the lines that are whole, and the offset of the last of them.
fn whole_lines(file: &File) -> std::io::Result<(u64, Option<i64>)> {
    #[derive(Deserialize)]
    struct Head {
        offset: i64,
    }
    let mut reader = BufReader::with_capacity(BUFFER_BYTES, file);
    let (mut whole, mut last, mut line) = (0u64, None, Vec::new());
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line)?;
        if read == 0 || !line.ends_with(b"\n") {
            return Ok((whole, last));
        }
        let Ok(head) = serde_json::from_slice::<Head>(&line) else { return Ok((whole, last)) };
        (whole, last) = (whole + read as u64, Some(head.offset));
    }
}

#[cfg(test)]
mod tests {
    use super::super::window::{PartitionWindow, Role};
    use super::*;

    #[test]
    fn a_spool_goes_on_behind_its_last_whole_line() {
        let work = tempfile::tempdir().unwrap();
        std::fs::create_dir(work.path().join("spool")).unwrap();
        let window = PartitionWindow { partition: 0, from: 5, to: 100 };
        let source = Source { number: 3, topic: "t", role: Role::Items, window };
        let line =
            |offset| Line { source: 3, offset, body: Body::Delete { kind: Kind::Ad, id: "a".into(), version: 1, tie: None } };
        let mut spool = Spool::open(work.path(), &source).unwrap();
        assert_eq!(spool.next, 5);
        for offset in [5, 9] {
            spool.write(&line(offset)).unwrap();
        }
        spool.flush().unwrap();
        drop(spool);
        let path = spool_path(work.path(), 3);
        let whole = std::fs::read(&path).unwrap();
        for broken in [&b"{\"source\":3,\"off"[..], b"\0\0\0\n", b"{}\n"] {
            std::fs::write(&path, [&whole, broken].concat()).unwrap();
            let mut spool = Spool::open(work.path(), &source).unwrap();
            assert_eq!(spool.next, 10);
            spool.write(&line(11)).unwrap();
            spool.flush().unwrap();
            assert!(std::fs::read(&path).unwrap().starts_with(&whole));
            assert_eq!(Spool::open(work.path(), &source).unwrap().next, 12);
        }
    }
}
