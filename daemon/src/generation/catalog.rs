//! Which generations there are and which is live, as the index itself keeps it.

use astromech_schemas::Fingerprint;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::index::IndexError;

/// Why a generation that is not live is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// It was live until a newer one was; going back to it is one change of the aliases.
    Retired,
    /// It was live and was given up by a rollback: the daemon never makes it live again by itself.
    Held,
    /// A newer bundle was published before it was live.
    Superseded,
}

impl Mark {
    /// The word in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retired => "retired",
            Self::Held => "held",
            Self::Superseded => "superseded",
        }
    }
}

/// A mark, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {
    /// Why it is kept.
    pub mark: Mark,
    /// Since then, milliseconds since 1970.
    pub since_ms: u64,
}

/// A generation that the index holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its vector space.
    pub fingerprint: Fingerprint,
    /// Name of its bundle, for people.
    pub bundle: String,
    /// Why it is kept; `None` for the live one and for one that is being filled.
    pub noted: Option<Noted>,
}

/// The index's own book of generations. It is the only place where it is written what is live, so several daemons agree by looking.
pub trait Catalog: Send + Sync {
    /// The live generation; `None` where there is none yet.
    fn live(&self) -> BoxFuture<'_, Result<Option<Fingerprint>, IndexError>>;

    /// Every generation that the index holds.
    fn generations(&self) -> BoxFuture<'_, Result<Vec<Stored>, IndexError>>;

    /// Makes `fingerprint` live, of all kinds at once or not at all. Its collections must be there.
    fn promote<'a>(&'a self, fingerprint: &'a Fingerprint) -> BoxFuture<'a, Result<(), IndexError>>;

    /// Writes down why a generation is kept, or that it is no longer.
    fn note<'a>(&'a self, fingerprint: &'a Fingerprint, noted: Option<Noted>) -> BoxFuture<'a, Result<(), IndexError>>;

    /// Deletes a generation's collections; one that is live is refused, one that is gone is fine.
    fn drop_generation<'a>(&'a self, fingerprint: &'a Fingerprint) -> BoxFuture<'a, Result<(), IndexError>>;
}
