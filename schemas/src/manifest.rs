//! A bundle's manifest: what the daemon must know of a released model before it loads a graph.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::blend::Blend;
use crate::error::{DecodeError, from_json};
pub use crate::hexadecimal::encode as hex;
use crate::identity::Fingerprint;

/// [`Manifest::schema`] of a bundle that is compared by cosine.
pub const MANIFEST_SCHEMA: u32 = 1;

/// [`Manifest::schema`] of a bundle of late interaction: a reader that knows cosine only would serve one vector of it and be wrong, so
/// it must refuse.
pub const MANIFEST_SCHEMA_LATE_INTERACTION: u32 = 2;

/// From here on an item has too many numbers for an index: Qdrant refuses multivectors of as many.
pub const MULTIVECTOR_NUMBERS_LIMIT: u64 = 1 << 20;

/// Name of the manifest's file inside a bundle.
pub const MANIFEST_FILE: &str = "manifest.json";

/// Numeric form of a graph's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats.
    F32,
    /// 16-bit floats, for CUDA.
    Fp16,
    /// 8-bit integers: weights per output channel, activations quantised dynamically; for CPU.
    Int8,
}

impl Precision {
    /// The word in file names and the manifest.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Fp16 => "fp16",
            Self::Int8 => "int8",
        }
    }

    /// File name of a tower's graph: `image.onnx`, `image.fp16.onnx`, `image.int8.onnx`.
    pub fn graph_file(self, tower: &str) -> String {
        match self {
            Self::F32 => format!("{tower}.onnx"),
            _ => format!("{tower}.{}.onnx", self.as_str()),
        }
    }
}

/// Sizes of one transformer stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StackSize {
    /// Hidden width.
    pub width: u32,
    /// Layers.
    pub layers: u32,
    /// Attention heads.
    pub heads: u32,
    /// Width of the feed-forward layer.
    pub mlp: u32,
}

/// Sizes of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Architecture {
    /// Image tower (ViT).
    pub vision: StackSize,
    /// Patch edge of the image tower, pixels.
    pub patch: u32,
    /// Text tower (BERT).
    pub text: StackSize,
    /// Each of the two cross encoders; its width is the text tower's.
    pub cross: StackSize,
    /// Parameters in the graphs.
    pub parameters: u64,
}

/// One file of the bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BundleFile {
    /// Path inside the bundle; no folders.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
    /// sha-256, 64 lower-case hexadecimal digits.
    pub sha256: String,
}

impl BundleFile {
    /// Whether the name stays inside the bundle's folder.
    pub fn has_plain_name(&self) -> bool {
        !self.name.is_empty() && !self.name.contains(['/', '\\', '\0']) && self.name != "." && self.name != ".."
    }
}

/// How pictures are prepared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ImageInput {
    /// Edge of the square input, pixels.
    pub size: u32,
    /// Always `squash`: the aspect ratio is not kept (docs/R2D2.md §3.4).
    pub resize: String,
    /// Always `bicubic`: a = -0.5, antialiased, 8-bit result (docs/R2D2.md §3.4).
    pub filter: String,
    /// Mean of each channel, of values from 0 to 1.
    pub mean: [f32; 3],
    /// Standard deviation of each channel, of values from 0 to 1.
    pub std: [f32; 3],
}

/// How texts are prepared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TextInput {
    /// Longest text in tokens, `[CLS]` and `[SEP]` included.
    pub max_tokens: u32,
    /// sha-256 of the vocabulary's file.
    pub vocabulary_sha256: String,
}

/// How two items are compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Similarity {
    /// By the cosine of one vector each.
    #[default]
    Cosine,
    /// Token by token: the mean over the query's tokens of the best cosine among the item's tokens (docs/R2D2.md §8, FILIP and Wukong).
    LateInteraction {
        /// Tokens of a picture: all patches and the class token.
        image_tokens: u32,
        /// Most tokens of a text, `[CLS]` and `[SEP]` included.
        text_tokens: u32,
    },
}

