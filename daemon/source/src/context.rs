//! What librdkafka calls back. Every callback runs on the polling thread, inside `poll`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::statistics::{Partition as PartitionStatistics, Statistics};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tracing::{info, warn};

use super::assignment::{Assignment, committable};
use super::log::log;
use super::metrics::SourceMetrics;
use super::partition::{Partition, Standing};
use super::watch::Trouble;
use astromech_vitals::{Condition, Meter, Readiness, WarnLimiter};

/// Errors that librdkafka calls back with while brokers are down.
static ERRORS: WarnLimiter = WarnLimiter::new();

/// The consumer's callbacks.
pub(super) struct Context {
    pub(super) assignment: Arc<Assignment>,
    pub(super) drain_timeout: Duration,
    pub(super) metrics: Meter<SourceMetrics>,
    pub(super) readiness: Arc<Readiness>,
    /// What it says ready of.
    pub(super) condition: Condition,
    /// What is wrong with the topics.
    pub(super) trouble: Arc<Trouble>,
    /// Set by an assignment: new partitions are not paused yet.
    pub(super) assigned: AtomicBool,
    /// Whether the group has ever assigned anything.
    pub(super) joined: AtomicBool,
    /// Set at the end: statistics still come while the consumer leaves the group, and must not say ready.
    pub(super) stopping: AtomicBool,
    /// Answers of all brokers, as last looked at.
    pub(super) answers: AtomicU64,
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
        self.tell(true);
    }

    /// Whether this source is ready, by what is known now.
    fn tell(&self, answering: bool) {
        if self.stopping.load(Ordering::Acquire) {
            self.readiness.set_missing(self.condition, "stopping");
        } else if !answering {
            self.readiness.set_missing(self.condition, "no broker answers");
        } else if let Some(reason) = self.trouble.reason() {
            self.readiness.set_missing(self.condition, reason);
        } else if self.joined.load(Ordering::Acquire) {
            self.readiness.set_ready(self.condition);
        } else {
            self.readiness.set_missing(self.condition, "waiting for the group to assign partitions");
        }
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

    /// Commits the prefix of `partitions` and waits for the answer. Whatever is not confirmed is sent again, under way or not.
    pub(super) fn commit_now(&self, consumer: &BaseConsumer<Self>, partitions: &[Arc<Partition>]) {
        let list = committable(partitions, Duration::ZERO);
        if list.count() == 0 {
            return;
        }
        match consumer.commit(&list, CommitMode::Sync) {
            Ok(()) => self.confirm(list.elements().iter().filter_map(|element| {
                let Offset::Offset(offset) = element.offset() else { return None };
                Some((element.topic(), element.partition(), offset))
            })),
            // The records after the last commit come again, to us or another member: the version guard makes that harmless.
            Err(e) => warn!(error = %e, "the last commit of these partitions failed; their newest records will be read again"),
        }
    }

    /// The broker holds these offsets.
    fn confirm<'a>(&self, offsets: impl Iterator<Item = (&'a str, i32, i64)>) {
        for (topic, number, offset) in offsets {
            if self.assignment.get(topic, number).is_some_and(|partition| partition.confirm(offset)) {
                self.metrics.offsets_committed();
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
    // No `commit_callback`: for commits that are sent without waiting, rdkafka 0.39 never calls it. Statistics tell what the broker holds.
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        let answering = statistics.brokers.values().any(|broker| broker.state == "UP");
        let answers = statistics.brokers.values().fold(0_u64, |sum, broker| sum.wrapping_add(broker.rx));
        // A broker that is frozen, or behind a cable that was cut, is "UP" for a minute and more.
        if self.answers.swap(answers, Ordering::Relaxed) != answers {
            self.metrics.broker_answered();
        }
        self.tell(answering);
        for topic in statistics.topics.values() {
            let committed = topic.partitions.values().filter(|partition| partition.committed_offset >= 0);
            self.confirm(committed.map(|partition| (topic.topic.as_str(), partition.partition, partition.committed_offset)));
            for partition in topic.partitions.values() {
                let ours = self.assignment.get(&topic.topic, partition.partition);
                // Of one that is stopped nothing is fetched: the watch asks for its end.
                let reads = ours.is_some_and(|ours| ours.standing() != Standing::Stopped);
                if let Some(lag) = lag_of(partition).filter(|_| reads) {
                    self.metrics.set_partition_lag(&topic.topic, partition.partition, lag);
                }
            }
        }
        if self.condition == Condition::Kafka {
            self.metrics.set_oldest_unacked(self.assignment.oldest_age());
            self.metrics.set_partitions_assigned(self.assignment.all().len());
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.readiness.set_missing(self.condition, "no broker answers");
        }
        let key = error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| format!("{code:?}"));
        if let Some(repeated) = ERRORS.due(&key) {
            warn!(%error, reason, repeated, "kafka");
        }
    }
}

/// Records between what the group has committed and the end of what a consumer can read: the last stable offset, before any transaction that
/// is still open. Of a partition in which nothing is committed all of them are left, and what was deleted before it was read is not.
/// `None` while the ends are not known.
fn lag_of(partition: &PartitionStatistics) -> Option<i64> {
    let end = Some(partition.ls_offset).filter(|end| *end >= 0)?;
    Some(end.saturating_sub(partition.committed_offset.max(partition.lo_offset).max(0)).max(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lag(committed: i64, low: i64, end: i64) -> Option<i64> {
        let (committed_offset, lo_offset, ls_offset) = (committed, low, end);
        lag_of(&PartitionStatistics { committed_offset, lo_offset, ls_offset, ..PartitionStatistics::default() })
    }

    #[test]
    fn the_lag_is_what_a_consumer_can_still_read() {
        assert_eq!(lag(7, 0, 10), Some(3));
        assert_eq!(lag(-1001, 0, 10), Some(10), "nothing is committed");
        assert_eq!(lag(-1001, 4, 10), Some(6));
        assert_eq!(lag(2, 10, 10), Some(0), "deleted before it was read");
        assert_eq!(lag(7, 0, -1001), None, "the end is not known");
    }
}
