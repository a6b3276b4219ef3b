//! Import of official weights.

use std::path::Path;

use tch::Tensor;

use super::error::CheckpointError;
use super::native::LoadedModel;
use super::report::KeyReport;
use super::source::Source;
use crate::model::{ModelConfig, R2d2};
use crate::nn::Params;

/// Loads official weights, from a `.pth` container or from safetensors, into a model of the given sizes. Tensors of any float type become
/// f32. Keys beyond the model's are reported and ignored (r2d2.md §5.2); missing or mis-shaped ones are an error that lists them all.
///
/// # Errors
/// Missing or mis-shaped keys, a damaged or foreign file, or sizes that are no model.
pub fn import_official(path: &Path, config: &ModelConfig) -> Result<LoadedModel, CheckpointError> {
    let mut source = Source::open(path)?;
    let (model, params) = R2d2::new(config).map_err(|source| CheckpointError::Config { path: path.to_path_buf(), source })?;
    let found = source.keys.clone();
    fill(path, model, params, &found, |index| source.read(index))
}

pub(super) fn fill(
    path: &Path,
    model: R2d2,
    mut params: Params,
    found: &[(String, Vec<i64>)],
    mut read: impl FnMut(usize) -> Result<Tensor, CheckpointError>,
) -> Result<LoadedModel, CheckpointError> {
    let expected: Vec<(String, Vec<i64>)> =
        params.named().iter().map(|named| (named.name.clone(), named.shape.clone())).collect();
    let report = KeyReport::compare(
        expected.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())),
        found.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())),
    );
    if !report.is_complete() {
        return Err(CheckpointError::Keys { path: path.to_path_buf(), report: Box::new(report) });
    }
    let known: std::collections::HashSet<&str> = expected.iter().map(|(name, _)| name.as_str()).collect();
    for (index, (name, _)) in found.iter().enumerate().filter(|(_, (name, _))| known.contains(name.as_str())) {
        params.copy_named(name, &read(index)?);
    }
    Ok(LoadedModel { model, params, report })
}