impl Similarity {
    /// Whether it is [`Similarity::Cosine`].
    pub const fn is_cosine(&self) -> bool {
        matches!(self, Self::Cosine)
    }

    /// [`Manifest::schema`] of a bundle that is compared so.
    pub const fn schema(&self) -> u32 {
        match self {
            Self::Cosine => MANIFEST_SCHEMA,
            Self::LateInteraction { .. } => MANIFEST_SCHEMA_LATE_INTERACTION,
        }
    }

    /// Most vectors of a picture.
    pub const fn image_vectors_max(&self) -> usize {
        match self {
            Self::Cosine => 1,
            Self::LateInteraction { image_tokens, .. } => *image_tokens as usize,
        }
    }

    /// Most vectors of a text.
    pub const fn text_vectors_max(&self) -> usize {
        match self {
            Self::Cosine => 1,
            Self::LateInteraction { text_tokens, .. } => *text_tokens as usize,
        }
    }
}

/// How the model was trained; for people, gates and model cards.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Training {
    /// What it was trained on: data set, window, splits, licences.
    pub data: String,
    /// Pairs in the training set.
    pub pairs: u64,
    /// Optimiser steps.
    pub steps: u64,
    /// Metrics by name, for example `test_unseen_render.emoji.long.t2i.r1`.
    #[serde(default)]
    pub metrics: BTreeMap<String, f64>,
}

/// The manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Manifest {
    /// Schema version of this document.
    pub schema: u32,
    /// Name of the model, for people.
    pub name: String,
    /// Name of the vector space: see [`Manifest::compute_fingerprint`].
    pub fingerprint: Fingerprint,
    /// Fingerprint of the bundle that this one was trained from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Fingerprint>,
    /// Sizes of the model.
    pub architecture: Architecture,
    /// Length of an embedding.
    pub embedding_dim: u32,
    /// How items are compared; absent where it is by cosine.
    #[serde(default, skip_serializing_if = "Similarity::is_cosine")]
    pub similarity: Similarity,
    /// Graph precisions in this bundle; the first is the one the golden vectors were made with and the fingerprint stands for.
    pub precisions: Vec<Precision>,
    /// ONNX opset of the graphs.
    pub opset: u32,
    /// How pictures are prepared.
    pub image: ImageInput,
    /// How texts are prepared.
    pub text: TextInput,
    /// How the model was trained.
    pub training: Training,
    /// What its single tower's probabilities add to the cosine; absent where nobody fitted it, and the official blend holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blend: Option<Blend>,
    /// Every file but the manifest, sorted by name.
    pub files: Vec<BundleFile>,
}

impl Manifest {
    /// The fingerprint of a bundle: sha-256 over the lines `name\0sha256\n` of `files` in the order of their names, of every file
    /// that shapes a vector (the model card does not).
    pub fn compute_fingerprint(files: &[BundleFile]) -> Fingerprint {
        let mut sorted: Vec<_> = files.iter().filter(|file| file.name != "MODEL_CARD.md").collect();
        sorted.sort_by(|a, b| a.name.cmp(&b.name));
        let mut hash = Sha256::new();
        for file in sorted {
            hash.update(file.name.as_bytes());
            hash.update([0]);
            hash.update(file.sha256.as_bytes());
            hash.update(b"\n");
        }
        let text = hex(&hash.finalize());
        Fingerprint::try_from(text).expect("sha-256 in hexadecimal is a fingerprint")
    }

