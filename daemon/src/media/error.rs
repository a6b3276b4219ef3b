//! Why a picture was not fetched: for good, or for now (promise 5: transient is not poison).

use std::time::Duration;

use astromech_schemas::dead_letter::Reason;

/// Why a picture was not fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MediaError {
    /// The address is not allowed. For good.
    #[error("{0}")]
    Forbidden(String),
    /// The address answers that there is nothing. For good.
    #[error("{0}")]
    NotFound(String),
    /// There is more than may be fetched. For good.
    #[error("{0}")]
    TooLarge(String),
    /// May pass: wait and try again.
    #[error("{0}")]
    Transient(String),
    /// The host failed too often in a row and is not asked for a while. May pass.
    #[error("{detail}")]
    HostPaused {
        /// Which host, and how often it failed.
        detail: String,
        /// Until it is asked again.
        wait: Duration,
    },
}

impl MediaError {
    /// The reason of the dead letter, or `None` where it may pass.
    pub const fn reason(&self) -> Option<Reason> {
        match self {
            Self::Forbidden(_) => Some(Reason::UrlForbidden),
            Self::NotFound(_) => Some(Reason::UrlNotFound),
            Self::TooLarge(_) => Some(Reason::UrlTooLarge),
            Self::Transient(_) | Self::HostPaused { .. } => None,
        }
    }

    /// Whether it may pass: wait and try again.
    pub const fn is_transient(&self) -> bool {
        self.reason().is_none()
    }

    /// How long the host is not asked; then nothing was tried.
    pub const fn pause(&self) -> Option<Duration> {
        match self {
            Self::HostPaused { wait, .. } => Some(*wait),
            _ => None,
        }
    }
}
