//! The consumer group of a generation, from outside: where it is, where it begins, and that it is no more.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::config::KafkaConfig;
use crate::index::book::Offsets;
use crate::source::consumer_config;
use crate::source::groups::partitions_of;

/// Longest wait for one answer of the broker.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Committed offsets of the group of `kafka` in every partition of its topics; 0 where it has committed nothing. Blocks.
///
/// # Errors
/// The broker does not answer, or does not know a topic (yet).
pub(super) fn committed(kafka: &KafkaConfig) -> Result<Offsets, KafkaError> {
    let consumer: BaseConsumer = consumer_config(kafka).create()?;
    let mut list = TopicPartitionList::new();
    for topic in &kafka.topics {
        // Without them the filled generation would begin at the oldest record: right, and slow.
        let unknown = || KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition);
        for partition in partitions_of(&consumer, &topic.name)?.ok_or_else(unknown)? {
            list.add_partition(&topic.name, partition);
        }
    }
    let committed = consumer.committed_offsets(list, ANSWER_MAX)?;
    let mut offsets = Offsets::new();
    for element in committed.elements() {
        let offset = if let Offset::Offset(offset) = element.offset() { offset } else { 0 };
        offsets.entry(element.topic().to_owned()).or_default().insert(element.partition(), offset);
    }
    Ok(offsets)
}

/// Lets the group of `kafka` begin at `offsets`. One that has members already was set by another daemon and stays. Blocks.
///
/// # Errors
/// The broker does not answer.
pub(super) fn set(kafka: &KafkaConfig, offsets: &Offsets) -> Result<(), KafkaError> {
    let consumer: BaseConsumer = consumer_config(kafka).create()?;
    let mut list = TopicPartitionList::new();
    for (topic, partitions) in offsets {
        for (partition, offset) in partitions {
            list.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
        }
    }
    if list.count() == 0 {
        return Ok(());
    }
    let has_members =
        [RDKafkaErrorCode::UnknownMemberId, RDKafkaErrorCode::IllegalGeneration, RDKafkaErrorCode::RebalanceInProgress];
    match consumer.commit(&list, CommitMode::Sync) {
        Err(error) if error.rdkafka_error_code().is_some_and(|code| has_members.contains(&code)) => Ok(()),
        set => set,
    }
}

/// Deletes the group of `kafka`: a generation of the same bundle that is made later begins anew. One that is not there is fine.
///
/// # Errors
/// The broker does not answer, or another daemon still reads with the group.
pub(super) async fn forget(kafka: &KafkaConfig) -> Result<(), KafkaError> {
    let admin: AdminClient<DefaultClientContext> = consumer_config(kafka).create()?;
    let options = AdminOptions::new().operation_timeout(Some(ANSWER_MAX)).request_timeout(Some(ANSWER_MAX));
    let deleted = admin.delete_groups(&[&kafka.group], &options).await?;
    for group in deleted {
        match group {
            Ok(_) | Err((_, RDKafkaErrorCode::GroupIdNotFound)) => {}
            Err((_, code)) => return Err(KafkaError::AdminOp(code)),
        }
    }
    Ok(())
}
