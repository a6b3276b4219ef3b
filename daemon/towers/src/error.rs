//! What can go wrong, in words that name the field, the limit and the fix.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use astromech_schemas::DecodeError;

/// Why a picture was not prepared. Every variant is permanent: the same bytes fail again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// No bytes.
    #[error("the picture is empty: 0 bytes")]
    Empty,
    /// More bytes than the limit.
    #[error("the picture has {bytes} bytes; bytes_max is {bytes_max}")]
    TooManyBytes {
        /// Found.
        bytes: usize,
        /// Limit.
        bytes_max: usize,
    },
    /// The header declares more pixels than the limit. Nothing was decoded.
    #[error("the {format} picture declares {width} x {height} pixels; pixels_max is {pixels_max}")]
    TooManyPixels {
        /// Format of the file.
        format: &'static str,
        /// Declared width.
        width: u32,
        /// Declared height.
        height: u32,
        /// Limit of width * height.
        pixels_max: u64,
    },
    /// The header declares a side longer than the limit. Nothing was decoded.
    #[error("the {format} picture declares {width} x {height} pixels; edge_max is {edge_max}")]
    EdgeTooLong {
        /// Format of the file.
        format: &'static str,
        /// Declared width.
        width: u32,
        /// Declared height.
        height: u32,
        /// Limit of each side.
        edge_max: u32,
    },
    /// The bytes are not of a format that is read.
    #[error("the bytes are not a picture that is read but {found}; send JPEG, PNG, WebP, GIF or BMP")]
    UnknownFormat {
        /// What the bytes look like.
        found: String,
    },
    /// The file is damaged or ends early.
    #[error("the {format} picture is damaged: {reason}")]
    Damaged {
        /// Format of the file.
        format: &'static str,
        /// What the decoder said.
        reason: String,
    },
}

impl ImageError {
    /// Whether the picture broke a limit of size, as against being no readable picture: dead-letter reason `ImageTooLarge`
    /// against `InvalidImage`.
    pub const fn is_too_large(&self) -> bool {
        matches!(self, Self::TooManyBytes { .. } | Self::TooManyPixels { .. } | Self::EdgeTooLong { .. })
    }
}

/// Why the towers did not start or did not answer. Cloned to every entry of a failed batch.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TowersError {
    /// ONNX Runtime's library was not loaded.
    #[error("ONNX Runtime was not loaded: {reason}. {fix}")]
    Runtime {
        /// What the loader said.
        reason: String,
        /// How to get the library.
        fix: &'static str,
    },
    /// A file of the bundle can't be read.
    #[error("bundle file {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: Arc<std::io::Error>,
    },
    /// The bundle's manifest is wrong.
    #[error("bundle manifest {}: {error}", path.display())]
    Manifest {
        /// The manifest's path.
        path: PathBuf,
        /// Field, problem and fix.
        error: Arc<DecodeError>,
    },
    /// A file's size is not the manifest's.
    #[error("bundle file {}: expected {expected} bytes by the manifest, found {found}; copy the bundle again", path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// Bytes by the manifest.
        expected: u64,
        /// Bytes on disk.
        found: u64,
    },
    /// A file's sha-256 is not the manifest's.
    #[error("bundle file {}: expected sha-256 {expected} by the manifest, found {found}; copy the bundle again", path.display())]
    Checksum {
        /// The file.
        path: PathBuf,
        /// sha-256 by the manifest.
        expected: String,
        /// sha-256 on disk.
        found: String,
    },
    /// The bundle lacks a part or a part does not fit the others.
    #[error("bundle {}: {problem}", dir.display())]
    Bundle {
        /// The bundle's folder.
        dir: PathBuf,
        /// What is wrong and how to mend it.
        problem: String,
    },
    /// The vocabulary can't be used.
    #[error("vocabulary: {problem}")]
    Vocabulary {
        /// What is wrong.
        problem: String,
    },
    /// The execution provider asked for is not there. Never answered by a silent step down to the CPU.
    #[error("provider {provider} was asked for and is not available: {missing}")]
    ProviderUnavailable {
        /// The provider asked for.
        provider: String,
        /// What is missing and how to get it.
        missing: String,
    },
    /// The bundle's golden vectors did not come out again on this machine.
    #[error(
        "golden replay: {what} of sample {sample} is {found}, the limit is {limit} ({provider}, {precision}); this machine computes \
         other vectors than the bundle was released with: check the ONNX Runtime version, or release the bundle for this provider"
    )]
    Golden {
        /// What was compared, for example `cosine of the image embedding`.
        what: &'static str,
        /// Index of the golden sample.
        sample: usize,
        /// Value found.
        found: f32,
        /// Limit of the value.
        limit: f32,
        /// Provider in use.
        provider: String,
        /// Precision in use.
        precision: &'static str,
    },
    /// ONNX Runtime refused a graph or a batch.
    #[error("{tower} tower: {reason}")]
    Graph {
        /// `image`, `text` or `cross`.
        tower: &'static str,
        /// What ONNX Runtime said.
        reason: String,
    },
    /// The request itself is wrong.
    #[error("{field}: {problem}")]
    Invalid {
        /// Field of the request.
        field: &'static str,
        /// Found, limit and fix.
        problem: String,
    },
    /// The towers were started without the cross tower.
    #[error("the cross tower is not loaded; start with load_cross = true")]
    CrossNotLoaded,
    /// The deadline of [`crate::Towers::until`] passed before there was an answer.
    #[error("{tower} tower: the deadline passed before there was an answer; give it more time or send less at once")]
    Deadline {
        /// `image`, `text` or `cross`.
        tower: &'static str,
    },
    /// The tower's workers have ended.
    #[error("the {tower} tower has stopped")]
    Stopped {
        /// `image`, `text` or `cross`.
        tower: &'static str,
    },
}

impl TowersError {
    pub(crate) fn read(path: &Path, error: std::io::Error) -> Self {
        Self::Read { path: path.to_owned(), error: Arc::new(error) }
    }

    pub(crate) fn bundle(dir: &Path, problem: impl Into<String>) -> Self {
        Self::Bundle { dir: dir.to_owned(), problem: problem.into() }
    }

    pub(crate) fn graph(tower: &'static str, error: impl std::fmt::Display) -> Self {
        Self::Graph { tower, reason: error.to_string() }
    }
}
