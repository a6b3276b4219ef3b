//! Writing ONNX without protoc: the messages of `onnx.proto` that a graph needs, and a small builder over them.
//!
//! Only standard operators are written; ONNX Runtime fuses its own (`QuickGelu`, `DynamicQuantizeMatMul`, …) when it loads a graph.

mod builder;
pub mod proto;

pub use builder::{Attribute, Dim, Element, GraphBuilder, Value};
