//! What the program needs, checked. One struct a section of the file; see [`super::keys`] for what each key means.

use std::path::PathBuf;
use std::time::Duration;

use astromech_schemas::RecordLimits;
use astromech_schemas::manifest::Precision;

use super::allowed_host::AllowedHost;
use super::kafka::{KafkaConfig, TopicConfig, VersionSource};
use super::schema_registry::RecordFormat;
use crate::telemetry::LogFormat;

/// The whole configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The model.
    pub bundle: BundleConfig,
    /// ONNX Runtime.
    pub runtime: RuntimeConfig,
    /// Batching of the towers.
    pub towers: TowersSection,
    /// Where points are written.
    pub index: IndexConfig,
    /// Where changes come from; needed by `run` only.
    pub kafka: Option<KafkaConfig>,
    /// Where pictures may be fetched from.
    pub media: MediaConfig,
    /// Limits of one record.
    pub record: RecordLimits,
    /// Limits of what is under way.
    pub pipeline: PipelineConfig,
    /// Re-scoring by the single tower.
    pub rescore: RescoreConfig,
    /// Refreshed models; `None` where no registry is watched.
    pub rollout: Option<RolloutConfig>,
    /// The HTTP interface.
    pub http: HttpConfig,
    /// Traces; `None` where nothing is exported.
    pub telemetry: Option<TelemetryConfig>,
    /// Logs.
    pub log: LogConfig,
}

/// `[bundle]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleConfig {
    /// Folder of the bundle.
    pub path: PathBuf,
    /// Graphs to load; `None` picks by provider.
    pub precision: Option<Precision>,
}

/// Where the towers run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderKind {
    /// On the CPU.
    Cpu,
    /// On one CUDA device.
    Cuda,
}

/// `[runtime]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// ONNX Runtime's library; `None` looks at `ORT_DYLIB_PATH`.
    pub onnxruntime: Option<PathBuf>,
    /// Where the towers run.
    pub provider: ProviderKind,
    /// CUDA device.
    pub device_id: i32,
    /// Threads of the towers; 0 for all cores.
    pub threads: usize,
}

/// Batching of one tower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TowerLimits {
    /// Most items in one batch.
    pub batch_max: usize,
    /// Most items waiting, live requests and indexing each.
    pub queue_max: usize,
    /// Longest wait for a batch to fill, microseconds.
    pub wait_us_max: u64,
}

/// `[towers.image]`, `[towers.text]` and `[towers.cross]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TowersSection {
    /// The image tower.
    pub image: TowerLimits,
    /// The text tower.
    pub text: TowerLimits,
    /// The cross tower.
    pub cross: TowerLimits,
}

/// Which engine, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineConfig {
    /// SQLite in this process.
    Embedded {
        /// Folder of the index; created where it is missing.
        path: PathBuf,
        /// Most bytes of memory for vectors.
        vector_bytes_max: usize,
    },
    /// A Qdrant server over gRPC.
    Qdrant {
        /// gRPC address.
        url: String,
        /// API key, read from the file that the configuration names.
        api_key: Option<Secret>,
        /// Longest wait for one request.
        timeout: Duration,
    },
}

/// `[index]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexConfig {
    /// Which engine, and where.
    pub engine: EngineConfig,
    /// Most points in one write.
    pub batch_points_max: usize,
    /// Longest wait for a write to fill.
    pub batch_wait_max: Duration,
    /// Most writes under way at once.
    pub in_flight_max: usize,
    /// How long a tombstone is kept; `None` for ever.
    pub tombstone_retention: Option<Duration>,
}

