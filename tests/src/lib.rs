//! End-to-end harness: a real Kafka broker, a real Qdrant server, the daemon's own binary.
//!
//! Tests take the [`world()`], which starts both servers once a process and hands them to one test at a time. Everything here panics with
//! what was expected and what was seen: it is the tests' own code, and a test has nobody to return an error to.

#![forbid(unsafe_code)]

pub mod authority;
pub mod browser;
pub mod bundle;
pub mod checks;
pub mod cluster;
pub mod collector;
pub mod corpus;
pub mod daemon;
pub mod http_server;
pub mod items;
pub mod kafka;
pub mod paths;
pub mod points;
pub mod random;
pub mod refresh;
pub mod schema_registry;
pub mod secured;
pub mod servers;
pub mod slow_proxy;
pub mod tally;
pub mod transactions;
pub mod unique;
pub mod wait;
pub mod world;

pub use daemon::{Daemon, DaemonConfig};
pub use kafka::{Record, Sent, Topics};
pub use wait::{block_on, wait_until};
pub use world::{World, world};
