//! The native checkpoints.
//!
//! `model.safetensors` holds weights alone under their official names, f32, with the model's sizes in its metadata (`config`, JSON):
//! what export, evaluation and serving read. `state.safetensors` holds what resuming a run needs, as flat buffers.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView, View};
use tch::{Kind, Tensor};

use super::error::CheckpointError;
use super::loaded::{LoadedModel, fill};
use crate::files::{file_error, write_atomically};
use crate::model::{ModelConfig, R2d2};
use crate::nn::Params;

/// File name of the weights inside a run's folder.
pub const MODEL_FILE: &str = "model.safetensors";
/// File name of the resumable state inside a run's folder.
pub const STATE_FILE: &str = "state.safetensors";
/// File name of the metrics inside a run's folder, JSON Lines.
pub const METRICS_FILE: &str = "metrics.jsonl";
const CONFIG_KEY: &str = "config";
const STATE_KEY: &str = "state";

struct Stored {
    tensor: Tensor,
    shape: Vec<usize>,
}

impl Stored {
    fn new(tensor: &Tensor) -> Self {
        let shape = tensor.size().iter().map(|&side| side as usize).collect();
        Self { tensor: tensor.detach().to_kind(Kind::Float).contiguous(), shape }
    }
}

impl View for &Stored {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = vec![0u8; self.data_len()];
        self.tensor.copy_data_u8(&mut bytes, self.tensor.numel());
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        self.tensor.numel() * size_of::<f32>()
    }
}

fn format_error(path: &Path, message: impl std::fmt::Display) -> CheckpointError {
    CheckpointError::Format { path: path.to_path_buf(), message: format!("{message}") }
}

fn write(path: &Path, tensors: &[(String, Stored)], metadata: (&str, String)) -> Result<(), CheckpointError> {
    let metadata = HashMap::from([(metadata.0.to_owned(), metadata.1)]);
    let views = tensors.iter().map(|(name, stored)| (name.as_str(), stored));
    let save = |at: &Path| safetensors::serialize_to_file(views, Some(metadata), at).map_err(std::io::Error::other);
    Ok(write_atomically(path, save).map_err(file_error(path))?)
}

/// Writes weights (`flat` has the layout of `params`: the masters or their moving average) under their official names.
///
/// # Errors
/// The file system refuses.
pub fn save_model(path: &Path, config: &ModelConfig, params: &Params, flat: &Tensor) -> Result<(), CheckpointError> {
    let tensors: Vec<(String, Stored)> =
        params.named().iter().map(|named| (named.name.clone(), Stored::new(&params.view(flat, named)))).collect();
    let config = serde_json::to_string(config).map_err(|error| format_error(path, error))?;
    write(path, &tensors, (CONFIG_KEY, config))
}

fn read_metadata(path: &Path, bytes: &[u8], key: &str) -> Result<String, CheckpointError> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| format_error(path, error))?;
    metadata
        .metadata()
        .as_ref()
        .and_then(|map| map.get(key).cloned())
        .ok_or_else(|| format_error(path, format!("its metadata has no `{key}`; it was not written by this trainer")))
}

/// A tensor of any supported type, as f32.
pub(super) fn tensor_of(path: &Path, view: &TensorView<'_>) -> Result<Tensor, CheckpointError> {
    let kind = match view.dtype() {
        Dtype::F32 => Kind::Float,
        Dtype::F64 => Kind::Double,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::I64 => Kind::Int64,
        other => return Err(format_error(path, format!("type {other:?} is not a parameter's"))),
    };
    let shape: Vec<i64> = view.shape().iter().map(|&side| side as i64).collect();
    Tensor::f_from_data_size(view.data(), &shape, kind)
        .and_then(|tensor| tensor.f_to_kind(Kind::Float))
        .map_err(|error| format_error(path, error))
}

/// The sizes a native model file was written with.
///
/// # Errors
/// The file cannot be read or was not written by this trainer.
pub fn read_model_config(path: &Path) -> Result<ModelConfig, CheckpointError> {
    let bytes = std::fs::read(path).map_err(file_error(path))?;
    config_of(path, &bytes)
}

fn config_of(path: &Path, bytes: &[u8]) -> Result<ModelConfig, CheckpointError> {
    serde_json::from_str(&read_metadata(path, bytes, CONFIG_KEY)?).map_err(|error| format_error(path, error))
}

/// Loads a native model file. Missing or mis-shaped keys are an error that lists all of them.
///
/// # Errors
/// The file cannot be read, or keys are missing or mis-shaped.
pub fn load_model(path: &Path) -> Result<LoadedModel, CheckpointError> {
    let bytes = std::fs::read(path).map_err(file_error(path))?;
    let config = config_of(path, &bytes)?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| format_error(path, error))?;
    let (model, params) = R2d2::new(&config).map_err(|source| CheckpointError::Config { path: path.to_path_buf(), source })?;
    let views = tensors.tensors();
    let found: Vec<(String, Vec<i64>)> =
        views.iter().map(|(name, view)| (name.clone(), view.shape().iter().map(|&side| side as i64).collect())).collect();
    fill(path, model, params, &found, |index| tensor_of(path, &views[index].1))
}

