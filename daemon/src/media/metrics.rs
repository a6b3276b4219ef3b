//! What fetching pictures counts.

use prometheus_client::metrics::counter::Counter;

use crate::vitals::{MetricSet, Registrar};

/// Of picture hosts.
pub struct MediaMetrics {
    host_pauses: Counter,
}

impl MetricSet for MediaMetrics {
    fn register(r: &mut Registrar<'_>) -> Self {
        Self { host_pauses: r.add("media_host_pauses", "Times that a picture host was left alone after failures in a row") }
    }
}

impl MediaMetrics {
    /// A picture host is left alone for a while.
    pub fn host_paused(&self) {
        self.host_pauses.inc();
    }
}
