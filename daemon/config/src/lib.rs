//! Configuration: one TOML file. Each key is defined once, as a field of its section in a [`astromech_settings::settings!`] table: type,
//! range, default, documentation and reader. The commented `configs/reference.toml` and the cells of docs/LIMITS.md are printed from it
//! ([`reference_toml`], [`fill_limits`]) and compared by tests. All errors are reported at once, each with line, field and fix.
//!
//! [`Config`] is what the program needs, every limit inside its range. What lies between keys, files that hold secrets and sections that
//! others need are checked in `resolve`.
//!
//! Absent here: no I/O but reading the one file and the secret files it names, and a look whether its folders are there; nothing is
//! connected to.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

mod allowed_host;
mod file;
mod http;
mod index;
mod kafka;
mod limits;
mod log;
mod media;
mod model;
mod rescore;
mod resolve;
mod rollout;
mod secret;

use std::path::Path;

pub use allowed_host::AllowedHost;
use astromech_schemas::RecordLimits;
use astromech_settings::{Context, Document, SectionDoc, in_order};
pub use astromech_settings::{SettingError as ConfigError, SettingErrors as ConfigErrors};
pub use http::{AuthConfig, HttpConfig, KeyConfig, RateConfig, Role, TlsConfig};
pub use index::{EngineConfig, IndexConfig, OnLost};
pub use kafka::{KafkaConfig, RecordFormat, ResultsConfig, SchemaRegistryConfig, TopicConfig, VersionSource};
pub use limits::PipelineConfig;
pub use log::{LogConfig, LogFormat, TelemetryConfig};
pub use media::MediaConfig;
pub use model::{BundleConfig, ProviderKind, RuntimeConfig, TowerLimits, TowersSection};
pub use rescore::{CacheConfig, DiskConfig, RescoreConfig, RescoreTopics, StatesForm, WeightsConfig};
pub use rollout::{BackfillSource, RegistryConfig, RolloutConfig};
pub use secret::Secret;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
const MINUTE_MS: u64 = 60_000;

/// Environment variables that the program itself reads; the configuration may name any others in `${…}`.
pub mod env {
    /// Path of ONNX Runtime's library, where the configuration names none.
    pub const ORT_DYLIB_PATH: &str = "ORT_DYLIB_PATH";
    /// Point of a roll at which a debug build dies, for tests; a release build does not read it.
    #[cfg(debug_assertions)]
    pub const KILL_AT: &str = "ASTROMECH_KILL_AT";
}

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

impl Config {
    /// Reads, checks and resolves the file at `path`. Relative paths in it are relative to its folder.
    ///
    /// # Errors
    /// The file can't be read, or is wrong: then every mistake at once.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        load(path, true)
    }

    /// As [`Config::load`], without a look at the folders it names: for what makes them.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_before_its_folders(path: &Path) -> Result<Self, ConfigErrors> {
        load(path, false)
    }

    /// As [`Config::load`], from text, with `env` to look up `${NAME}`, and without a look at the folders it names.
    ///
    /// # Errors
    /// Every mistake in `text`, in the order of its lines.
    pub fn parse(text: &str, folder: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Vec<ConfigError>> {
        read(text, folder, env, false)
    }
}

fn load(path: &Path, probe: bool) -> Result<Config, ConfigErrors> {
    let of = |errors| ConfigErrors { file: path.to_owned(), errors };
    let text = std::fs::read_to_string(path).map_err(|e| {
        let fix = "give the path of a TOML file that this user may read";
        of(vec![ConfigError::of_file(format!("can't be read: {e}"), fix)])
    })?;
    let folder = path.parent().unwrap_or(Path::new("."));
    read(&text, folder, &|name| std::env::var(name).ok(), probe).map_err(of)
}

fn read(text: &str, folder: &Path, env: &dyn Fn(&str) -> Option<String>, probe: bool) -> Result<Config, Vec<ConfigError>> {
    let (document, mut errors) = Document::parse(text);
    let context = Context { env: Some(env), folder, reference: "configs/reference.toml for every key" };
    let (file, at, wrong) = astromech_settings::read::<file::File>(&document, context);
    errors.extend(wrong);
    let config = resolve::resolve(file, &at, folder, &mut errors);
    if probe {
        resolve::probe(&config, &at, &mut errors);
    }
    in_order(config, errors)
}

/// Every section and its keys, in the order of the reference.
pub fn sections() -> Vec<SectionDoc> {
    astromech_settings::sections::<file::File>()
}

/// The commented reference: every section and key with its documentation, range and default. Required keys carry an example.
pub fn reference_toml() -> String {
    astromech_settings::reference_toml::<file::File>(
        "# Astromech: every key of the configuration, with its default. Printed from the tables of keys in daemon/config/src;\n\
         # a test holds the two together. A file needs only what it changes.\n\
         # Strings may hold ${NAME} and ${NAME:-default} from the environment; $$ stands for a dollar sign.\n\
         # `astromech check-config --config FILE` lists every mistake with its line and fix.\n",
    )
}

/// The rows of docs/LIMITS.md that are about keys, with default and range as the tables of keys have them.
///
/// # Errors
/// The row that names a key which is not there.
pub fn fill_limits(rows: &str) -> Result<String, String> {
    astromech_settings::fill_limits::<file::File>(rows)
}
