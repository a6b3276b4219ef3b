//! The lines of a file as producers' exports are: packed by gzip or not, with byte order marks, ends of either system, lines that are too
//! long. Memory holds one line, whatever the file claims.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read as _};
use std::path::Path;

use astromech_schemas::dead_letter::Reason;
use astromech_schemas::encoding::{foreign, without_bom};
use flate2::bufread::MultiGzDecoder;
use serde::de::IgnoredAny;

use crate::failure::Usage;
use crate::prepare::Fault;

/// Longest line, bytes: the largest inline picture in base64 with room for text.
pub(super) const LINE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What the layout of a file is told by, bytes from its beginning.
const HEAD_BYTES: usize = 64 * 1024;
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// A file's lines in their order.
pub(super) struct Lines {
    reader: Box<dyn BufRead + Send>,
    /// What ended the reading of the beginning; it is told where it happened.
    broken: Option<io::Error>,
    /// Whether what fails may be the packing.
    packed: bool,
    number: i64,
}

/// A line that is not empty: its number from 1, and its bytes without its end or what is wrong with it.
pub(super) type Line = (i64, Result<Vec<u8>, Fault>);

impl Lines {
    /// Opens a file; looks at its beginning.
    ///
    /// # Errors
    /// It can't be read; or a [`Usage`] where it is no JSON Lines as a whole.
    pub(super) fn open(file: &Path) -> anyhow::Result<Self> {
        let mut plain = BufReader::new(File::open(file)?);
        let packed = plain.fill_buf()?.starts_with(&GZIP);
        let mut reader: Box<dyn BufRead + Send> =
            if packed { Box::new(BufReader::new(MultiGzDecoder::new(plain))) } else { Box::new(plain) };
        let mut head = Vec::with_capacity(HEAD_BYTES);
        let broken = reader.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut head).err();
        let is_whole = head.len() < HEAD_BYTES;
        if let Some((problem, hint)) = no_lines(&head, is_whole) {
            return Err(Usage { problem: format!("{}: {problem}", file.display()), hint }.into());
        }
        let rest: Box<dyn BufRead + Send> = if broken.is_some() { Box::new(io::empty()) } else { reader };
        Ok(Self { reader: Box::new(Cursor::new(head).chain(rest)), broken, packed, number: 0 })
    }

    /// The next line. The file is local, so reading it blocks for microseconds.
    ///
    /// # Errors
    /// The file can't be read on. Packing that is damaged or cut off is the last line's fault instead.
    pub(super) fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            let mut line = Vec::new();
            self.number += 1;
            let error = match self.read(&mut line) {
                Ok(()) if line.is_empty() => self.broken.take(),
                Ok(()) => None,
                Err(error) => Some(error),
            };
            match error {
                Some(error) if self.packed => return Ok(Some((self.number, Err(self.unpacked(&error))))),
                Some(error) => return Err(error),
                None if line.is_empty() => return Ok(None),
                None => {}
            }
            if line.len() > LINE_BYTES_MAX {
                let is_list = without_bom(&line).trim_ascii_start().starts_with(b"[");
                drop(line);
                return Ok(Some((self.number, Err(self.too_long(is_list)?))));
            }
            line.truncate(line.trim_ascii_end().len());
            // Files that were made one of several have marks in their middle.
            line.drain(..line.len() - without_bom(&line).len());
            if !line.is_empty() {
                return Ok(Some((self.number, Ok(line))));
            }
        }
    }

    /// Reads to the end of a line, or to one byte more than it may have.
    fn read(&mut self, line: &mut Vec<u8>) -> io::Result<()> {
        self.reader.by_ref().take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', line)?;
        // What the beginning broke off in is no line.
        if line.ends_with(b"\n") || line.is_empty() { Ok(()) } else { self.broken.take().map_or(Ok(()), Err) }
    }

    fn too_long(&mut self, is_list: bool) -> io::Result<Fault> {
        let fix = if is_list {
            "it is one JSON list: write each of its objects on a line of its own (jq -c '.[]')"
        } else {
            "send the picture's address in place of its bytes"
        };
        let fault = Fault::new(Reason::InvalidRecord, format!(".: the line has more than {LINE_BYTES_MAX} bytes; fix: {fix}"));
        match self.reader.skip_until(b'\n') {
            Ok(_) => Ok(fault),
            // Told as the next line's.
            Err(error) if self.packed => {
                self.broken = Some(error);
                self.reader = Box::new(io::empty());
                Ok(fault)
            }
            Err(error) => Err(error),
        }
    }

    /// Nothing follows what can't be unpacked.
    fn unpacked(&mut self, error: &io::Error) -> Fault {
        self.reader = Box::new(io::empty());
        let problem = match error.kind() {
            io::ErrorKind::UnexpectedEof => "the gzip file is cut off here".to_owned(),
            _ => format!("the gzip file is damaged here ({error})"),
        };
        Fault::new(Reason::InvalidRecord, format!(".: {problem}; the lines before it were read; fix: bring the whole file"))
    }
}

