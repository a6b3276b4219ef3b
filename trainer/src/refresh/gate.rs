//! The gate.

use super::error::RefreshError;
use super::job::Job;
use super::state::Run;

/// Folder of the gate's report inside a run's.
pub(super) const REPORT_FOLDER: &str = "gate";

/// Holds the bundle to the thresholds.
pub(super) fn gate(_job: &mut Job<'_>, _run: &Run) -> Result<(), RefreshError> {
    Ok(())
}

/// The checks that failed.
pub(super) fn refusal(_job: &Job<'_>, _run: &Run) -> Result<Option<Vec<String>>, RefreshError> {
    Ok(None)
}
