//! The broker: properties, clients, and where the partitions of a topic begin and end.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::{MetadataPartition, MetadataTopic};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::config::{Bound, BrokerConfig};
use super::error::CollectError;
use super::window::TopicWindow;

/// For one answer of the broker.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Between two questions to a partition whose leader is being elected.
const ELECTION_WAIT: Duration = Duration::from_millis(100);
/// Prefetched records of one partition, kibibytes: three pictures of the largest size in base64.
const PREFETCH_KIB_MAX: u32 = 65_536;
/// Name of the client, and of the group, which never commits: positions are in the snapshot's own files.
const GROUP: &str = "astromech-trainer";

/// A consumer that is given partitions and commits nothing.
///
/// # Errors
/// A file of a property can't be read, or a property is none.
pub(super) fn consumer(broker: &BrokerConfig) -> Result<BaseConsumer, CollectError> {
    let mut config = ClientConfig::new();
    config.set("client.id", GROUP).set("reconnect.backoff.max.ms", "2000");
    for (name, value) in broker.all_properties()? {
        config.set(name, value);
    }
    if config.get("group.id").is_none() {
        config.set("group.id", GROUP);
    }
    config
        .set("bootstrap.servers", &broker.brokers)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "error")
        .set("queued.max.messages.kbytes", PREFETCH_KIB_MAX.to_string())
        .set("fetch.queue.backoff.ms", "50");
    config.create().map_err(kafka("the Kafka properties"))
}

pub(super) fn kafka(what: impl Into<String>) -> impl FnOnce(KafkaError) -> CollectError {
    let what = what.into();
    move |source| CollectError::Kafka { what, source }
}

/// Partitions of a topic.
///
/// # Errors
/// The broker doesn't answer, or the topic is not there.
pub(super) fn partitions(consumer: &BaseConsumer, topic: &str) -> Result<Vec<i32>, CollectError> {
    let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT).map_err(kafka(format!("partitions of topic {topic}")))?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let mut partitions: Vec<i32> = found.into_iter().flat_map(MetadataTopic::partitions).map(MetadataPartition::id).collect();
    if partitions.is_empty() {
        let fix = "name a topic that is there, and allow this client to read it";
        return Err(CollectError::Topic { topic: topic.to_owned(), message: "the broker knows no such topic".to_owned(), fix });
    }
    partitions.sort_unstable();
    Ok(partitions)
}

/// First offset of a partition and the one after its last committed record. A partition whose leader is being elected is asked again.
///
/// # Errors
/// The broker doesn't answer.
pub(super) fn watermarks(consumer: &BaseConsumer, topic: &str, partition: i32) -> Result<(i64, i64), CollectError> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match consumer.fetch_watermarks(topic, partition, TIMEOUT) {
            Err(error) if lacks_leader(&error) && Instant::now() < deadline => std::thread::sleep(ELECTION_WAIT),
            answer => return answer.map_err(kafka(format!("the ends of topic {topic}, partition {partition}"))),
        }
    }
}

fn lacks_leader(error: &KafkaError) -> bool {
    matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::NotLeaderForPartition | RDKafkaErrorCode::LeaderNotAvailable))
}

/// The offset that `bound` stands for in a partition between `low` and `high`.
///
/// # Errors
/// The broker doesn't answer.
pub(super) fn resolve(
    consumer: &BaseConsumer,
    (topic, partition): (&str, i32),
    (low, high): (i64, i64),
    bound: &Bound,
    earlier: &[TopicWindow],
) -> Result<i64, CollectError> {
    let offset = match bound {
        Bound::Earliest => low,
        Bound::Latest => high,
        Bound::Offsets(_) => {
            let windows = earlier.iter().filter(|window| window.topic == topic).flat_map(|window| &window.partitions);
            windows.into_iter().find(|window| window.partition == partition).map_or(low, |window| window.to)
        }
        Bound::Time(ms) => {
            let fail = || kafka(format!("the offset of a time in topic {topic}, partition {partition}"));
            let mut wanted = TopicPartitionList::new();
            wanted.add_partition_offset(topic, partition, Offset::Offset(*ms)).map_err(fail())?;
            let found = consumer.offsets_for_times(wanted, TIMEOUT).map_err(fail())?;
            match found.find_partition(topic, partition).map(|element| element.offset()) {
                Some(Offset::Offset(offset)) => offset,
                // No record is as late as that.
                _ => high,
            }
        }
    };
    Ok(offset.clamp(low, high.max(low)))
}
