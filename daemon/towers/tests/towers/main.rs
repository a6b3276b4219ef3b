//! The integration tests of pictures, texts and towers, in one binary: each links ONNX Runtime's binding and every decoder.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;
mod hostile;
mod odd_pictures;
mod parity_inputs;
mod pictures;
mod running;
