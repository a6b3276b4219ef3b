//! Records of topics in Avro: their writer's schema is fetched, then their values become JSON.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use astromech_avro::{AvroError, Invalid, Registry, RegistryOptions, UNKNOWN_FOR, WriterSchema, split};
use astromech_schemas::RecordLimits;
use astromech_schemas::dead_letter::Reason;
use tracing::warn;

use super::backoff::Backoff;
use super::decode::{Decoded, TopicRules, decode, decode_value};
use super::fault::Fault;
use super::task::{NotEmbedded, Shared};
use crate::config::{KafkaConfig, RecordFormat};
use crate::source::Record;
use crate::telemetry::{Quiet, Stage};

/// The registry does not answer: every record under way tries again by itself.
static UNANSWERED: Quiet = Quiet::new();

/// Which topics are in Avro, and the registry of their schemas.
pub struct AvroTopics {
    registry: Registry,
    topics: BTreeSet<String>,
}

impl AvroTopics {
    /// Of the configured topics; `None` where none is in Avro. The registry is not asked yet: records wait for it, not the start.
    ///
    /// # Errors
    /// A CA file without certificates.
    pub fn new(kafka: &KafkaConfig) -> Result<Option<Arc<Self>>> {
        let of_avro = kafka.topics.iter().filter(|topic| topic.format == RecordFormat::Avro);
        let topics: BTreeSet<_> = of_avro.map(|topic| topic.name.clone()).collect();
        let Some(config) = kafka.schema_registry.as_ref().filter(|_| !topics.is_empty()) else { return Ok(None) };
        let options = RegistryOptions {
            url: config.url.clone(),
            login: config.login.as_ref().map(|(user, password)| (user.clone(), password.reveal().to_owned())),
            ca: config.ca.as_ref().map(|pem| pem.clone().into_bytes()),
            timeout: config.timeout,
            unknown_for: UNKNOWN_FOR,
        };
        let registry = Registry::new(options).context("the schema registry's client did not start")?;
        Ok(Some(Arc::new(Self { registry, topics })))
    }
}

impl Shared {
    /// The schema that the record's value was written with; `None` where the value is JSON, or a delete. Waits for a registry that does
    /// not answer, as long as it takes (promise 5).
    pub(super) async fn writer_schema(&self, record: &Record) -> Result<Option<Arc<WriterSchema>>, NotEmbedded> {
        let (Some(avro), Some(value)) = (&self.avro, &record.value) else { return Ok(None) };
        if !avro.topics.contains(&*record.topic) {
            return Ok(None);
        }
        let (id, _) = split(value).map_err(|e| invalid(&e))?;
        let mut backoff = Backoff::new(self.backoff);
        loop {
            match avro.registry.schema(id).await {
                Ok(schema) => return Ok(Some(schema)),
                Err(error @ AvroError::Unknown { .. }) => return Err(Fault::new(Reason::UnknownSchema, error.to_string()).into()),
                Err(AvroError::Invalid(error)) => return Err(invalid(&error).into()),
                Err(error @ AvroError::Transient(_)) => {
                    let wait = backoff.next_wait();
                    self.metrics.retry(Stage::Decode);
                    if let Some(repeated) = UNANSWERED.due("") {
                        warn!(%error, id, ?wait, repeated, "the schema of a record can't be had now; trying again");
                    }
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }
}

/// Reads a record whose value is JSON, or was written with `schema`.
pub(super) fn decode_with(
    schema: Option<&WriterSchema>,
    record: &Record,
    rules: TopicRules,
    limits: &RecordLimits,
) -> Result<Decoded, Fault> {
    let (Some(schema), Some(value)) = (schema, &record.value) else { return decode(record, rules, limits) };
    let json = split(value).and_then(|(_, datum)| schema.to_json(datum)).map_err(|e| invalid(&e))?;
    decode_value(record, Some(&json), rules, limits)
}

fn invalid(error: &Invalid) -> Fault {
    Fault::new(Reason::InvalidRecord, error.to_string())
}
