use thiserror::Error;

use crate::checkpoint::CheckpointError;
use crate::files::FileError;

/// A teacher that can't teach this student.
#[derive(Debug, Error)]
pub enum DistilError {
    /// Its checkpoint.
    #[error("distil.teacher: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// Its bundle.
    #[error("distil.teacher: {0}")]
    Bundle(#[from] astromech_towers::TowersError),
    /// It doesn't go with the student.
    #[error("distil.teacher has {what} {teacher}, the student {student}; {fix}")]
    Differs {
        /// What.
        what: &'static str,
        /// Its value.
        teacher: String,
        /// The student's.
        student: String,
        /// What to change.
        fix: &'static str,
    },
    /// A file of it or of the student, or the runtime that waits for its towers.
    #[error("distil.teacher: {0}")]
    Io(#[from] FileError),
}

/// The refusal of a teacher whose number is not the one that the student needs.
pub(super) fn differs(what: &'static str, teacher: i64, student: i64, fix: &'static str) -> DistilError {
    DistilError::Differs { what, teacher: teacher.to_string(), student: student.to_string(), fix }
}
