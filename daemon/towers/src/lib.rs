//! Astromech's towers: picture bytes and text in, vectors and match scores out.
//!
//! The way of a picture: [`Towers::prepare_image`] (decode, squash; on the caller's thread) → queue of the image tower → batch →
//! ONNX Runtime → unit vector. Texts go the same way through [`Towers::prepare_text`] and the text tower. The cross tower scores
//! pairs of their states. This crate opens no socket and knows neither Kafka nor Qdrant nor HTTP: the daemon serves through it and
//! the trainer evaluates through it, so what is measured is what is served.

#![forbid(unsafe_code)]

pub mod graph;

mod batch;
mod bundle;
mod config;
mod counters;
mod error;
mod golden;
mod pairs;
mod picture;
mod runtime;
mod states;
mod text;
mod towers;
mod urgency;

pub use bundle::Bundle;
pub use config::{BatchLimits, INDEXING_WAIT_MAX, ImageLimits, LIVE_BATCHES_MAX, Provider, TowersConfig};
pub use counters::{BatchObserver, QueueDepths, Tower, TowerCounter, TowerCounters};
pub use error::{ImageError, TowersError};
pub use picture::{PreparedImage, RgbPicture, RgbSquare, decode_and_squash, decode_rgb, squash};
pub use runtime::init_runtime;
pub use states::{Embedded, EmbeddedStates, ImageStates, MatchScore, TextStates, similarity};
pub use text::{PreparedText, Tokenizer};
pub use towers::Towers;
pub use urgency::Priority;
