//! Reads the partitions of a plan into their spools, one topic after the other.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::broker::{consumer, kafka};
use super::config::CollectConfig;
use super::decode;
use super::error::CollectError;
use super::pictures::PictureStore;
use super::plan::{Plan, Source};
use super::spool::{Line, Spool};
use super::window::Role;
use crate::files::file_error;
use crate::stop::StopFlag;

/// Between two looks at the stop flag.
const POLL: Duration = Duration::from_millis(100);
/// Between two flushes: what is read anew at most after a kill.
const FLUSH: Duration = Duration::from_secs(1);

/// A partition that is read.
struct Open<'a> {
    source: Source<'a>,
    spool: Spool,
}

/// Reads what the spools in `work` do not have yet.
pub(super) fn read(config: &CollectConfig, plan: &Plan, work: &Path, stop: &StopFlag) -> Result<(), CollectError> {
    let folder = work.join("spool");
    std::fs::create_dir_all(&folder).map_err(file_error(&folder))?;
    let pictures = PictureStore::open(work, &config.file_roots)?;
    let mut reader = Reader { config, pictures, records: 0 };
    for topic in &plan.topics {
        let mut open = BTreeMap::new();
        for source in plan.sources().filter(|source| source.topic == topic.topic) {
            let spool = Spool::open(work, &source)?;
            if spool.next < source.window.to {
                open.insert(source.window.partition, Open { source, spool });
            }
        }
        reader.topic(&topic.topic, open, stop)?;
        if stop.is_set() {
            return Err(CollectError::Stopped);
        }
    }
    tracing::info!(records = reader.records, "read");
    Ok(())
}

struct Reader<'a> {
    config: &'a CollectConfig,
    pictures: PictureStore,
    records: u64,
}

impl Reader<'_> {
    /// Reads the open partitions of one topic to their ends.
    fn topic(&mut self, topic: &str, mut open: BTreeMap<i32, Open<'_>>, stop: &StopFlag) -> Result<(), CollectError> {
        if open.is_empty() {
            return Ok(());
        }
        // A new one for each topic: an end of a partition is told by the partition's number alone.
        let consumer = consumer(&self.config.broker)?;
        let mut assignment = TopicPartitionList::new();
        for (&partition, open) in &open {
            assignment.add_partition_offset(topic, partition, Offset::Offset(open.spool.next)).map_err(kafka(topic))?;
        }
        consumer.assign(&assignment).map_err(kafka(format!("partitions of topic {topic}")))?;
        let (mut heard, mut flushed) = (Instant::now(), Instant::now());
        let silence = Duration::from_secs(self.config.silence_seconds);
        while !open.is_empty() && !stop.is_set() {
            match consumer.poll(POLL) {
                Some(Ok(message)) => {
                    heard = Instant::now();
                    self.take(&message, &mut open)?;
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    heard = Instant::now();
                    // Behind the last record there may be markers of transactions only.
                    if let Some(mut ended) = open.remove(&partition) {
                        ended.spool.flush()?;
                    }
                }
                Some(Err(error)) => give_up_where_vain(topic, error)?,
                None => {}
            }
            if flushed.elapsed() > FLUSH {
                open.values_mut().try_for_each(|open| open.spool.flush())?;
                flushed = Instant::now();
            }
            if heard.elapsed() > silence {
                return Err(CollectError::Silent { seconds: silence.as_secs(), open: open.len() });
            }
        }
        open.values_mut().try_for_each(|open| open.spool.flush())
    }

    /// Takes one record; a partition that is at its end is closed.
    fn take(&mut self, message: &BorrowedMessage<'_>, open: &mut BTreeMap<i32, Open<'_>>) -> Result<(), CollectError> {
        let Some(at) = open.get_mut(&message.partition()) else { return Ok(()) };
        let (offset, to) = (message.offset(), at.source.window.to);
        if offset >= at.spool.next && offset < to {
            let limits = CollectConfig::limits();
            let body = match at.source.role {
                Role::Clicks => decode::click(message, &limits),
                Role::Items => {
                    let configured = self.config.items.iter().find(|topic| topic.topic == at.source.topic);
                    let Some(topic) = configured else { return Ok(()) };
                    decode::item(message, topic, &limits, &self.pictures)?
                }
            };
            at.spool.write(&Line { source: at.source.number, offset, body })?;
            self.records += 1;
        }
        if offset + 1 >= to
            && let Some(mut ended) = open.remove(&message.partition())
        {
            ended.spool.flush()?;
        }
        Ok(())
    }
}

/// Errors that pass by themselves are waited out, within the limit on silence.
fn give_up_where_vain(topic: &str, error: KafkaError) -> Result<(), CollectError> {
    let fail = |fix| Err(CollectError::Topic { topic: topic.to_owned(), message: error.to_string(), fix });
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownPartition) => {
            fail("name a topic that is there")
        }
        Some(RDKafkaErrorCode::TopicAuthorizationFailed) => fail("allow this client to read it"),
        Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
            fail("the broker removed records of the window meanwhile; remove the snapshot's work folder and collect anew")
        }
        Some(RDKafkaErrorCode::Fatal | RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed) => {
            Err(CollectError::Kafka { what: format!("topic {topic}"), source: error })
        }
        _ => {
            tracing::warn!(%error, "waiting for the broker");
            Ok(())
        }
    }
}
