//! Why the index did not do as asked.

use std::error::Error;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// What went wrong, in words that say all there is to say, and what it came from.
#[derive(Debug, Clone)]
pub struct Problem {
    text: String,
    cause: Option<Arc<dyn Error + Send + Sync>>,
}

impl Problem {
    fn new(text: impl Into<String>, cause: impl Error + Send + Sync + 'static) -> Self {
        Self { text: text.into(), cause: Some(Arc::new(cause)) }
    }
}

impl From<String> for Problem {
    fn from(text: String) -> Self {
        Self { text, cause: None }
    }
}

impl From<&str> for Problem {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<Problem> for String {
    fn from(problem: Problem) -> Self {
        problem.text
    }
}

impl Deref for Problem {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why the index did not do as asked.
#[derive(Debug, Clone)]
pub enum IndexError {
    /// May pass: wait and try again.
    Transient(Problem),
    /// The engine refused the content of these points; others of the batch may be fine when written alone.
    Refused(Problem),
    /// The collection, the server or the vector is of another space or form: stop.
    Mismatch(Problem),
}

impl IndexError {
    /// [`IndexError::Transient`] with its cause, whose message `text` has in it.
    pub fn transient(text: impl Into<String>, cause: impl Error + Send + Sync + 'static) -> Self {
        Self::Transient(Problem::new(text, cause))
    }

    /// [`IndexError::Refused`] with its cause, whose message `text` has in it.
    pub fn refused(text: impl Into<String>, cause: impl Error + Send + Sync + 'static) -> Self {
        Self::Refused(Problem::new(text, cause))
    }

    /// [`IndexError::Mismatch`] with its cause, whose message `text` has in it.
    pub fn mismatch(text: impl Into<String>, cause: impl Error + Send + Sync + 'static) -> Self {
        Self::Mismatch(Problem::new(text, cause))
    }

    /// Whether it may pass: wait and try again.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Transient(_))
    }

    /// What went wrong, without the words that tell its kind.
    pub fn text(&self) -> &str {
        self.problem()
    }

    fn problem(&self) -> &Problem {
        match self {
            Self::Transient(problem) | Self::Refused(problem) | Self::Mismatch(problem) => problem,
        }
    }

    /// What it came from, for who asks by type: an error of SQLite, of Qdrant's client or of the file system.
    pub fn cause(&self) -> Option<&(dyn Error + Send + Sync + 'static)> {
        self.problem().cause.as_deref()
    }
}

impl fmt::Display for IndexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Transient(_) => "index not available",
            Self::Refused(_) => "index refused the points",
            Self::Mismatch(_) => "index does not match",
        };
        write!(f, "{kind}: {}", self.problem())
    }
}

impl Error for IndexError {
    /// What the cause itself came from: its own message is in this error's, and a chain of causes would print it twice.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause().and_then(|cause| cause.source())
    }
}
