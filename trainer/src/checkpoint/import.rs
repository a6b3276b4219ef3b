//! Import of official weights.

use std::io::Read;
use std::path::Path;

use safetensors::tensor::SafeTensors;
use tch::Tensor;

use super::container::Container;
use super::error::CheckpointError;
use super::native::{LoadedModel, tensor_of};
use super::report::KeyReport;
use crate::model::{ModelConfig, R2d2};
use crate::nn::Params;

/// First bytes of a zip, and so of a `.pth` container.
const ZIP_MAGIC: &[u8] = b"PK\x03\x04";

/// Loads official weights, from a `.pth` container or from safetensors, into a model of the given sizes. Tensors of any float type become
/// f32. Keys beyond the model's are reported and ignored (r2d2.md §5.2); missing or mis-shaped ones are an error that lists them all.
///
/// # Errors
/// Missing or mis-shaped keys, a damaged or foreign file, or sizes that are no model.
pub fn import_official(path: &Path, config: &ModelConfig) -> Result<LoadedModel, CheckpointError> {
    let io = |source| CheckpointError::Io { path: path.to_path_buf(), source };
    let mut magic = [0u8; 4];
    let read = std::fs::File::open(path).and_then(|mut file| file.read(&mut magic)).map_err(io)?;
    let (model, params) = R2d2::new(config).map_err(|source| CheckpointError::Config { path: path.to_path_buf(), source })?;
    if &magic[..read] == ZIP_MAGIC {
        let mut container = Container::open(path)?;
        let views = std::mem::take(&mut container.tensors);
        let found: Vec<(String, Vec<i64>)> = views.iter().map(|(name, view)| (name.clone(), view.shape.clone())).collect();
        let read = |index: usize| container.read(&views[index].0, &views[index].1);
        return fill(path, model, params, &found, read);
    }
    let bytes = std::fs::read(path).map_err(io)?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| CheckpointError::Format {
        path: path.to_path_buf(),
        message: format!("it is neither a PyTorch zip container nor safetensors ({error})"),
    })?;
    let views = tensors.tensors();
    let found: Vec<(String, Vec<i64>)> =
        views.iter().map(|(name, view)| (name.clone(), view.shape().iter().map(|&side| side as i64).collect())).collect();
    fill(path, model, params, &found, |index| tensor_of(path, &views[index].1))
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
