//! What the pipeline counts.

use std::time::Duration;

use astromech_schemas::Kind;
use astromech_schemas::dead_letter::Reason;
use astromech_schemas::results::{Operation, Outcome};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use crate::vitals::{MetricSet, Registrar, items, labels};

/// Seconds, from a deletion to a record that waited for an outage to end.
const RECORD_BUCKETS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0];

labels! {
    AppliedLabels { kind: &'static str, operation: &'static str }
    ReasonLabel { reason: &'static str }
}

/// Of records and of writes to the index.
pub struct PipelineMetrics {
    records_applied: Family<AppliedLabels, Counter>,
    records_superseded: Family<AppliedLabels, Counter>,
    dead_letters: Family<ReasonLabel, Counter>,
    record_seconds: Histogram,
    index_batch_size: Histogram,
}

impl MetricSet for PipelineMetrics {
    fn register(r: &mut Registrar<'_>) -> Self {
        let record = Histogram::new(RECORD_BUCKETS);
        let metrics = Self {
            records_applied: r.add("records_applied", "Changes that the index holds and whose result is acknowledged"),
            records_superseded: r.add(
                "records_superseded",
                "Changes that a newer one of their item had replaced, and whose result is acknowledged",
            ),
            dead_letters: r.add("dead_letters", "Records sent to the dead-letter topic"),
            record_seconds: r.add_seconds("record", "Time of one record from being read to its acknowledgement", record),
            index_batch_size: r.add_made("index_batch_size", "Changes of one write to the index", items()),
        };
        for kind in Kind::ALL {
            for operation in [Operation::Upsert, Operation::Delete] {
                let _ = metrics.records_applied.get_or_create(&applied(kind, operation));
                let _ = metrics.records_superseded.get_or_create(&applied(kind, operation));
            }
        }
        for reason in Reason::ALL {
            let _ = metrics.dead_letters.get_or_create(&ReasonLabel { reason: reason.as_str() });
        }
        metrics
    }
}

impl PipelineMetrics {
    /// The index has taken one change and its result is acknowledged.
    pub fn record_taken(&self, kind: Kind, operation: Operation, outcome: Outcome) {
        let taken = match outcome {
            Outcome::Applied => &self.records_applied,
            Outcome::Superseded => &self.records_superseded,
        };
        taken.get_or_create(&applied(kind, operation)).inc();
    }

    /// One record went to the dead-letter topic.
    pub fn dead_letter(&self, reason: Reason) {
        self.dead_letters.get_or_create(&ReasonLabel { reason: reason.as_str() }).inc();
    }

    /// A record was acknowledged `time` after it was read.
    pub fn record_time(&self, time: Duration) {
        self.record_seconds.observe(time.as_secs_f64());
    }

    /// A write to the index has `changes`.
    pub fn index_batch(&self, changes: usize) {
        self.index_batch_size.observe(changes as f64);
    }
}

const fn applied(kind: Kind, operation: Operation) -> AppliedLabels {
    let operation = match operation {
        Operation::Upsert => "upsert",
        Operation::Delete => "delete",
    };
    AppliedLabels { kind: kind.as_str(), operation }
}
