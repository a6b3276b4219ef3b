//! Every room's metrics, and those of the index as the commands look at it.

use std::sync::Arc;

use astromech_schemas::Kind;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::api::HttpMetrics;
use crate::assemble::TowerMetrics;
use crate::generation::GenerationMetrics;
use crate::media::MediaMetrics;
use crate::pipeline::PipelineMetrics;
use crate::rescore::RescoreMetrics;
use crate::source::SourceMetrics;
use crate::telemetry::{ProcessMetrics, SpanMetrics};
use crate::vitals::{MetricSet, Metrics, QueueMetrics, Registrar, StageMetrics, labels};

/// Every set of the daemon from the start: a rate needs a first point. A room that counts has its line here.
pub fn every_metric() -> Arc<Metrics> {
    let metrics = Metrics::new();
    let _ = (
        metrics.of::<ProcessMetrics>(),
        metrics.of::<SpanMetrics>(),
        metrics.of::<StageMetrics>(),
        metrics.of::<QueueMetrics>(),
        metrics.of::<MediaMetrics>(),
        metrics.of::<SourceMetrics>(),
        metrics.of::<IndexMetrics>(),
        metrics.of::<TowerMetrics>(),
        metrics.of::<RescoreMetrics>(),
        metrics.of::<PipelineMetrics>(),
        metrics.of::<GenerationMetrics>(),
        metrics.of::<HttpMetrics>(),
    );
    Arc::new(metrics)
}

labels! {
    KindLabel { kind: &'static str }
}

/// Of the live index.
pub struct IndexMetrics {
    points: Family<KindLabel, Gauge>,
    lost: Gauge,
    tombstones_purged: Counter,
}

impl MetricSet for IndexMetrics {
    fn register(r: &mut Registrar<'_>) -> Self {
        Self {
            points: r.add("index_points", "Live points in the index"),
            lost: r.add("index_lost", "1 while the index is gone that the group has read into, so that it is not opened"),
            tombstones_purged: r.add("tombstones_purged", "Tombstones removed after their retention"),
        }
    }
}

impl IndexMetrics {
    /// The index holds `points` live points of `kind`.
    pub fn set_points(&self, kind: Kind, points: u64) {
        self.points.get_or_create(&KindLabel { kind: kind.as_str() }).set(i64::try_from(points).unwrap_or(i64::MAX));
    }

    /// Whether the index is gone and its group's offsets are not.
    pub fn set_lost(&self, lost: bool) {
        self.lost.set(i64::from(lost));
    }

    /// So many tombstones were removed.
    pub fn tombstones_purged(&self, tombstones: u64) {
        self.tombstones_purged.inc_by(tombstones);
    }
}

#[cfg(test)]
mod tests;
