//! Limits and choices. Every queue, batch, wait, byte and pixel has its limit here.

use std::time::Duration;

use astromech_schemas::manifest::Precision;

/// How long indexing stands back for live callers: once the oldest indexing entry of a queue has waited this long, one batch in
/// [`LIVE_BATCHES_MAX`] + 1 at least is led by it.
pub const INDEXING_WAIT_MAX: Duration = Duration::from_millis(500);
/// Most batches in a row led by live entries while an indexing entry has waited longer than [`INDEXING_WAIT_MAX`].
pub const LIVE_BATCHES_MAX: usize = 3;

/// Where graphs run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Provider {
    /// ONNX Runtime's own CPU kernels.
    #[default]
    Cpu,
    /// NVIDIA CUDA. When it can't be had, start fails: there is no step down to the CPU.
    Cuda {
        /// Index of the device.
        device_id: i32,
    },
}

/// Limits of one tower's queue and batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Most entries of one batch; of the cross tower, most pairs.
    pub batch_max: usize,
    /// Most entries of each [`crate::Priority`] that wait; senders beyond it wait for room. So a full backlog of indexing leaves as
    /// much room again for live callers, and twice this many wait at most.
    pub queue_max: usize,
    /// Longest wait of an entry for company while a worker is free, microseconds.
    pub wait_us_max: u64,
}

/// Limits of a picture, checked before any pixel is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageLimits {
    /// Most bytes of the file.
    pub bytes_max: usize,
    /// Most pixels, declared width * height. Decoding takes 3 bytes a pixel for most files, at most 12 (a progressive CMYK
    /// JPEG).
    pub pixels_max: u64,
    /// Longest side, pixels.
    pub edge_max: u32,
}

impl Default for ImageLimits {
    fn default() -> Self {
        Self { bytes_max: 16 * 1024 * 1024, pixels_max: 50_000_000, edge_max: 32_768 }
    }
}

/// How the towers run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TowersConfig {
    /// Where graphs run.
    pub provider: Provider,
    /// Which of the bundle's graphs: `None` is int8 on a CPU where the bundle has it, fp16 on CUDA where it has it, else the
    /// bundle's first.
    pub precision: Option<Precision>,
    /// Threads of a tower's session together, over all its workers; 0 is one a core.
    pub threads: usize,
    /// Sessions of each tower, each with a thread of its own; 0 is one. `threads` are shared out among them.
    pub workers: usize,
    /// Limits of the image tower.
    pub image: BatchLimits,
    /// Limits of the text tower.
    pub text: BatchLimits,
    /// Limits of the cross tower; an entry is up to `batch_max` pairs of one request, and a batch up to `batch_max` pairs of
    /// several.
    pub cross: BatchLimits,
    /// Limits of a picture.
    pub image_limits: ImageLimits,
    /// Whether the cross tower is loaded.
    pub load_cross: bool,
}

impl Default for TowersConfig {
    fn default() -> Self {
        Self {
            provider: Provider::Cpu,
            precision: None,
            threads: 0,
            workers: 0,
            image: BatchLimits { batch_max: 16, queue_max: 64, wait_us_max: 2_000 },
            text: BatchLimits { batch_max: 64, queue_max: 256, wait_us_max: 1_000 },
            cross: BatchLimits { batch_max: 32, queue_max: 16, wait_us_max: 0 },
            image_limits: ImageLimits::default(),
            load_cross: true,
        }
    }
}
