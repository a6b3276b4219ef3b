//! A mistake in the configuration, with its place and its fix.

use std::fmt;
use std::path::PathBuf;

/// Where something is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spot {
    /// Line in the file, from 1; 0 where it is not in the file.
    pub line: usize,
    /// Given on the command line, by `--set`.
    pub set: bool,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingError {
    /// Line in the file, from 1; 0 where the mistake is an absence, of the whole file or on the command line.
    pub line: usize,
    /// Made on the command line, by `--set`.
    pub set: bool,
    /// Key, for example `media.bytes_max`.
    pub field: String,
    /// What is wrong, with the limit where one was passed.
    pub problem: String,
    /// What to do about it.
    pub fix: String,
}

impl SettingError {
    /// A mistake at `spot` in `field`.
    pub fn new(spot: Spot, field: impl Into<String>, problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { line: spot.line, set: spot.set, field: field.into(), problem: problem.into(), fix: fix.into() }
    }

    /// A mistake of the whole file.
    pub fn of_file(problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(Spot::default(), "", problem, fix)
    }
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.set {
            f.write_str("--set: ")?;
        } else if self.line > 0 {
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
pub struct SettingErrors {
    /// The file.
    pub file: PathBuf,
    /// The mistakes, in the order of their lines.
    pub errors: Vec<SettingError>,
}

/// `value`, or the mistakes in the order of their lines.
///
/// # Errors
/// `errors`, where there is one.
pub fn in_order<T>(value: T, mut errors: Vec<SettingError>) -> Result<T, Vec<SettingError>> {
    if errors.is_empty() {
        return Ok(value);
    }
    errors.sort_by(|a, b| (a.set, a.line, &a.field).cmp(&(b.set, b.line, &b.field)));
    Err(errors)
}

impl std::error::Error for SettingErrors {}

impl fmt::Display for SettingErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.errors.len();
        write!(f, "{}: {count} {}", self.file.display(), if count == 1 { "error" } else { "errors" })?;
        for error in &self.errors {
            write!(f, "\n  {error}")?;
        }
        Ok(())
    }
}
