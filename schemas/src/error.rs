//! One error for everything that arrives from outside: it names the field, the problem and the fix.

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::error::Category;

use crate::encoding::{NotJson, text};
use crate::known::{Known, Names};

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

impl From<NotJson> for DecodeError {
    fn from(NotJson { problem, fix }: NotJson) -> Self {
        Self::new(".", problem, fix)
    }
}

/// Reads `T` from JSON, a byte order mark before it or none; a wrong or missing field is named with its path.
///
/// # Errors
/// Another encoding, invalid JSON, or a document that is not a `T`.
pub fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut json = serde_json::Deserializer::from_str(text(bytes)?);
    let value = serde_path_to_error::deserialize(&mut json).map_err(named)?;
    json.end().map_err(|error| behind(&error))?;
    Ok(value)
}

/// As [`from_json`], of an object whose fields are `names`: others are passed over, whatever they hold.
///
/// # Errors
/// As [`from_json`].
pub(crate) fn from_json_known<T: DeserializeOwned>(bytes: &[u8], names: Names) -> Result<T, DecodeError> {
    let mut json = serde_json::Deserializer::from_str(text(bytes)?);
    let value = serde_path_to_error::deserialize(Known { inner: &mut json, names }).map_err(named)?;
    json.end().map_err(|error| behind(&error))?;
    Ok(value)
}

fn named(error: serde_path_to_error::Error<serde_json::Error>) -> DecodeError {
    let path = error.path().to_string();
    let inner = error.into_inner();
    let fix = match inner.classify() {
        Category::Data => "send the field with the type in schemas/json",
        Category::Eof => "send the whole JSON object in one record (in a file: on one line, not over several)",
        _ => "send one JSON object a record",
    };
    DecodeError::new(path, inner.to_string(), fix)
}

fn behind(error: &serde_json::Error) -> DecodeError {
    DecodeError::new(".", error.to_string(), "send one JSON object a record")
}
