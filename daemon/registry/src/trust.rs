//! Which releases a reader takes.

use std::path::Path;

use astromech_schemas::Release;
use minisign_verify::{Error, PublicKey, Signature};

use crate::RegistryError;

/// Largest file of a public key.
const KEY_BYTES_MAX: usize = 4096;

/// Which releases are taken: any whose sums fit, or only those signed by one of the keys.
#[derive(Debug, Clone)]
pub struct Trust {
    /// With the key's own text, for messages; empty: anything.
    keys: Vec<(PublicKey, String)>,
}

impl Trust {
    /// Takes releases without a signature too. A signature that is there is not looked at: there is no key to hold it to.
    pub const fn anyone() -> Self {
        Self { keys: Vec::new() }
    }

    /// Takes only what one of `keys` has signed: each is the text of a minisign public key, with or without its comment line. Two
    /// keys let a new one take over from an old one.
    ///
    /// # Errors
    /// No key, or one that can't be read.
    pub fn keys<S: AsRef<str>>(keys: &[S]) -> Result<Self, RegistryError> {
        if keys.is_empty() {
            return Err(RegistryError::Key { what: "(none)".to_owned(), problem: "no key is given".to_owned() });
        }
        keys.iter().map(|key| read_key(key.as_ref())).collect::<Result<_, _>>().map(|keys| Self { keys })
    }

    /// As [`Trust::keys`], of one key in a `.pub` file.
    ///
    /// # Errors
    /// The file can't be read or is no minisign public key.
    pub fn key_file(path: &Path) -> Result<Self, RegistryError> {
        let text = std::fs::read_to_string(path).map_err(RegistryError::io(path))?;
        Self::keys(&[text]).map_err(|error| match error {
            RegistryError::Key { problem, .. } => RegistryError::Key { what: path.display().to_string(), problem },
            other => other,
        })
    }

    /// Whether a signature is required.
    pub const fn requires_signature(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Checks the release's signature where a key is required.
    ///
    /// # Errors
    /// It is unsigned, signed by another key, or was changed after it was signed.
    pub fn check(&self, release: &Release) -> Result<(), RegistryError> {
        if self.keys.is_empty() {
            return Ok(());
        }
        let fingerprint = release.fingerprint.clone();
        let Some(text) = &release.signature else { return Err(RegistryError::Unsigned { fingerprint }) };
        let wrong = |problem: &dyn std::fmt::Display| RegistryError::Signature {
            fingerprint: release.fingerprint.clone(),
            problem: problem.to_string(),
        };
        let signature = Signature::decode(text).map_err(|error| wrong(&error))?;
        let statement = release.statement();
        for (key, _) in &self.keys {
            match key.verify(statement.as_bytes(), &signature, false) {
                Ok(()) => return Ok(()),
                Err(Error::UnexpectedKeyId) => {}
                Err(error) => return Err(wrong(&error)),
            }
        }
        let expected = self.keys.iter().map(|(_, id)| id.as_str()).collect::<Vec<_>>().join(" or ");
        Err(RegistryError::WrongKey { fingerprint, expected, found: signature_key_id(text) })
    }
}

fn read_key(text: &str) -> Result<(PublicKey, String), RegistryError> {
    let wrong = |problem: String| RegistryError::Key {
        what: text.chars().take(80).collect::<String>().escape_debug().to_string(),
        problem,
    };
    if text.len() > KEY_BYTES_MAX {
        return Err(wrong(format!("{} bytes are no public key", text.len())));
    }
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    let key = PublicKey::from_base64(line).map_err(|error| wrong(error.to_string()))?;
    Ok((key, key_id(line)))
}

/// Algorithm (2 bytes) and id (8 bytes, little endian) are the first 10 bytes of a key and of a signature: 14 digits of base64.
fn key_id(base64: &str) -> String {
    let sextet = |byte: u8| match byte {
        b'A'..=b'Z' => u128::from(byte - b'A'),
        b'a'..=b'z' => u128::from(byte - b'a') + 26,
        b'0'..=b'9' => u128::from(byte - b'0') + 52,
        b'+' => 62,
        _ => 63,
    };
    if base64.len() < 14 {
        return "unknown".to_owned();
    }
    let bits = base64.bytes().take(14).fold(0_u128, |bits, byte| bits << 6 | sextet(byte));
    // 84 bits, of which the last 4 belong to the next byte.
    let id = (bits >> 4) as u64;
    format!("{:016X}", id.swap_bytes())
}

fn signature_key_id(text: &str) -> String {
    text.lines().nth(1).map_or_else(|| "unknown".to_owned(), |line| key_id(line.trim()))
}
