//! A model's weights to ONNX graphs: image, text and cross tower in f32, fp16 or int8.
//!
//! It starts from a plain map of weights, so it needs no framework and reads any checkpoint that holds the official keys. Weights that no
//! forward pass reads are not written.

mod cross;
mod error;
mod image;
mod layers;
pub mod quantize;
pub mod runtime;
mod text;
pub mod verify;
mod weights;

use astromech_schemas::manifest::Precision;

pub use error::ExportError;
pub use weights::{WeightMap, WeightTensor};

use crate::model::ModelConfig;

/// Opset with the `Attention` operator.
pub const OPSET_DEFAULT: u32 = 23;
/// Opset for older runtimes: attention as products and a softmax.
pub const OPSET_COMPATIBLE: u32 = 20;
/// Longest text of the official model (docs/R2D2.md §1.3).
pub const MAX_TOKENS_DEFAULT: usize = 64;

/// A tower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tower {
    /// Pixels to embedding and states.
    Image,
    /// Tokens to embedding and states.
    Text,
    /// Pairs of states to match probabilities.
    Cross,
}

impl Tower {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Image, Self::Text, Self::Cross];

    /// The word in file names.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Text => "text",
            Self::Cross => "cross",
        }
    }
}

/// How a graph is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphOptions {
    /// Numeric form of weights and activations; inputs and outputs are f32 in each.
    pub precision: Precision,
    /// 23 or 20.
    pub opset: u32,
    /// Longest text in tokens.
    pub max_tokens: usize,
    /// Int8 has one scale a tensor for activations: a model trained long has outliers that coarsen everything beside them (one text tower
    /// fell to a cosine of .936 from its f32 graph).
    /// Parts of the names of layers whose weights and products stay f32 in int8 graphs.
    pub keep_f32: Vec<String>,
    /// Whether the image and the text graph give the unit vector of each token too (`tokens`), for late interaction.
    pub late_interaction: bool,
}

impl Default for GraphOptions {
    fn default() -> Self {
        Self {
            precision: Precision::F32,
            opset: OPSET_DEFAULT,
            max_tokens: MAX_TOKENS_DEFAULT,
            keep_f32: Vec::new(),
            late_interaction: false,
        }
    }
}

/// Writes one tower as an ONNX file.
///
/// # Errors
/// Sizes that are no model's, an opset or length that is not supported, or weights that do not fit the sizes.
pub fn export_tower(
    tower: Tower,
    config: &ModelConfig,
    weights: &WeightMap,
    options: &GraphOptions,
) -> Result<Vec<u8>, ExportError> {
    config.validate()?;
    if options.opset != OPSET_DEFAULT && options.opset != OPSET_COMPATIBLE {
        let problem = format!("only {OPSET_DEFAULT} (with the Attention operator) and {OPSET_COMPATIBLE} (without) are written");
        return Err(ExportError::Setting { field: "opset", value: options.opset.to_string(), problem });
    }
    if options.max_tokens < 2 || options.max_tokens as i64 > config.positions {
        let problem = format!("it must be from 2 to the model's {} positions", config.positions);
        return Err(ExportError::Setting { field: "max_tokens", value: options.max_tokens.to_string(), problem });
    }
    match tower {
        Tower::Image => image::image_graph(config, weights, options),
        Tower::Text => text::text_graph(config, weights, options),
        Tower::Cross => cross::cross_graph(config, weights, options),
    }
}
