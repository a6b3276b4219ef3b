//! Published bundles in a folder or in S3-compatible object storage.
//!
//! ```text
//! bundles/<fingerprint>/<file>      every file of the bundle, manifest.json last
//! releases/<fingerprint>.json       the release: sums, time, signature (astromech_schemas::Release)
//! current.json                      the pointer: the fingerprint that readers take up
//! ```
//! A publisher writes them in this order, each object at once or not at all, and moves the pointer only where nobody else moved it
//! meanwhile. So a publisher that dies leaves the old pointer, and what a reader finds by the pointer is whole. A reader trusts
//! nothing of it: [`Registry::fetch`] checks signature, sizes and sums before a bundle appears under its name.
//!
//! This crate knows neither Kafka nor LibTorch nor ONNX Runtime.

#![forbid(unsafe_code)]

mod error;
mod fetch;
mod folder;
mod options;
mod publish;
mod registry;
mod retain;
mod sign;
mod store;
mod trust;

pub use error::RegistryError;
pub use fetch::bundle_at;
pub use options::{RegistryLimits, RegistryOptions};
pub use registry::Registry;
pub use retain::ORPHAN_AGE;
pub use sign::Signer;
#[cfg(feature = "sign")]
pub use sign::generate_key;
pub use trust::Trust;
