//! How far a generation's consumer group is behind the heads of the topics, over all of its members.

use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;

use crate::config::KafkaConfig;
use crate::source::groups::{GroupView, Position};

/// A group is at the live head when what was the head so short a time ago is behind it.
const HEAD_AGE_MAX: Duration = Duration::from_secs(5);

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
    view: GroupView,
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
        Ok(Self {
            view: GroupView::new(kafka)?,
            topics: kafka.topics.iter().map(|topic| topic.name.clone()).collect(),
            target: None,
        })
    }

    /// Asks the broker; blocks.
    ///
    /// # Errors
    /// The broker does not answer.
    pub(super) fn look(&mut self) -> Result<Behind, KafkaError> {
        let now = Instant::now();
        let positions: Vec<Position> = self.view.positions(self.topics.iter().map(String::as_str))?.into_values().collect();
        let at_head = self.passes(&positions, now);
        Ok(Behind {
            remaining: positions.iter().map(|position| position.remaining()).sum(),
            records: positions.iter().map(|position| position.high.saturating_sub(position.low).max(0) as u64).sum(),
            at_head,
        })
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
