//! A model whose weights came from a file.

use std::collections::HashSet;
use std::path::Path;

use tch::Tensor;

use super::error::CheckpointError;
use super::report::KeyReport;
use crate::model::R2d2;
use crate::nn::Params;

/// A model with its weights.
pub struct LoadedModel {
    /// Architecture.
    pub model: R2d2,
    /// Weights.
    pub params: Params,
    /// Keys that the file holds beyond the model's.
    pub report: KeyReport,
}

/// Fills a model with the tensors that `read` gives by their place in `found`: every parameter must be there in its shape.
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
    let known: HashSet<&str> = expected.iter().map(|(name, _)| name.as_str()).collect();
    for (index, (name, _)) in found.iter().enumerate().filter(|(_, (name, _))| known.contains(name.as_str())) {
        params.copy_named(name, &read(index)?);
    }
    Ok(LoadedModel { model, params, report })
}
