//! Dead letters back into the topics they came from: key, value, headers and time as they were.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use astromech_schemas::dead_letter::HEADER_ORIGIN_OFFSET;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header as KafkaHeader, Headers as _, OwnedHeaders};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer as _};
use tokio::time::{Instant, sleep_until};

use super::{Letter, Origin};
use crate::config::{KafkaConfig, VersionSource};
use crate::source::producer_config;

/// Records under way to the broker.
const UNDER_WAY_MAX: usize = 256;
/// For one answer of the broker.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// Between two tries of a producer that is full.
const FULL_WAIT: Duration = Duration::from_millis(20);

/// Why one letter is not sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotReplayed {
    /// Its headers do not say where it came from.
    NoOrigin,
    /// Its topic is not one that the configuration reads. Whoever writes to the dead-letter topic must not choose where a replay writes.
    OtherTopic,
    /// Its topic no longer has that partition.
    NoPartition,
    /// Versions are offsets there: sent again it would be the newest of its item, whatever came since.
    WouldBeNewest,
    /// Versions are times there, and the letter does not say the record's time.
    NoTime,
}

impl fmt::Display for NotReplayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoOrigin => "its headers do not say where it came from",
            Self::OtherTopic => "its topic is not among kafka.topics of this configuration",
            Self::NoPartition => "its topic no longer has that partition",
            Self::WouldBeNewest => {
                "its topic takes versions from offsets, so it would replace what came since; allow it with --even-as-newest"
            }
            Self::NoTime => {
                "its topic takes versions from the records' times, and the letter does not say its own; allow it with --even-as-newest"
            }
        })
    }
}

/// What may be sent again.
#[derive(Debug, Clone)]
pub struct ReplayRules {
    versions: HashMap<String, VersionSource>,
    even_as_newest: bool,
}

impl ReplayRules {
    /// For the topics of `kafka`. `even_as_newest`: also what would thereby become the newest version of its item.
    pub fn new(kafka: &KafkaConfig, even_as_newest: bool) -> Self {
        let versions = kafka.topics.iter().map(|topic| (topic.name.clone(), topic.version)).collect();
        Self { versions, even_as_newest }
    }

    /// Where `letter` goes back to.
    ///
    /// # Errors
    /// Why it does not.
    pub fn target<'a>(&self, letter: &'a Letter) -> Result<&'a Origin, NotReplayed> {
        let origin = letter.origin.as_ref().ok_or(NotReplayed::NoOrigin)?;
        let version = self.versions.get(&origin.topic).ok_or(NotReplayed::OtherTopic)?;
        match version {
            VersionSource::Offset if !self.even_as_newest => Err(NotReplayed::WouldBeNewest),
            VersionSource::Timestamp if letter.record_time_ms.is_none() && !self.even_as_newest => Err(NotReplayed::NoTime),
            _ => Ok(origin),
        }
    }
}

impl ReplayRules {
    /// What the record says of its first place, unless it says so already or may become the newest of its item.
    fn first_offset(&self, letter: &Letter, origin: &Origin) -> Option<String> {
        let says = letter.headers.iter().any(|header| header.name == HEADER_ORIGIN_OFFSET);
        (!says && !self.even_as_newest).then(|| origin.offset.to_string())
    }
}

/// Sends letters again, no faster than it is told, in the order they are given.
pub struct Replayer {
    producer: FutureProducer,
    rules: ReplayRules,
    partitions: HashMap<String, i32>,
    under_way: VecDeque<DeliveryFuture>,
    between: Duration,
    next: Instant,
    replayed: u64,
}

impl Replayer {
    /// With a producer of its own; at most `rate` records a second.
    ///
    /// # Errors
    /// A property that librdkafka refuses.
    pub fn new(kafka: &KafkaConfig, rules: ReplayRules, rate: NonZeroU32) -> Result<Self, KafkaError> {
        let mut config = producer_config(kafka);
        config.set("allow.auto.create.topics", "false");
        // Each request waits for the answer to the one before: librdkafka would otherwise count one that was refused as delivered where a
        // later one is accepted (`source::is_confirmed`), and the order would change.
        config.set("max.in.flight.requests.per.connection", "1");
        let producer = config.create()?;
        Ok(Self {
            producer,
            rules,
            partitions: HashMap::new(),
            under_way: VecDeque::new(),
            between: Duration::from_secs(1) / rate.get(),
            next: Instant::now(),
            replayed: 0,
        })
    }

    /// Sends `letter` again; `Ok(Some(_))` says why it is not.
    ///
    /// # Errors
    /// The broker does not take it, or one of those before it.
    pub async fn send(&mut self, letter: &Letter) -> Result<Option<NotReplayed>, KafkaError> {
        let origin = match self.rules.target(letter) {
            Ok(origin) => origin,
            Err(why) => return Ok(Some(why)),
        };
        if origin.partition >= self.partitions_of(&origin.topic)? {
            return Ok(Some(NotReplayed::NoPartition));
        }
        sleep_until(self.next).await;
        self.next = Instant::now().max(self.next + self.between);
        if self.under_way.len() >= UNDER_WAY_MAX {
            self.confirm_oldest().await?;
        }
        let first_offset = self.rules.first_offset(letter, origin);
        let mut record = record(letter, origin, first_offset.as_deref());
        let delivery = loop {
            match self.producer.send_result(record) {
                Ok(delivery) => break delivery,
                Err((error, again)) if error.rdkafka_error_code() == Some(rdkafka::types::RDKafkaErrorCode::QueueFull) => {
                    record = again;
                    tokio::time::sleep(FULL_WAIT).await;
                }
                Err((error, _)) => return Err(error),
            }
        };
        self.under_way.push_back(delivery);
        Ok(None)
    }

