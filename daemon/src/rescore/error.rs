//! Why a whole request was not answered. One candidate is never a reason: see [`astromech_schemas::rescore::CandidateProblem`].

use astromech_schemas::rescore::CandidateFault;

use crate::index::IndexError;

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
pub enum RescoreError {
    /// This daemon does not re-score.
    #[error("rescore.enabled is false; fix: set it to true, with a bundle that has a cross tower, and start again")]
    Off,
    /// The request is wrong.
    #[error("{field}: {problem}; fix: {fix}")]
    Invalid {
        /// Field of the request.
        field: &'static str,
        /// What is wrong, with the limit.
        problem: String,
        /// What to send.
        fix: &'static str,
    },
    /// More candidates than one request may have.
    #[error(
        "candidates: {candidates} are over rescore.candidates_max = {candidates_max} candidates; fix: split them over several requests"
    )]
    TooMany {
        /// In the request.
        candidates: usize,
        /// Limit.
        candidates_max: usize,
    },
    /// The context names an item that the index does not hold.
    #[error("context.item: {0}; fix: index it first, or send its text or picture")]
    NoItem(String),
    /// The context could not be encoded.
    #[error("context: {}", .0.detail)]
    Context(CandidateFault),
    /// As many requests are under way as may be.
    #[error("rescore.requests_in_flight_max = {requests_in_flight_max} requests are under way; fix: try again after a second")]
    Overloaded {
        /// Limit.
        requests_in_flight_max: usize,
    },
    /// The deadline passed before anything was scored.
    #[error(
        "deadline_ms: nothing was scored within {deadline_ms} ms; fix: send fewer candidates, or a later deadline_ms up to \
         rescore.deadline_ms_max = {deadline_ms_max}"
    )]
    Deadline {
        /// Time that the request had, milliseconds.
        deadline_ms: u64,
        /// Most that a request may ask for, milliseconds.
        deadline_ms_max: u64,
    },
    /// A request that waited for longer than its deadline before anybody read it.
    #[error(
        "deadline_ms: the request was {age_ms} ms old when it was read, its deadline is {deadline_ms} ms; fix: add daemons or partitions, or send a later deadline_ms; clocks must agree"
    )]
    Stale {
        /// Time since the record was made, milliseconds.
        age_ms: u64,
        /// Time that the request had, milliseconds.
        deadline_ms: u64,
    },
    /// The index did not answer.
    #[error(transparent)]
    Index(#[from] IndexError),
}

impl RescoreError {
    /// Whether it may pass: wait and try again.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Overloaded { .. } | Self::Index(IndexError::Transient(_)))
    }
}
