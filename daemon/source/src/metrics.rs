//! What the source counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use astromech_vitals::{Age, MetricSet, Registrar, labels};

labels! {
    TopicLabel { topic: String }
    PartitionLabels { topic: String, partition: i32 }
}

/// Of reading and committing.
pub struct SourceMetrics {
    records_consumed: Family<TopicLabel, Counter>,
    /// Over all topics.
    consumed: AtomicU64,
    bytes_in_flight: Gauge,
    partitions_assigned: Gauge,
    partition_lag: Family<PartitionLabels, Gauge>,
    oldest_unacked: Gauge<f64, AtomicU64>,
    offsets_committed: Counter,
    topic_recreated: Family<TopicLabel, Gauge>,
    answer_age: Age,
}

impl MetricSet for SourceMetrics {
    fn register(r: &mut Registrar<'_>) -> Self {
        Self {
            records_consumed: r.add("records_consumed", "Records read from Kafka"),
            consumed: AtomicU64::new(0),
            bytes_in_flight: r.add("bytes_in_flight", "Bytes of the records under way"),
            partitions_assigned: r.add("partitions_assigned", "Partitions that this daemon reads"),
            partition_lag: r.add("partition_lag", "Records of a partition that can still be read, behind the committed offset"),
            oldest_unacked: r.add_seconds("oldest_unacked", "Age of the oldest record in flight", Gauge::default()),
            offsets_committed: r.add("offsets_committed", "Offset commits accepted by the broker"),
            topic_recreated: r
                .add("topic_recreated", "1 where a topic was made again since its group read it, so that nothing of it is read"),
            answer_age: r.add_seconds("kafka_answer_age", "Since a broker last answered the consumer", Age::default()),
        }
    }
}

impl SourceMetrics {
    /// `topics` are read from now on, and brokers waited for: what is counted of them starts.
    pub fn reading<'a>(&self, topics: impl Iterator<Item = &'a str>) {
        for topic in topics {
            let _ = self.records_consumed.get_or_create(&TopicLabel { topic: topic.to_owned() });
        }
        self.answer_age.begin();
    }

    /// A broker answered: what is told of lags is of now.
    pub fn broker_answered(&self) {
        self.answer_age.happened();
    }

    /// One record was read from `topic`.
    pub fn record_consumed(&self, topic: &str) {
        self.consumed.fetch_add(1, Ordering::Relaxed);
        self.records_consumed.get_or_create(&TopicLabel { topic: topic.to_owned() }).inc();
    }

    /// Records read so far, over all topics.
    pub fn records_consumed_total(&self) -> u64 {
        self.consumed.load(Ordering::Relaxed)
    }

    /// The records under way have `bytes`.
    pub fn set_bytes_in_flight(&self, bytes: usize) {
        self.bytes_in_flight.set(bytes as i64);
    }

    /// This daemon reads `partitions`.
    pub fn set_partitions_assigned(&self, partitions: usize) {
        self.partitions_assigned.set(partitions as i64);
    }

    /// `records` that can be read lie behind the committed offset of the partition.
    pub fn set_partition_lag(&self, topic: &str, partition: i32, records: i64) {
        self.partition_lag.get_or_create(&PartitionLabels { topic: topic.to_owned(), partition }).set(records);
    }

    /// The partition was taken away: its lag is another's to report.
    pub fn forget_partition(&self, topic: &str, partition: i32) {
        self.partition_lag.remove(&PartitionLabels { topic: topic.to_owned(), partition });
    }

    /// Another generation is live: the lags of the old one's partitions are no longer reported.
    pub fn forget_partitions(&self) {
        self.partition_lag.clear();
    }

    /// Age of the oldest record in flight; zero when none is.
    pub fn set_oldest_unacked(&self, age: Duration) {
        self.oldest_unacked.set(age.as_secs_f64());
    }

    /// Whether `topic` is another than its group has read.
    pub fn set_topic_recreated(&self, topic: &str, recreated: bool) {
        self.topic_recreated.get_or_create(&TopicLabel { topic: topic.to_owned() }).set(i64::from(recreated));
    }

    /// The broker accepted one commit.
    pub fn offsets_committed(&self) {
        self.offsets_committed.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use astromech_vitals::Metrics;

    #[test]
    fn a_partition_taken_away_is_no_longer_reported() {
        let metrics = Metrics::new();
        let source = metrics.of::<SourceMetrics>();
        source.set_partition_lag("articles", 0, 7);
        source.forget_partition("articles", 0);
        assert!(!metrics.encode().contains("partition_lag{"));
    }
}
