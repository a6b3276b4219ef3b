use thiserror::Error;

use crate::files::FileError;
use crate::model::ConfigError;

/// An export or a release that cannot be made; each message names the fix.
#[derive(Debug, Error)]
pub enum ExportError {
    /// The sizes describe no model.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A weight is not there.
    #[error("weight {key} is missing; the checkpoint is of another model or was cut short")]
    Missing {
        /// Official key.
        key: String,
    },
    /// A weight has another shape than the sizes say.
    #[error(
        "weight {key} has shape {found:?}, the model's sizes ask for {expected:?}; pass the sizes the checkpoint was trained with"
    )]
    Shape {
        /// Official key.
        key: String,
        /// In the checkpoint.
        found: Vec<usize>,
        /// By the sizes.
        expected: Vec<usize>,
    },
    /// A weight holds a number that is none.
    #[error("weight {key} holds {value}; the training run diverged, take an earlier checkpoint")]
    NotFinite {
        /// Official key.
        key: String,
        /// NaN or an infinity.
        value: f32,
    },
    /// A setting outside its limits.
    #[error("{field} is {value}: {problem}")]
    Setting {
        /// Its name.
        field: &'static str,
        /// What was given.
        value: String,
        /// The limit, and what to give instead.
        problem: String,
    },
    /// A checkpoint that is no safetensors file, or holds a kind of number that is not read.
    #[error("checkpoint: {0}")]
    Checkpoint(String),
    /// A file could not be read or written.
    #[error(transparent)]
    Io(#[from] FileError),
    /// ONNX Runtime refused a graph or failed to run it.
    #[error(transparent)]
    Towers(#[from] astromech_towers::TowersError),
    /// A graph does not compute what the model computes.
    #[error(
        "the {graph} graph differs from LibTorch: {measure} of `{output}` is {found}, allowed is {bound}; this is a fault of the export, do not release"
    )]
    Parity {
        /// Which graph, with its precision.
        graph: String,
        /// Which output.
        output: &'static str,
        /// What was measured.
        measure: &'static str,
        /// Its value.
        found: f64,
        /// The bound.
        bound: f64,
    },
}
