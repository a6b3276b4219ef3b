//! What a look at the outside found, measured by what a start would do.

use serde::Serialize;

use super::IndexError;

/// What a start would do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing: it is as it must be.
    Right,
    /// It is not there and would be made.
    Create,
    /// It is there and would be changed.
    Change,
    /// The daemon would not start, or would wait for somebody to mend it.
    Wrong,
}

impl Verdict {
    /// The word in lists.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Right => "right",
            Self::Create => "create",
            Self::Change => "change",
            Self::Wrong => "wrong",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at, for example `collection articles-0a1b2c3d4e5f`.
    pub subject: String,
    /// What a start would do.
    pub verdict: Verdict,
    /// What was found, and what would be done.
    pub detail: String,
}

impl Finding {
    /// A finding.
    pub fn new(subject: impl Into<String>, verdict: Verdict, detail: impl Into<String>) -> Self {
        Self { subject: subject.into(), verdict, detail: detail.into() }
    }

    /// What `looked` came to: a mismatch is a finding, no answer is an error.
    ///
    /// # Errors
    /// [`IndexError::Transient`].
    pub(super) fn of(subject: impl Into<String>, looked: Result<Verdict, IndexError>, detail: &str) -> Result<Self, IndexError> {
        match looked {
            Ok(verdict) => Ok(Self::new(subject, verdict, detail)),
            Err(error @ IndexError::Transient(_)) => Err(error),
            Err(IndexError::Mismatch(problem) | IndexError::Refused(problem)) => {
                Ok(Self::new(subject, Verdict::Wrong, String::from(problem)))
            }
        }
    }
}
