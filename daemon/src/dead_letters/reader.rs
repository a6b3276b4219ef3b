//! Reading the dead-letter topic from its oldest letter to what is its end now.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::metadata::{MetadataPartition, MetadataTopic};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::Letter;
use crate::config::KafkaConfig;
use crate::source::groups::watermarks;
use crate::source::{Record, consumer_config};

/// For one answer of the broker.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// Longest silence while there is more to read.
const SILENCE_MAX: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(100);
/// Letters fetched ahead, kibibytes.
const PREFETCH_KIB_MAX: &str = "16384";

/// Why the topic could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The broker did not answer, or refused.
    #[error("topic {topic}: {error}")]
    Kafka {
        /// The dead-letter topic.
        topic: String,
        /// What librdkafka said.
        error: KafkaError,
    },
    /// There is no such topic.
    #[error("topic {0} is not there")]
    NoTopic(String),
    /// The broker went silent in the middle.
    #[error("topic {topic}: nothing came for {} s, and partitions {open:?} have more", SILENCE_MAX.as_secs())]
    Silent {
        /// The dead-letter topic.
        topic: String,
        /// Partitions that were not read to their ends.
        open: Vec<i32>,
    },
}

/// Hands every letter that the topic holds now to `take`, each partition in order, until it breaks. What is buried meanwhile is not read,
/// so sending letters again never goes round in a circle. Blocks.
///
/// # Errors
/// [`ReadError`].
pub fn read(kafka: &KafkaConfig, mut take: impl FnMut(Letter) -> ControlFlow<()>) -> Result<(), ReadError> {
    let topic = kafka.dead_letter_topic.as_str();
    let failed = |error| ReadError::Kafka { topic: topic.to_owned(), error };
    let consumer = consumer(kafka).map_err(failed)?;
    let mut open = ends(&consumer, topic)?;
    let mut assignment = TopicPartitionList::new();
    for (partition, (first, _)) in &open {
        assignment.add_partition_offset(topic, *partition, Offset::Offset(*first)).map_err(failed)?;
    }
    consumer.assign(&assignment).map_err(failed)?;
    let mut heard = Instant::now();
    while !open.is_empty() {
        match consumer.poll(POLL) {
            None if heard.elapsed() > SILENCE_MAX => {
                return Err(ReadError::Silent { topic: topic.to_owned(), open: open.into_keys().collect() });
            }
            None => {}
            // The last offsets before the end may be markers of transactions, which no record comes for.
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(open.remove(&partition)),
            Some(Err(error)) if is_passing(&error) => {}
            Some(Err(error)) => return Err(failed(error)),
            Some(Ok(message)) => {
                heard = Instant::now();
                let Some((_, end)) = open.get(&message.partition()).copied() else { continue };
                if message.offset() + 1 >= end {
                    open.remove(&message.partition());
                }
                if message.offset() < end && take(Letter::of(Record::of(&message))).is_break() {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// First offset and the one after the last of every partition that holds something.
fn ends(consumer: &BaseConsumer, topic: &str) -> Result<BTreeMap<i32, (i64, i64)>, ReadError> {
    let failed = |error| ReadError::Kafka { topic: topic.to_owned(), error };
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER_MAX).map_err(failed)?;
    let partitions: Vec<_> = metadata.topics().iter().flat_map(MetadataTopic::partitions).map(MetadataPartition::id).collect();
    if partitions.is_empty() {
        return Err(ReadError::NoTopic(topic.to_owned()));
    }
    let mut ends = BTreeMap::new();
    for partition in partitions {
        let (first, end) = watermarks(consumer, topic, partition).map_err(failed)?;
        if end > first {
            ends.insert(partition, (first, end));
        }
    }
    Ok(ends)
}

fn consumer(kafka: &KafkaConfig) -> Result<BaseConsumer, KafkaError> {
    let mut config = consumer_config(kafka);
    config
        // Partitions are assigned by hand: the group is never joined, and never asked for offsets.
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "error")
        .set("allow.auto.create.topics", "false")
        .set("statistics.interval.ms", "0")
        .set("queued.max.messages.kbytes", PREFETCH_KIB_MAX);
    config.create()
}

/// librdkafka goes on by itself after these.
fn is_passing(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::LeaderNotAvailable
        )
    )
}
