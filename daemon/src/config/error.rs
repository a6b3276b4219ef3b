//! A mistake in the configuration, with its place and its fix.

use std::fmt;
use std::path::{Path, PathBuf};

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Line in the file, from 1; 0 where the mistake is an absence or of the whole file.
    pub line: usize,
    /// Key, for example `media.bytes_max`.
    pub field: String,
    /// What is wrong, with the limit where one was passed.
    pub problem: String,
    /// What to do about it.
    pub fix: String,
}

impl ConfigError {
    /// A mistake at `line` in `field`.
    pub fn new(line: usize, field: impl Into<String>, problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { line, field: field.into(), problem: problem.into(), fix: fix.into() }
    }

    /// A mistake of the whole file.
    pub fn of_file(problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(0, "", problem, fix)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        write!(f, "{}; fix: {}", self.problem, self.fix)
    }
}

/// Every mistake of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The file.
    pub file: PathBuf,
    /// The mistakes, in the order of their lines.
    pub errors: Vec<ConfigError>,
}

impl ConfigErrors {
    pub(super) fn one(file: &Path, error: ConfigError) -> Self {
        Self { file: file.to_owned(), errors: vec![error] }
    }
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.errors.len();
        write!(f, "{}: {count} {}", self.file.display(), if count == 1 { "error" } else { "errors" })?;
        for error in &self.errors {
            write!(f, "\n  {error}")?;
        }
        Ok(())
    }
}
