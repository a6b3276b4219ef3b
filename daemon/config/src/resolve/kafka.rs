//! `[kafka]` and the sections below it.

use std::collections::BTreeMap;

use astromech_settings::{At, Named, WhenUsed};

use super::Checks;
use crate::file::Kafka;
use crate::kafka::SchemaRegistrySection;
use crate::media::web_address;
use crate::secret::secret;
use crate::{KafkaConfig, RecordFormat, SchemaRegistryConfig, Secret, TopicConfig};

/// librdkafka properties that have a key of their own here, or that the promises rest on.
const RESERVED_PROPERTIES: &[(&str, &str)] = &[
    ("bootstrap.servers", "use kafka.brokers"),
    ("metadata.broker.list", "use kafka.brokers"),
    ("group.id", "use kafka.group"),
    ("session.timeout.ms", "use kafka.session_timeout_ms"),
    ("enable.auto.commit", "remove it: offsets are committed only over finished records"),
    ("enable.auto.offset.store", "remove it: offsets are committed only over finished records"),
    ("auto.commit.interval.ms", "use kafka.commit_interval_ms"),
    ("partition.assignment.strategy", "remove it: cooperative-sticky is used"),
    ("group.protocol", "remove it: the classic protocol with cooperative-sticky is used"),
    ("enable.idempotence", "remove it: producers are idempotent"),
    ("acks", "remove it: results and dead letters wait for all replicas"),
    ("request.required.acks", "remove it: results and dead letters wait for all replicas"),
    ("isolation.level", "remove it: only committed records are read"),
];

/// Words in the names of properties that are secrets.
const SECRET_WORDS: [&str; 4] = ["password", "secret", "token", ".pem"];

impl Checks<'_> {
    /// `None` where nothing of it is written.
    pub(super) fn kafka(&mut self, section: WhenUsed<Kafka>) -> Option<KafkaConfig> {
        let at = &self.at.kafka;
        if !at.header.is_written() {
            return None;
        }
        let Kafka { own, results, properties, properties_files, schema_registry, topics } = section.used(self.errors);
        let own = own.0;
        if own.drain_timeout >= own.session_timeout {
            let problem = format!(
                "{} is not less than session_timeout_ms = {}: the group would give the partitions away before the drain ends",
                own.drain_timeout.as_millis(),
                own.session_timeout.as_millis()
            );
            self.error(&at.own.drain_timeout, problem, "write at most half of session_timeout_ms");
        }
        self.topics(&own, &topics);
        let formats = at.topics.each.iter().map(|at| &at.format).zip(topics.iter().map(|topic| topic.format));
        for (at, format) in formats.chain([(&at.results.format, results.format)]) {
            if format == RecordFormat::Avro && schema_registry.url.is_empty() {
                let problem = "\"avro\" needs a schema registry, and kafka.schema_registry.url is empty";
                self.error(at, problem, "write url = \"http://HOST:PORT\" in [kafka.schema_registry], or format = \"json\"");
            }
        }
        Some(KafkaConfig {
            topics,
            results,
            properties: self.properties(properties),
            secret_properties: self.secret_properties(properties_files),
            schema_registry: self.schema_registry(schema_registry),
            ..own
        })
    }

    fn topics(&mut self, kafka: &KafkaConfig, topics: &[TopicConfig]) {
        let at = &self.at.kafka;
        if topics.is_empty() {
            self.error(&at.topics.header, "missing", "write [[kafka.topics]] with name = \"…\"");
        }
        let (results, dead) = (&kafka.results_topic, &kafka.dead_letter_topic);
        if !results.is_empty() && results == dead {
            let problem = format!("`{dead}` is the results topic too");
            self.error(&at.own.dead_letter_topic, problem, "name two different topics");
        }
        for (index, (topic, at)) in topics.iter().zip(&at.topics.each).enumerate() {
            let name = &topic.name;
            if name.is_empty() {
                continue;
            }
            if topics[..index].iter().any(|other| other.name == *name) {
                self.error(&at.name, format!("`{name}` is listed twice"), "list each topic once");
            }
            if [results, dead].contains(&name) {
                let problem = format!("`{name}` is also written to: every record would come back");
                self.error(&at.name, problem, "consume other topics than the results and dead letters");
            }
        }
    }

    fn properties(&mut self, properties: BTreeMap<String, Named>) -> BTreeMap<String, String> {
        for (name, Named { at, .. }) in &properties {
            if !self.is_reserved(name, at) && SECRET_WORDS.iter().any(|word| name.contains(word)) {
                let fix = format!("write \"{name}\" = \"FILE\" in [kafka.properties_files]");
                self.error(at, "secrets are never written into the configuration", fix);
            }
        }
        properties.into_iter().map(|(name, named)| (name, named.text)).collect()
    }

    fn secret_properties(&mut self, files: BTreeMap<String, Named>) -> BTreeMap<String, Secret> {
        let mut properties = BTreeMap::new();
        for (name, Named { text, at }) in files {
            if !self.is_reserved(&name, &at)
                && let Some(secret) = secret(&at, &self.folder.join(text), self.errors)
            {
                properties.insert(name, secret);
            }
        }
        properties
    }

    fn is_reserved(&mut self, name: &str, at: &At) -> bool {
        let reserved = RESERVED_PROPERTIES.iter().find(|(reserved, _)| *reserved == name);
        if let Some((_, fix)) = reserved {
            self.error(at, "this property is not yours to set", *fix);
        }
        reserved.is_some()
    }

    /// `None` where no registry is named.
    fn schema_registry(&mut self, section: SchemaRegistrySection) -> Option<SchemaRegistryConfig> {
        if section.url.is_empty() {
            return None;
        }
        let at = &self.at.kafka.schema_registry;
        let url = web_address(&section.url);
        if url.is_none() {
            // Not repeated: it may carry a password.
            let fix = "write http://HOST:PORT or https://HOST:PORT; a password goes into password_file";
            self.error(&at.url, "the registry is no address, or has a user name in it", fix);
        }
        let ca = section.ca_file.as_ref().and_then(|file| secret(&at.ca_file, file, self.errors));
        let (timeout, login) = (section.timeout, self.registry_login(section));
        Some(SchemaRegistryConfig { url: url?, login, ca: ca.map(|pem| pem.reveal().to_owned()), timeout })
    }

    fn registry_login(&mut self, section: SchemaRegistrySection) -> Option<(String, Secret)> {
        let at = &self.at.kafka.schema_registry;
        match (section.username, section.password_file) {
            (user, None) if user.is_empty() => {}
            (user, Some(_)) if user.is_empty() => {
                self.error(&at.username, "a password without a user name", "write both, or neither");
            }
            (_, None) => self.error(&at.password_file, "a user name without a password", "write both, or neither"),
            (user, Some(file)) => return secret(&at.password_file, &file, self.errors).map(|password| (user, password)),
        }
        None
    }
}
