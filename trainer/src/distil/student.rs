use std::path::Path;

use crate::model::ModelConfig;

/// What the student needs of a teacher.
#[derive(Debug, Clone, Copy)]
pub struct Student<'a> {
    /// Its sizes.
    pub model: &'a ModelConfig,
    /// Longest text in tokens.
    pub max_tokens: usize,
    /// Its vocabulary's file.
    pub vocabulary: &'a Path,
    /// Threads of a bundle's towers; 0 takes all cores.
    pub threads: usize,
}
