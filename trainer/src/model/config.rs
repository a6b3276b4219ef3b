//! Sizes of a model.

use std::path::Path;

use astromech_settings::kinds::{flag, int};
use astromech_settings::{Document, Section, SettingError, SettingErrors, checked, load, settings};
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

/// A file that shows every key.
const EXAMPLE: &str = "configs/models/base.toml";
/// Beyond every size of a model that fits on a machine.
const SIZE_MAX: u64 = 1 << 24;

settings! {
    /// All sizes of one R2D2 model. The cross encoders are as wide as the text tower.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
    pub struct ModelConfig {
        /// Image tower.
        vision: VisionConfig;
        /// Text tower.
        text: TextConfig;
        /// Both cross encoders.
        cross: CrossConfig;
        /// Width of the common embedding.
        embed: i64 = (required 128) => int(1, SIZE_MAX);
        /// Rows of the word table; the default is the BERT vocabulary of chinese-roberta-wwm-ext (docs/R2D2.md §1.3).
        vocab: i64 = 21128 => int(1, SIZE_MAX);
        /// Rows of the position table: the longest text.
        positions: i64 = 512 => int(1, SIZE_MAX);
        /// Declare the weights that the official checkpoint holds but no forward pass reads (docs/R2D2.md §1.2, §1.4): true for parity with
        /// it, false for models trained from scratch.
        dead_weights: bool = true => flag();
        /// Declare the head of masked language modelling, which only training reads. The official checkpoint's has no known key; ours is
        /// named as BERT's (`cls.predictions`), its decoder is the word table.
        mlm_head: bool = false => flag();
    }

    /// Image tower sizes.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
    pub struct VisionConfig {
        /// Width of a token.
        width: i64 = (required 192) => int(1, SIZE_MAX);
        /// Blocks.
        layers: i64 = (required 6) => int(1, SIZE_MAX);
        /// Attention heads.
        heads: i64 = (required 3) => int(1, SIZE_MAX);
        /// Hidden width of the MLP.
        mlp: i64 = (required 512) => int(1, SIZE_MAX);
        /// Side of a patch in pixels.
        patch: i64 = (required 8) => int(1, SIZE_MAX);
        /// Side of the square input in pixels.
        image: i64 = (required 64) => int(1, SIZE_MAX);
    }

    /// Text tower sizes.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
    pub struct TextConfig {
        /// Width of a token.
        width: i64 = (required 128) => int(1, SIZE_MAX);
        /// Blocks.
        layers: i64 = (required 2) => int(1, SIZE_MAX);
        /// Attention heads.
        heads: i64 = (required 2) => int(1, SIZE_MAX);
        /// Hidden width of the feed-forward part.
        mlp: i64 = (required 512) => int(1, SIZE_MAX);
    }

    /// Cross encoder sizes.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
    pub struct CrossConfig {
        /// Blocks of each of the two stacks.
        layers: i64 = (required 2) => int(1, SIZE_MAX);
        /// Attention heads.
        heads: i64 = (required 2) => int(1, SIZE_MAX);
        /// Hidden width of the feed-forward part.
        mlp: i64 = (required 512) => int(1, SIZE_MAX);
    }
}

/// Where each size is written.
pub(crate) type Places = <ModelConfig as Section>::Places;

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

/// A configuration that describes no model.
#[derive(Debug, Error)]
pub enum ConfigError {
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

/// As checkpoints record it: by the reader of files, so that a record of an older version reads with the defaults of what it lacks.
impl<'de> Deserialize<'de> for ModelConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::recorded(&serde_json::Value::deserialize(deserializer)?).map_err(|errors| {
            let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
            serde::de::Error::custom(errors.join("; "))
        })
    }
}

impl ModelConfig {
    /// Reads a preset (configs/models): TOML, or JSON where the name ends in `.json`.
    ///
    /// # Errors
    /// The file cannot be read, or every mistake in it: a field is unknown, missing, of the wrong type or outside its range, or the sizes
    /// are no model's.
    pub fn read(path: &Path) -> Result<Self, SettingErrors> {
        if path.extension().is_none_or(|extension| extension != "json") {
            return load(path, EXAMPLE, Self::check);
        }
        let of = |errors| SettingErrors { file: path.to_owned(), errors };
        let wrong = |problem: String| of(vec![SettingError::of_file(problem, format!("give a preset such as {EXAMPLE}"))]);
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        let json = serde_json::from_str(&text).map_err(|error| wrong(format!("not JSON: {error}")))?;
        Self::recorded(&json).map_err(of)
    }

    fn recorded(json: &serde_json::Value) -> Result<Self, Vec<SettingError>> {
        checked(&Document::from_json(json), Vec::new(), EXAMPLE, Self::check)
    }

    /// Sizes that must be multiples of others: name, size, name of the divisor, divisor.
    fn multiples(&self) -> [(&'static str, i64, &'static str, i64); 4] {
        let (v, t, c) = (&self.vision, &self.text, &self.cross);
        [
            ("vision.width", v.width, "vision.heads", v.heads),
            ("vision.image", v.image, "vision.patch", v.patch),
            ("text.width", t.width, "text.heads", t.heads),
            ("text.width", t.width, "cross.heads", c.heads),
        ]
    }

    /// What lies between the sizes of a file.
    pub(crate) fn check(&self, at: &Places, errors: &mut Vec<SettingError>) {
        let places = [&at.vision.width, &at.vision.image, &at.text.width, &at.text.width];
        for ((_, value, divisor, by), at) in self.multiples().into_iter().zip(places) {
            if by > 0 && value % by != 0 {
                let problem = format!("{value} is no multiple of model.{divisor} = {by}");
                errors.push(at.error(problem, format!("write a multiple of {by}, or another model.{divisor}")));
            }
        }
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
        for (field, value, divisor, by) in self.multiples() {
            if value % by != 0 {
                return Err(ConfigError::NotMultiple { field, value, divisor, by });
            }
        }
        Ok(())
    }
}
