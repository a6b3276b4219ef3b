//! The record of the `models` topic: a new release can be fetched.

use std::time::Duration;

use astromech_schemas::release::MODEL_ANNOUNCEMENT_SCHEMA;
use astromech_schemas::{ModelAnnouncement, Release};
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;
use thiserror::Error;

/// Longest wait for the broker's acknowledgement.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(30);

/// Where releases are announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnounceOptions {
    /// `host:port`, several by commas.
    pub brokers: String,
    /// The topic; compacted, so that the last announcement of each release stays.
    pub topic: String,
    /// Further settings of the client (librdkafka's names), for example `security.protocol`.
    pub properties: Vec<(String, String)>,
}

/// Why a release was not announced. It is published all the same: readers find it by the registry's pointer.
#[derive(Debug, Error)]
pub enum AnnounceError {
    /// The client's settings are wrong.
    #[error("announcing: the Kafka client was not made: {0}")]
    Client(KafkaError),
    /// The broker did not take it.
    #[error(
        "announcing on topic {topic}: {error}; the release is published and readers find it by the pointer: announce it again"
    )]
    Send {
        /// The topic.
        topic: String,
        /// What the client said.
        error: KafkaError,
    },
    /// The record can't be written as JSON.
    #[error("announcing: {0}")]
    Json(#[from] serde_json::Error),
}

/// Announces `release` of the registry at `registry`, and waits until all in-sync brokers have the record.
///
/// # Errors
/// The client's settings are wrong, or the broker does not acknowledge within 30 seconds.
pub async fn announce(options: &AnnounceOptions, registry: &str, release: &Release) -> Result<(), AnnounceError> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &options.brokers).set("acks", "all").set("client.id", "astromech-trainer");
    config.set("message.timeout.ms", ACKNOWLEDGED_WITHIN.as_millis().to_string());
    for (name, value) in &options.properties {
        config.set(name, value);
    }
    let producer: FutureProducer = config.create().map_err(AnnounceError::Client)?;
    let announcement =
        ModelAnnouncement { schema: MODEL_ANNOUNCEMENT_SCHEMA, registry: registry.to_owned(), release: release.clone() };
    let body = serde_json::to_vec(&announcement)?;
    let record = FutureRecord::to(&options.topic).key(release.fingerprint.as_str()).payload(&body);
    let sent = producer.send(record, Timeout::After(ACKNOWLEDGED_WITHIN)).await;
    sent.map(|_| ()).map_err(|(error, _)| AnnounceError::Send { topic: options.topic.clone(), error })
}
