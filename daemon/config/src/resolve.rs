//! From the file to what the program needs: checks between keys, files that hold secrets, and sections that others need.

mod http;
mod kafka;

use std::path::Path;

use astromech_schemas::RecordLimits;
use astromech_schemas::manifest::MANIFEST_FILE;
use astromech_settings::{At, Section, SectionAt, SettingError};

use crate::file::{File, Index, Rescore, Rollout};
use crate::index::{EmbeddedSection, EngineKind};
use crate::secret::secret;
use crate::{
    Config, DiskConfig, EngineConfig, IndexConfig, PipelineConfig, RegistryConfig, RescoreConfig, RescoreTopics, RolloutConfig,
    TowersSection,
};

/// Where each key of a section is.
type Places<T> = <T as Section>::Places;

/// What every check needs.
struct Checks<'a> {
    folder: &'a Path,
    at: &'a Places<File>,
    errors: &'a mut Vec<SettingError>,
}

pub(super) fn resolve(file: File, at: &Places<File>, folder: &Path, errors: &mut Vec<SettingError>) -> Config {
    let mut checks = Checks { folder, at, errors };
    let topics = checks.rescore_topics(&file);
    let towers = TowersSection {
        image: file.towers.image.limits(&at.towers.image, checks.errors),
        text: file.towers.text.limits(&at.towers.text, checks.errors),
        cross: file.towers.cross.limits(&at.towers.cross, checks.errors),
    };
    checks.pipeline(&file.pipeline);
    let record = RecordLimits {
        text_bytes_max: file.record.text_bytes_max,
        id_bytes_max: file.record.id_bytes_max,
        image_bytes_max: file.media.bytes_max,
        labels_max: file.record.labels_max,
        frames_max: file.record.frames_max,
    };
    let config = Config {
        bundle: file.bundle,
        runtime: file.runtime,
        towers,
        index: checks.index(file.index),
        kafka: checks.kafka(file.kafka),
        media: file.media,
        record,
        pipeline: file.pipeline,
        rescore: checks.rescore(file.rescore, topics),
        rollout: checks.rollout(file.rollout),
        http: checks.http(file.http),
        telemetry: Some(file.telemetry).filter(|telemetry| !telemetry.otlp_endpoint.is_empty()),
        log: file.log,
    };
    checks.between(&config);
    config
}

