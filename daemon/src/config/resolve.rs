//! From the file as written to what the program needs: types, paths, and checks between values.

mod http;
mod media;
mod rollout;
mod schema_registry;
mod telemetry;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use astromech_schemas::RecordLimits;
use astromech_schemas::manifest::{MANIFEST_FILE, Precision};
use tracing_subscriber::EnvFilter;

use super::error::ConfigError;
use super::kafka::{KafkaConfig, TopicConfig, VersionSource};
use super::keys::{Need, section};
use super::raw::{RawConfig, RawTable, RawValue};
use super::types::{
    BundleConfig, CacheConfig, Config, DiskConfig, EngineConfig, IndexConfig, LogConfig, PipelineConfig, ProviderKind,
    RescoreConfig, RescoreTopics, RuntimeConfig, Secret, StatesForm, TowerLimits, TowersSection, WeightsConfig,
};
use crate::telemetry::LogFormat;

const HOUR_SECONDS: f64 = 3600.0;

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

pub(super) fn resolve(raw: &RawConfig, folder: &Path, errors: &mut Vec<ConfigError>) -> Config {
    let mut at = Resolver { raw, folder, errors };
    let config = Config {
        bundle: at.bundle(),
        runtime: at.runtime(),
        towers: TowersSection { image: at.tower("towers.image"), text: at.tower("towers.text"), cross: at.tower("towers.cross") },
        index: at.index(),
        kafka: at.kafka(),
        media: at.media(),
        record: at.record(),
        pipeline: at.pipeline(),
        rescore: at.rescore(),
        rollout: at.rollout(),
        http: at.http(),
        telemetry: at.telemetry(),
        log: at.log(),
    };
    at.check_between(&config);
    config
}

struct Resolver<'a> {
    raw: &'a RawConfig,
    folder: &'a Path,
    errors: &'a mut Vec<ConfigError>,
}

/// One section, and where it lies.
#[derive(Clone, Copy)]
struct View<'a> {
    name: &'static str,
    table: &'a RawTable,
}

impl View<'_> {
    fn value(&self, key: &str) -> Option<&RawValue> {
        self.table.values.get(key).map(|located| &located.value)
    }

    /// Line of the key, of its section where the key is not written, else 0.
    fn line(&self, key: &str) -> usize {
        self.table.values.get(key).map(|located| located.line).filter(|line| *line > 0).unwrap_or(self.table.line)
    }

    fn path(&self, key: &str) -> String {
        format!("{}.{key}", self.name)
    }

    // Types were checked when the file was read, and defaults filled in: another type can't be here.
    fn integer(&self, key: &str) -> u64 {
        if let Some(RawValue::Integer(number)) = self.value(key) { *number } else { 0 }
    }

    fn size(&self, key: &str) -> usize {
        usize::try_from(self.integer(key)).unwrap_or(usize::MAX)
    }

    fn millis(&self, key: &str) -> Duration {
        Duration::from_millis(self.integer(key))
    }

    fn flag(&self, key: &str) -> bool {
        matches!(self.value(key), Some(RawValue::Bool(true)))
    }

    fn float(&self, key: &str) -> f64 {
        if let Some(RawValue::Float(number)) = self.value(key) { *number } else { 0.0 }
    }

    fn text(&self, key: &str) -> &str {
        if let Some(RawValue::Text(text)) = self.value(key) { text } else { "" }
    }

    fn list(&self, key: &str) -> &[String] {
        if let Some(RawValue::List(list)) = self.value(key) { list } else { &[] }
    }
}

