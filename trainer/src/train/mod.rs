//! The training loop.

mod bench;
mod cached;
mod config;
mod curves;
mod muon;
mod matching;
mod objective;
mod optimiser;
mod pairs;
mod run;
mod schedule;
mod stop;
mod validate;

pub use bench::{StepTimes, bench_steps};
pub use config::{DataConfig, EvalConfig, LossConfig, OptimConfig, RunConfig, TrainConfig, TrainConfigError};
pub use curves::draw_curves;
pub use muon::MuonSettings;
pub use matching::{MatchFigures, MatchingConfig, MatchingOutcome, train_matching};
pub use objective::{Guide, Inputs, Objective, PIXEL_MEAN, PIXEL_STD, StepLosses, normalise};
pub use optimiser::{AdamW, AdamWSettings, Ema};
pub use run::{Outcome, TrainError, batch_maker, train};
pub use schedule::{Schedule, ScheduleKind};
pub use stop::StopFlag;
pub use validate::{Recall, ValidateOptions, Validator};
