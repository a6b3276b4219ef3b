//! JSON Lines and TSV shards.

use std::fmt;
use std::io::{BufRead, Read as _};
use std::path::Path;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::columns::{Field, Lookup, Row, Value};
use super::fault::{FaultKind, Place, ShardFault};

/// Longest line, bytes; a longer one is a fault and is skipped. Pictures in base64 fit: the decoder takes at most 16 MiB.
pub const LINE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// What a line is.
enum Format {
    Json,
    /// Field of each cell; `None` until the header is read.
    Tsv(Option<Vec<Option<(Field, usize)>>>),
}

/// Rows of a text shard. Ends after a fault that nothing can follow.
pub struct Lines {
    shard: Arc<Path>,
    reader: Box<dyn BufRead + Send>,
    lookup: Arc<Lookup>,
    format: Format,
    line: u64,
    buffer: Vec<u8>,
    done: bool,
}

impl Lines {
    /// JSON Lines.
    pub fn json(shard: &Arc<Path>, reader: Box<dyn BufRead + Send>, lookup: &Arc<Lookup>) -> Self {
        Self::new(shard, reader, lookup, Format::Json)
    }

    /// TSV: cells between tabs, without quoting. The first line names the columns, unless `columns` does.
    pub fn tsv(shard: &Arc<Path>, reader: Box<dyn BufRead + Send>, lookup: &Arc<Lookup>, columns: Option<&[String]>) -> Self {
        let places = columns.map(|names| names.iter().map(|name| lookup.find(name)).collect());
        Self::new(shard, reader, lookup, Format::Tsv(places))
    }

    fn new(shard: &Arc<Path>, reader: Box<dyn BufRead + Send>, lookup: &Arc<Lookup>, format: Format) -> Self {
        let (shard, lookup) = (Arc::clone(shard), Arc::clone(lookup));
        Self { shard, reader, lookup, format, line: 0, buffer: Vec::new(), done: false }
    }

    /// Reads the next line into the buffer, without its end. `Ok(None)` at the end; else whether the line was complete.
    fn read_line(&mut self) -> Result<Option<bool>, ShardFault> {
        self.buffer.clear();
        self.line += 1;
        let place = Place::Line(self.line);
        let fail = |error: std::io::Error| ShardFault::read(&self.shard, place.clone(), &error);
        let read = (&mut self.reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut self.buffer).map_err(fail)?;
        if read == 0 {
            return Ok(None);
        }
        let complete = self.buffer.last() == Some(&b'\n');
        if !complete && read as u64 == LINE_BYTES_MAX {
            self.reader.skip_until(b'\n').map_err(fail)?;
            self.buffer.clear();
            return Err(ShardFault::new(
                FaultKind::BadRow,
                &self.shard,
                place,
                format!("the line is longer than {LINE_BYTES_MAX} bytes"),
            ));
        }
        while self.buffer.last().is_some_and(|&byte| byte == b'\n' || byte == b'\r') {
            self.buffer.pop();
        }
        Ok(Some(complete))
    }

    fn parse(&mut self, complete: bool) -> Result<Option<Row>, ShardFault> {
        let place = Place::Line(self.line);
        let fault = |kind, message: String| ShardFault::new(kind, &self.shard, place.clone(), message);
        let text = std::str::from_utf8(&self.buffer).map_err(|error| {
            // A last line without its end that breaks off in the middle of a character was cut.
            let kind = if error.error_len().is_none() && !complete { FaultKind::Truncated } else { FaultKind::NotUtf8 };
            fault(kind, "the line is not UTF-8".to_owned())
        })?;
        let text = if self.line == 1 { text.trim_start_matches('\u{feff}') } else { text };
        match &mut self.format {
            Format::Json => {
                let mut row = Row::new(&self.shard, place.clone());
                let mut json = serde_json::Deserializer::from_str(text);
                let read = Fields { row: &mut row, lookup: &self.lookup }.deserialize(&mut json).and_then(|()| json.end());
                read.map(|()| Some(row)).map_err(|error| {
                    // A last line without its end that breaks off in the middle was cut.
                    let kind = if error.is_eof() && !complete { FaultKind::Truncated } else { FaultKind::BadRow };
                    fault(kind, error.to_string())
                })
            }
            Format::Tsv(Some(places)) => {
                let cells = text.split('\t');
                let found = cells.clone().count();
                if found != places.len() {
                    let kind = if complete || found > places.len() { FaultKind::WrongColumn } else { FaultKind::Truncated };
                    return Err(fault(kind, format!("{found} cells, {} columns are named", places.len())));
                }
                let mut row = Row::new(&self.shard, place.clone());
                for (cell, place) in cells.zip(places.iter()) {
                    if let Some(place) = place {
                        row.set(*place, Value::Text(cell.to_owned()));
                    }
                }
                Ok(Some(row))
            }
            Format::Tsv(places) => {
                let header: Vec<Option<(Field, usize)>> = text.split('\t').map(|name| self.lookup.find(name.trim())).collect();
                if header.iter().all(Option::is_none) {
                    self.done = true;
                    let message = format!("no column of the header ({}) is known; name the columns", text.replace('\t', ", "));
                    return Err(fault(FaultKind::WrongColumn, message));
                }
                *places = Some(header);
                Ok(None)
            }
        }
    }
}

impl Iterator for Lines {
    type Item = Result<Row, ShardFault>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.done {
            match self.read_line() {
                Ok(None) => self.done = true,
                Ok(Some(_)) if self.buffer.iter().all(u8::is_ascii_whitespace) => {}
                Ok(Some(complete)) => match self.parse(complete) {
                    Ok(None) => {}
                    Ok(Some(row)) => return Some(Ok(row)),
                    Err(fault) => return Some(Err(fault)),
                },
                Err(fault) => {
                    // After a failed read nothing follows; after a line that is too long the next one does.
                    self.done = fault.kind != FaultKind::BadRow;
                    return Some(Err(fault));
                }
            }
        }
        None
    }
}

/// Reads one JSON object, known fields only: unknown ones cost no memory.
struct Fields<'a> {
    row: &'a mut Row,
    lookup: &'a Lookup,
}

impl<'de> DeserializeSeed<'de> for Fields<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(place) = map.next_key_seed(Name(self.lookup))? {
            match place {
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
                Some(place) => {
                    if let Some(value) = map.next_value_seed(Cell)? {
                        self.row.set(place, value);
                    } else if !self.row.has(place.0) {
                        self.row.set((place.0, usize::MAX), Value::Text(String::new()));
                    }
                }
            }
        }
        Ok(())
    }
}

struct Name<'a>(&'a Lookup);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Option<(Field, usize)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<(Field, usize)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a column's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.find(name))
    }
}

struct Cell;

impl<'de> DeserializeSeed<'de> for Cell {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Cell {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a number")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(Value::Text(text.to_owned())))
    }

    fn visit_string<E>(self, text: String) -> Result<Self::Value, E> {
        Ok(Some(Value::Text(text)))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Some(Value::Text(number.to_string())))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Some(Value::Text(number.to_string())))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Some(Value::Text(number.to_string())))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Some(Value::Other("true or false")))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Some(Value::Other("a list")))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Some(Value::Other("an object")))
    }
}

/// Reads the fields of one JSON object into a row.
///
/// # Errors
/// What is wrong with it.
pub(super) fn json_fields(bytes: &[u8], row: &mut Row, lookup: &Lookup) -> Result<(), String> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    Fields { row, lookup }.deserialize(&mut json).and_then(|()| json.end()).map_err(|error| error.to_string())
}
