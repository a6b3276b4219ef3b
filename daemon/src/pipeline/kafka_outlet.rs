//! Results and dead letters into their topics, each acknowledged by all replicas.

use std::sync::Arc;

use astromech_schemas::TraceContext;
use astromech_schemas::dead_letter::{
    HEADER_DETAIL, HEADER_OFFSET, HEADER_PARTITION, HEADER_REASON, HEADER_TIMESTAMP, HEADER_TOPIC,
};
use astromech_schemas::results::ResultMessage;
use futures::future::BoxFuture;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use rdkafka::util::Timeout;
use tracing::{debug, warn};

use super::avro::AvroCodec;
use super::outlet::{Outlet, PublishError};
use crate::config::KafkaConfig;
use crate::prepare::Fault;
use crate::source::{self, Record, is_confirmed, log_librdkafka, producer_config, trace_headers};

/// One idempotent producer for both topics.
pub struct KafkaOutlet {
    producer: FutureProducer<ProducerLog>,
    results_topic: String,
    dead_letter_topic: String,
    avro: Option<Arc<AvroCodec>>,
}

struct ProducerLog;

impl ClientContext for ProducerLog {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_librdkafka(level, facility, message);
    }

    // Every delivery reports its own error.
    fn error(&self, error: KafkaError, reason: &str) {
        debug!(%error, reason, "kafka producer");
    }
}

impl KafkaOutlet {
    /// Creates the producer; it connects by itself. Results are JSON but where `avro` writes them.
    ///
    /// # Errors
    /// A property that librdkafka refuses.
    pub fn new(kafka: &KafkaConfig, avro: Option<Arc<AvroCodec>>) -> Result<Self, KafkaError> {
        Ok(Self {
            producer: producer_config(kafka).create_with_context(ProducerLog)?,
            results_topic: kafka.results_topic.clone(),
            dead_letter_topic: kafka.dead_letter_topic.clone(),
            avro,
        })
    }

    /// What results are written with: records are read with it too.
    pub fn avro(&self) -> Option<Arc<AvroCodec>> {
        self.avro.clone()
    }

    async fn result_value(&self, message: &ResultMessage) -> Result<Vec<u8>, PublishError> {
        if let Some(avro) = &self.avro
            && let Some(value) = avro.result(message).await?
        {
            return Ok(value);
        }
        serde_json::to_vec(message).map_err(|e| PublishError::Fatal(format!("a result is no JSON: {e}")))
    }

    /// Sends one record to any topic; `Ok` when all replicas have it.
    ///
    /// # Errors
    /// The broker did not take it, for now or for good.
    pub async fn publish(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        value: &[u8],
        headers: &[source::Header],
    ) -> Result<(), PublishError> {
        let mut record = FutureRecord::to(topic).payload(value).headers(own_headers(headers, 0));
        record.key = key;
        self.send(record).await
    }

    async fn send(&self, record: FutureRecord<'_, [u8], [u8]>) -> Result<(), PublishError> {
        let topic = record.topic.to_owned();
        // Never: a full producer is back-pressure, and the record's fence ends the wait where it must end.
        match self.producer.send(record, Timeout::Never).await {
            Ok(delivery) if is_confirmed(&delivery) => Ok(()),
            Ok(_) => Err(PublishError::Transient(format!(
                "topic {topic}: the broker did not say that it has the record, only a later one; it is published again"
            ))),
            Err((error, _)) => Err(self.classify(&topic, &error)),
        }
    }

    fn classify(&self, topic: &str, error: &KafkaError) -> PublishError {
        if let Some((code, reason)) = self.producer.client().fatal_error() {
            return PublishError::Fatal(format!("topic {topic}: {code}: {reason}"));
        }
        let hint = match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => "; fix: create the topic",
            Some(RDKafkaErrorCode::MessageSizeTooLarge) => "; fix: raise max.message.bytes of the topic",
            // The second is what the rest of such a record's batch is told.
            Some(RDKafkaErrorCode::InvalidTimestamp | RDKafkaErrorCode::InvalidRecord) => {
                "; fix: is this machine's clock ahead of the brokers' by more than the topic's message.timestamp.after.max.ms? set it right"
            }
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => "; fix: allow this user to write to it",
            _ => "",
        };
        PublishError::Transient(format!("topic {topic}: {error}{hint}"))
    }
}

