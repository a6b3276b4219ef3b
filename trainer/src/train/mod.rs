//! The training loop.

mod bench;
mod cached;
mod config;
mod config_check;
mod config_parts;
mod curves;
mod error;
mod learner;
mod matching;
mod muon;
mod objective;
mod optimiser;
mod pairs;
mod run;
mod schedule;
mod source;
mod validate;

pub use bench::{StepTimes, bench_steps};
pub use config::{DataConfig, DataSource, EvalConfig, LossConfig, OptimConfig, RunConfig, TrainConfig};
pub use config_parts::{CrossOptimConfig, MatchingConfig, ScheduleKind};
pub use curves::draw_curves;
pub use error::TrainError;
pub use learner::Outcome;
pub use matching::{MatchFigures, MatchingOutcome, train_matching};
pub use muon::MuonSettings;
pub use objective::{Guide, Objective, StepLosses};
pub use optimiser::{AdamW, AdamWSettings, Ema, Group, Rates};
pub use run::train;
pub use schedule::Schedule;
pub use source::{batch_maker, batch_source};
pub use validate::{Recall, ValidateOptions, Validator};