/// Names of the feature queue's parts. Concepts are numbers below 2^24, which f32 holds exactly.
const QUEUE_KEYS: [&str; 4] = ["queue.image", "queue.text", "queue.concepts", "queue.weights"];
/// Names of mean and deviation of the image states.
const IMAGE_SCALE_KEYS: [&str; 2] = ["image_scale.mean", "image_scale.deviation"];

/// Everything a run needs to go on as if it had not stopped. Data order and dropout follow from seed and step, so no generator's state
/// is needed beside them.
pub struct TrainingState {
    /// Numbers, kept as JSON in the metadata.
    pub progress: Progress,
    /// Masters, flat.
    pub params: Tensor,
    /// Moving average, flat.
    pub ema: Tensor,
    /// AdamW's first moment, flat.
    pub m: Tensor,
    /// AdamW's second moment, flat.
    pub v: Tensor,
    /// The feature queue, where the run has one: images, texts, concepts, weights.
    pub queue: Option<[Tensor; 4]>,
    /// Mean and deviation of the image states, `[Dv]` each, where the cross encoders are trained over standardised ones.
    pub image_scale: Option<[Tensor; 2]>,
}

/// Where in a run the cross encoders started.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct CrossStart {
    /// Their first step.
    pub step: u64,
    /// The run's progress (0..1) in it.
    pub progress: f64,
}

#[expect(clippy::unnecessary_wraps, reason = "serde wants the field's own type")]
const fn untold() -> Option<CrossStart> {
    Some(CrossStart { step: 0, progress: 0.0 })
}

/// The scalar part of a [`TrainingState`].
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Progress {
    /// Steps done.
    pub step: u64,
    /// Optimiser updates done (a step whose gradient was not finite makes none).
    pub updates: i64,
    /// Seed of the run.
    pub seed: u64,
    /// Seconds trained so far.
    pub elapsed_seconds: f64,
    /// Where the cross encoders started; none before. In a state of an older version, which does not say, they count as started: what they
    /// have learnt over image states as they are must not be given standardised ones.
    #[serde(default = "untold")]
    pub cross_start: Option<CrossStart>,
}

/// Writes the resumable state atomically.
///
/// # Errors
/// The file system refuses.
pub fn write_state(path: &Path, state: &TrainingState) -> Result<(), CheckpointError> {
    let tensors = [("params", &state.params), ("ema", &state.ema), ("adam.m", &state.m), ("adam.v", &state.v)]
        .map(|(name, tensor)| (name.to_owned(), Stored::new(tensor)));
    let queue = state.queue.iter().flat_map(|parts| QUEUE_KEYS.iter().zip(parts));
    let scale = state.image_scale.iter().flat_map(|parts| IMAGE_SCALE_KEYS.iter().zip(parts));
    let parts = queue.chain(scale).map(|(name, tensor)| ((*name).to_owned(), Stored::new(tensor)));
    let tensors: Vec<(String, Stored)> = tensors.into_iter().chain(parts).collect();
    let progress = serde_json::to_string(&state.progress).map_err(|error| format_error(path, error))?;
    write(path, &tensors, (STATE_KEY, progress))
}

/// Reads a resumable state of `numel` parameters.
///
/// # Errors
/// The file cannot be read, or belongs to a model of another size.
pub fn read_state(path: &Path, numel: i64) -> Result<TrainingState, CheckpointError> {
    let bytes = std::fs::read(path).map_err(file_error(path))?;
    let progress = serde_json::from_str(&read_metadata(path, &bytes, STATE_KEY)?).map_err(|error| format_error(path, error))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| format_error(path, error))?;
    let flat = |name: &str| {
        let view = tensors.tensor(name).map_err(|error| format_error(path, error))?;
        let tensor = tensor_of(path, &view)?;
        if tensor.size() != [numel] || tensor.kind() != Kind::Float {
            let message = format!(
                "`{name}` has shape {:?}, the model has {numel} parameters; resume with the configuration it was trained with",
                tensor.size()
            );
            return Err(format_error(path, message));
        }
        Ok(tensor)
    };
    let part = |name: &str| {
        let view = tensors.tensor(name).map_err(|error| format_error(path, error))?;
        tensor_of(path, &view)
    };
    let names = tensors.names();
    let queue = if names.contains(&QUEUE_KEYS[0]) {
        let [image, text, concepts, weights] = QUEUE_KEYS;
        Some([part(image)?, part(text)?, part(concepts)?.to_kind(Kind::Int64), part(weights)?])
    } else {
        None
    };
    let [mean, deviation] = IMAGE_SCALE_KEYS;
    let image_scale = if names.contains(&mean) { Some([part(mean)?, part(deviation)?]) } else { None };
    let [params, ema, m, v] = ["params", "ema", "adam.m", "adam.v"].map(flat);
    Ok(TrainingState { progress, params: params?, ema: ema?, m: m?, v: v?, queue, image_scale })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_of_an_older_version_is_taken_up_with_its_cross_encoders_started() {
        let read = |more: &str| {
            let text = format!("{{\"step\":5,\"updates\":5,\"seed\":1,\"elapsed_seconds\":2.0{more}}}");
            serde_json::from_str::<Progress>(&text).unwrap().cross_start
        };
        assert_eq!(read(""), Some(CrossStart { step: 0, progress: 0.0 }));
        assert_eq!(read(",\"cross_start\":null"), None, "a state of this version before their start");
    }
}
