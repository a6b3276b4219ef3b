//! What a picture's bytes are called.

use astromech_schemas::hexadecimal;
use sha2::{Digest as _, Sha256};

/// sha-256 of an encoded picture's bytes: its name whatever its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentHash([u8; 32]);

impl ContentHash {
    /// Of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The hash itself.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// 64 lower-case hexadecimal digits, as payloads carry it.
    pub fn to_hex(self) -> String {
        hexadecimal::encode(&self.0)
    }

    /// Reads [`ContentHash::to_hex`]; `None` for anything else.
    pub fn from_hex(text: &str) -> Option<Self> {
        hexadecimal::decode(text).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::ContentHash;

    #[test]
    fn a_hash_is_read_back_from_its_digits_and_nothing_else_is() {
        let hash = ContentHash::of(b"picture");
        assert_eq!(ContentHash::from_hex(&hash.to_hex()), Some(hash));
        let (upper, short, foreign) = (hash.to_hex().to_uppercase(), hash.to_hex()[1..].to_owned(), "g".repeat(64));
        for text in [upper, short, foreign, String::new()] {
            assert_eq!(ContentHash::from_hex(&text), None, "{text}");
        }
    }
}
