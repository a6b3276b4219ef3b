//! Who an item is: its kind, its point id, and the name of the vector space it was embedded into.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What an item is. Each kind has a collection of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A text with an optional picture.
    Article,
    /// A picture with an optional caption.
    Image,
    /// An advertisement: a text, a picture, or both.
    Ad,
}

impl Kind {
    /// Every kind, in the order of the collections.
    pub const ALL: [Self; 3] = [Self::Article, Self::Image, Self::Ad];

    /// The word used in messages: `article`, `image` or `ad`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Article => "article",
            Self::Image => "image",
            Self::Ad => "ad",
        }
    }

    /// The alias under which the live collection of this kind is found: `articles`, `images` or `ads`.
    pub const fn collection(self) -> &'static str {
        match self {
            Self::Article => "articles",
            Self::Image => "images",
            Self::Ad => "ads",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| format!("unknown kind `{text}`, expected one of `article`, `image`, `ad`"))
    }
}

/// Namespace of the point ids; changing it would re-key every collection.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f0c_5a5e_92f1_4f6b_8a55_0d2c_0e3a_7d11);

/// The point id of an item: UUIDv5 of `kind`, a zero byte and `id`, so that the same item is the same point in every generation.
pub fn point_id(kind: Kind, id: &str) -> Uuid {
    let mut name = Vec::with_capacity(kind.as_str().len() + 1 + id.len());
    name.extend_from_slice(kind.as_str().as_bytes());
    name.push(0);
    name.extend_from_slice(id.as_bytes());
    Uuid::new_v5(&NAMESPACE, &name)
}

/// Name of a vector space: 64 lower-case hexadecimal digits of a sha-256 over a bundle's files.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = "^[0-9a-f]{64}$"))]
pub struct Fingerprint(String);

impl Fingerprint {
    /// All 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Digits of [`Self::short`].
    pub const SHORT_CHARS: usize = 12;

    /// The first digits, for collection names and logs.
    pub fn short(&self) -> &str {
        &self.0[..Self::SHORT_CHARS]
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let ok = text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if ok { Ok(Self(text)) } else { Err(format!("`{text}` is not a fingerprint: expected 64 lower-case hexadecimal digits")) }
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn point_ids_are_stable_and_differ_by_kind() {
        assert_eq!(point_id(Kind::Article, "1"), point_id(Kind::Article, "1"));
        assert_ne!(point_id(Kind::Article, "1"), point_id(Kind::Image, "1"));
        // A golden value: if it changes, every point of every collection is orphaned.
        assert_eq!(point_id(Kind::Image, "emoji-1").to_string(), "d9a040e2-cf30-54cb-8724-61189f694982");
    }

    #[test]
    fn a_fingerprint_is_64_lower_case_hexadecimal_digits() {
        assert!(Fingerprint::try_from("0".repeat(64)).is_ok());
        assert!(Fingerprint::try_from("A".repeat(64)).is_err());
        assert!(Fingerprint::try_from("0".repeat(63)).is_err());
    }
}
