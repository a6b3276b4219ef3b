//! How far a generation's consumer group is behind the heads of the topics, over all of its members.

use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::config::KafkaConfig;
use crate::source::groups::{GroupView, Position, Positions};

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

/// Every topic has positions.
fn check_whole<'a>(positions: &Positions, mut topics: impl Iterator<Item = &'a str>) -> Result<(), KafkaError> {
    if topics.all(|topic| positions.keys().any(|(name, _)| name == topic)) {
        return Ok(());
    }
    Err(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition))
}

/// Looks at a group without being a member of it.
pub(super) struct Heads {
    kafka: KafkaConfig,
    /// Given up after an error: librdkafka may remember for a quarter of an hour what a broker on its way back said once, for example that
    /// a partition does not exist.
    view: Option<GroupView>,
    /// What the group has to pass to be at the live head, and when that was the head.
    target: Option<(Instant, Vec<i64>)>,
}

impl Heads {
    /// For the group and the topics of `kafka`. Asks nothing yet.
    ///
    /// # Errors
    /// A property that librdkafka refuses.
    pub(super) fn new(kafka: &KafkaConfig) -> Result<Self, KafkaError> {
        Ok(Self { kafka: kafka.clone(), view: Some(GroupView::new(kafka)?), target: None })
    }

    /// Asks the broker; blocks.
    ///
    /// # Errors
    /// The broker does not answer, or knows a topic not (yet): a group that has nothing to read is not at the head of anything.
    pub(super) fn look(&mut self) -> Result<Behind, KafkaError> {
        let now = Instant::now();
        let view = match self.view.take() {
            Some(view) => view,
            None => GroupView::new(&self.kafka)?,
        };
        let topics = || self.kafka.topics.iter().map(|topic| topic.name.as_str());
        let positions = view.positions(topics())?;
        check_whole(&positions, topics())?;
        self.view = Some(view);
        let positions: Vec<Position> = positions.into_values().collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_without_positions_is_no_topic_that_is_read_to_its_end() {
        let at_end = |topic: &str| ((topic.to_owned(), 0), Position { low: 0, high: 0, committed: None, mark: None });
        let positions: Positions = [at_end("a"), at_end("b")].into();
        assert!(check_whole(&positions, ["a", "b"].into_iter()).is_ok());
        assert!(check_whole(&positions, ["a", "b", "c"].into_iter()).is_err());
        assert!(check_whole(&Positions::new(), ["a"].into_iter()).is_err());
    }
}
