//! How far a generation's consumer group is behind the heads of the topics, over all of its members.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::config::KafkaConfig;
use crate::source::consumer_config;

/// Longest wait for one answer of the broker.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// A group is at the live head when what was the head so short a time ago is behind it.
const HEAD_AGE_MAX: Duration = Duration::from_secs(5);

/// One partition: where the group is, and where the records are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    /// Oldest record.
    low: i64,
    /// Behind the newest record.
    high: i64,
    /// Committed by the group.
    committed: Option<i64>,
}

impl Position {
    /// The group's next record. A group that has committed nothing begins at the oldest.
    fn at(self) -> i64 {
        self.committed.unwrap_or(self.low).max(self.low)
    }

    fn remaining(self) -> u64 {
        self.high.saturating_sub(self.at()).max(0) as u64
    }
}

/// Records of all partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Behind {
    /// Not yet acknowledged.
    pub(super) remaining: u64,
    /// In the topics.
    pub(super) records: u64,
    /// Whether the group is at the live head.
    pub(super) at_head: bool,
}

/// Looks at a group without being a member of it.
pub(super) struct Heads {
    consumer: BaseConsumer,
    topics: Vec<String>,
    /// What the group has to pass to be at the live head, and when that was the head.
    target: Option<(Instant, Vec<i64>)>,
}

impl Heads {
    /// For the group and the topics of `kafka`. Asks nothing yet.
    ///
    /// # Errors
    /// A property that librdkafka refuses.
    pub(super) fn new(kafka: &KafkaConfig) -> Result<Self, KafkaError> {
        let consumer = consumer_config(kafka).create()?;
        Ok(Self { consumer, topics: kafka.topics.iter().map(|topic| topic.name.clone()).collect(), target: None })
    }

    /// Asks the broker; blocks.
    ///
    /// # Errors
    /// The broker does not answer.
    pub(super) fn look(&mut self) -> Result<Behind, KafkaError> {
        let now = Instant::now();
        let positions = self.positions()?;
        let at_head = self.passes(&positions, now);
        Ok(Behind {
            remaining: positions.iter().map(|position| position.remaining()).sum(),
            records: positions.iter().map(|position| position.high.saturating_sub(position.low).max(0) as u64).sum(),
            at_head,
        })
    }

    fn positions(&self) -> Result<Vec<Position>, KafkaError> {
        let mut list = TopicPartitionList::new();
        for topic in &self.topics {
            let metadata = self.consumer.fetch_metadata(Some(topic), ANSWER_MAX)?;
            for partition in metadata.topics().iter().flat_map(rdkafka::metadata::MetadataTopic::partitions) {
                list.add_partition(topic, partition.id());
            }
        }
        let committed = self.consumer.committed_offsets(list, ANSWER_MAX)?;
        let elements = committed.elements();
        let position = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
            let (low, high) = self.consumer.fetch_watermarks(element.topic(), element.partition(), ANSWER_MAX)?;
            let committed = if let Offset::Offset(offset) = element.offset() { Some(offset) } else { None };
            Ok(Position { low, high, committed })
        };
        elements.iter().map(position).collect()
    }

    /// Whether what was the head a short time ago is behind the group. New targets are set as old ones are passed.
    fn passes(&mut self, positions: &[Position], now: Instant) -> bool {
        let passed = |target: &[i64]| {
            target.len() == positions.len() && positions.iter().zip(target).all(|(position, target)| position.at() >= *target)
        };
        let at_head = match &self.target {
            Some((set, target)) if passed(target) => now.duration_since(*set) <= HEAD_AGE_MAX,
            Some((_, target)) if target.len() == positions.len() => return false,
            _ => positions.iter().all(|position| position.remaining() == 0),
        };
        self.target = Some((now, positions.iter().map(|position| position.high).collect()));
        at_head
    }
}
