//! Pictures by http, against real servers in this process.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod allowed;
mod hostile;
mod hosts;
mod support;
mod tls;
