//! Dead letters: the record itself, byte-identical, with headers that say why.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Header: machine-readable reason, a [`Reason`].
pub const HEADER_REASON: &str = "astromech-reason";
/// Header: one sentence for a person: field, problem, fix.
pub const HEADER_DETAIL: &str = "astromech-detail";
/// Header: topic the record came from.
pub const HEADER_TOPIC: &str = "astromech-topic";
/// Header: partition the record came from.
pub const HEADER_PARTITION: &str = "astromech-partition";
/// Header: offset the record came from.
pub const HEADER_OFFSET: &str = "astromech-offset";
/// Header: time of the record, milliseconds since 1970, decimal; absent where it has none.
pub const HEADER_TIMESTAMP: &str = "astromech-timestamp";
/// Header on the way in: version of a delete (its value is null), decimal.
pub const HEADER_VERSION: &str = "astromech-version";
/// Header on the way in: offset that a dead letter which is sent again had at first, decimal. Of two changes with one version the record counts
/// as it would have at that place.
pub const HEADER_ORIGIN_OFFSET: &str = "astromech-origin-offset";
/// Header on the way in: kind of a delete where its topic's configuration names none.
pub const HEADER_KIND: &str = "astromech-kind";

/// Why a record can never be applied. A fault that may pass (a host down, a time-out) is never a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The record is no valid message: encoding, JSON, a field, a limit.
    InvalidRecord,
    /// The schema registry knows no schema of the record's id (topics in Avro).
    UnknownSchema,
    /// The record has neither a key nor an id, or they disagree.
    InvalidKey,
    /// A version was required and is missing or wrong.
    InvalidVersion,
    /// The picture is no picture, is truncated, or has a format that is not read.
    InvalidImage,
    /// The picture's declared size is over the limit of pixels.
    ImageTooLarge,
    /// The address is not allowed: scheme, host, folder, private network.
    UrlForbidden,
    /// The address answered that the picture is not there.
    UrlNotFound,
    /// The address answered with something over the limit of bytes.
    UrlTooLarge,
    /// The engine refused the point for what it contains.
    RefusedByIndex,
}

impl Reason {
    /// Every reason, for metrics that start at zero.
    pub const ALL: [Self; 10] = [
        Self::InvalidRecord,
        Self::UnknownSchema,
        Self::InvalidKey,
        Self::InvalidVersion,
        Self::InvalidImage,
        Self::ImageTooLarge,
        Self::UrlForbidden,
        Self::UrlNotFound,
        Self::UrlTooLarge,
        Self::RefusedByIndex,
    ];

    /// The word in the header and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRecord => "invalid_record",
            Self::UnknownSchema => "unknown_schema",
            Self::InvalidKey => "invalid_key",
            Self::InvalidVersion => "invalid_version",
            Self::InvalidImage => "invalid_image",
            Self::ImageTooLarge => "image_too_large",
            Self::UrlForbidden => "url_forbidden",
            Self::UrlNotFound => "url_not_found",
            Self::UrlTooLarge => "url_too_large",
            Self::RefusedByIndex => "refused_by_index",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
