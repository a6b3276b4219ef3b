//! Consumer groups from outside: where they are, who is in them, and setting their offsets anew. Nothing here joins a group.
//!
//! Every call blocks, for at most [`ANSWER_MAX`] an answer of the brokers.

mod members;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::metadata::{MetadataPartition, MetadataTopic};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

pub use members::Member;

use super::mark::{ByPartition, Expected, Found, Mark, compare};
pub use super::outside::ANSWER_MAX;
use super::outside::{Outside, outside};
use astromech_config::KafkaConfig;

/// Between two questions to a partition whose leader is being elected.
const ELECTION_WAIT: Duration = Duration::from_millis(100);

/// One partition: where a group is, and where the records are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Oldest record.
    pub low: i64,
    /// Behind the newest record.
    pub high: i64,
    /// Committed by the group; `None` where it has committed nothing.
    pub committed: Option<i64>,
    /// A record that the group has read, where a daemon committed.
    pub mark: Option<Mark>,
}

impl Position {
    /// The group's next record. A group that has committed nothing begins at the oldest.
    pub fn at(self) -> i64 {
        self.committed.unwrap_or(self.low).max(self.low)
    }

    /// Records that the group has not acknowledged.
    pub fn remaining(self) -> u64 {
        self.high.saturating_sub(self.at()).max(0) as u64
    }
}

/// Positions by topic and partition.
pub type Positions = BTreeMap<(String, i32), Position>;

/// What a group reads next in a partition that it has not read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// A record that was made then, milliseconds since 1970.
    Made(i64),
    /// A record without a time.
    Untimed,
    /// Nothing: up to the end there are markers and aborted records of transactions, which no consumer receives.
    Nothing,
}

/// A group as the brokers know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// `Stable`, `Empty`, …
    pub state: String,
    /// Who is in it.
    pub members: Vec<Member>,
}

/// Where a group is to be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// At the oldest record.
    Earliest,
    /// Behind the newest record.
    Latest,
    /// At the first record of that time or later, milliseconds since 1970; behind the newest where there is none.
    Time(i64),
    /// At that offset.
    Offset(i64),
}

/// Looks at one group without being a member of it.
pub struct GroupView {
    consumer: BaseConsumer<Outside>,
}

impl GroupView {
    /// For the group of `kafka`. Asks nothing yet.
    ///
    /// # Errors
    /// A property that librdkafka refuses.
    pub fn new(kafka: &KafkaConfig) -> Result<Self, KafkaError> {
        Ok(Self { consumer: outside(kafka).create_with_context(Outside)? })
    }

    /// Every group of the brokers whose name `wanted` takes.
    ///
    /// # Errors
    /// The brokers do not answer.
    pub fn groups(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<Group>, KafkaError> {
        let list = self.consumer.fetch_group_list(None, ANSWER_MAX)?;
        let found = list.groups().iter().filter(|group| wanted(group.name()));
        Ok(found
            .map(|group| Group {
                name: group.name().to_owned(),
                state: group.state().to_owned(),
                members: group.members().iter().map(Member::of).collect(),
            })
            .collect())
    }

    /// Number of partitions of `topic`; `None` where the topic does not exist. Nothing is created by asking.
    ///
    /// # Errors
    /// The brokers do not answer, or this user may not look.
    pub fn partitions(&self, topic: &str) -> Result<Option<Vec<i32>>, KafkaError> {
        partitions_of(&self.consumer, topic)
    }

    /// Positions of the group in every partition of `topics`; a topic that does not exist has none.
    ///
    /// # Errors
    /// The brokers do not answer.
    pub fn positions<'a>(&self, topics: impl IntoIterator<Item = &'a str>) -> Result<Positions, KafkaError> {
        let mut list = TopicPartitionList::new();
        for topic in topics {
            for partition in self.partitions(topic)?.unwrap_or_default() {
                list.add_partition(topic, partition);
            }
        }
        if list.count() == 0 {
            return Ok(Positions::new());
        }
        let committed = self.consumer.committed_offsets(list, ANSWER_MAX)?;
        let mut positions = Positions::new();
        for element in committed.elements() {
            let (low, high) = watermarks(&self.consumer, element.topic(), element.partition())?;
            let committed = if let Offset::Offset(offset) = element.offset() { Some(offset) } else { None };
            let mark = element.metadata().parse().ok();
            positions.insert((element.topic().to_owned(), element.partition()), Position { low, high, committed, mark });
        }
        Ok(positions)
    }

    /// The records that the group reads next, by partition. A partition that is read to its end has none, nor has one whose record did not
    /// come in time.
    ///
    /// # Errors
    /// The brokers do not answer.
    pub fn next_records(&self, positions: &Positions) -> Result<BTreeMap<(String, i32), Next>, KafkaError> {
        let mut open: BTreeMap<(String, i32), i64> = BTreeMap::new();
        let mut assignment = TopicPartitionList::new();
        for ((topic, partition), position) in positions.iter().filter(|(_, position)| position.remaining() > 0) {
            assignment.add_partition_offset(topic, *partition, Offset::Offset(position.at()))?;
            open.insert((topic.clone(), *partition), position.high);
        }
        let mut found = BTreeMap::new();
        if open.is_empty() {
            return Ok(found);
        }
        // Read by position, not as a member: nothing is subscribed to.
        self.consumer.assign(&assignment)?;
        let deadline = Instant::now() + ANSWER_MAX;
        while !open.is_empty() && Instant::now() < deadline {
            // A fault here is a passing one, or the record stays unknown.
            if let Some(Ok(message)) = self.consumer.poll(Duration::from_millis(100)) {
                let key = (message.topic().to_owned(), message.partition());
                if open.remove(&key).is_some() {
                    let time = message.timestamp().to_millis().filter(|time| *time >= 0);
                    found.insert(key, time.map_or(Next::Untimed, Next::Made));
                }
                continue;
            }
            // Markers of transactions move the position, and no record comes for them.
            for element in self.consumer.position()?.elements() {
                let key = (element.topic().to_owned(), element.partition());
                if let Offset::Offset(position) = element.offset()
                    && open.get(&key).is_some_and(|end| position >= *end)
                {
                    open.remove(&key);
                    found.insert(key, Next::Nothing);
                }
            }
        }
        self.consumer.unassign()?;
        Ok(found)
    }

