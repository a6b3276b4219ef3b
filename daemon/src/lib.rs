//! Astromech's daemon: keeps a Qdrant index in step with Kafka. See ARCHITECTURE.md for the way of a record.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

pub mod api;
pub mod assemble;
pub mod cli;
mod clock;
pub use astromech_config as config;
pub mod dead_letters;
pub mod failure;
pub mod generation;
pub mod media;
pub mod pipeline;
pub mod prepare;
mod problem;
pub mod rescore;
pub mod rescore_topic;
pub mod search;
pub mod telemetry;

pub use astromech_index as index;
pub use astromech_source as source;
pub use astromech_vitals as vitals;
