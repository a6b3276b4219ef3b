//! Failures that say what to do: the hint travels with the error, whoever prints it.

use std::fmt;

/// A failure that the command line or the configuration caused.
#[derive(Debug)]
pub struct Usage {
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub hint: String,
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

impl std::error::Error for Usage {}

/// A step that failed, and what may help.
#[derive(Debug)]
pub struct Hinted {
    /// What was being done.
    pub step: String,
    /// What to do about it.
    pub hint: String,
}

impl fmt::Display for Hinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.step)
    }
}

/// As a context of an error: `.with_context(|| hinted("…", "…"))`.
pub fn hinted(step: impl Into<String>, hint: impl Into<String>) -> Hinted {
    Hinted { step: step.into(), hint: hint.into() }
}