impl Outlet for KafkaOutlet {
    fn result<'a>(
        &'a self,
        message: &'a ResultMessage,
        context: Option<&'a TraceContext>,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(async move {
            let value = self.result_value(message).await?;
            let mut record = FutureRecord::to(&self.results_topic).key(message.id.as_bytes()).payload(value.as_slice());
            record.headers = context.map(|context| own_headers(&trace_headers(Some(context)), 0));
            self.send(record).await
        })
    }

    fn dead_letter<'a>(&'a self, record: &'a Record, fault: &'a Fault) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(async move {
            let mut letter = FutureRecord::to(&self.dead_letter_topic).headers(headers(record, fault));
            letter.key = record.key.as_deref();
            letter.payload = record.value.as_deref();
            self.send(letter).await?;
            // The coordinates are in the span of the record.
            warn!(reason = %fault.reason, detail = fault.detail, "dead letter");
            Ok(())
        })
    }
}

/// Headers in librdkafka's form, with room for `more`.
fn own_headers(own: &[source::Header], more: usize) -> OwnedHeaders {
    let headers = OwnedHeaders::new_with_capacity(own.len() + more);
    own.iter().fold(headers, |headers, own| headers.insert(Header { key: &own.name, value: own.value.as_deref() }))
}

/// The record's own headers as they came, then ours.
fn headers(record: &Record, fault: &Fault) -> OwnedHeaders {
    let headers = own_headers(&record.headers, 6);
    let (partition, offset) = (record.partition.to_string(), record.offset.to_string());
    let ours: [(&str, &str); 5] = [
        (HEADER_REASON, fault.reason.as_str()),
        (HEADER_DETAIL, &fault.detail),
        (HEADER_TOPIC, &record.topic),
        (HEADER_PARTITION, &partition),
        (HEADER_OFFSET, &offset),
    ];
    let headers = ours.iter().fold(headers, |headers, (name, value)| headers.insert(Header { key: name, value: Some(*value) }));
    // A header, and not the letter's own time: a topic's retention counts from that.
    match record.timestamp_ms.map(|time| time.to_string()) {
        Some(time) => headers.insert(Header { key: HEADER_TIMESTAMP, value: Some(&time) }),
        None => headers,
    }
}

#[cfg(test)]
mod tests {
    use astromech_schemas::dead_letter::Reason;
    use rdkafka::message::Headers as _;

    use super::*;
    use crate::source::refusing::{TOPIC, refusing};

    /// Promise 1: of two requests under way the first is refused and the second accepted. librdkafka reports both as delivered.
    #[tokio::test]
    async fn promise_1_what_only_librdkafka_takes_for_delivered_is_published_again() {
        let broker = refusing();
        let outlet = KafkaOutlet::new(&broker.config, None).expect("a producer is made");
        let publish = |value: &'static [u8]| outlet.publish(TOPIC, None, value, &[]);
        let (first, second) = futures::join!(publish(b"first"), publish(b"second"));
        assert_eq!(second, Ok(()));
        assert_eq!(broker.values(1), ["second"], "the broker never took the first");
        assert!(
            matches!(&first, Err(PublishError::Transient(why)) if why.contains("did not say")),
            "the outlet says so: {first:?}"
        );
        assert_eq!(publish(b"first").await, Ok(()));
        assert_eq!(broker.values(2), ["second", "first"]);
    }

    #[test]
    fn a_dead_letter_keeps_the_records_headers_and_adds_the_reason() {
        let own = vec![
            source::Header { name: "trace".to_owned(), value: Some(vec![0xff, 0]) },
            source::Header { name: "none".to_owned(), value: None },
            source::Header { name: "trace".to_owned(), value: Some(Vec::new()) },
        ];
        let record = Record {
            topic: "t".into(),
            partition: 3,
            offset: 9,
            timestamp_ms: Some(7),
            key: None,
            value: None,
            headers: own.clone(),
        };
        let headers = headers(&record, &Fault::new(Reason::UrlForbidden, "host"));
        let all: Vec<_> = headers.iter().map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec))).collect();
        assert_eq!(all[..3], own.into_iter().map(|h| (h.name, h.value)).collect::<Vec<_>>());
        let text = |value: &str| Some(value.as_bytes().to_vec());
        assert_eq!(all[3], (HEADER_REASON.to_owned(), text("url_forbidden")));
        assert_eq!(all[6..8], [(HEADER_PARTITION.to_owned(), text("3")), (HEADER_OFFSET.to_owned(), text("9"))]);
        assert_eq!(all[8..], [(HEADER_TIMESTAMP.to_owned(), text("7"))]);
    }
}