    /// Partitions that are others than the group has read, with what tells so: their topics were deleted and made again.
    ///
    /// # Errors
    /// The brokers do not answer.
    pub fn recreated(&self, positions: &Positions) -> Result<ByPartition<String>, KafkaError> {
        let expected = |position: &Position| {
            let read_to = position.committed?.max(position.mark.map_or(0, |mark| mark.offset + 1));
            Some(Expected { read_to, mark: position.mark })
        };
        let expected = positions.iter().filter_map(|(key, position)| Some((key.clone(), expected(position)?))).collect();
        let found = compare(&self.consumer, &expected)?;
        let others = found.into_iter().filter_map(|(key, found)| match found {
            Found::Same => None,
            Found::Shorter(how) | Found::Other(how) => Some((key, how)),
        });
        Ok(others.collect())
    }

    /// The offset of each partition that `target` is; a partition that it does not name is left out.
    ///
    /// # Errors
    /// The brokers do not answer.
    pub fn resolve(&self, positions: &Positions, target: Target) -> Result<BTreeMap<(String, i32), i64>, KafkaError> {
        let time = match target {
            Target::Earliest => return Ok(positions.iter().map(|(key, position)| (key.clone(), position.low)).collect()),
            Target::Latest => return Ok(positions.iter().map(|(key, position)| (key.clone(), position.high)).collect()),
            Target::Offset(offset) => return Ok(positions.keys().map(|key| (key.clone(), offset)).collect()),
            Target::Time(time) => time,
        };
        let mut asked = TopicPartitionList::new();
        for (topic, partition) in positions.keys() {
            asked.add_partition_offset(topic, *partition, Offset::Offset(time))?;
        }
        let found = self.consumer.offsets_for_times(asked, ANSWER_MAX)?;
        let resolved = positions.iter().map(|(key, position)| {
            let found = found.find_partition(&key.0, key.1).map(|element| element.offset());
            let offset = if let Some(Offset::Offset(offset)) = found { offset } else { position.high };
            (key.clone(), offset)
        });
        Ok(resolved.collect())
    }

    /// Commits `offsets` for the group. The broker itself refuses this while the group has members.
    ///
    /// # Errors
    /// The group has members, or the brokers do not answer.
    pub fn commit(&self, offsets: &BTreeMap<(String, i32), i64>) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::new();
        for ((topic, partition), offset) in offsets {
            list.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
        }
        self.consumer.commit(&list, CommitMode::Sync)
    }
}

/// First offset of a partition and the one behind its last record. Blocks.
///
/// A broker does not lead a partition from the moment its topic is there, and one that was restarted leads none for a while: until there is a
/// leader, at most [`ANSWER_MAX`], it is asked again.
///
/// # Errors
/// The brokers do not answer, or this user may not look.
pub fn watermarks<C: ConsumerContext>(consumer: &BaseConsumer<C>, topic: &str, partition: i32) -> Result<(i64, i64), KafkaError> {
    let deadline = Instant::now() + ANSWER_MAX;
    loop {
        match consumer.fetch_watermarks(topic, partition, ANSWER_MAX) {
            Err(error) if lacks_leader(&error) && Instant::now() < deadline => std::thread::sleep(ELECTION_WAIT),
            answer => return answer,
        }
    }
}

fn lacks_leader(error: &KafkaError) -> bool {
    matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::NotLeaderForPartition | RDKafkaErrorCode::LeaderNotAvailable))
}

/// Partitions of `topic`, as [`GroupView::partitions`]. Blocks.
///
/// # Errors
/// The brokers do not answer, or this user may not look.
pub fn partitions_of<C: ConsumerContext>(consumer: &BaseConsumer<C>, topic: &str) -> Result<Option<Vec<i32>>, KafkaError> {
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER_MAX)?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(None) };
    let unknown = [RDKafkaErrorCode::UnknownTopicOrPartition, RDKafkaErrorCode::UnknownTopic];
    match found.error().map(RDKafkaErrorCode::from) {
        Some(code) if unknown.contains(&code) => Ok(None),
        // Its partitions are known all the same.
        Some(RDKafkaErrorCode::LeaderNotAvailable) if !found.partitions().is_empty() => Ok(Some(ids(found))),
        Some(code) => Err(KafkaError::MetadataFetch(code)),
        None => Ok(Some(ids(found))),
    }
}

fn ids(topic: &MetadataTopic) -> Vec<i32> {
    topic.partitions().iter().map(MetadataPartition::id).collect()
}
