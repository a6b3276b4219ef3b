//! One error for everything that arrives from outside: it names the field, the problem and the fix.

use std::fmt;

use serde::de::DeserializeOwned;

/// Why a document from outside was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct DecodeError {
    /// Path of the field, for example `image.bytes` or `files[2].sha256`; `.` is the whole document.
    pub path: String,
    /// What is wrong, with the limit where one was passed.
    pub problem: String,
    /// What the sender can do about it.
    pub fix: String,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.problem)?;
        if !self.fix.is_empty() {
            write!(f, "; fix: {}", self.fix)?;
        }
        Ok(())
    }
}

impl DecodeError {
    /// An error at `path`.
    pub fn new(path: impl Into<String>, problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { path: path.into(), problem: problem.into(), fix: fix.into() }
    }
}

/// Reads `T` from JSON; a wrong or missing field is named with its path.
///
/// # Errors
/// Invalid UTF-8, invalid JSON, or a document that is not a `T`.
pub fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        DecodeError::new(".", format!("invalid UTF-8 at byte {}", e.valid_up_to()), "encode the record as UTF-8 JSON")
    })?;
    let mut json = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|e| {
        let path = e.path().to_string();
        let inner = e.into_inner();
        let fix = match inner.classify() {
            serde_json::error::Category::Data => "send the field with the type in schemas/json",
            _ => "send one JSON object a record",
        };
        DecodeError::new(path, inner.to_string(), fix)
    })?;
    json.end().map_err(|e| DecodeError::new(".", e.to_string(), "send one JSON object a record"))?;
    Ok(value)
}
