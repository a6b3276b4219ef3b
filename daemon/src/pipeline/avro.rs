//! Records of topics in Avro: their writer's schema is fetched, then their values become JSON. Results in Avro: the other way.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use astromech_avro::{AvroError, Invalid, SchemaRegistry, SchemaRegistryOptions, UNKNOWN_FOR, Writer, WriterSchema, split};
use astromech_schemas::RecordLimits;
use astromech_schemas::dead_letter::Reason;
use astromech_schemas::results::{RESULT_AVRO_SCHEMA, ResultMessage};
use tokio::time::MissedTickBehavior;
use tracing::warn;

use super::decode::{Decoded, TopicRules, decode, decode_value};
use super::outlet::PublishError;
use super::publish::Left;
use super::task::{NotEmbedded, TaskContext};
use crate::config::{KafkaConfig, RecordFormat};
use crate::prepare::Fault;
use crate::source::Record;
use crate::vitals::{Awaited, Condition, Readiness, Stage, Unanswered, WarnLimiter};

/// The registry does not answer: every record under way tries again by itself.
static UNANSWERED: WarnLimiter = WarnLimiter::new();
/// How often a registry that did not answer is asked whether it does.
const CHECK: Duration = Duration::from_secs(1);

/// What is in Avro: the topics that are read in it, and results where they are written in it; with the registry of their schemas.
pub struct AvroCodec {
    registry: SchemaRegistry,
    topics: BTreeSet<String>,
    results: Option<Writer>,
    readiness: Arc<Readiness>,
}

impl AvroCodec {
    /// Of the configured topics; `None` where nothing is in Avro. The registry is not asked yet: records wait for it, not the start.
    ///
    /// # Errors
    /// A CA file without certificates.
    pub fn new(kafka: &KafkaConfig, readiness: Arc<Readiness>) -> Result<Option<Arc<Self>>> {
        let Some(registry) = schema_registry(kafka)? else { return Ok(None) };
        let topics = kafka.avro_topics().map(|topic| topic.name.clone()).collect();
        Ok(Some(Arc::new(Self { registry, topics, results: results_writer(kafka)?, readiness })))
    }

    /// Keeps readiness true of a registry that did not answer somebody, until it does; at the start, until it answers at all. While it
    /// answers it is not asked for nothing. Never ends.
    pub async fn watch(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(CHECK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if self.readiness.holds(Condition::SchemaRegistry) {
                continue;
            }
            match self.asked().await {
                Ok(()) => self.readiness.set_ready(Condition::SchemaRegistry),
                Err(error) => self.readiness.set_missing(Condition::SchemaRegistry, error.to_string()),
            }
        }
    }

    /// Whether it answers, and has, or takes, the schema of results.
    async fn asked(&self) -> Result<(), AvroError> {
        self.registry.answers().await?;
        if let Some(results) = &self.results {
            results.id(&self.registry).await?;
        }
        Ok(())
    }

    /// A result as it is written, where that is in Avro.
    ///
    /// # Errors
    /// [`PublishError::Transient`]: the registry does not answer, or has no place for the schema.
    pub(super) async fn result(&self, message: &ResultMessage) -> Result<Option<Vec<u8>>, PublishError> {
        let Some(results) = &self.results else { return Ok(None) };
        match self.noted(results.value(&self.registry, message).await) {
            Ok(value) => Ok(Some(value)),
            Err(AvroError::Invalid(error)) => Err(PublishError::Fatal(format!("a result is no Avro: {error}"))),
            Err(error) => Err(PublishError::Transient(error.to_string())),
        }
    }

    fn noted<T>(&self, answer: Result<T, AvroError>) -> Result<T, AvroError> {
        if let Err(error @ AvroError::Transient(_)) = &answer {
            self.readiness.set_missing(Condition::SchemaRegistry, error.to_string());
        }
        answer
    }
}

/// The configured registry, where something is in Avro; it is not asked.
///
/// # Errors
/// A CA file without certificates.
pub fn schema_registry(kafka: &KafkaConfig) -> Result<Option<SchemaRegistry>> {
    let Some(config) = kafka.used_schema_registry() else { return Ok(None) };
    let options = SchemaRegistryOptions {
        url: config.url.clone(),
        login: config.login.as_ref().map(|(user, password)| (user.clone(), password.reveal().to_owned())),
        ca: config.ca.as_ref().map(|pem| pem.clone().into_bytes()),
        timeout: config.timeout,
        unknown_for: UNKNOWN_FOR,
    };
    Ok(Some(SchemaRegistry::new(options).context("the schema registry's client did not start")?))
}

/// What writes results, where they are in Avro.
///
/// # Errors
/// Never, unless our own schema is none.
pub fn results_writer(kafka: &KafkaConfig) -> Result<Option<Writer>> {
    let results = &kafka.results;
    if results.format != RecordFormat::Avro {
        return Ok(None);
    }
    let (topic, strategy) = (&kafka.results_topic, results.subject_name_strategy);
    Ok(Some(Writer::new(RESULT_AVRO_SCHEMA, topic, strategy, results.auto_register_schemas)?))
}

impl TaskContext {
    /// The schema that the record's value was written with; `None` where the value is JSON, or a delete. Waits for a registry that does
    /// not answer, as long as it takes (promise 5).
    pub(super) async fn writer_schema(&self, record: &Record) -> Result<Option<Arc<WriterSchema>>, NotEmbedded> {
        let (Some(avro), Some(value)) = (&self.avro, &record.value) else { return Ok(None) };
        if !avro.topics.contains(&*record.topic) {
            return Ok(None);
        }
        let (id, _) = split(value).map_err(|e| invalid(&e))?;
        let warn = |error: &AvroError, wait: Duration| {
            if let Some(repeated) = UNANSWERED.due("") {
                warn!(%error, id, ?wait, repeated, "the schema of a record can't be had now; trying again");
            }
        };
        // Readiness is the registry's watcher's, who knows of everybody that waits for it.
        let registry = Awaited::new(AvroError::is_transient, &warn).counted(Stage::Decode);
        let ask = || async move { avro.noted(avro.registry.schema(id).await) };
        match self.vitals.until_it_answers(registry, pending::<Infallible>(), ask).await {
            Ok(schema) => Ok(Some(schema)),
            Err(Unanswered::Failed(error)) => Err(match error {
                AvroError::Unknown { .. } => Fault::new(Reason::UnknownSchema, error.to_string()).into(),
                AvroError::Invalid(error) => invalid(&error).into(),
                AvroError::Transient(_) => NotEmbedded::Left(Left::Halted),
            }),
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
