//! A small layer module over tch.
//!
//! All parameters of a model live in **one flat f32 buffer** ([`Params`]). A [`Leaf`] is a range of that buffer which autograd sees as one
//! tensor; a leaf may hold several named parameters (queries, keys and values of one attention are one leaf, so that they are one
//! matrix product, yet keep their official names). Layers hold only leaf numbers; values come from a [`Weights`] at each forward, so one
//! model runs with its masters, with their bf16 copy or with the moving average alike. This is the only place that knows tch's
//! parameter handling: the model above it could move to another framework.

mod attention;
mod device;
mod layers;
mod params;

pub use attention::{Context, CrossAttention, SelfAttention};
pub use device::{Device, DeviceError, synchronise};
pub use layers::{DropPath, Embedding, Gelu, LayerNorm, Linear, Mlp};
pub use params::{Builder, Init, Leaf, Named, Params, Precision, Weights};
