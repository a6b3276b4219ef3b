//! The training loop.

mod bench;
mod cached;
mod config;
mod config_check;
mod curves;
mod matching;
mod muon;
mod objective;
mod optimiser;
mod pairs;
mod run;
mod schedule;
mod source;
mod stop;
mod validate;

pub use bench::{StepTimes, bench_steps};
pub use config::{DataConfig, DataSource, EvalConfig, LossConfig, OptimConfig, RunConfig, TrainConfig};
pub use curves::draw_curves;
pub use matching::{MatchFigures, MatchingConfig, MatchingOutcome, train_matching};
pub use muon::MuonSettings;
pub use objective::{Guide, Inputs, Objective, PIXEL_MEAN, PIXEL_STD, StepLosses, denormalise, normalise};
pub use optimiser::{AdamW, AdamWSettings, Ema};
pub use run::{Outcome, TrainError, train};
pub use schedule::{Schedule, ScheduleKind};
pub use source::{batch_maker, batch_source};
pub use stop::StopFlag;
pub use validate::{Recall, ValidateOptions, Validator};
