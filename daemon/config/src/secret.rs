//! Values that come from files of their own and are never shown.

use std::path::Path;

use astromech_settings::{At, SettingError};

/// A value that no log, dump or error ever shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Reads the secret in the file that the key at `at` names.
pub(crate) fn secret(at: &At, path: &Path, errors: &mut Vec<SettingError>) -> Option<Secret> {
    match std::fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() => {
            errors.push(at.error(format!("{} is empty", path.display()), "write the secret into it"));
            None
        }
        Ok(text) => Some(Secret::new(text.trim())),
        Err(e) => {
            errors.push(at.error(format!("{} can't be read: {e}", path.display()), "name a file that this user may read"));
            None
        }
    }
}
