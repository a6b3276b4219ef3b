//! Parquet shards, as img2dataset, Hugging Face and most data tools write them. Read without Arrow: rows of a few columns are all that is
//! needed. A picture may be a struct of `bytes` and `path`, as Hugging Face writes it; of a list of texts the first counts.
//!
//! A broken row leaves the reader's columns out of step, so the rest of its row group is one fault.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use ::parquet::basic::{ConvertedType, Repetition};
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{FileReader as _, SerializedFileReader};
use ::parquet::record::reader::{ReaderIter, TreeBuilder};
use ::parquet::record::{Field as Cell, Row as Cells};
use ::parquet::schema::types::{SchemaDescPtr, SchemaDescriptor, Type};

use super::columns::{Field, Lookup, Row, Value};
use super::fault::{FaultKind, Place, ShardFault};

/// Rows decoded at a time: with pictures in the shard a few dozen are some megabytes.
const BATCH_ROWS: usize = 32;
/// Longest message of the library that is passed on: it may dump whole cells.
const MESSAGE_CHARS_MAX: usize = 160;
/// Parts of a picture's struct.
const PART_BYTES: &str = "bytes";
const PART_PATH: &str = "path";

/// Rows of a Parquet shard. A row group that breaks is left out from there, and the next one is read.
pub struct ParquetRows {
    shard: Arc<Path>,
    lookup: Arc<Lookup>,
    file: SerializedFileReader<File>,
    /// The known columns.
    schema: SchemaDescPtr,
    /// Known columns of a type that no field can be.
    unread: Vec<(Field, &'static str)>,
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
        let (mut known, mut unread) = (Vec::new(), Vec::new());
        for column in root.get_fields() {
            let Some((field, _)) = lookup.find(column.name()) else { continue };
            match readable(column, field) {
                Ok(column) => known.push(column),
                Err(what) => unread.push((field, what)),
            }
        }
        if known.is_empty() {
            let names: Vec<&str> = root.get_fields().iter().map(|field| field.name()).collect();
            let message = match unread.first() {
                Some((field, what)) => {
                    format!("column {} is {what}; none of its columns is one that is read", lookup.names(*field))
                }
                None => format!("none of its columns ({}) is known; name the columns", names.join(", ")),
            };
            return Err(ShardFault::new(FaultKind::WrongColumn, shard, Place::Shard, message));
        }
        let schema = guarded(|| Type::group_type_builder(root.name()).with_fields(known).build()).map_err(broken)?;
        let schema = Arc::new(SchemaDescriptor::new(Arc::new(schema)));
        let (shard, lookup) = (Arc::clone(shard), Arc::clone(lookup));
        Ok(Self { shard, lookup, file, schema, unread, next_group: 0, group: None, row: 0, next_group_row: 0 })
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
            let Some((field, rank)) = self.lookup.find(&name) else { continue };
            match cell {
                Cell::Group(parts) => set_picture(&mut row, rank, parts),
                cell => row.set((field, rank), value_of(cell)),
            }
        }
        // Behind every other column of the field.
        for (field, what) in &self.unread {
            row.set((*field, usize::MAX), Value::Other(what));
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

/// The column as it is read: a primitive one, a list of such, or of a picture's struct its bytes and its path.
///
/// # Errors
/// What the column is instead.
fn readable(column: &Arc<Type>, field: Field) -> Result<Arc<Type>, &'static str> {
    if column.is_primitive() {
        return Ok(Arc::clone(column));
    }
    match column.get_basic_info().converted_type() {
        ConvertedType::LIST => {
            let is_primitive = |list: &Type| list.is_primitive() || matches!(list.get_fields(), [item] if item.is_primitive());
            let items = column.get_fields();
            return if matches!(items, [list] if is_primitive(list)) { Ok(Arc::clone(column)) } else { Err("a list of structs") };
        }
        ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE => return Err("a map"),
        _ => {}
    }
    let info = column.get_basic_info();
    if !matches!(field, Field::Image | Field::ImageBytes) || info.repetition() == Repetition::REPEATED {
        return Err("a struct");
    }
    let is_part = |part: &&Arc<Type>| part.is_primitive() && [PART_BYTES, PART_PATH].contains(&part.name());
    let parts: Vec<_> = column.get_fields().iter().filter(is_part).cloned().collect();
    let picture = Type::group_type_builder(column.name()).with_repetition(info.repetition()).with_fields(parts);
    picture.build().ok().filter(|picture| !picture.get_fields().is_empty()).map(Arc::new).ok_or("a struct without bytes and path")
}

/// A picture of Hugging Face: its bytes, or where there are none the path of its file.
fn set_picture(row: &mut Row, rank: usize, parts: Cells) {
    let mut path = None;
    for (name, cell) in parts.into_columns() {
        match (name.as_str(), cell) {
            (PART_BYTES, Cell::Bytes(bytes)) if !bytes.data().is_empty() => {
                return row.set((Field::ImageBytes, rank), Value::Bytes(bytes.data().to_vec()));
            }
            (PART_BYTES, Cell::Str(text)) if !text.is_empty() => return row.set((Field::ImageBytes, rank), Value::Text(text)),
            (PART_PATH, cell) => path = Some(value_of(cell)),
            _ => {}
        }
    }
    row.set((Field::Image, rank), path.unwrap_or_else(|| Value::Text(String::new())));
}

fn value_of(cell: Cell) -> Value {
    match cell {
        Cell::ListInternal(list) => {
            let is_said = |item: &&Cell| match item {
                Cell::Null => false,
                Cell::Str(text) => !text.trim().is_empty(),
                Cell::Bytes(bytes) => !bytes.data().trim_ascii().is_empty(),
                _ => true,
            };
            list.elements().iter().find(is_said).cloned().map_or_else(|| Value::Text(String::new()), value_of)
        }
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
