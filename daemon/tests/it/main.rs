//! The daemon's integration tests, in one binary: each links the whole daemon, which takes longer than most of them.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[cfg(feature = "embedded")]
mod api_http;
mod media_fetch;
mod module_graph;
mod pipeline_decode;
mod pipeline_index_file;
mod pipeline_writer;