/// Lines that are not empty, for the progress bar's end.
pub(super) fn count(file: &Path) -> anyhow::Result<u64> {
    let mut lines = Lines::open(file)?;
    let mut count = 0;
    while lines.next()?.is_some() {
        count += 1;
    }
    Ok(count)
}

/// What a file is that has no line which is a message, and what makes it one. A single broken line is no such file.
fn no_lines(head: &[u8], is_whole: bool) -> Option<(String, String)> {
    if let Some(what) = foreign(head) {
        let hint = if what.starts_with("UTF") {
            format!("encode it as UTF-8: iconv -f {what} -t UTF-8")
        } else {
            "unpack it first, or write it as JSON Lines; gzip is read as it is".to_owned()
        };
        return Some((format!("is {what}, not JSON Lines"), hint));
    }
    let mut lines = without_bom(head).split_inclusive(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let (first, second) = (lines.next()?, lines.next()?);
    let goes_on = serde_json::from_slice::<IgnoredAny>(first).is_err_and(|error| error.is_eof());
    let is_cut = !is_whole && !second.ends_with(b"\n");
    let is_message = second.trim_ascii().starts_with(b"{") && serde_json::from_slice::<IgnoredAny>(second).is_ok();
    if !goes_on || is_cut || is_message {
        return None;
    }
    let hint = |filter: &str| format!("write one object a line: jq -c {filter} FILE > FILE.jsonl");
    Some(if first.trim_ascii_start().starts_with(b"[") {
        ("is one JSON list over several lines, not JSON Lines".to_owned(), hint("'.[]'"))
    } else {
        ("holds JSON that goes over several lines (pretty-printed), not JSON Lines".to_owned(), hint("."))
    })
}

#[cfg(test)]
mod tests {
    use super::no_lines;

    #[test]
    fn a_file_that_is_no_json_lines_is_named_and_one_with_a_broken_line_is_none() {
        for (head, says) in [
            ("{\n  \"kind\": \"ad\",\n  \"title\": \"a\"\n}\n", "pretty-printed"),
            ("\u{feff}{\r\n\t\"kind\": \"ad\"\r\n}\r\n", "pretty-printed"),
            ("[\n{\"kind\": \"ad\"},\n{\"kind\": \"ad\"}\n]\n", "one JSON list"),
            ("[{\"kind\": \"ad\"},\n {\"kind\": \"ad\"}]", "one JSON list"),
            ("\n\n[\n  {\n    \"kind\": \"ad\"\n  }\n]", "one JSON list"),
            ("PAR1\u{15}\u{4}", "Parquet"),
            ("{\0\"\0a\0", "UTF-16"),
        ] {
            let (problem, hint) = no_lines(head.as_bytes(), true).unwrap_or_else(|| panic!("{head:?}"));
            assert!(problem.contains(says) && !hint.is_empty(), "{head:?}: {problem}");
        }
        for lines in [
            "",
            "{}",
            "{}\n{}\n",
            "{\"cut\": \n{\"kind\": \"ad\"}\n",
            "[\n{\"kind\": \"ad\"}\n]\n",
            "not json\nnot json\n",
            "[{\"kind\": \"ad\"}]\n",
            "{\"kind\": \"ad\"",
        ] {
            assert_eq!(no_lines(lines.as_bytes(), true), None, "{lines:?}");
        }
        assert_eq!(no_lines(b"{\"cut\":\n{\"long\": \"aaaa", false), None, "its second line is not known");
    }
}
