//! What the daemon tells about generations: `GET /v1/generations`, the command line, the page.

use std::collections::BTreeMap;

use astromech_schemas::{Fingerprint, Kind};
use serde::{Deserialize, Serialize};

/// What a generation is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GenerationState {
    /// It answers.
    Live,
    /// Its collections are being filled.
    Filling,
    /// It is at the live head and is compared with the live one.
    Verifying,
    /// It was live and is kept up to date.
    Retired,
    /// It was live, was given up by a rollback, and is kept up to date.
    Held,
    /// The index holds it and this daemon does not run it.
    Stored,
}

impl GenerationState {
    /// The word in answers and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Filling => "filling",
            Self::Verifying => "verifying",
            Self::Retired => "retired",
            Self::Held => "held",
            Self::Stored => "stored",
        }
    }
}

/// One generation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GenerationStatus {
    /// Its vector space.
    pub fingerprint: Fingerprint,
    /// Name of its bundle.
    pub bundle: String,
    /// What it is doing.
    pub state: GenerationState,
    /// Since when it is kept without being live, milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
    /// Live points by kind; empty where the index did not answer.
    pub points: BTreeMap<Kind, u64>,
    /// Records of the topics that its group has not acknowledged; `None` where the broker did not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_records: Option<u64>,
    /// Share of the points and records it is filled from that it has, 0 to 1; only while it is filled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<f64>,
    /// Seconds until it is at the live head at its present speed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eta_seconds: Option<u64>,
    /// What it waits for, for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
}

/// A bundle that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Its vector space.
    pub fingerprint: Fingerprint,
    /// Its name.
    pub bundle: String,
    /// Why.
    pub reason: String,
}

/// All generations that this daemon knows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// The generations, the live one first.
    pub generations: Vec<GenerationStatus>,
    /// Bundles that were refused; the live generation is untouched by them.
    pub refused: Vec<Refusal>,
    /// Why the registry could not be read when it was last looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry_problem: Option<String>,
}
