//! The integration tests of reading, writing and asking the registry, in one binary.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod decode;
mod registry;
mod schemas;
