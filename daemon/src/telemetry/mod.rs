//! What the daemon says of itself: metrics, logs, and whether it is ready.

mod json;
mod log;
mod memory;
mod metrics;
mod otlp;
mod quiet;
mod readiness;
mod rescore;
mod stage;
pub(crate) mod trace;

pub(crate) use quiet::Quiet;

pub use log::{LogError, LogFormat, init_log};
pub use memory::resident_bytes;
pub use metrics::{METRICS_CONTENT_TYPE, Metrics};
pub use otlp::Traces;
pub use readiness::{Condition, Readiness};
pub use rescore::{CacheTier, RescoreMetrics};
pub use stage::{SpanOutcome, Stage};
