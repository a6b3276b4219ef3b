//! Which column of a shard is which field.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use astromech_settings::kinds::{list, text};
use astromech_settings::{defaults, settings};
use serde::Serialize;

use super::fault::{FaultKind, Place, ShardFault};

/// A field of a record or of a row of a click log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Unique id.
    Id,
    /// Picture: a path or a URL.
    Image,
    /// Picture: its bytes; base64 where the shard is text.
    ImageBytes,
    /// SHA-256 of the picture, where its bytes are elsewhere.
    ImageHash,
    /// What a user searched.
    Query,
    /// Main text of the picture on its page.
    Title,
    /// Surrounding text.
    Content,
    /// The page.
    Url,
    /// Number of a group of near-duplicates: positives of each other.
    Group,
    /// How often the picture was shown for the query.
    Impressions,
    /// How often it was then clicked.
    Clicks,
}

/// Fields in the order of [`Row::values`].
const FIELDS: [Field; FIELD_COUNT] = [
    Field::Id,
    Field::Image,
    Field::ImageBytes,
    Field::ImageHash,
    Field::Query,
    Field::Title,
    Field::Content,
    Field::Url,
    Field::Group,
    Field::Impressions,
    Field::Clicks,
];
const FIELD_COUNT: usize = 11;

settings! {
    /// Names of the columns that are taken for each field; of several that are there the first listed counts. The defaults are this
    /// project's own, then Zero's (docs/R2D2.md §6.1) and its tasks' (§6.2), then img2dataset's.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
    pub struct Columns {
        /// See [`Field::Id`].
        id: Vec<String> = ["id", "ImageKey", "key", "__key__"] => list(text());
        /// See [`Field::Image`].
        image: Vec<String> = ["image", "ImageUrl", "image_url", "image_path"] => list(text());
        /// See [`Field::ImageBytes`].
        image_bytes: Vec<String> = ["image_bytes", "jpg", "png", "webp"] => list(text());
        /// See [`Field::ImageHash`].
        image_hash: Vec<String> = ["image_hash", "sha256"] => list(text());
        /// See [`Field::Query`].
        query: Vec<String> = ["query", "ImageQuery"] => list(text());
        /// See [`Field::Title`].
        title: Vec<String> = ["title", "Title"] => list(text());
        /// See [`Field::Content`].
        content: Vec<String> = ["content", "Content", "caption", "text"] => list(text());
        /// See [`Field::Url`].
        url: Vec<String> = ["url", "Url"] => list(text());
        /// See [`Field::Group`].
        group: Vec<String> = ["group"] => list(text());
        /// See [`Field::Impressions`].
        impressions: Vec<String> = ["impressions"] => list(text());
        /// See [`Field::Clicks`].
        clicks: Vec<String> = ["clicks"] => list(text());
    }
}

impl Default for Columns {
    fn default() -> Self {
        defaults()
    }
}

impl Columns {
    /// Names taken for a field.
    pub fn of(&self, field: Field) -> &[String] {
        match field {
            Field::Id => &self.id,
            Field::Image => &self.image,
            Field::ImageBytes => &self.image_bytes,
            Field::ImageHash => &self.image_hash,
            Field::Query => &self.query,
            Field::Title => &self.title,
            Field::Content => &self.content,
            Field::Url => &self.url,
            Field::Group => &self.group,
            Field::Impressions => &self.impressions,
            Field::Clicks => &self.clicks,
        }
    }
}

/// [`Columns`] turned round: name → field and rank among its names.
#[derive(Debug)]
pub struct Lookup {
    places: HashMap<String, (Field, usize)>,
    columns: Columns,
}

impl Lookup {
    /// Prepares the look-up.
    pub fn new(columns: Columns) -> Self {
        let mut places = HashMap::new();
        for field in FIELDS {
            for (rank, name) in columns.of(field).iter().enumerate() {
                places.entry(name.clone()).or_insert((field, rank));
            }
        }
        Self { places, columns }
    }

    /// Field and rank of a column.
    pub fn find(&self, name: &str) -> Option<(Field, usize)> {
        self.places.get(name).copied()
    }

    /// The names taken for a field, in words.
    pub fn names(&self, field: Field) -> String {
        self.columns.of(field).join(", ")
    }
}

/// A cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Text, or a number in digits.
    Text(String),
    /// Bytes; text where they are UTF-8.
    Bytes(Vec<u8>),
    /// Bytes that lie in the shard, not yet read.
    Within {
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
    },
    /// What no field can be, by name.
    Other(&'static str),
}

/// The known fields of one row, with where they come from.
#[derive(Debug, Clone)]
pub struct Row {
    /// The shard.
    pub shard: Arc<Path>,
    /// Where in it.
    pub place: Place,
    values: [Option<(usize, Value)>; FIELD_COUNT],
}

impl Row {
    /// A row without fields.
    pub fn new(shard: &Arc<Path>, place: Place) -> Self {
        Self { shard: Arc::clone(shard), place, values: [const { None }; FIELD_COUNT] }
    }

    /// Sets a field, unless a name of better rank has set it.
    pub fn set(&mut self, (field, rank): (Field, usize), value: Value) {
        let slot = &mut self.values[field as usize];
        if slot.as_ref().is_none_or(|(other, _)| rank <= *other) {
            *slot = Some((rank, value));
        }
    }

    /// Takes a field's cell out.
    pub fn take(&mut self, field: Field) -> Option<Value> {
        self.values[field as usize].take().map(|(_, value)| value)
    }

    /// True where a field has a cell.
    pub fn has(&self, field: Field) -> bool {
        self.values[field as usize].is_some()
    }

    /// Takes a text out, without blanks at its ends; empty where the column is missing.
    ///
    /// # Errors
    /// Bytes that are not UTF-8, or a cell that is no text.
    pub fn text(&mut self, field: Field, lookup: &Lookup) -> Result<String, ShardFault> {
        match self.take(field) {
            None => Ok(String::new()),
            Some(Value::Text(text)) if text.trim().len() == text.len() => Ok(text),
            Some(Value::Text(text)) => Ok(text.trim().to_owned()),
            Some(Value::Bytes(bytes)) => match std::str::from_utf8(&bytes) {
                Ok(text) => Ok(text.trim().to_owned()),
                Err(_) => Err(self.fault(FaultKind::NotUtf8, format!("column {} is not UTF-8", lookup.names(field)))),
            },
            Some(Value::Within { .. }) => Err(self.other(field, lookup, "a file")),
            Some(Value::Other(what)) => Err(self.other(field, lookup, what)),
        }
    }

    /// Takes a whole number out; none where the column is missing or empty.
    ///
    /// # Errors
    /// A cell that is no whole number.
    pub fn number(&mut self, field: Field, lookup: &Lookup) -> Result<Option<u64>, ShardFault> {
        let text = self.text(field, lookup)?;
        if text.is_empty() {
            return Ok(None);
        }
        let fail =
            |_| self.fault(FaultKind::WrongColumn, format!("column {} = {text:?} is no whole number", lookup.names(field)));
        text.parse().map(Some).map_err(fail)
    }

    /// A fault of this row.
    pub fn fault(&self, kind: FaultKind, message: impl Into<String>) -> ShardFault {
        ShardFault::new(kind, &self.shard, self.place.clone(), message)
    }

    fn other(&self, field: Field, lookup: &Lookup, what: &str) -> ShardFault {
        self.fault(FaultKind::WrongColumn, format!("column {} holds {what}, a text is needed", lookup.names(field)))
    }
}
