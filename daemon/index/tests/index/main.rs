//! The index's contract, held by both engines: SQLite in the process and a real Qdrant server; and what only one of them must hold.
#![cfg(feature = "embedded")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[macro_use]
mod support;
mod ties;

mod book;
mod contract;
mod embedded;
mod kills;
mod late_interaction;
mod qdrant;
mod videos;
