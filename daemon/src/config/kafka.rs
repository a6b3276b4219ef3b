//! `[kafka]`: what is read and written, and how.

use std::collections::BTreeMap;
use std::time::Duration;

use astromech_avro::SubjectNameStrategy;
use astromech_schemas::Kind;
pub use astromech_schemas::record::VersionSource;

use super::schema_registry::{RecordFormat, SchemaRegistryConfig};
use super::types::Secret;

/// `[[kafka.topics]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicConfig {
    /// Name of the topic.
    pub name: String,
    /// Kind of every item in it; `None` where each message names its own.
    pub kind: Option<Kind>,
    /// What its values are.
    pub format: RecordFormat,
    /// Where versions come from.
    pub version: VersionSource,
}

/// `[kafka.results]`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ResultsConfig {
    /// The item's vectors.
    pub embeddings: bool,
    /// Most neighbours of each kind.
    pub neighbours: u32,
    /// What the values are.
    pub format: RecordFormat,
    /// Under which subject the schema of results in Avro is.
    pub subject_name_strategy: SubjectNameStrategy,
    /// Whether that schema is registered where its subject does not have it.
    pub auto_register_schemas: bool,
}

/// `[kafka]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaConfig {
    /// Brokers to start from, `host:port,host:port`.
    pub brokers: String,
    /// Consumer group.
    pub group: String,
    /// Topics to consume.
    pub topics: Vec<TopicConfig>,
    /// Topic of the results.
    pub results_topic: String,
    /// What each result carries.
    pub results: ResultsConfig,
    /// Topic of the dead letters.
    pub dead_letter_topic: String,
    /// Silence after which the group takes this member for dead.
    pub session_timeout: Duration,
    /// Longest wait for writes under way when partitions are taken away or the daemon stops.
    pub drain_timeout: Duration,
    /// Time between two commits.
    pub commit_interval: Duration,
    /// Most records of a partition from the oldest that is not acknowledged to the newest that was received.
    pub window_records_max: usize,
    /// Passed on to librdkafka.
    pub properties: BTreeMap<String, String>,
    /// Passed on to librdkafka, read from files.
    pub secret_properties: BTreeMap<String, Secret>,
    /// Where the schemas of topics in Avro are.
    pub schema_registry: Option<SchemaRegistryConfig>,
}

impl KafkaConfig {
    /// The topics that are read in Avro.
    pub fn avro_topics(&self) -> impl Iterator<Item = &TopicConfig> {
        self.topics.iter().filter(|topic| topic.format == RecordFormat::Avro)
    }

    /// The schema registry, where something is in Avro.
    pub fn used_schema_registry(&self) -> Option<&SchemaRegistryConfig> {
        let used = self.results.format == RecordFormat::Avro || self.avro_topics().next().is_some();
        self.schema_registry.as_ref().filter(|_| used)
    }
}
