//! One record of Zero: a picture with the texts that belong to it.

use std::borrow::Cow;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use astromech_schemas::decode_base64;

use super::columns::{Field, Lookup, Row, Value};
use super::fault::{FaultKind, Place, ShardFault};

/// Largest file of a picture, bytes: what the decoder takes (`ImageLimits`).
const PICTURE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Where a record's picture is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSource {
    /// Here.
    Bytes(Vec<u8>),
    /// In the shard, read when it is needed.
    Within {
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
    },
    /// In a file.
    Path(PathBuf),
    /// On the web: not fetched.
    Url(String),
    /// Nowhere: synthetic records have no picture.
    None,
}

/// A picture with its texts. Zero gives each picture three: query, title, content (docs/R2D2.md §6.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZeroRecord {
    /// Id; the place in the shard where the shard has none.
    pub id: String,
    /// The picture.
    pub image: ImageSource,
    /// What a user searched; may be empty.
    pub query: String,
    /// A title; may be empty.
    pub title: String,
    /// The long text; may be empty.
    pub content: String,
    /// The page.
    pub url: String,
    /// Number of its near-duplicates' group, if it has one.
    pub group: Option<u64>,
    /// The shard it came from.
    pub shard: Arc<Path>,
    /// Where in it.
    pub place: Place,
}

impl ZeroRecord {
    /// Makes a record of a row. Paths of pictures are relative to `image_root`, or to the shard's folder.
    ///
    /// # Errors
    /// The fault: a needed column is missing, all texts are empty, a text is not UTF-8, or there is no picture.
    pub fn from_row(mut row: Row, lookup: &Lookup, image_root: Option<&Path>) -> Result<Self, ShardFault> {
        let texts = [Field::Query, Field::Title, Field::Content];
        if !texts.iter().any(|&field| row.has(field)) {
            let names: Vec<String> = texts.iter().map(|&field| lookup.names(field)).collect();
            return Err(row.fault(FaultKind::WrongColumn, format!("no text: none of the columns {} is there", names.join(", "))));
        }
        let image = image_of(&mut row, lookup, image_root)?;
        let [query, title, content] = texts.map(|field| row.text(field, lookup));
        let (query, title, content) = (query?, title?, content?);
        if query.is_empty() && title.is_empty() && content.is_empty() {
            return Err(row.fault(FaultKind::EmptyText, "query, title and content are empty"));
        }
        let (mut id, url) = (row.text(Field::Id, lookup)?, row.text(Field::Url, lookup)?);
        if id.is_empty() {
            id = match &row.place {
                Place::Shard => String::new(),
                Place::Line(number) | Place::Row(number) => format!("{}:{number}", row.shard.display()),
                Place::Member(key) => key.clone(),
            };
        }
        let group = row.number(Field::Group, lookup)?;
        Ok(Self { id, image, query, title, content, url, group, shard: row.shard, place: row.place })
    }

    /// Reads the picture's file.
    ///
    /// # Errors
    /// The fault: the picture is not there, cannot be read, is too large, or is only a URL.
    pub fn picture(&self) -> Result<Cow<'_, [u8]>, ShardFault> {
        let missing = |error: std::io::Error| self.fault(FaultKind::NoPicture, format!("the picture cannot be read: {error}"));
        let too_large = || self.fault(FaultKind::BadPicture, format!("the picture has more than {PICTURE_BYTES_MAX} bytes"));
        match &self.image {
            ImageSource::Bytes(bytes) => Ok(Cow::Borrowed(bytes)),
            ImageSource::Within { length, .. } if *length > PICTURE_BYTES_MAX => Err(too_large()),
            ImageSource::Within { offset, length } => {
                let mut bytes = vec![0; *length as usize];
                let read = File::open(&self.shard).and_then(|file| file.read_exact_at(&mut bytes, *offset));
                read.map(|()| Cow::Owned(bytes)).map_err(missing)
            }
            ImageSource::Path(path) => {
                let named = |error| self.fault(FaultKind::NoPicture, format!("picture {}: {error}", path.display()));
                let mut bytes = Vec::new();
                let file = File::open(path).map_err(named)?;
                file.take(PICTURE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(named)?;
                if bytes.len() as u64 > PICTURE_BYTES_MAX { Err(too_large()) } else { Ok(Cow::Owned(bytes)) }
            }
            ImageSource::Url(url) => {
                Err(self
                    .fault(FaultKind::UrlOnly, format!("the picture is only a URL ({url}); fetch it first, as img2dataset does")))
            }
            ImageSource::None => Err(self.fault(FaultKind::NoPicture, "the record has no picture")),
        }
    }

    /// A fault of this record.
    pub fn fault(&self, kind: FaultKind, message: impl Into<String>) -> ShardFault {
        ShardFault::new(kind, &self.shard, self.place.clone(), message)
    }
}

fn image_of(row: &mut Row, lookup: &Lookup, image_root: Option<&Path>) -> Result<ImageSource, ShardFault> {
    match row.take(Field::ImageBytes) {
        None => {}
        Some(Value::Within { offset, length }) => return Ok(ImageSource::Within { offset, length }),
        Some(Value::Bytes(bytes)) if !bytes.is_empty() => return Ok(ImageSource::Bytes(bytes)),
        Some(Value::Text(text)) if !text.is_empty() => {
            let names = lookup.names(Field::ImageBytes);
            let fail = |error| row.fault(FaultKind::WrongColumn, format!("column {names}: {error}"));
            return decode_base64(&text).map(ImageSource::Bytes).map_err(fail);
        }
        Some(Value::Other(what)) => {
            let names = lookup.names(Field::ImageBytes);
            return Err(row.fault(FaultKind::WrongColumn, format!("column {names} holds {what}, bytes are needed")));
        }
        Some(_) => return Err(row.fault(FaultKind::NoPicture, "the picture's bytes are empty")),
    }
    if !row.has(Field::Image) {
        let names = [Field::Image, Field::ImageBytes].map(|field| lookup.names(field)).join(", ");
        return Err(row.fault(FaultKind::WrongColumn, format!("no picture: none of the columns {names} is there")));
    }
    // A column `image` of bytes without a type is a path where it is text, and else the picture itself.
    let text = match row.take(Field::Image) {
        Some(Value::Bytes(bytes)) if std::str::from_utf8(&bytes).is_err() => return Ok(ImageSource::Bytes(bytes)),
        Some(other) => {
            row.set((Field::Image, 0), other);
            row.text(Field::Image, lookup)?
        }
        None => String::new(),
    };
    if text.is_empty() {
        return Err(row.fault(FaultKind::NoPicture, "the column of the picture is empty"));
    }
    if text.starts_with("http://") || text.starts_with("https://") {
        return Ok(ImageSource::Url(text));
    }
    if text.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:")) {
        let fail = |error| row.fault(FaultKind::WrongColumn, format!("column {}: {error}", lookup.names(Field::Image)));
        return decode_base64(&text).map(ImageSource::Bytes).map_err(fail);
    }
    if text == SYNTHETIC_IMAGE {
        return Ok(ImageSource::None);
    }
    let path = Path::new(&text);
    if path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
        return Err(row.fault(FaultKind::NoPicture, format!("picture {text:?} must stay inside the folder of pictures")));
    }
    let root = image_root.or_else(|| row.shard.parent()).unwrap_or_else(|| Path::new("."));
    Ok(ImageSource::Path(root.join(path)))
}

/// What a synthetic record has for a picture.
pub(super) const SYNTHETIC_IMAGE: &str = "synthetic:";
