//! Parquet shards, as img2dataset and most data tools write them. Read without Arrow: rows of a few columns are all that is needed.
//!
//! A broken row leaves the reader's columns out of step, so the rest of its row group is one fault.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{FileReader as _, SerializedFileReader};
use ::parquet::record::reader::{ReaderIter, TreeBuilder};
use ::parquet::record::{Field as Cell, Row as Cells};
use ::parquet::schema::types::{SchemaDescPtr, SchemaDescriptor, Type};

use super::columns::{Lookup, Row, Value};
use super::fault::{FaultKind, Place, ShardFault};

/// Rows decoded at a time: with pictures in the shard a few dozen are some megabytes.
const BATCH_ROWS: usize = 32;
/// Longest message of the library that is passed on: it may dump whole cells.
const MESSAGE_CHARS_MAX: usize = 160;

/// Rows of a Parquet shard. A row group that breaks is left out from there, and the next one is read.
pub struct ParquetRows {
    shard: Arc<Path>,
    lookup: Arc<Lookup>,
    file: SerializedFileReader<File>,
    /// The known columns.
    schema: SchemaDescPtr,
    next_group: usize,
    group: Option<ReaderIter>,
    row: u64,
    /// Number of the first row of the next group.
    next_group_row: u64,
}

impl ParquetRows {
    /// Opens a shard.
    ///
    /// # Errors
    /// The fault: the file cannot be opened, was cut, or has no known column.
    pub fn open(shard: &Arc<Path>, lookup: &Arc<Lookup>) -> Result<Self, ShardFault> {
        let file = File::open(shard).map_err(|error| ShardFault::read(shard, Place::Shard, &error))?;
        let broken = |message: String| ShardFault::new(FaultKind::Truncated, shard, Place::Shard, message);
        let file = guarded(|| SerializedFileReader::new(file))
            .map_err(|message| broken(format!("its footer cannot be read ({message}); it was cut or is no Parquet file")))?;
        let root = file.metadata().file_metadata().schema_descr().root_schema();
        let known: Vec<_> = root
            .get_fields()
            .iter()
            .filter(|field| field.is_primitive() && lookup.find(field.name()).is_some())
            .cloned()
            .collect();
        if known.is_empty() {
            let names: Vec<&str> = root.get_fields().iter().map(|field| field.name()).collect();
            let message = format!("none of its columns ({}) is known; name the columns", names.join(", "));
            return Err(ShardFault::new(FaultKind::WrongColumn, shard, Place::Shard, message));
        }
        let schema = guarded(|| Type::group_type_builder(root.name()).with_fields(known).build()).map_err(broken)?;
        let schema = Arc::new(SchemaDescriptor::new(Arc::new(schema)));
        let (shard, lookup) = (Arc::clone(shard), Arc::clone(lookup));
        Ok(Self { shard, lookup, file, schema, next_group: 0, group: None, row: 0, next_group_row: 0 })
    }

    fn open_group(&mut self) -> Result<(), String> {
        let index = self.next_group;
        self.row = self.next_group_row;
        self.next_group += 1;
        self.next_group_row += u64::try_from(self.file.metadata().row_group(index).num_rows()).unwrap_or(0);
        let open = || {
            let group = self.file.get_row_group(index)?;
            TreeBuilder::new().with_batch_size(BATCH_ROWS).as_iter(Arc::clone(&self.schema), &*group)
        };
        self.group = Some(guarded(open)?);
        Ok(())
    }

    fn row_of(&self, cells: Cells) -> Row {
        let mut row = Row::new(&self.shard, Place::Row(self.row));
        for (name, cell) in cells.into_columns() {
            if let Some(place) = self.lookup.find(&name) {
                row.set(place, value_of(cell));
            }
        }
        row
    }

    /// What breaks inside a row group leaves its columns out of step with each other: a text could meet a wrong picture, so the rest
    /// of the group is left out.
    fn broken_group(&mut self, message: &str) -> ShardFault {
        self.group = None;
        let left = self.next_group_row.saturating_sub(self.row.saturating_sub(1));
        let message =
            format!("{message}; the {left} rows from here to the end of row group {} are left out", self.next_group - 1);
        let kind = if message.contains("as String") { FaultKind::NotUtf8 } else { FaultKind::BadRow };
        ShardFault::new(kind, &self.shard, Place::Row(self.row), message)
    }
}

/// Runs a call of the library. It panics on some broken files, which is a fault like any other here.
fn guarded<T>(call: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(error.to_string().chars().take(MESSAGE_CHARS_MAX).collect()),
        Err(_) => Err("the reader broke off".to_owned()),
    }
}

fn value_of(cell: Cell) -> Value {
    match cell {
        Cell::Null => Value::Text(String::new()),
        Cell::Str(text) => Value::Text(text),
        Cell::Bytes(bytes) => Value::Bytes(bytes.data().to_vec()),
        Cell::Byte(number) => Value::Text(number.to_string()),
        Cell::Short(number) => Value::Text(number.to_string()),
        Cell::Int(number) => Value::Text(number.to_string()),
        Cell::Long(number) => Value::Text(number.to_string()),
        Cell::UByte(number) => Value::Text(number.to_string()),
        Cell::UShort(number) => Value::Text(number.to_string()),
        Cell::UInt(number) => Value::Text(number.to_string()),
        Cell::ULong(number) => Value::Text(number.to_string()),
        Cell::Bool(_) => Value::Other("true or false"),
        _ => Value::Other("neither text nor bytes nor a whole number"),
    }
}

impl Iterator for ParquetRows {
    type Item = Result<Row, ShardFault>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(group) = &mut self.group {
                self.row += 1;
                match guarded(|| group.next().transpose()) {
                    Ok(Some(cells)) => return Some(Ok(self.row_of(cells))),
                    Ok(None) => self.group = None,
                    Err(message) => return Some(Err(self.broken_group(&message))),
                }
            }
            if self.next_group >= self.file.metadata().num_row_groups() {
                return None;
            }
            if let Err(message) = self.open_group() {
                return Some(Err(self.broken_group(&message)));
            }
        }
    }
}
