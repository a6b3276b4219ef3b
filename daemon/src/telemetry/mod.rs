//! What the daemon says of itself: metrics, logs, and whether it is ready.

mod json;
mod log;
mod metrics;
mod otlp;
mod process;
mod queue;
mod quiet;
mod readiness;
mod stage;
pub(crate) mod trace;

pub(crate) use quiet::Quiet;

pub use log::{LogError, LogFormat, init_log};
pub(crate) use metrics::labels;
pub use metrics::{Histograms, METRICS_CONTENT_TYPE, Meter, MetricSet, Metrics, Registrar, items, seconds};
pub use otlp::{SpanMetrics, Traces};
pub use process::{ProcessMetrics, resident_bytes};
pub use queue::{Queue, QueueMetrics};
pub use readiness::{Condition, Readiness};
pub use stage::{Stage, StageMetrics};
