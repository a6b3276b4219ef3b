//! Fields that messages share, and the limits that they are held to.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::DecodeError;
use crate::lenient::{decode_base64, null_as_absent, optional_whole};

/// Where a picture comes from: exactly one of `url` and `bytes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("oneOf" = [{"required": ["url"]}, {"required": ["bytes"]}]))]
pub struct ImageSource {
    /// `https:`, `http:` or `file:` address; fetched only from hosts and folders that the daemon's configuration allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The encoded picture (JPEG, PNG, WebP, GIF or BMP) in base64 with padding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<InlineBytes>,
}

impl ImageSource {
    /// A picture to be fetched.
    pub fn from_url(url: impl Into<String>) -> Self {
        Self { url: Some(url.into()), bytes: None }
    }

    /// A picture carried in the record.
    pub fn from_bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self { url: None, bytes: Some(InlineBytes(bytes.into())) }
    }
}

/// Bytes that travel as base64 in JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlineBytes(pub Vec<u8>);

impl Serialize for InlineBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for InlineBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        decode_base64(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for InlineBytes {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "InlineBytes".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "minLength": 1, "contentEncoding": "base64"})
    }
}

/// Fields that every item may carry beside its content.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Common {
    /// The item's id; the record's key is used where it is absent, and both must agree where both are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Source version: a higher one replaces a lower one, whatever the order of arrival.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "optional_whole")]
    #[schemars(range(max = 9_223_372_036_854_775_807_i64))]
    pub version: Option<u64>,
    /// Page of the item; returned with results, never fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// Language as a BCP 47 tag, for filters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Time of publication, milliseconds since 1970 UTC, for filters.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "optional_whole")]
    pub time_ms: Option<i64>,
    /// Tags, for filters.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_as_absent")]
    pub tags: Vec<String>,
    /// Anything else worth returning with a result, for example a licence.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_as_absent")]
    pub attributes: BTreeMap<String, String>,
}

/// Limits of one record, checked before anything is fetched or decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordLimits {
    /// Longest title, body or caption, in bytes of UTF-8.
    pub text_bytes_max: usize,
    /// Longest id, in bytes of UTF-8.
    pub id_bytes_max: usize,
    /// Largest inline picture, in bytes after base64.
    pub image_bytes_max: usize,
    /// Most tags and most attributes, each.
    pub labels_max: usize,
    /// Most key frames of a video.
    pub frames_max: usize,
}

impl Default for RecordLimits {
    fn default() -> Self {
        Self { text_bytes_max: 256 * 1024, id_bytes_max: 512, image_bytes_max: 16 * 1024 * 1024, labels_max: 256, frames_max: 64 }
    }
}

pub(crate) fn check_image(image: &ImageSource, limits: &RecordLimits) -> Result<(), DecodeError> {
    match (&image.url, &image.bytes) {
        (Some(_), Some(_)) | (None, None) => {
            Err(DecodeError::new("image", "expected exactly one of `url` and `bytes`", "send one of them"))
        }
        (Some(url), None) => check_bytes("image.url", url.len(), "url_bytes_max", 8 * 1024),
        (None, Some(InlineBytes(bytes))) if bytes.is_empty() => {
            Err(DecodeError::new("image.bytes", "empty picture", "send the encoded picture"))
        }
        (None, Some(InlineBytes(bytes))) => check_bytes("image.bytes", bytes.len(), "image_bytes_max", limits.image_bytes_max),
    }
}

/// Checks an item's id, from the record's key or its body.
///
/// # Errors
/// An empty id, or one over `id_bytes_max`.
pub fn check_id(path: &str, id: &str, limits: &RecordLimits) -> Result<(), DecodeError> {
    if id.is_empty() {
        return Err(DecodeError::new(path, "empty id", "send a non-empty id as the record's key or in `id`"));
    }
    check_bytes(path, id.len(), "id_bytes_max", limits.id_bytes_max)
}

pub(crate) fn check_bytes(path: &str, bytes: usize, limit: &str, bytes_max: usize) -> Result<(), DecodeError> {
    if bytes <= bytes_max {
        return Ok(());
    }
    Err(DecodeError::new(path, format!("{bytes} bytes, over the limit {limit} = {bytes_max}"), "send less, or raise the limit"))
}