impl<'a> Resolver<'a> {
    fn view(&self, name: &'static str) -> View<'a> {
        View { name, table: &self.raw.tables[name] }
    }

    fn error(&mut self, view: View<'_>, key: &str, problem: impl Into<String>, fix: impl Into<String>) {
        self.errors.push(ConfigError::new(view.line(key), view.path(key), problem, fix));
    }

    /// A string that must be written and not be empty.
    fn required(&mut self, view: View<'_>, key: &str) -> String {
        let text = view.text(key);
        if text.trim().is_empty() && !view.table.broken.contains(key) {
            let keys = section(view.name).map_or(&[][..], |section| section.keys());
            let example = keys.iter().find(|k| k.name == key).and_then(|k| match k.need {
                Need::Required(example) => Some(example),
                Need::Default(_) => None,
            });
            let problem = if view.value(key).is_some() { "empty" } else { "missing" };
            self.error(view, key, problem, format!("write {key} = {} in [{}]", example.unwrap_or("\"…\""), view.name));
        }
        text.to_owned()
    }

    fn join(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    fn bundle(&mut self) -> BundleConfig {
        let view = self.view("bundle");
        let path = self.required(view, "path");
        let precision = match view.text("precision") {
            "f32" => Some(Precision::F32),
            "fp16" => Some(Precision::Fp16),
            "int8" => Some(Precision::Int8),
            _ => None,
        };
        BundleConfig { path: self.join(&path), precision }
    }

    fn runtime(&self) -> RuntimeConfig {
        let view = self.view("runtime");
        let library = view.text("onnxruntime");
        RuntimeConfig {
            onnxruntime: (!library.is_empty()).then(|| self.join(library)),
            provider: if view.text("provider") == "cuda" { ProviderKind::Cuda } else { ProviderKind::Cpu },
            device_id: i32::try_from(view.integer("device_id")).unwrap_or(0),
            threads: view.size("threads"),
        }
    }

    fn tower(&mut self, name: &'static str) -> TowerLimits {
        let view = self.view(name);
        let (batch_max, queue_max) = (view.size("batch_max"), view.size("queue_max"));
        if queue_max < batch_max {
            let problem = format!("{queue_max} is less than batch_max = {batch_max}, so no batch could ever be full");
            self.error(view, "queue_max", problem, format!("write at least {batch_max}, better four times that"));
        }
        TowerLimits { batch_max, queue_max, wait_us_max: view.integer("wait_us_max") }
    }

    fn index(&mut self) -> IndexConfig {
        let view = self.view("index");
        let engine = if view.text("engine") == "qdrant" { self.qdrant() } else { self.embedded() };
        IndexConfig {
            engine,
            batch_points_max: view.size("batch_points_max"),
            batch_wait_max: view.millis("batch_wait_ms_max"),
            tombstone_retention: Some(view.float("tombstone_retention_hours"))
                .filter(|hours| *hours > 0.0)
                .map(|hours| Duration::from_secs_f64(hours * HOUR_SECONDS)),
            in_flight_max: view.size("in_flight_max"),
        }
    }

    fn embedded(&mut self) -> EngineConfig {
        let view = self.view("index.embedded");
        if !cfg!(feature = "embedded") {
            let fix = "use engine = \"qdrant\", or build with the default features";
            self.error(self.view("index"), "engine", "this build has no embedded engine", fix);
        }
        let path = self.required(view, "path");
        EngineConfig::Embedded { path: self.join(&path), vector_bytes_max: view.size("vector_bytes_max") }
    }

    fn qdrant(&mut self) -> EngineConfig {
        let view = self.view("index.qdrant");
        let url = view.text("url");
        let parsed = url::Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        if parsed.is_none() {
            self.error(view, "url", format!("`{url}` is no address"), "write http://HOST:6334, the gRPC port, or https://");
        }
        let file = view.text("api_key_file");
        let api_key = if file.is_empty() { None } else { self.secret(view, "api_key_file", file) };
        EngineConfig::Qdrant { url: url.to_owned(), api_key, timeout: view.millis("timeout_ms") }
    }

    fn secret(&mut self, view: View<'_>, key: &str, file: &str) -> Option<Secret> {
        let path = self.join(file);
        match std::fs::read_to_string(&path) {
            Ok(text) if text.trim().is_empty() => {
                self.error(view, key, format!("{} is empty", path.display()), "write the secret into it");
                None
            }
            Ok(text) => Some(Secret::new(text.trim())),
            Err(e) => {
                self.error(view, key, format!("{} can't be read: {e}", path.display()), "name a file that this user may read");
                None
            }
        }
    }

    fn kafka(&mut self) -> Option<KafkaConfig> {
        let view = self.view("kafka");
        let written = ["kafka", "kafka.results", "kafka.properties", "kafka.properties_files", "kafka.schema_registry"]
            .iter()
            .any(|name| self.raw.tables[name].line > 0);
        let topics = self.raw.arrays.get("kafka.topics").map_or(&[][..], Vec::as_slice);
        if !written && topics.is_empty() {
            return None;
        }
        let config = KafkaConfig {
            brokers: self.required(view, "brokers"),
            group: self.required(view, "group"),
            topics: self.topics(view, topics),
            results_topic: self.required(view, "results_topic"),
            results: self.results(),
            dead_letter_topic: self.required(view, "dead_letter_topic"),
            session_timeout: view.millis("session_timeout_ms"),
            drain_timeout: view.millis("drain_timeout_ms"),
            commit_interval: view.millis("commit_interval_ms"),
            window_records_max: view.size("window_records_max"),
            properties: self.properties(),
            secret_properties: self.secret_properties(),
            schema_registry: self.schema_registry(),
        };
        if config.drain_timeout >= config.session_timeout {
            let problem = format!(
                "{} is not less than session_timeout_ms = {}: the group would give the partitions away before the drain ends",
                config.drain_timeout.as_millis(),
                config.session_timeout.as_millis()
            );
            self.error(view, "drain_timeout_ms", problem, "write at most half of session_timeout_ms");
        }
        Some(config)
    }

    fn topics(&mut self, kafka: View<'_>, tables: &[RawTable]) -> Vec<TopicConfig> {
        if tables.is_empty() {
            self.error(kafka, "topics", "missing", "write [[kafka.topics]] with name = \"…\"");
        }
        let (results, dead) = (kafka.text("results_topic"), kafka.text("dead_letter_topic"));
        if !results.is_empty() && results == dead {
            let problem = format!("`{dead}` is the results topic too");
            self.error(kafka, "dead_letter_topic", problem, "name two different topics");
        }
        let mut topics: Vec<TopicConfig> = Vec::with_capacity(tables.len());
        for table in tables {
            let view = View { name: "kafka.topics", table };
            let name = self.required(view, "name");
            if !name.is_empty() && topics.iter().any(|topic| topic.name == name) {
                self.error(view, "name", format!("`{name}` is listed twice"), "list each topic once");
            }
            if !name.is_empty() && [results, dead].contains(&name.as_str()) {
                let problem = format!("`{name}` is also written to: every record would come back");
                self.error(view, "name", problem, "consume other topics than the results and dead letters");
            }
            topics.push(TopicConfig {
                name,
                kind: view.text("kind").parse().ok(),
                format: self.record_format(view),
                version: match view.text("version") {
                    "timestamp" => VersionSource::Timestamp,
                    "offset" => VersionSource::Offset,
                    _ => VersionSource::Field,
                },
            });
        }
        topics
    }

    fn properties(&mut self) -> BTreeMap<String, String> {
        let view = self.view("kafka.properties");
        let mut properties = BTreeMap::new();
        for name in view.table.values.keys() {
            if let Some(fix) = reserved(name) {
                self.error(view, name, "this property is not yours to set", fix);
            } else if SECRET_WORDS.iter().any(|word| name.contains(word)) {
                let fix = format!("write \"{name}\" = \"FILE\" in [kafka.properties_files]");
                self.error(view, name, "secrets are never written into the configuration", fix);
            }
            properties.insert(name.clone(), view.text(name).to_owned());
        }
        properties
    }

    fn secret_properties(&mut self) -> BTreeMap<String, Secret> {
        let view = self.view("kafka.properties_files");
        let mut properties = BTreeMap::new();
        for name in view.table.values.keys() {
            if let Some(fix) = reserved(name) {
                self.error(view, name, "this property is not yours to set", fix);
            } else if let Some(secret) = self.secret(view, name, view.text(name)) {
                properties.insert(name.clone(), secret);
            }
        }
        properties
    }

    fn record(&self) -> RecordLimits {
        let view = self.view("record");
        RecordLimits {
            text_bytes_max: view.size("text_bytes_max"),
            id_bytes_max: view.size("id_bytes_max"),
            image_bytes_max: self.view("media").size("bytes_max"),
            labels_max: view.size("labels_max"),
            frames_max: view.size("frames_max"),
        }
    }

    fn pipeline(&mut self) -> PipelineConfig {
        let view = self.view("pipeline");
        let (min, max) = (view.millis("retry_backoff_ms_min"), view.millis("retry_backoff_ms_max"));
        if min > max {
            let problem = format!("{} is more than retry_backoff_ms_max = {}", min.as_millis(), max.as_millis());
            self.error(view, "retry_backoff_ms_min", problem, "write a first wait that is at most the longest one");
        }
        PipelineConfig {
            records_in_flight_max: view.size("records_in_flight_max"),
            bytes_in_flight_max: view.size("bytes_in_flight_max"),
            retry_backoff_min: min,
            retry_backoff_max: max,
            poison_window: view.size("poison_window"),
            poison_share_max: if let Some(RawValue::Float(share)) = view.value("poison_share_max") { *share } else { 1.0 },
        }
    }

    fn rescore(&mut self) -> RescoreConfig {
        let (view, cache) = (self.view("rescore"), self.view("rescore.cache"));
        let (deadline, deadline_max) = (view.millis("deadline_ms"), view.millis("deadline_ms_max"));
        if deadline > deadline_max {
            let problem = format!("{} is more than deadline_ms_max = {}", deadline.as_millis(), deadline_max.as_millis());
            self.error(view, "deadline_ms", problem, "write a usual time that is at most the longest one");
        }
        let weight = |key| view.float(key) as f32;
        let topics = self.rescore_topics(view.flag("enabled"));
        RescoreConfig {
            topics,
            enabled: view.flag("enabled"),
            candidates_max: view.size("candidates_max"),
            requests_in_flight_max: view.size("requests_in_flight_max"),
            deadline,
            deadline_max,
            weights: WeightsConfig {
                itm: weight("weight_itm"),
                itc: weight("weight_itc"),
                prior: weight("weight_prior"),
                bid: weight("weight_bid"),
            },
            cache: CacheConfig {
                bytes_max: cache.integer("bytes_max"),
                states: if cache.text("states") == "f32" { StatesForm::F32 } else { StatesForm::F16 },
                warm: cache.flag("warm"),
                disk: (!cache.text("disk_path").is_empty())
                    .then(|| DiskConfig { path: self.join(cache.text("disk_path")), bytes_max: cache.integer("disk_bytes_max") }),
            },
        }
    }

    fn rescore_topics(&mut self, enabled: bool) -> Option<RescoreTopics> {
        let (view, kafka) = (self.view("rescore.topics"), self.view("kafka"));
        let request = view.text("request").to_owned();
        if request.is_empty() {
            return None;
        }
        if !enabled {
            self.error(
                view,
                "request",
                "rescore.enabled is false".to_owned(),
                "set rescore.enabled = true, or leave the topic out",
            );
        }
        let (reply, reply_to) = (view.text("reply").to_owned(), view.list("reply_to").to_vec());
        let written = [kafka.text("results_topic"), kafka.text("dead_letter_topic"), reply.as_str()];
        if written.contains(&request.as_str()) || reply_to.contains(&request) {
            let problem = format!("`{request}` is also written to: every reply would be a request");
            self.error(view, "request", problem, "name a topic of its own");
        }
        let group = match view.text("group") {
            "" => format!("{}.rescore", kafka.text("group")),
            group => group.to_owned(),
        };
        Some(RescoreTopics { request, reply, reply_to, group, requests_in_flight_max: view.size("requests_in_flight_max") })
    }

    fn log(&mut self) -> LogConfig {
        let view = self.view("log");
        let level = view.text("level");
        let checked = if level.trim().is_empty() {
            Err("it is empty".to_owned())
        } else {
            EnvFilter::try_new(level).map(drop).map_err(|e| e.to_string())
        };
        if let Err(problem) = checked {
            self.error(view, "level", format!("`{level}` is no filter: {problem}"), "write error, warn, info, debug or trace");
        }
        let format = if view.text("format") == "json" { LogFormat::Json } else { LogFormat::Text };
        LogConfig { format, level: level.to_owned() }
    }

    /// Checks between sections.
    fn check_between(&mut self, config: &Config) {
        if let (EngineConfig::Qdrant { timeout, .. }, Some(kafka)) = (&config.index.engine, &config.kafka)
            && *timeout > kafka.drain_timeout
        {
            let problem = format!(
                "{} is more than kafka.drain_timeout_ms = {}: a write could outlive its partition",
                timeout.as_millis(),
                kafka.drain_timeout.as_millis()
            );
            self.error(self.view("index.qdrant"), "timeout_ms", problem, "write at most kafka.drain_timeout_ms");
        }
    }
}

/// Looks whether the folders that must be there are there.
pub(super) fn probe(raw: &RawConfig, config: &Config, errors: &mut Vec<ConfigError>) {
    let mut missing = |section: &'static str, key: &str, problem: String, fix: &str| {
        let view = View { name: section, table: &raw.tables[section] };
        errors.push(ConfigError::new(view.line(key), view.path(key), problem, fix));
    };
    let manifest = config.bundle.path.join(MANIFEST_FILE);
    if raw.tables["bundle"].values.contains_key("path") && !manifest.is_file() {
        let problem = format!("{} is not there", manifest.display());
        missing("bundle", "path", problem, "name the folder of a bundle, relative to this file's folder");
    }
    if let Some(tls) = &config.http.tls {
        let files = [("certificate_file", Some(&tls.certificate_file)), ("key_file", Some(&tls.key_file))];
        for (key, file) in files.into_iter().chain([("client_ca_file", tls.client_ca_file.as_ref())]) {
            if let Some(Err(e)) = file.map(std::fs::File::open) {
                let problem = format!("{} can't be read: {e}", file.map_or_else(String::new, |file| file.display().to_string()));
                missing("http.tls", key, problem, "name a file that this user may read");
            }
        }
    }
    for root in config.media.file_roots.iter().filter(|root| !root.is_dir()) {
        missing("media", "file_roots", format!("{} is no folder", root.display()), "create it or take it out");
    }
}

fn reserved(name: &str) -> Option<&'static str> {
    RESERVED_PROPERTIES.iter().find(|(reserved, _)| *reserved == name).map(|(_, fix)| *fix)
}
