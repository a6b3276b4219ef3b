//! Checkpoints: native (safetensors), the import of the official container, and the start from Hugging Face's towers.

mod container;
mod error;
mod filler;
mod import;
mod keep;
mod loaded;
mod maps;
mod native;
mod pickle;
mod pretrained;
mod report;
mod source;

pub use error::CheckpointError;
pub use import::import_official;
pub use keep::{CHECKPOINTS_FOLDER, keep_checkpoint, kept_checkpoints};
pub use loaded::LoadedModel;
pub use native::{
    CrossStart, METRICS_FILE, MODEL_FILE, Progress, STATE_FILE, TrainingState, load_model, read_model_config, read_state,
    save_model, write_state,
};
pub use pretrained::{Pretrained, PretrainedModel, PretrainedReport, Start, import_prd2, import_pretrained};
pub use report::{KeyReport, MisShaped, TowerReport};
