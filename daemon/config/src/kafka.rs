//! `[kafka]` and the sections below it: what is read and written, and how.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use astromech_avro::SubjectNameStrategy;
use astromech_schemas::Kind;
use astromech_schemas::record::TopicRules;
pub use astromech_schemas::record::VersionSource;
use astromech_settings::kinds::{choice, flag, int, millis, path_or_none, text};
use astromech_settings::{defaults, settings};

use crate::MINUTE_MS;
use crate::secret::Secret;

/// What the values of a topic are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RecordFormat {
    /// JSON text.
    #[default]
    Json,
    /// Avro in Confluent's wire format.
    Avro,
}

/// `[kafka.schema_registry]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaRegistryConfig {
    /// Root of Confluent's API.
    pub url: url::Url,
    /// User name and password.
    pub login: Option<(String, Secret)>,
    /// Certificates in PEM that are trusted beside the system's.
    pub ca: Option<String>,
    /// Longest time for one request.
    pub timeout: Duration,
}

const KINDS: &[(&str, Option<Kind>)] = &[
    ("", None),
    ("article", Some(Kind::Article)),
    ("image", Some(Kind::Image)),
    ("ad", Some(Kind::Ad)),
    ("video", Some(Kind::Video)),
];
const FORMATS: &[(&str, RecordFormat)] = &[("json", RecordFormat::Json), ("avro", RecordFormat::Avro)];
const VERSIONS: &[(&str, VersionSource)] =
    &[("field", VersionSource::Field), ("timestamp", VersionSource::Timestamp), ("offset", VersionSource::Offset)];
const SUBJECTS: &[(&str, SubjectNameStrategy)] = &[
    ("topic_name", SubjectNameStrategy::TopicName),
    ("record_name", SubjectNameStrategy::RecordName),
    ("topic_record_name", SubjectNameStrategy::TopicRecordName),
];

settings! {
    /// `[kafka]`
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct KafkaConfig {
        /// Brokers to start from: host:port,host:port.
        brokers: String = (required "127.0.0.1:9092") => text();
        /// Consumer group. A new group starts at the oldest record.
        group: String = (required "astromech") => text();
        /// Topic that gets one record for each change the index holds.
        results_topic: String = (required "astromech.results") => text();
        /// Topic that gets records that can never be applied, byte-identical, with their reason in headers.
        dead_letter_topic: String = (required "astromech.dead-letters") => text();
        /// Silence after which the group takes this member for dead, milliseconds.
        session_timeout as "session_timeout_ms": Duration = 45000 => millis(1000, 30 * MINUTE_MS);
        /// Longest wait for work under way when partitions are taken away or the daemon stops, milliseconds; less than
        /// session_timeout_ms.
        drain_timeout as "drain_timeout_ms": Duration = 20000 => millis(100, 10 * MINUTE_MS);
        /// Time between two commits, milliseconds.
        commit_interval as "commit_interval_ms": Duration = 1000 => millis(10, 10 * MINUTE_MS);
        /// Time between two looks at the topics, milliseconds: so long after they are made, new partitions are read, and so long after a
        /// topic was deleted and made again it is noticed.
        topics_refresh as "topics_refresh_ms": Duration = 5000 => millis(100, 10 * MINUTE_MS);
        /// Most records of one partition from the oldest that is not finished to the newest that was read; reading waits beyond it.
        window_records_max: usize = 65536 => int(1, 10_000_000);
        /// Topics to consume.
        topics: Vec<TopicConfig> = derived => Vec::new();
        /// What each result carries.
        results: ResultsConfig = derived => defaults();
        /// Passed on to librdkafka.
        properties: BTreeMap<String, String> = derived => BTreeMap::new();
        /// Passed on to librdkafka, read from files.
        secret_properties: BTreeMap<String, Secret> = derived => BTreeMap::new();
        /// Where the schemas of topics in Avro are.
        schema_registry: Option<SchemaRegistryConfig> = derived => None;
    }

    /// `[kafka.results]`
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
    pub struct ResultsConfig {
        /// The item's vectors.
        embeddings: bool = false => flag();
        /// The nearest items of each kind, up to this many; one search of each collection for every upsert.
        neighbours: u32 = 0 => int(0, 100);
        /// What values are. avro: Confluent's wire format, by the schema schemas/avro/result.avsc in kafka.schema_registry.
        format: RecordFormat = "json" => choice(FORMATS);
        /// Of avro: the schema's subject. topic_name: RESULTS_TOPIC-value. record_name: astromech.v1.result.Result. topic_record_name:
        /// both, with a hyphen between.
        subject_name_strategy: SubjectNameStrategy = "topic_name" => choice(SUBJECTS);
        /// Of avro: registers the schema where its subject does not have it. false: results wait until somebody has registered it.
        auto_register_schemas: bool = true => flag();
    }

    /// `[kafka.schema_registry]` as written.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct SchemaRegistrySection {
        /// Root of the API, for example https://registry.internal:8081; empty for none.
        url: String = "" => text();
        /// User name; empty sends none.
        username: String = "" => text();
        /// File that holds the user's password.
        password_file: Option<PathBuf> = "" => path_or_none();
        /// Certificates in PEM that are trusted beside the system's; empty for none.
        ca_file: Option<PathBuf> = "" => path_or_none();
        /// Longest time for one request, milliseconds. A registry that does not answer is asked again; its records wait.
        timeout as "timeout_ms": Duration = 5000 => millis(100, 10 * MINUTE_MS);
    }

    /// `[[kafka.topics]]`
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct TopicConfig {
        /// Name of the topic.
        name: String = (required "astromech.changes") => text();
        /// Kind of every item in it; empty where each message carries its own (a delete: in the header astromech-kind).
        kind: Option<Kind> = "" => choice(KINDS);
        /// What values are. avro: Confluent's wire format, with schemas from kafka.schema_registry. A key is text in both.
        format: RecordFormat = "json" => choice(FORMATS);
        /// Where a change's version comes from. field: the message's version; a delete carries the header astromech-version.
        /// timestamp: the record's time. offset: right only where all changes of an item are in one partition of one topic, and
        /// only while the topic is never deleted and made again: offsets begin anew, and the index keeps the higher ones.
        version: VersionSource = "field" => choice(VERSIONS);
    }
}

impl From<&TopicConfig> for TopicRules {
    fn from(topic: &TopicConfig) -> Self {
        Self { kind: topic.kind, version: topic.version.into() }
    }
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
