use std::path::PathBuf;

use thiserror::Error;

use crate::corpus::CorpusError;
use crate::files::FileError;

/// Scenes that cannot be composed.
#[derive(Debug, Error)]
pub enum SceneError {
    /// The corpus that objects are cut out of.
    #[error(transparent)]
    Corpus(#[from] CorpusError),
    /// A file that cannot be written.
    #[error(transparent)]
    Io(#[from] FileError),
    /// Too few concepts for some kind of scene.
    #[error(
        "scenes of kind {kind} ({fold:?}): none of the {concepts} concepts of {corpus} go together; give a corpus with more of the named \
         concepts, more designers, a larger concepts_max, or weight 0 to this kind"
    )]
    TooFewConcepts {
        /// Where they are cut out of.
        corpus: PathBuf,
        /// The kind.
        kind: &'static str,
        /// Which combinations.
        fold: super::Fold,
        /// Concepts that were found.
        concepts: usize,
    },
    /// Fewer combinations than asked for.
    #[error(
        "{wanted} scenes of kind {kind} were asked for and only {found} combinations of concepts are held out; ask for fewer"
    )]
    TooFewPairs {
        /// The kind.
        kind: &'static str,
        /// Asked for.
        wanted: usize,
        /// Found.
        found: usize,
    },
    /// What is written would lie among other files.
    #[error("{path} is not empty; give a new folder")]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// Every kind has weight 0.
    #[error("every kind of scene has weight 0; give one of data.scenes.kinds a weight")]
    NoKind,
}
