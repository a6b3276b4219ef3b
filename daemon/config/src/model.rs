//! `[bundle]`, `[runtime]` and the sections of the towers.

use std::path::PathBuf;

use astromech_schemas::manifest::Precision;
use astromech_settings::kinds::{choice, int, path, path_or_none};
use astromech_settings::settings;

/// Where the towers run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderKind {
    /// On the CPU.
    Cpu,
    /// On one CUDA device.
    Cuda,
}

/// Batching of one tower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TowerLimits {
    /// Most items in one batch.
    pub batch_max: usize,
    /// Most items waiting, live requests and indexing each.
    pub queue_max: usize,
    /// Longest wait for a batch to fill, microseconds.
    pub wait_us_max: u64,
}

/// `[towers.image]`, `[towers.text]` and `[towers.cross]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TowersSection {
    /// The image tower.
    pub image: TowerLimits,
    /// The text tower.
    pub text: TowerLimits,
    /// The cross tower.
    pub cross: TowerLimits,
}

const PRECISIONS: &[(&str, Option<Precision>)] =
    &[("auto", None), ("f32", Some(Precision::F32)), ("fp16", Some(Precision::Fp16)), ("int8", Some(Precision::Int8))];

settings! {
    /// `[bundle]`
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct BundleConfig {
        /// Folder of the bundle. Like every path here, relative to this file's folder.
        path: PathBuf = (required "bundle") => path();
        /// Graphs to load. auto: int8 on CPU and fp16 on CUDA where the bundle has them, else what it has.
        precision: Option<Precision> = "auto" => choice(PRECISIONS);
    }

    /// `[runtime]`
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct RuntimeConfig {
        /// Path of libonnxruntime.so; empty looks at ORT_DYLIB_PATH. The wheel onnxruntime==1.31.1 carries one.
        onnxruntime: Option<PathBuf> = "${ORT_DYLIB_PATH:-}" => path_or_none();
        /// Where the towers run. With cuda and no usable device the daemon does not start.
        provider: ProviderKind = "cpu" => choice(&[("cpu", ProviderKind::Cpu), ("cuda", ProviderKind::Cuda)]);
        /// CUDA device.
        device_id: i32 = 0 => int(0, 255);
        /// Threads of the towers; 0 for all cores.
        threads: usize = 0 => int(0, 1024);
    }
}

/// The three towers have the same keys, with limits of their own.
macro_rules! tower {
    ($name:ident, batch $batch:tt of $batch_max:literal, queue $queue:tt, wait $wait:tt) => {
        settings! {
            /// One tower.
            #[derive(Debug, Clone, PartialEq)]
            pub(crate) struct $name {
                /// Most items in one batch.
                batch_max: usize = $batch => int(1, $batch_max);
                /// Most items waiting for a batch, live requests and indexing each: a full backlog of indexing keeps no live request
                /// out. When full, callers wait.
                queue_max: usize = $queue => int(1, 65_536);
                /// Longest wait for a batch to fill, microseconds; a batch never waits while it is full.
                wait_us_max: u64 = $wait => int(0, 1_000_000);
            }
        }

        impl $name {
            /// As the towers take them, and a mistake where no batch could be full.
            pub(crate) fn limits(
                &self,
                at: &<Self as astromech_settings::Section>::Places,
                errors: &mut Vec<astromech_settings::SettingError>,
            ) -> TowerLimits {
                let Self { batch_max, queue_max, wait_us_max } = *self;
                if queue_max < batch_max {
                    let problem = format!("{queue_max} is less than batch_max = {batch_max}, so no batch could ever be full");
                    errors.push(at.queue_max.error(problem, format!("write at least {batch_max}, better four times that")));
                }
                TowerLimits { batch_max, queue_max, wait_us_max }
            }
        }
    };
}

tower!(ImageTower, batch 16 of 1024, queue 64, wait 2000);
tower!(TextTower, batch 64 of 4096, queue 256, wait 1000);
tower!(CrossTower, batch 64 of 4096, queue 64, wait 1000);
