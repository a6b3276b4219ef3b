//! Webdataset shards: tar files whose members of one name, up to its first dot, make a record (img2dataset: KEY.jpg, KEY.txt, KEY.json).

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use tar::Archive;

use super::columns::{Field, Lookup, Row, Value};
use super::fault::{FaultKind, Place, ShardFault};
use super::lines::json_fields;

/// Records read at a time: the archive's reader is made anew for each part, so that memory does not grow with the shard.
const PART_RECORDS: usize = 256;
/// Bytes of a tar block.
const BLOCK: u64 = 512;
/// Longest text member, bytes.
const TEXT_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Endings of pictures that the decoder knows.
const PICTURES: [&str; 6] = ["jpg", "jpeg", "png", "webp", "gif", "bmp"];

/// Rows of a tar shard. Pictures stay in it: a row says where, so that skipping and shuffling move no picture.
pub struct TarRows {
    shard: Arc<Path>,
    lookup: Arc<Lookup>,
    /// First byte that is not yet read.
    at: u64,
    length: u64,
    ready: VecDeque<Result<Row, ShardFault>>,
    done: bool,
}

impl TarRows {
    /// Opens a shard.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(shard: &Arc<Path>, lookup: &Arc<Lookup>) -> std::io::Result<Self> {
        let length = std::fs::metadata(shard)?.len();
        let (shard, lookup) = (Arc::clone(shard), Arc::clone(lookup));
        Ok(Self { shard, lookup, at: 0, length, ready: VecDeque::new(), done: false })
    }

    /// Reads the next part into `ready`; on an error the rows before it are kept.
    fn read_part(&mut self) -> std::io::Result<()> {
        let mut file = File::open(&self.shard)?;
        file.seek(SeekFrom::Start(self.at))?;
        let mut archive = Archive::new(Shifted { file: BufReader::new(file), base: self.at });
        let base = self.at;
        let mut current: Option<(String, Row)> = None;
        for entry in archive.entries_with_seek()? {
            let mut entry = match entry {
                Ok(entry) => entry,
                Err(_) if self.at + BLOCK > self.length => return Err(cut("it ends inside a member's header")),
                Err(error) => return Err(error),
            };
            let (offset, length) = (base + entry.raw_file_position(), entry.size());
            let after = offset + length.div_ceil(BLOCK) * BLOCK;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let file = entry.header().entry_type().is_file().then(|| key_and_ending(&name)).flatten();
            if let Some((key, _)) = file
                && current.as_ref().is_some_and(|(open, _)| open != key)
            {
                self.ready.extend(current.take().map(|(_, row)| Ok(row)));
                if self.ready.len() >= PART_RECORDS {
                    return Ok(());
                }
            }
            if offset + length > self.length {
                return Err(cut(&format!("it ends inside member {name}")));
            }
            if let Some((key, ending)) = file {
                let (_, row) = current.get_or_insert_with(|| {
                    let place = Place::Member(key.to_owned());
                    (key.to_owned(), Row::new(&self.shard, place))
                });
                if let Err(fault) = member(row, ending, offset, length, &mut entry, &self.lookup)? {
                    self.ready.push_back(Err(fault));
                }
            }
            self.at = after;
        }
        self.done = true;
        self.ready.extend(current.map(|(_, row)| Ok(row)));
        if self.at + BLOCK > self.length {
            return Err(cut("the marker of its end is missing: it was cut between two members"));
        }
        Ok(())
    }
}

fn cut(message: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::UnexpectedEof, message.to_owned())
}

/// `dir/KEY.jpg` → `dir/KEY`, `jpg`: the webdataset rule, by which the key ends at the first dot of the file's name.
fn key_and_ending(name: &str) -> Option<(&str, &str)> {
    let start = name.rfind('/').map_or(0, |slash| slash + 1);
    let dot = start + name[start..].find('.')?;
    (dot > start).then(|| (&name[..dot], &name[dot + 1..]))
}

/// Takes one member into its record. The outer error is the shard's, the inner one the record's.
fn member(
    row: &mut Row,
    ending: &str,
    offset: u64,
    length: u64,
    data: &mut impl Read,
    lookup: &Lookup,
) -> std::io::Result<Result<(), ShardFault>> {
    let ending = ending.to_ascii_lowercase();
    if PICTURES.contains(&ending.as_str()) {
        row.set((Field::ImageBytes, 0), Value::Within { offset, length });
        return Ok(Ok(()));
    }
    if ending != "txt" && ending != "json" {
        return Ok(Ok(()));
    }
    if length > TEXT_BYTES_MAX {
        let message = format!("member .{ending} has {length} bytes, at most {TEXT_BYTES_MAX} are read");
        return Ok(Err(row.fault(FaultKind::BadRow, message)));
    }
    let mut bytes = Vec::with_capacity(length as usize);
    data.read_to_end(&mut bytes)?;
    if ending == "txt" {
        // Behind every name of `content` that the JSON member may have.
        row.set((Field::Content, usize::MAX - 1), Value::Bytes(bytes));
        return Ok(Ok(()));
    }
    if std::str::from_utf8(&bytes).is_err() {
        return Ok(Err(row.fault(FaultKind::NotUtf8, "member .json is not UTF-8")));
    }
    let read = json_fields(&bytes, row, lookup);
    Ok(read.map_err(|message| row.fault(FaultKind::BadRow, format!("member .json: {message}"))))
}

impl Iterator for TarRows {
    type Item = Result<Row, ShardFault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty() && !self.done {
            let before = self.at;
            if let Err(error) = self.read_part() {
                self.done = true;
                self.ready.push_back(Err(ShardFault::read(&self.shard, Place::Shard, &error)));
            } else if self.at == before {
                self.done = true;
            }
        }
        self.ready.pop_front()
    }
}

/// A file whose first byte is its `base`th: the archive's reader counts from 0.
struct Shifted {
    file: BufReader<File>,
    base: u64,
}

impl Read for Shifted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.file.read(buffer)
    }
}

impl Seek for Shifted {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => self.file.seek(SeekFrom::Start(self.base + at))?,
            SeekFrom::Current(by) => {
                // Small skips stay inside the buffer.
                self.file.seek_relative(by)?;
                self.file.stream_position()?
            }
            SeekFrom::End(_) => self.file.seek(to)?,
        };
        Ok(at.saturating_sub(self.base))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_ends_at_the_first_dot_of_the_name() {
        assert_eq!(key_and_ending("000000001.jpg"), Some(("000000001", "jpg")));
        assert_eq!(key_and_ending("a.b/c.seg.png"), Some(("a.b/c", "seg.png")));
        assert_eq!(key_and_ending(".hidden"), None);
        assert_eq!(key_and_ending("plain"), None);
    }
}
