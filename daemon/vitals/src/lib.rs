//! What every room of the daemon says of itself while it runs: its metrics, whether it is ready, its part of a trace, warnings that are not
//! repeated, and the cause where it can't go on; and how it waits for what may pass. Below every room: it knows none of them.
//!
//! Absent here: who reads it (HTTP, the log, a collector), and any configuration.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

mod backoff;
mod halt;
mod metrics;
mod queue;
mod readiness;
mod stage;
pub mod trace;
mod until;
mod vitals;
mod warn_limiter;

use backoff::Backoff;
pub use backoff::BackoffLimits;
pub use halt::{Halt, HaltCause};
pub use metrics::{Age, Histograms, METRICS_CONTENT_TYPE, Meter, MetricSet, Metrics, Registrar, items, seconds};
pub use queue::{Queue, QueueMetrics};
pub use readiness::{Condition, Readiness, Waiting};
pub use stage::{Stage, StageMetrics};
pub use until::{Awaited, Unanswered};
pub use vitals::Vitals;
pub use warn_limiter::WarnLimiter;
