//! What the process does with what its rooms say of themselves ([`crate::vitals`]): the log, and spans to a collector.

mod json;
mod log;
mod otlp;
mod process;

pub use log::{LogError, init_log};
pub use otlp::{SpanMetrics, Traces};
pub use process::{ProcessMetrics, resident_bytes};

// For branches that are under way: taken out when they have landed.
pub use crate::vitals::{Condition, Metrics, Readiness, Stage, WarnLimiter as Quiet, trace};
