//! The state file: which run is going on, what of it is done, and what was published last.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use astromech_schemas::Fingerprint;
use serde::{Deserialize, Serialize};

use super::error::RefreshError;
use crate::collect::TopicWindow;
use crate::files::write_atomically;

/// File of the state inside the work folder.
pub const STATE_FILE: &str = "state.json";
/// Current [`State::schema`].
pub const STATE_SCHEMA: u32 = 1;

/// A step, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Topics → snapshot.
    Collect,
    /// Held-out shards → corpus folder: golden samples, and the newest data to evaluate on.
    HoldOut,
    /// Warm-start and training.
    Train,
    /// A student of the model that was trained.
    Distil,
    /// Checkpoint → bundle.
    Export,
    /// Bundle → figures.
    Evaluate,
    /// Figures against thresholds and the live bundle.
    Gate,
    /// Bundle → registry.
    Publish,
    /// A record on the models topic.
    Announce,
}

impl Step {
    /// Every step, in order.
    pub const ALL: [Self; 9] = [
        Self::Collect,
        Self::HoldOut,
        Self::Train,
        Self::Distil,
        Self::Export,
        Self::Evaluate,
        Self::Gate,
        Self::Publish,
        Self::Announce,
    ];

    /// The word in the state, in progress lines and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Collect => "collect",
            Self::HoldOut => "hold_out",
            Self::Train => "train",
            Self::Distil => "distil",
            Self::Export => "export",
            Self::Evaluate => "evaluate",
            Self::Gate => "gate",
            Self::Publish => "publish",
            Self::Announce => "announce",
        }
    }
}

/// A run that is not closed yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// When it began; the name of its folder.
    pub id: String,
    /// Sha-256 of the configuration that it follows from.
    pub config_sha256: String,
    /// The bundle that was live when it began, which it is measured against.
    pub live: Option<Fingerprint>,
    /// Steps that are done, and the seconds that they took.
    pub done: BTreeMap<Step, f64>,
}

/// What was published last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The bundle.
    pub fingerprint: Fingerprint,
    /// The run.
    pub run: String,
    /// When, milliseconds since 1970 UTC.
    pub time_ms: i64,
    /// Where its snapshot ended: what is beyond is new.
    pub topics: Vec<TopicWindow>,
}

/// How the run before ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// The run.
    pub run: String,
    /// An exit's word.
    pub outcome: String,
    /// When, milliseconds since 1970 UTC.
    pub time_ms: i64,
    /// Where its snapshot ended; a refused one is not made again of the same records.
    pub topics: Vec<TopicWindow>,
}

/// The document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Version of this document.
    pub schema: u32,
    /// The run that goes on.
    pub run: Option<Run>,
    /// The last publication.
    pub published: Option<Published>,
    /// The run that was closed last.
    pub closed: Option<Closed>,
}

impl State {
    /// The state of a work folder; a new one where there is none.
    ///
    /// # Errors
    /// The file can't be read, or is none of this version.
    pub fn read(work: &Path) -> Result<Self, RefreshError> {
        let path = work.join(STATE_FILE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self { schema: STATE_SCHEMA, run: None, published: None, closed: None });
            }
            Err(error) => return Err(RefreshError::failed(path.display().to_string())(error)),
        };
        let state: Self =
            serde_json::from_slice(&bytes).map_err(|error| RefreshError::of(path.display().to_string(), true, error))?;
        if state.schema != STATE_SCHEMA {
            let problem = format!("schema {}, known is {STATE_SCHEMA}; use a new job.work", state.schema);
            return Err(RefreshError::wrong(path.display().to_string(), problem));
        }
        Ok(state)
    }

    /// Writes the state, whole or not at all.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn write(&self, work: &Path) -> Result<(), RefreshError> {
        write_json(&work.join(STATE_FILE), self)
    }
}

/// Folder of a run.
pub(super) fn run_folder(work: &Path, id: &str) -> PathBuf {
    work.join("runs").join(id)
}

/// Writes a document, whole or not at all.
pub(super) fn write_json<T: Serialize>(path: &Path, document: &T) -> Result<(), RefreshError> {
    let what = || path.display().to_string();
    let bytes = serde_json::to_vec_pretty(document).map_err(RefreshError::failed(what()))?;
    write_atomically(path, |at| std::fs::write(at, &bytes)).map_err(RefreshError::failed(what()))
}
