//! Trains, exports, evaluates and releases R2D2 models, over LibTorch through tch.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

pub mod announce;
pub mod checkpoint;
pub mod collect;
pub mod compare;
pub mod corpus;
pub mod distil;
pub mod evaluate;
pub mod export;
pub mod files;
pub mod gate;
pub mod inputs;
pub mod loss;
pub mod model;
pub mod nn;
pub mod onnx;
pub mod refresh;
pub mod release;
pub mod scenes;
pub mod stop;
pub mod train;
pub mod zero;