/// A value that no log, dump or error ever shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// `[media]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaConfig {
    /// Folders under which `file:` addresses may lie.
    pub file_roots: Vec<PathBuf>,
    /// Hosts of `http:` and `https:` addresses, with their ports.
    pub http_hosts: Vec<AllowedHost>,
    /// Proxy through which all of them are fetched; it resolves their names.
    pub proxy: Option<url::Url>,
    /// Whether those hosts may have private, loopback or link-local addresses.
    pub allow_private_networks: bool,
    /// Largest encoded picture, bytes.
    pub bytes_max: usize,
    /// Most pixels, width by height as declared.
    pub pixels_max: u64,
    /// Longest edge, pixels.
    pub edge_max: u32,
    /// Longest time for one picture, redirects and body included.
    pub timeout: Duration,
    /// Longest time for one connection to open.
    pub connect_timeout: Duration,
    /// Most redirects that are followed.
    pub redirects_max: usize,
    /// Most pictures fetched at once.
    pub in_flight_max: usize,
    /// Most pictures fetched from one host at once.
    pub host_in_flight_max: usize,
    /// Failures of one host in a row after which it is left alone.
    pub host_failures_max: usize,
    /// How long it is left alone.
    pub host_pause: Duration,
}

/// `[pipeline]`
#[derive(Debug, Clone, PartialEq)]
pub struct PipelineConfig {
    /// Most records under way.
    pub records_in_flight_max: usize,
    /// Most bytes of records under way.
    pub bytes_in_flight_max: usize,
    /// First wait before something that may pass is tried again.
    pub retry_backoff_min: Duration,
    /// Longest wait before something that may pass is tried again.
    pub retry_backoff_max: Duration,
    /// How many of the last records are looked at for poison.
    pub poison_window: usize,
    /// Share of dead letters among them above which the daemon stops.
    pub poison_share_max: f64,
}

/// Weights of the blend.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WeightsConfig {
    /// Of the match score.
    pub itm: f32,
    /// Of the cosine.
    pub itc: f32,
    /// Of ln(prior), for advertisements.
    pub prior: f32,
    /// Of ln(bid), for advertisements.
    pub bid: f32,
}

/// How states are kept in the feature cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatesForm {
    /// In 16 bits.
    F16,
    /// In 32 bits, as the towers give them.
    F32,
}

/// `[rescore.cache]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheConfig {
    /// Most bytes of states and vectors; 0 keeps nothing.
    pub bytes_max: u64,
    /// How states are kept.
    pub states: StatesForm,
    /// Whether the pipeline puts the states of what it indexes there.
    pub warm: bool,
    /// A tier on disk; `None` keeps states in memory only.
    pub disk: Option<DiskConfig>,
}

/// The feature cache's tier on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskConfig {
    /// Its folder.
    pub path: PathBuf,
    /// Bytes that it takes of the disk.
    pub bytes_max: u64,
}

/// `[rescore]`
#[derive(Debug, Clone, PartialEq)]
pub struct RescoreConfig {
    /// Whether the cross tower is loaded and re-scoring is served.
    pub enabled: bool,
    /// Most candidates of one request.
    pub candidates_max: usize,
    /// Most requests at once.
    pub requests_in_flight_max: usize,
    /// Time of a request that names none.
    pub deadline: Duration,
    /// Most time that a request may ask for.
    pub deadline_max: Duration,
    /// Weights of the blend.
    pub weights: WeightsConfig,
    /// The feature cache.
    pub cache: CacheConfig,
    /// Requests out of a topic; `None` takes them over HTTP only.
    pub topics: Option<RescoreTopics>,
}

/// `[rescore.topics]`, where it names a request topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RescoreTopics {
    /// Topic of the requests.
    pub request: String,
    /// Topic of the replies.
    pub reply: String,
    /// Further topics that a request may name.
    pub reply_to: Vec<String>,
    /// Consumer group.
    pub group: String,
    /// Most requests at once.
    pub requests_in_flight_max: usize,
}

impl RescoreTopics {
    /// What reads the requests: the brokers of `kafka`, a group and a topic of their own.
    pub fn source(&self, kafka: &KafkaConfig) -> KafkaConfig {
        let request =
            TopicConfig { name: self.request.clone(), kind: None, format: RecordFormat::Json, version: VersionSource::Offset };
        KafkaConfig { group: self.group.clone(), topics: vec![request], ..kafka.clone() }
    }
}

