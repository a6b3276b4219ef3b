//! Why one candidate is not scored.

use astromech_schemas::dead_letter::Reason;
use astromech_schemas::rescore::{CandidateFault, ProblemKind};
use astromech_towers::TowersError;

use crate::media::MediaError;
use crate::prepare;

pub(super) fn fault(kind: ProblemKind, detail: impl Into<String>) -> CandidateFault {
    CandidateFault { kind, detail: detail.into() }
}

/// The candidate itself is wrong.
pub(super) fn invalid(field: &str, problem: &str, fix: &str) -> CandidateFault {
    fault(ProblemKind::InvalidCandidate, format!("{field}: {problem}; fix: {fix}"))
}

pub(super) fn deadline() -> CandidateFault {
    fault(ProblemKind::Deadline, "the deadline passed before it was scored; fix: send fewer candidates, or a later deadline_ms")
}

/// The cause goes to the log, not to the client.
pub(super) fn failed(error: &dyn std::fmt::Display) -> CandidateFault {
    tracing::error!(%error, "a candidate could not be scored");
    fault(ProblemKind::Failed, "the daemon failed on it; the cause is in its log")
}

pub(super) fn of_towers(error: &TowersError) -> CandidateFault {
    match error {
        TowersError::Deadline { .. } => deadline(),
        error => failed(error),
    }
}

pub(super) fn of_media(error: &MediaError) -> CandidateFault {
    let kind = match error {
        MediaError::Forbidden(_) => ProblemKind::UrlForbidden,
        MediaError::NotFound(_) => ProblemKind::UrlNotFound,
        MediaError::TooLarge(_) => ProblemKind::UrlTooLarge,
        MediaError::Transient(_) | MediaError::HostPaused { .. } => ProblemKind::UrlUnavailable,
    };
    fault(kind, format!("url: {error}"))
}

pub(super) fn of_preparing(error: prepare::Fault) -> CandidateFault {
    let kind = match error.reason {
        Reason::InvalidImage => ProblemKind::InvalidImage,
        Reason::ImageTooLarge => ProblemKind::ImageTooLarge,
        _ => ProblemKind::InvalidCandidate,
    };
    fault(kind, error.detail)
}
