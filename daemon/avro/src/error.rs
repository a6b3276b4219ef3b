//! What can go wrong with an Avro record, by what is to be done about it.

use std::fmt;

use thiserror::Error;

/// A record that is damaged: it will never be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// Path of the field, `.` for the whole record.
    pub path: String,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub fix: String,
}

impl Invalid {
    /// Of the whole record, until [`Invalid::within`] says where.
    pub(crate) fn new(problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { path: String::new(), problem: problem.into(), fix: fix.into() }
    }

    /// The same inside `field`.
    pub(crate) fn within(mut self, field: &str) -> Self {
        let joint = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{field}{joint}{}", self.path);
        self
    }

    /// The same inside element `index`.
    pub(crate) fn at(self, index: usize) -> Self {
        self.within(&format!("[{index}]"))
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { "." } else { &self.path };
        write!(f, "{path}: {}; fix: {}", self.problem, self.fix)
    }
}

impl std::error::Error for Invalid {}

/// Why a record's schema is not there.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AvroError {
    /// The registry knows no such schema: the record will not be read unless somebody registers it.
    #[error("schema id {id}: {problem}; fix: register the schema, or correct the producer, and replay this letter")]
    Unknown {
        /// Id in the record.
        id: u32,
        /// What the registry said.
        problem: String,
    },
    /// The record, or the schema that it names, can never be read.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The registry does not answer, or not us: to be asked again.
    #[error("the schema registry: {0}")]
    Transient(String),
}

impl AvroError {
    /// Whether it may pass: wait and try again.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Transient(_))
    }
}

/// Why the registry's client was not made.
#[derive(Debug, Error)]
pub enum StartError {
    /// The CA file holds no certificate.
    #[error("kafka.schema_registry.ca_file holds no certificate in PEM; fix: name a file with -----BEGIN CERTIFICATE-----")]
    Ca,
    /// The schema that is to be written with can't be used.
    #[error("the schema to write with: {0}")]
    Schema(String),
    /// The HTTP client was not made.
    #[error("the client of kafka.schema_registry.url was not made")]
    Client(#[source] reqwest::Error),
}
