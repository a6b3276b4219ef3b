//! Checkpoints: native (safetensors), and the import of the official container.

mod atomic;
mod container;
mod error;
mod import;
mod keep;
mod native;
mod pickle;
mod report;

pub use atomic::write_atomically;
pub use error::CheckpointError;
pub use import::import_official;
pub use keep::{CHECKPOINTS_FOLDER, keep_checkpoint, kept_checkpoints};
pub use native::{
    LoadedModel, MODEL_FILE, Progress, STATE_FILE, TrainingState, load_model, read_model_config, read_state, save_model,
    write_state,
};
pub use report::{KeyReport, MisShaped};
