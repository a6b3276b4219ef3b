//! Import of official weights.

use std::path::Path;

use super::error::CheckpointError;
use super::loaded::{LoadedModel, fill};
use super::source::Source;
use crate::model::{ModelConfig, R2d2};

/// Loads official weights, from a `.pth` container or from safetensors, into a model of the given sizes. Tensors of any float type become
/// f32. Keys beyond the model's are reported and ignored (docs/R2D2.md §5.2); missing or mis-shaped ones are an error that lists them all.
///
/// # Errors
/// Missing or mis-shaped keys, a damaged or foreign file, or sizes that are no model.
pub fn import_official(path: &Path, config: &ModelConfig) -> Result<LoadedModel, CheckpointError> {
    let mut source = Source::open(path)?;
    let (model, params) = R2d2::new(config).map_err(|source| CheckpointError::Config { path: path.to_path_buf(), source })?;
    let found = source.keys.clone();
    fill(path, model, params, &found, |index| source.read(index))
}
