//! What librdkafka calls back. Every callback runs on the polling thread, inside `poll`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::TopicPartitionList;
use tracing::{debug, error, info, warn};

use super::assignment::{Assignment, committable};
use super::partition::Partition;
use crate::telemetry::{Condition, Metrics, Readiness};

/// The consumer's callbacks.
pub(super) struct Context {
    pub(super) assignment: Arc<Assignment>,
    pub(super) drain_timeout: Duration,
    pub(super) metrics: Arc<Metrics>,
    pub(super) readiness: Arc<Readiness>,
    /// Set by an assignment: new partitions are not paused yet.
    pub(super) assigned: AtomicBool,
    /// Whether the group has ever assigned anything.
    pub(super) joined: AtomicBool,
}

impl Context {
    fn ours(&self, list: &TopicPartitionList) -> Vec<Arc<Partition>> {
        list.elements().iter().filter_map(|element| self.assignment.get(element.topic(), element.partition())).collect()
    }

    fn assign(&self, list: &TopicPartitionList) {
        for element in list.elements() {
            self.assignment.add(element.topic(), element.partition());
        }
        info!(added = list.count(), partitions = self.assignment.all().len(), "partitions assigned");
        self.assigned.store(true, Ordering::Release);
        self.joined.store(true, Ordering::Release);
        self.readiness.set_ready(Condition::Kafka);
    }

    /// Fence first, then wait for writes under way, then commit, then give up (promise 4).
    fn revoke(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) {
        let partitions = self.ours(list);
        let started = Instant::now();
        let idle = Assignment::fence_off(&partitions, self.drain_timeout);
        if idle < partitions.len() {
            let busy = partitions.len() - idle;
            warn!(busy, timeout = ?self.drain_timeout, "writes did not end in time; the version guard keeps them from doing harm");
        }
        let lost = consumer.assignment_lost();
        if !lost {
            self.commit_now(consumer, &partitions);
        }
        self.assignment.remove(&partitions);
        for partition in &partitions {
            self.metrics.forget_partition(partition.topic(), partition.number());
        }
        info!(removed = partitions.len(), lost, took = ?started.elapsed(), "partitions given up");
    }

    /// Commits the prefix of `partitions` and waits for the answer.
    pub(super) fn commit_now(&self, consumer: &BaseConsumer<Self>, partitions: &[Arc<Partition>]) {
        let list = committable(partitions);
        if list.count() == 0 {
            return;
        }
        match consumer.commit(&list, CommitMode::Sync) {
            Ok(()) => self.metrics.offsets_committed(),
            // The records after the last commit come again, to us or another member: the version guard makes that harmless.
            Err(e) => {
                partitions.iter().for_each(|partition| partition.commit_failed());
                warn!(error = %e, "the last commit of these partitions failed; their newest records will be read again");
            }
        }
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(list) => self.assign(list),
            Rebalance::Revoke(list) => self.revoke(consumer, list),
            Rebalance::Error(e) => warn!(error = %e, "rebalance failed; the group tries again"),
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        match result {
            Ok(()) => {
                let failed = offsets.elements().into_iter().filter(|element| element.error().is_err());
                for element in failed {
                    if let Some(partition) = self.assignment.get(element.topic(), element.partition()) {
                        partition.commit_failed();
                    }
                    warn!(topic = element.topic(), partition = element.partition(), "commit failed; it is sent again");
                }
                self.metrics.offsets_committed();
            }
            Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
            Err(e) => {
                self.ours(offsets).iter().for_each(|partition| partition.commit_failed());
                warn!(error = %e, "commit failed; it is sent again");
            }
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        let answering = statistics.brokers.values().any(|broker| broker.state == "UP");
        if !answering {
            self.readiness.set_missing(Condition::Kafka, "no broker answers");
        } else if self.joined.load(Ordering::Acquire) {
            self.readiness.set_ready(Condition::Kafka);
        } else {
            self.readiness.set_missing(Condition::Kafka, "waiting for the group to assign partitions");
        }
        for topic in statistics.topics.values() {
            for partition in topic.partitions.values() {
                let known = partition.consumer_lag >= 0 && self.assignment.get(&topic.topic, partition.partition).is_some();
                if known {
                    self.metrics.set_partition_lag(&topic.topic, partition.partition, partition.consumer_lag);
                }
            }
        }
        self.metrics.set_oldest_unacked(self.assignment.oldest_age());
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.readiness.set_missing(Condition::Kafka, "no broker answers");
        }
        warn!(%error, reason, "kafka");
    }
}

/// librdkafka's own log lines, in ours.
pub(crate) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => error!(facility, "{message}"),
        // librdkafka logs each failed connection as an error; it goes on trying.
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => warn!(facility, "{message}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => debug!(facility, "{message}"),
    }
}
