//! The file: its sections, in the order of the reference.

use std::collections::BTreeMap;

use astromech_settings::kinds::{choice, strings, text};
use astromech_settings::{Flat, Named, Value as _, WhenUsed, settings};

use crate::http::{AuthSection, HttpConfig, RateSection, TlsSection};
use crate::index::{EmbeddedSection, EngineKind, IndexConfig, QdrantSection};
use crate::kafka::{KafkaConfig, ResultsConfig, SchemaRegistrySection, TopicConfig};
use crate::limits::{PipelineConfig, RecordSection};
use crate::log::{LogConfig, TelemetryConfig};
use crate::media::MediaConfig;
use crate::model::{BundleConfig, CrossTower, ImageTower, RuntimeConfig, TextTower};
use crate::rescore::{CacheSection, RescoreConfig, RescoreTopics, WeightsConfig};
use crate::rollout::{RolloutConfig, S3Section, registry};

settings! {
    /// The whole file.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct File {
        /// The model: a folder with manifest, graphs, vocabulary and golden vectors.
        bundle: BundleConfig;
        /// ONNX Runtime, which runs the towers.
        runtime: RuntimeConfig;
        /// Batching.
        towers: Towers;
        /// Where points are written.
        index: Index;
        /// Where changes come from. Needed by `astromech run` only.
        kafka: WhenUsed<Kafka>;
        /// Where pictures may be fetched from, and how large they may be.
        media: MediaConfig;
        /// Limits of one record; beyond them it is a dead letter.
        record: RecordSection;
        /// Limits of what is under way.
        pipeline: PipelineConfig;
        /// Re-scoring by the single tower: POST /v1/rescore, and rescore in a search.
        rescore: Rescore;
        /// Refreshed models: which registry is watched, and how a new generation is made beside the live one. With a registry each
        /// generation has a consumer group of its own, kafka.group with its fingerprint behind it. Topics must hold every item
        /// (compacted, or kept for as long as an item lives), or backfill says where else items come from.
        rollout: Rollout;
        /// The HTTP interface and the page.
        http: Http;
        /// Traces of records and requests, for an OpenTelemetry collector. Off by default, and then costs nothing.
        telemetry: TelemetryConfig;
        /// Logs, on standard error.
        log: LogConfig;
    }

    /// `[towers]`
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct Towers {
        /// Batching of the image tower.
        image: ImageTower;
        /// Batching of the text tower.
        text: TextTower;
        /// Batching of the cross tower: batches in pairs, of several requests; the queue in chunks of up to batch_max pairs.
        cross: CrossTower;
    }

    /// `[index]`
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct Index {
        /// embedded: SQLite in this process, its file in a folder. qdrant: a Qdrant server, 1.16 or newer.
        engine: EngineKind = "embedded" => choice(&[("embedded", EngineKind::Embedded), ("qdrant", EngineKind::Qdrant)]);
        /// Its own keys.
        own: Flat<IndexConfig>;
        /// Used where index.engine = "embedded".
        embedded: WhenUsed<EmbeddedSection>;
        /// Used where index.engine = "qdrant".
        qdrant: QdrantSection;
    }

    /// `[kafka]`
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct Kafka {
        /// Its own keys.
        own: Flat<KafkaConfig>;
        /// What each result carries beside its names, and what it is written as.
        results: ResultsConfig;
        /// Passed on to librdkafka's consumer and producers. Properties that the promises rest on are refused.
        properties: BTreeMap<String, Named> = {} => strings("\"security.protocol\" = \"sasl_ssl\"");
        /// As kafka.properties, each value read from the file that is named: the place for passwords.
        properties_files: BTreeMap<String, Named> = {} => strings("\"sasl.password\" = \"/run/secrets/kafka-password\"");
        /// The registry that has the schemas of topics whose format is avro; it is asked by Confluent's API. Only kafka.results.format
        /// writes to it.
        schema_registry: SchemaRegistrySection;
        /// One for each topic to consume; at least one.
        topics: Vec<TopicConfig>;
    }

    /// `[rescore]`
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct Rescore {
        /// Its own keys.
        own: Flat<RescoreConfig>;
        /// Weights of the blend.
        weights: Flat<WeightsConfig>;
        /// States of items that were encoded once, by content and bundle: in memory, and on disk where a path is given.
        cache: CacheSection;
        /// Re-scoring requests out of a topic, with the brokers and properties of [kafka].
        topics: RescoreTopics;
    }

    /// `[rollout]`
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct Rollout {
        /// Registry of bundles: file:///folder or s3://bucket/prefix. Empty rolls nothing out: bundle.path serves.
        registry: String = "" => text().parsed(registry, String::new);
        /// Its own keys.
        own: Flat<RolloutConfig>;
        /// Object storage of the registry; for a folder nothing here counts.
        s3: S3Section;
    }

    /// `[http]`
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct Http {
        /// Its own keys.
        own: Flat<HttpConfig>;
        /// How often one caller may ask /v1: each API key has a bucket of its own; without a key each peer address has one (of IPv6
        /// its /64). Behind a proxy every caller has the proxy's address: give them keys.
        rate: RateSection;
        /// The certificate to serve HTTPS with; without it HTTP is plain. The files are read again when they change.
        tls: TlsSection;
        /// API keys. With at least one in the sections below, /v1 is answered to them only, sent as `authorization: Bearer KEY` or
        /// `x-api-key: KEY`. The page, /openapi.json, /healthz and /readyz are always open; they tell nothing of the items.
        auth: AuthSection;
    }
}
