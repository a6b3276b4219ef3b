//! Writing: a message as Avro in Confluent's wire format, under a subject of the registry.

use apache_avro::Schema;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use serde::Serialize;
use serde_json::Value as Json;
use tokio::sync::OnceCell;

use crate::HEADER_BYTES;
use crate::error::{AvroError, Invalid, StartError};
use crate::registry::SchemaRegistry;
use crate::subjects::Subject;

/// Under which subject a schema is registered: the serializers' `subject.name.strategy`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SubjectNameStrategy {
    /// `TOPIC-value`: one schema's history a topic.
    #[default]
    TopicName,
    /// The record's full name: one history wherever it is written to.
    RecordName,
    /// `TOPIC-` and the record's full name: several types in one topic.
    TopicRecordName,
}

impl SubjectNameStrategy {
    /// The subject of a record named `record` in `topic`.
    pub fn subject(self, topic: &str, record: &str) -> String {
        match self {
            Self::TopicName => format!("{topic}-value"),
            Self::RecordName => record.to_owned(),
            Self::TopicRecordName => format!("{topic}-{record}"),
        }
    }
}

/// Writes messages of one schema.
pub struct Writer {
    schema: Schema,
    subject: Subject,
    /// Whether to register the schema where its subject does not have it: the serializers' `auto.register.schemas`.
    registers: bool,
    /// The schema's id, once the registry has told it: it stays the same for ever.
    id: OnceCell<u32>,
}

impl Writer {
    /// Of a record's schema, for a topic. The registry is not asked yet.
    ///
    /// # Errors
    /// A schema that is none, or not of a record.
    pub fn new(schema: &str, topic: &str, strategy: SubjectNameStrategy, registers: bool) -> Result<Self, StartError> {
        crate::names::accept_any();
        let parsed = Schema::parse_str(schema).map_err(|e| StartError::Schema(e.to_string()))?;
        let name = parsed.name().ok_or_else(|| StartError::Schema("it has no name".to_owned()))?;
        let subject = Subject { name: strategy.subject(topic, &name.fullname(None)), schema: schema.to_owned() };
        Ok(Self { schema: parsed, subject, registers, id: OnceCell::new() })
    }

    /// Where the schema is registered.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Whether the schema is registered by itself.
    pub fn registers(&self) -> bool {
        self.registers
    }

    /// The schema's id: remembered, or told by the registry, which is given the schema where it may.
    ///
    /// # Errors
    /// [`AvroError::Transient`]: the registry does not answer, or does not take the schema until somebody changes something there.
    pub async fn id(&self, registry: &SchemaRegistry) -> Result<u32, AvroError> {
        let asked = async {
            if self.registers {
                return registry.register(&self.subject).await;
            }
            registry.find(&self.subject).await?.ok_or_else(|| {
                let name = &self.subject.name;
                AvroError::Transient(format!(
                    "subject {name} does not have our schema; fix: register it there, or set auto_register_schemas = true"
                ))
            })
        };
        self.id.get_or_try_init(|| asked).await.copied()
    }

    /// The value of a record that says what `message` does.
    ///
    /// # Errors
    /// As [`Writer::id`]; [`AvroError::Invalid`] for a message that is not of the schema.
    pub async fn value<M: Serialize>(&self, registry: &SchemaRegistry, message: &M) -> Result<Vec<u8>, AvroError> {
        let id = self.id(registry).await?;
        let other = |problem: String| Invalid::new(format!("not of the schema of {}: {problem}", self.subject.name), "report it");
        let json = serde_json::to_value(message).map_err(|e| other(e.to_string()))?;
        let resolved = avro(json).resolve(&self.schema).map_err(|e| other(e.to_string()))?;
        let writer = GenericDatumWriter::builder(&self.schema).build().map_err(|e| other(e.to_string()))?;
        let mut value = Vec::with_capacity(HEADER_BYTES);
        value.push(0);
        value.extend_from_slice(&id.to_be_bytes());
        writer.write_value(&mut value, resolved).map_err(|e| other(e.to_string()))?;
        Ok(value)
    }
}

/// As Avro, before its schema says which types are meant. A whole number that `long` can't hold becomes a `double`, which no `long` takes.
fn avro(json: Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(yes) => Value::Boolean(yes),
        // apache-avro's serializer makes a `u64` a fixed of 8 bytes; by way of JSON it is a `long`.
        Json::Number(number) => number.as_i64().map_or_else(|| Value::Double(number.as_f64().unwrap_or(f64::NAN)), Value::Long),
        Json::String(text) => Value::String(text),
        Json::Array(items) => Value::Array(items.into_iter().map(avro).collect()),
        Json::Object(fields) => Value::Map(fields.into_iter().map(|(name, value)| (name, avro(value))).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_named_as_the_serializers_do() {
        let named = |strategy: SubjectNameStrategy| strategy.subject("results", "a.v1.Result");
        assert_eq!(named(SubjectNameStrategy::TopicName), "results-value");
        assert_eq!(named(SubjectNameStrategy::RecordName), "a.v1.Result");
        assert_eq!(named(SubjectNameStrategy::TopicRecordName), "results-a.v1.Result");
    }

    #[test]
    fn a_schema_that_is_none_or_has_no_name_is_refused() {
        for schema in ["{}", "\"string\""] {
            assert!(matches!(Writer::new(schema, "t", SubjectNameStrategy::default(), true), Err(StartError::Schema(_))));
        }
    }
}
