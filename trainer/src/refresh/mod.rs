//! The refresh job: `trainer refresh` = collect → hold out → train → distil → export → evaluate → gate → publish → announce.
//!
//! A run is a folder. Each step writes its output beside its place and moves it there when it is whole, then one state file says that
//! the step is done; a step whose output is there is not done again. So a job that dies at any instant is gone on with by the next one.
//! One job at a time works in a folder, by a lease that expires.

mod announce;
mod config;
mod context;
mod error;
mod evaluate;
mod export;
mod gate;
mod job;
mod lease;
mod live;
mod progress;
mod state;
mod training;

pub use config::{DistilStep, EvaluateStep, ExportStep, GateStep, JobConfig, RefreshConfig, RegistryConfig, TrainStep};
pub use context::Halt;
pub use error::{Exit, RefreshError};
pub use job::{Options, Outcome, refresh};
pub use lease::{Lease, LeaseError};
pub use progress::Progress;
pub use state::{Published, Run, State, Step};