    /// Waits until the broker has everything; returns how many were sent.
    ///
    /// # Errors
    /// The broker did not take one.
    pub async fn finish(&mut self) -> Result<u64, KafkaError> {
        while !self.under_way.is_empty() {
            self.confirm_oldest().await?;
        }
        Ok(self.replayed)
    }

    /// Records that the broker has confirmed.
    pub const fn replayed(&self) -> u64 {
        self.replayed
    }

    async fn confirm_oldest(&mut self) -> Result<(), KafkaError> {
        let Some(delivery) = self.under_way.pop_front() else { return Ok(()) };
        delivery.await.map_err(|_| KafkaError::Canceled)?.map_err(|(error, _)| error)?;
        self.replayed += 1;
        Ok(())
    }

    fn partitions_of(&mut self, topic: &str) -> Result<i32, KafkaError> {
        if let Some(count) = self.partitions.get(topic) {
            return Ok(*count);
        }
        let metadata = self.producer.client().fetch_metadata(Some(topic), ANSWER_MAX)?;
        let count = metadata.topics().iter().map(|topic| topic.partitions().len()).sum::<usize>();
        let count = i32::try_from(count).unwrap_or(i32::MAX);
        self.partitions.insert(topic.to_owned(), count);
        Ok(count)
    }
}

fn record<'a>(letter: &'a Letter, origin: &'a Origin, first_offset: Option<&str>) -> FutureRecord<'a, [u8], [u8]> {
    let mut record = FutureRecord::to(&origin.topic).partition(origin.partition);
    record.key = letter.key.as_deref();
    record.payload = letter.value.as_deref();
    record.timestamp = letter.record_time_ms;
    let headers = OwnedHeaders::new_with_capacity(letter.headers.len() + 1);
    let with = |headers: OwnedHeaders, own: &'a crate::source::Header| {
        headers.insert(KafkaHeader { key: &own.name, value: own.value.as_deref() })
    };
    let headers = letter.headers.iter().fold(headers, with);
    let headers = match first_offset {
        Some(offset) => headers.insert(KafkaHeader { key: HEADER_ORIGIN_OFFSET, value: Some(offset) }),
        None => headers,
    };
    record.headers = (headers.count() > 0).then_some(headers);
    record
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::refusing::{TOPIC, refusing};

    #[tokio::test]
    async fn a_letter_that_the_broker_refused_for_a_moment_is_sent_again_before_those_behind_it() {
        let broker = refusing();
        let rules = ReplayRules::new(&broker.config, false);
        let mut replayer = Replayer::new(&broker.config, rules, NonZeroU32::MAX).expect("a producer is made");
        for value in ["first", "second"] {
            let letter = Letter { value: Some(value.into()), ..letter(TOPIC, None) };
            assert_eq!(replayer.send(&letter).await.expect("it is sent"), None);
        }
        assert_eq!(replayer.finish().await.expect("the broker takes both"), 2);
        assert_eq!(broker.values(2), ["first", "second"]);
    }

    fn letter(topic: &str, record_time_ms: Option<i64>) -> Letter {
        let origin = Some(Origin { topic: topic.to_owned(), partition: 0, offset: 0 });
        let (reason, detail) = (String::new(), String::new());
        let (key, value, headers) = (None, None, Vec::new());
        Letter { partition: 0, offset: 0, timestamp_ms: None, reason, detail, origin, record_time_ms, key, value, headers }
    }

    #[test]
    fn what_would_become_the_newest_version_or_write_elsewhere_is_not_sent_unasked() {
        let versions = [("f", VersionSource::Field), ("t", VersionSource::Timestamp), ("o", VersionSource::Offset)];
        let versions: HashMap<_, _> = versions.into_iter().map(|(name, version)| (name.to_owned(), version)).collect();
        let rules = ReplayRules { versions, even_as_newest: false };
        assert!(rules.target(&letter("f", None)).is_ok() && rules.target(&letter("t", Some(7))).is_ok());
        assert_eq!(rules.target(&letter("t", None)), Err(NotReplayed::NoTime));
        assert_eq!(rules.target(&letter("o", Some(7))), Err(NotReplayed::WouldBeNewest));
        assert_eq!(rules.target(&letter("other", None)), Err(NotReplayed::OtherTopic));
        assert_eq!(rules.target(&Letter { origin: None, ..letter("f", None) }), Err(NotReplayed::NoOrigin));
        let asked = ReplayRules { even_as_newest: true, ..rules };
        assert!(asked.target(&letter("o", None)).is_ok() && asked.target(&letter("t", None)).is_ok());
        assert!(asked.target(&letter("other", None)).is_err());
    }
}
