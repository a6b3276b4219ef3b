//! The training loop.

mod config;
mod curves;
mod objective;
mod optimiser;
mod run;
mod schedule;
mod stop;
mod validate;

pub use config::{DataConfig, DataSource, EvalConfig, LossConfig, OptimConfig, RunConfig, TrainConfig, TrainConfigError};
pub use curves::draw_curves;
pub use objective::{Guide, Inputs, Objective, PIXEL_MEAN, PIXEL_STD, StepLosses, normalise};
pub use optimiser::{AdamW, AdamWSettings, Ema};
pub use run::{Outcome, TrainError, batch_maker, batch_source, train};
pub use schedule::Schedule;
pub use stop::StopFlag;
pub use validate::{Recall, Validator};
