//! What the daemon says of itself: metrics, logs, and whether it is ready.

mod log;
mod metrics;
mod readiness;
mod rescore;
pub(crate) mod trace;

pub use log::{LogError, LogFormat, init_log};
pub use metrics::{METRICS_CONTENT_TYPE, Metrics, Stage};
pub use readiness::{Condition, Readiness};
pub use rescore::{CacheTier, RescoreMetrics};