/// Where bundles are published: `rollout.registry` and `[rollout.s3]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryConfig {
    /// `file:///folder`, a folder, or `s3://bucket/prefix`.
    pub url: String,
    /// Address of the object storage; empty is Amazon's.
    pub endpoint: String,
    /// Region of the object storage.
    pub region: String,
    /// Access key.
    pub access_key: Option<Secret>,
    /// Secret key.
    pub secret_key: Option<Secret>,
    /// Whether the endpoint may be without TLS.
    pub allow_http: bool,
}

/// What a new generation is filled from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackfillSource {
    /// The topics, from their oldest record on.
    Topics,
    /// The live generation's points, then the topics from where it was.
    Collection,
}

/// `[rollout]`
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutConfig {
    /// Where bundles are published.
    pub registry: RegistryConfig,
    /// Time between two looks at the registry.
    pub poll: Duration,
    /// Folder of the verified bundles.
    pub bundles: PathBuf,
    /// minisign public key that releases must be signed with.
    pub public_key: Option<String>,
    /// Most memory of this process with a second bundle in it, bytes.
    pub memory_bytes_max: u64,
    /// How long a generation that is no longer live is kept up to date.
    pub keep: Duration,
    /// What a new generation is filled from.
    pub backfill: BackfillSource,
    /// Most items that may lose their picture or a part of their text by being filled from points.
    pub backfill_lost_max: u64,
    /// Records a second of a generation that is being filled beyond those of live traffic, while that is under way.
    pub records_per_second_busy: u32,
    /// The same otherwise; 0 is no limit.
    pub records_per_second_max: u32,
    /// Largest share by which its counts may differ from the live ones.
    pub count_difference_max: f64,
    /// Items of each kind that are looked for before it goes live.
    pub recall_items: u32,
    /// Least share of them that must be found.
    pub recall_min: f64,
    /// How long the comparisons may fail at the live head before it is refused.
    pub verify_max: Duration,
}

/// What a caller of the HTTP interface may do. The later includes the earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Search, re-score and embed.
    Read,
    /// Administer the daemon too.
    Write,
}

impl Role {
    /// The word in errors.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// One API key of `[http.auth.read_keys]` or `[http.auth.write_keys]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyConfig {
    /// Name of its holder, for logs and limits.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// The key, read from the file that the configuration names.
    pub key: Secret,
}

/// `[http.auth]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthConfig {
    /// Keys; with none everybody may call.
    pub keys: Vec<KeyConfig>,
    /// Whether metrics are answered without a key.
    pub metrics_open: bool,
}

/// `[http.rate]`, where it limits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateConfig {
    /// Requests a second of one caller, for long.
    pub requests_per_s: f64,
    /// Requests at once after a pause.
    pub burst: std::num::NonZeroU32,
    /// Most peer addresses that are remembered.
    pub callers_max: usize,
}

/// `[http.tls]`, where it names a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// The certificate and those that vouch for it, PEM.
    pub certificate_file: PathBuf,
    /// Its private key, PEM.
    pub key_file: PathBuf,
    /// Certificates that vouch for clients, PEM; `None` asks clients for none.
    pub client_ca_file: Option<PathBuf>,
}

/// `[http]`
#[derive(Debug, Clone, PartialEq)]
pub struct HttpConfig {
    /// Address to listen on.
    pub listen: std::net::SocketAddr,
    /// Largest request body, bytes.
    pub body_bytes_max: usize,
    /// Most requests at once.
    pub requests_in_flight_max: usize,
    /// Longest time for one request.
    pub timeout: Duration,
    /// Longest time for the headers of a request, and for its body, to arrive.
    pub read_timeout: Duration,
    /// How often one caller may ask; `None` where that is not limited.
    pub rate: Option<RateConfig>,
    /// Who may call.
    pub auth: AuthConfig,
    /// The certificate to serve with; `None` serves plain HTTP.
    pub tls: Option<TlsConfig>,
}

/// `[telemetry]`, where it names a collector.
#[derive(Debug, Clone, PartialEq)]
pub struct TelemetryConfig {
    /// gRPC address of the collector.
    pub otlp_endpoint: String,
    /// Share of the traces begun here that are recorded.
    pub sampling_ratio: f64,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// Form of the log.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,astromech=debug`.
    pub level: String,
}
