//! Why a search or an embedding failed.

use std::borrow::Cow;

use astromech_towers::{ImageError, TowersError};

use crate::index::IndexError;
use crate::rescore::RescoreError;

/// Why a search or an embedding failed.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The request is wrong.
    #[error("{field}: {problem}; fix: {fix}")]
    Invalid {
        /// Field of the request.
        field: Cow<'static, str>,
        /// What is wrong, with the limit.
        problem: String,
        /// What to send.
        fix: &'static str,
    },
    /// A picture is not one that is read, or over a limit.
    #[error("{field}: {error}")]
    Image {
        /// Field of the request.
        field: Cow<'static, str>,
        /// What is wrong with it.
        error: ImageError,
    },
    /// Vectors are asked for, and items have more than one.
    #[error(
        "this daemon's bundle compares items token by token, so no item has one vector; fix: search here, or serve a bundle \
         that was exported without --similarity"
    )]
    NoSingleVector,
    /// The towers failed.
    #[error(transparent)]
    Towers(#[from] TowersError),
    /// The index did not answer.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The query could not be encoded for re-scoring, or too many requests re-score.
    #[error(transparent)]
    Rescore(#[from] RescoreError),
}

impl SearchError {
    pub(super) fn invalid(field: impl Into<Cow<'static, str>>, problem: impl Into<String>, fix: &'static str) -> Self {
        Self::Invalid { field: field.into(), problem: problem.into(), fix }
    }
}
