//! What every room of the daemon says of itself while it runs: its metrics, whether it is ready, its part of a trace, and warnings that are
//! not repeated. Below every room: it knows none of them.
//!
//! Absent here: who reads it (HTTP, the log, a collector), and any configuration.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

mod metrics;
mod queue;
mod readiness;
mod stage;
pub mod trace;
mod warn_limiter;

pub use metrics::{Histograms, METRICS_CONTENT_TYPE, Meter, MetricSet, Metrics, Registrar, items, seconds};
pub use queue::{Queue, QueueMetrics};
pub use readiness::{Condition, Readiness, Waiting};
pub use stage::{Stage, StageMetrics};
pub use warn_limiter::WarnLimiter;
