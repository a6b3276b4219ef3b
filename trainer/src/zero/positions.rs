//! Where the stream of a run stood, beside the run's state.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::fault::ZeroError;
use super::stream::Position;
use crate::files::{file_error, write_atomically};

/// File of the positions inside a run's folder.
pub const POSITIONS_FILE: &str = "stream.json";
/// Positions kept in it: that of the newest state, and of the one before in case the newest was not written to its end.
const POSITIONS_KEPT: usize = 2;

/// Where the stream stood behind the newest batch that was trained on, written beside the state of a run.
#[derive(Debug, Default)]
pub struct Positions {
    latest: Option<Position>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    step: u64,
    position: Position,
}

impl Positions {
    /// Takes the position of a batch that was used.
    pub fn note(&mut self, position: Option<Position>) {
        self.latest = position;
    }

    /// Writes the position of a step into the run's folder; nothing where no stream feeds the run.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, out: &Path, step: u64) -> Result<(), ZeroError> {
        let Some(position) = self.latest.clone() else { return Ok(()) };
        let path = out.join(POSITIONS_FILE);
        let mut entries = if path.exists() { entries(&path)? } else { Vec::new() };
        // Entries of later steps are of a run that was begun anew.
        entries.retain(|entry| entry.step < step);
        entries.push(Entry { step, position });
        let kept = &entries[entries.len().saturating_sub(POSITIONS_KEPT)..];
        let bytes = serde_json::to_vec(kept).map_err(std::io::Error::other).map_err(file_error(&path))?;
        Ok(write_atomically(&path, |at| std::fs::write(at, &bytes)).map_err(file_error(&path))?)
    }

    /// The position of a step.
    ///
    /// # Errors
    /// The file cannot be read, or holds no position of that step.
    pub fn read(out: &Path, step: u64) -> Result<Position, ZeroError> {
        let path = out.join(POSITIONS_FILE);
        let entries = entries(&path)?;
        let known: Vec<String> = entries.iter().map(|entry| entry.step.to_string()).collect();
        let message = format!("it has the positions of steps {}, not of step {step}", known.join(", "));
        let found = entries.into_iter().find(|entry| entry.step == step);
        found.map(|entry| entry.position).ok_or(ZeroError::Changed { path, message })
    }
}

fn entries(path: &Path) -> Result<Vec<Entry>, ZeroError> {
    let bytes = std::fs::read(path).map_err(file_error(path))?;
    serde_json::from_slice(&bytes).map_err(|error| ZeroError::Changed { path: path.to_path_buf(), message: error.to_string() })
}