    /// Reads and checks a manifest. The files themselves are checked by whoever opens them.
    ///
    /// # Errors
    /// A missing or wrong field, an unknown schema, a name that leaves the bundle's folder, or a fingerprint that is not the files'.
    pub fn from_json(bytes: &[u8]) -> Result<Self, DecodeError> {
        let manifest: Self = from_json(bytes)?;
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), DecodeError> {
        let release = "release the bundle again";
        if self.schema > MANIFEST_SCHEMA_LATE_INTERACTION {
            let known = format!("{MANIFEST_SCHEMA} and {MANIFEST_SCHEMA_LATE_INTERACTION}");
            let problem = format!("schema {} is not read by this version, which reads {known}", self.schema);
            return Err(DecodeError::new("schema", problem, "upgrade astromech, or release the bundle with its trainer"));
        }
        if self.schema != self.similarity.schema() {
            let problem = format!("schema {} does not go with this similarity, {} does", self.schema, self.similarity.schema());
            return Err(DecodeError::new("schema", problem, release));
        }
        for (index, file) in self.files.iter().enumerate() {
            if !file.has_plain_name() {
                let problem = format!("`{}` leaves the bundle's folder", file.name);
                return Err(DecodeError::new(format!("files[{index}].name"), problem, release));
            }
        }
        if self.image.resize != "squash" || self.image.filter != "bicubic" {
            let problem = format!("{} with {} is not known", self.image.resize, self.image.filter);
            return Err(DecodeError::new("image", problem, "only squash with bicubic is served"));
        }
        if !(8..=2048).contains(&self.image.size) {
            return Err(DecodeError::new("image.size", format!("{} is outside 8 to 2048", self.image.size), release));
        }
        if !(2..=512).contains(&self.text.max_tokens) {
            return Err(DecodeError::new("text.max_tokens", format!("{} is outside 2 to 512", self.text.max_tokens), release));
        }
        if self.embedding_dim == 0 || self.embedding_dim > 65_536 {
            return Err(DecodeError::new("embedding_dim", format!("{} is outside 1 to 65536", self.embedding_dim), release));
        }
        self.check_similarity(release)?;
        self.blend.as_ref().map_or(Ok(()), Blend::check)?;
        if self.precisions.is_empty() {
            return Err(DecodeError::new("precisions", "no precision is listed", release));
        }
        let computed = Self::compute_fingerprint(&self.files);
        if computed != self.fingerprint {
            let problem = format!("{} is not the fingerprint of the listed files, {computed}", self.fingerprint);
            return Err(DecodeError::new("fingerprint", problem, "the manifest was edited: restore it or release again"));
        }
        Ok(())
    }