impl Checks<'_> {
    fn error(&mut self, at: &At, problem: impl Into<String>, fix: impl Into<String>) {
        self.errors.push(at.error(problem, fix));
    }

    fn index(&mut self, index: Index) -> IndexConfig {
        let at = &self.at.index;
        let engine = match index.engine {
            EngineKind::Embedded => {
                if !cfg!(feature = "embedded") {
                    let fix = "use engine = \"qdrant\", or build with the default features";
                    self.error(&at.engine, "this build has no embedded engine", fix);
                }
                let EmbeddedSection { path, vector_bytes_max } = index.embedded.used(self.errors);
                EngineConfig::Embedded { path, vector_bytes_max }
            }
            EngineKind::Qdrant => {
                let (section, at) = (index.qdrant, &at.qdrant);
                let parsed = url::Url::parse(&section.url).ok();
                if !parsed.is_some_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host()) {
                    let fix = "write http://HOST:6334, the gRPC port, or https://";
                    self.error(&at.url, format!("`{}` is no address", section.url), fix);
                }
                let api_key = section.api_key_file.and_then(|file| secret(&at.api_key_file, &file, self.errors));
                EngineConfig::Qdrant { url: section.url, api_key, timeout: section.timeout }
            }
        };
        IndexConfig { engine, ..index.own.0 }
    }

    fn pipeline(&mut self, pipeline: &PipelineConfig) {
        let (min, max) = (pipeline.retry_backoff_min, pipeline.retry_backoff_max);
        if min > max {
            let problem = format!("{} is more than retry_backoff_ms_max = {}", min.as_millis(), max.as_millis());
            let fix = "write a first wait that is at most the longest one";
            self.error(&self.at.pipeline.retry_backoff_min, problem, fix);
        }
    }

    fn rescore(&mut self, rescore: Rescore, topics: Option<RescoreTopics>) -> RescoreConfig {
        let own = rescore.own.0;
        if own.deadline > own.deadline_max {
            let (usual, longest) = (own.deadline.as_millis(), own.deadline_max.as_millis());
            let problem = format!("{usual} is more than deadline_ms_max = {longest}");
            self.error(&self.at.rescore.own.deadline, problem, "write a usual time that is at most the longest one");
        }
        let bytes_max = rescore.cache.disk_bytes_max;
        let mut cache = rescore.cache.memory.0;
        cache.disk = rescore.cache.disk_path.map(|path| DiskConfig { path, bytes_max });
        RescoreConfig { weights: rescore.weights.0, cache, topics, ..own }
    }

    fn rescore_topics(&mut self, file: &File) -> Option<RescoreTopics> {
        let (mut topics, kafka, at) = (file.rescore.topics.clone(), &file.kafka.peek().own.0, &self.at.rescore.topics);
        if topics.request.is_empty() {
            return None;
        }
        if !file.rescore.own.0.enabled {
            self.error(&at.request, "rescore.enabled is false", "set rescore.enabled = true, or leave the topic out");
        }
        let written = [&kafka.results_topic, &kafka.dead_letter_topic, &topics.reply];
        if written.contains(&&topics.request) || topics.reply_to.contains(&topics.request) {
            let problem = format!("`{}` is also written to: every reply would be a request", topics.request);
            self.error(&at.request, problem, "name a topic of its own");
        }
        if topics.group.is_empty() {
            topics.group = format!("{}.rescore", kafka.group);
        }
        Some(topics)
    }

    /// `None` where no registry is named.
    fn rollout(&mut self, rollout: Rollout) -> Option<RolloutConfig> {
        if rollout.registry.is_empty() {
            return None;
        }
        let (mut own, s3, at) = (rollout.own.0, rollout.s3, &self.at.rollout);
        let mut read = |at, file: Option<_>| file.and_then(|file: std::path::PathBuf| secret(at, &file, self.errors));
        own.public_key = read(&at.own.public_key_file, own.public_key_file.clone()).map(|key| key.reveal().to_owned());
        own.registry = RegistryConfig {
            url: rollout.registry,
            endpoint: s3.endpoint,
            region: s3.region,
            access_key: read(&at.s3.access_key_file, s3.access_key_file),
            secret_key: read(&at.s3.secret_key_file, s3.secret_key_file),
            allow_http: s3.allow_http,
        };
        Some(own)
    }

    /// Checks between sections.
    fn between(&mut self, config: &Config) {
        if let (EngineConfig::Qdrant { timeout, .. }, Some(kafka)) = (&config.index.engine, &config.kafka)
            && *timeout > kafka.drain_timeout
        {
            let problem = format!(
                "{} is more than kafka.drain_timeout_ms = {}: a write could outlive its partition",
                timeout.as_millis(),
                kafka.drain_timeout.as_millis()
            );
            self.error(&self.at.index.qdrant.timeout, problem, "write at most kafka.drain_timeout_ms");
        }
    }
}

/// Looks whether the folders that must be there are there.
pub(super) fn probe(config: &Config, at: &Places<File>, errors: &mut Vec<SettingError>) {
    let manifest = config.bundle.path.join(MANIFEST_FILE);
    if at.bundle.path.is_written() && !manifest.is_file() {
        let fix = "name the folder of a bundle, relative to this file's folder";
        errors.push(at.bundle.path.error(format!("{} is not there", manifest.display()), fix));
    }
    if let Some(tls) = &config.http.tls {
        let places: &SectionAt<_> = &at.http.tls;
        let files = [(&places.certificate_file, Some(&tls.certificate_file)), (&places.key_file, Some(&tls.key_file))];
        for (at, file) in files.into_iter().chain([(&places.client_ca_file, tls.client_ca_file.as_ref())]) {
            if let Some(file) = file
                && let Err(e) = std::fs::File::open(file)
            {
                errors.push(at.error(format!("{} can't be read: {e}", file.display()), "name a file that this user may read"));
            }
        }
    }
    for root in config.media.file_roots.iter().filter(|root| !root.is_dir()) {
        errors.push(at.media.file_roots.error(format!("{} is no folder", root.display()), "create it or take it out"));
    }
}
