//! Sizes of a model.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// BERT vocabulary of chinese-roberta-wwm-ext (docs/R2D2.md §1.3).
const VOCAB_DEFAULT: i64 = 21_128;
const POSITIONS_DEFAULT: i64 = 512;

/// All sizes of one R2D2 model. The cross encoders are as wide as the text tower.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Image tower.
    pub vision: VisionConfig,
    /// Text tower.
    pub text: TextConfig,
    /// Both cross encoders.
    pub cross: CrossConfig,
    /// Width of the common embedding.
    pub embed: i64,
    /// Rows of the word table.
    #[serde(default = "vocab_default")]
    pub vocab: i64,
    /// Rows of the position table: the longest text.
    #[serde(default = "positions_default")]
    pub positions: i64,
    /// Declare the weights that the official checkpoint holds but no forward pass reads (docs/R2D2.md §1.2, §1.4): true for parity with it,
    /// false for models trained from scratch.
    #[serde(default = "dead_weights_default")]
    pub dead_weights: bool,
    /// Declare the head of masked language modelling, which only training reads. The official checkpoint's has no known key; ours is
    /// named as BERT's (`cls.predictions`), its decoder is the word table.
    #[serde(default)]
    pub mlm_head: bool,
}

/// Image tower sizes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VisionConfig {
    /// Width of a token.
    pub width: i64,
    /// Blocks.
    pub layers: i64,
    /// Attention heads.
    pub heads: i64,
    /// Hidden width of the MLP.
    pub mlp: i64,
    /// Side of a patch in pixels.
    pub patch: i64,
    /// Side of the square input in pixels.
    pub image: i64,
}

impl VisionConfig {
    /// Patches of one image.
    pub fn patches(&self) -> i64 {
        (self.image / self.patch).pow(2)
    }

    /// Tokens of one image: the class token and the patches.
    pub fn tokens(&self) -> i64 {
        self.patches() + 1
    }
}

/// Text tower sizes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextConfig {
    /// Width of a token.
    pub width: i64,
    /// Blocks.
    pub layers: i64,
    /// Attention heads.
    pub heads: i64,
    /// Hidden width of the feed-forward part.
    pub mlp: i64,
}

/// Cross encoder sizes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrossConfig {
    /// Blocks of each of the two stacks.
    pub layers: i64,
    /// Attention heads.
    pub heads: i64,
    /// Hidden width of the feed-forward part.
    pub mlp: i64,
}

fn vocab_default() -> i64 {
    VOCAB_DEFAULT
}

fn positions_default() -> i64 {
    POSITIONS_DEFAULT
}

fn dead_weights_default() -> bool {
    true
}

/// A configuration that describes no model.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A preset that cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A preset that is no model configuration; the message names line and field.
    #[error("{path}: {message}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// From the reader.
        message: String,
    },
    /// A size below 1.
    #[error("model.{field} is {value}; it must be at least 1")]
    NotPositive {
        /// Dotted field name.
        field: &'static str,
        /// What was given.
        value: i64,
    },
    /// A size that does not divide by another.
    #[error("model.{field} = {value} must be a multiple of model.{divisor} = {by}")]
    NotMultiple {
        /// Dotted field name.
        field: &'static str,
        /// What was given.
        value: i64,
        /// Name of the divisor.
        divisor: &'static str,
        /// Its value.
        by: i64,
    },
}

impl ModelConfig {
    /// Reads a preset (configs/models): TOML, or JSON where the name ends in `.json`.
    ///
    /// # Errors
    /// The file cannot be read, a field is unknown, missing or of the wrong type, or a value is outside its range.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Io { path: path.to_path_buf(), source })?;
        let parsed: Result<Self, String> = if path.extension().is_some_and(|extension| extension == "json") {
            serde_json::from_str(&text).map_err(|error| error.to_string())
        } else {
            toml::from_str(&text).map_err(|error| error.to_string())
        };
        let config = parsed.map_err(|message| ConfigError::Parse { path: path.to_path_buf(), message })?;
        config.validate()?;
        Ok(config)
    }

    /// Checks that the sizes describe a model.
    ///
    /// # Errors
    /// The first value outside its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let (v, t, c) = (&self.vision, &self.text, &self.cross);
        let positive = [
            ("vision.width", v.width),
            ("vision.layers", v.layers),
            ("vision.heads", v.heads),
            ("vision.mlp", v.mlp),
            ("vision.patch", v.patch),
            ("vision.image", v.image),
            ("text.width", t.width),
            ("text.layers", t.layers),
            ("text.heads", t.heads),
            ("text.mlp", t.mlp),
            ("cross.layers", c.layers),
            ("cross.heads", c.heads),
            ("cross.mlp", c.mlp),
            ("embed", self.embed),
            ("vocab", self.vocab),
            ("positions", self.positions),
        ];
        for (field, value) in positive {
            if value < 1 {
                return Err(ConfigError::NotPositive { field, value });
            }
        }
        let multiples = [
            ("vision.width", v.width, "vision.heads", v.heads),
            ("vision.image", v.image, "vision.patch", v.patch),
            ("text.width", t.width, "text.heads", t.heads),
            ("text.width", t.width, "cross.heads", c.heads),
        ];
        for (field, value, divisor, by) in multiples {
            if value % by != 0 {
                return Err(ConfigError::NotMultiple { field, value, divisor, by });
            }
        }
        Ok(())
    }
}