    /// An item's tokens must be some, and fit into an index.
    fn check_similarity(&self, release: &str) -> Result<(), DecodeError> {
        let Similarity::LateInteraction { image_tokens, text_tokens } = self.similarity else { return Ok(()) };
        for (side, tokens) in [("image_tokens", image_tokens), ("text_tokens", text_tokens)] {
            let numbers = u64::from(tokens) * u64::from(self.embedding_dim);
            if numbers == 0 || numbers >= MULTIVECTOR_NUMBERS_LIMIT {
                let problem = format!(
                    "{tokens} tokens of {} numbers are {numbers} numbers, an item must have fewer than {MULTIVECTOR_NUMBERS_LIMIT}",
                    self.embedding_dim
                );
                return Err(DecodeError::new(
                    format!("similarity.late_interaction.{side}"),
                    problem,
                    "take a model with fewer tokens or a shorter embedding",
                ));
            }
        }
        if text_tokens != self.text.max_tokens {
            let problem = format!("{text_tokens} is not text.max_tokens, {}", self.text.max_tokens);
            return Err(DecodeError::new("similarity.late_interaction.text_tokens", problem, release));
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn file(name: &str, digit: char) -> BundleFile {
        BundleFile { name: name.to_owned(), bytes: 1, sha256: digit.to_string().repeat(64) }
    }

    #[test]
    fn a_file_name_that_leaves_the_bundles_folder_is_refused() {
        let names = ["../image.onnx", "/etc/passwd", "a/b", "..", ".", "", "a\\b", "a\0b"];
        assert!(names.iter().all(|name| !file(name, '0').has_plain_name()));
        let demo = include_bytes!("../../configs/demo/bundle/manifest.json");
        let mut manifest = Manifest::from_json(demo).unwrap();
        for name in names {
            name.clone_into(&mut manifest.files[0].name);
            manifest.fingerprint = Manifest::compute_fingerprint(&manifest.files);
            let error = Manifest::from_json(&serde_json::to_vec(&manifest).unwrap()).unwrap_err().to_string();
            assert!(error.contains("files[0].name") && error.contains("leaves the bundle's folder"), "{name}: {error}");
        }
    }

    #[test]
    fn the_fingerprint_is_over_names_and_contents_and_not_over_their_order_or_the_model_card() {
        let (a, b) = (file("a", '0'), file("b", '1'));
        let fingerprint = Manifest::compute_fingerprint(&[a.clone(), b.clone()]);
        assert_eq!(fingerprint, Manifest::compute_fingerprint(&[b.clone(), a.clone(), file("MODEL_CARD.md", '2')]));
        assert_ne!(fingerprint, Manifest::compute_fingerprint(&[file("a", '2'), b]));
        assert_ne!(fingerprint, Manifest::compute_fingerprint(&[a]));
    }

    /// A manifest as released before there was another similarity than cosine, with `more` in it.
    fn with(schema: u32, more: &serde_json::Value) -> Result<Manifest, DecodeError> {
        let stack = StackSize { width: 1, layers: 1, heads: 1, mlp: 1 };
        let mut manifest = serde_json::json!({
            "schema": schema, "name": "m", "fingerprint": Manifest::compute_fingerprint(&[]), "embedding_dim": 256,
            "architecture": {"vision": stack, "patch": 8, "text": stack, "cross": stack, "parameters": 1},
            "precisions": ["f32"], "opset": 23, "files": [], "training": {"data": "", "pairs": 0, "steps": 0},
            "image": {"size": 64, "resize": "squash", "filter": "bicubic", "mean": [0, 0, 0], "std": [1, 1, 1]},
            "text": {"max_tokens": 64, "vocabulary_sha256": ""},
        });
        manifest.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Manifest::from_json(manifest.to_string().as_bytes())
    }

    #[test]
    fn an_old_manifest_is_one_of_cosine_and_is_written_as_it_was() {
        let old = with(MANIFEST_SCHEMA, &serde_json::json!({})).unwrap();
        assert_eq!((old.similarity.image_vectors_max(), old.similarity.text_vectors_max()), (1, 1));
        assert!(!serde_json::to_string(&old).unwrap().contains("similarity"));
    }

    #[test]
    fn a_manifest_of_late_interaction_has_a_schema_that_older_readers_refuse_and_says_how_many_tokens() {
        let late = |image: u32, text: u32| serde_json::json!({"similarity": {"late_interaction": {"image_tokens": image, "text_tokens": text}}});
        let read = with(MANIFEST_SCHEMA_LATE_INTERACTION, &late(65, 64)).unwrap();
        assert_eq!((read.similarity.image_vectors_max(), read.similarity.text_vectors_max()), (65, 64));
        assert_eq!(Manifest::from_json(&serde_json::to_vec(&read).unwrap()).unwrap(), read);
        let refused = [
            (with(MANIFEST_SCHEMA, &late(65, 64)), "schema"),
            (with(MANIFEST_SCHEMA_LATE_INTERACTION, &serde_json::json!({})), "schema"),
            (with(3, &late(65, 64)), "schema"),
            (with(MANIFEST_SCHEMA_LATE_INTERACTION, &late(0, 64)), "image_tokens"),
            (with(MANIFEST_SCHEMA_LATE_INTERACTION, &late(4096, 64)), "image_tokens"),
            (with(MANIFEST_SCHEMA_LATE_INTERACTION, &late(65, 63)), "text_tokens"),
        ];
        for (result, path) in refused {
            let error = result.unwrap_err();
            assert!(error.path.ends_with(path) && !error.fix.is_empty(), "{error}");
        }
    }
}
