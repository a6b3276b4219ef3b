//! Configuration: one TOML file. Read in two steps, so that a mistake is found before anything is touched:
//! [`raw`] is the file as written, each value with its line; [`Config`] is what the program needs, every limit inside its range.
//!
//! [`keys::KEYS`] is the one table of keys: types, ranges, defaults and documentation. The commented `configs/reference.toml` is printed
//! from it ([`reference_toml`]) and compared by a test. All errors are reported at once, each with line, field and fix.
//!
//! Absent here: no I/O but reading the one file and the secret files it names, and a look whether its folders are there; nothing is
//! connected to.

mod allowed_host;
mod error;
pub mod interpolate;
mod kafka;
pub mod keys;
pub mod raw;
mod reference;
mod resolve;
mod schema_registry;
mod types;

use std::path::Path;

pub use allowed_host::AllowedHost;
pub use error::{ConfigError, ConfigErrors};
pub use kafka::{KafkaConfig, ResultsConfig, TopicConfig, VersionSource};
pub use reference::reference_toml;
pub use schema_registry::{RecordFormat, SchemaRegistryConfig};
pub use types::{
    AuthConfig, BackfillSource, BundleConfig, CacheConfig, Config, DiskConfig, EngineConfig, HttpConfig, IndexConfig, KeyConfig,
    LogConfig, MediaConfig, PipelineConfig, ProviderKind, RateConfig, RegistryConfig, RescoreConfig, RescoreTopics, Role,
    RolloutConfig, RuntimeConfig, Secret, StatesForm, TelemetryConfig, TlsConfig, TowerLimits, TowersSection, WeightsConfig,
};

/// Environment variables that the program itself reads; the configuration may name any others in `${…}`.
pub mod env {
    /// Path of ONNX Runtime's library, where the configuration names none.
    pub const ORT_DYLIB_PATH: &str = "ORT_DYLIB_PATH";
    /// Point of a roll at which a debug build dies, for tests; a release build does not read it.
    #[cfg(debug_assertions)]
    pub const KILL_AT: &str = "ASTROMECH_KILL_AT";
}

impl Config {
    /// Reads, checks and resolves the file at `path`. Relative paths in it are relative to its folder.
    ///
    /// # Errors
    /// The file can't be read, or is wrong: then every mistake at once.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let text = std::fs::read_to_string(path).map_err(|e| {
            ConfigErrors::one(
                path,
                ConfigError::of_file(format!("can't be read: {e}"), "give the path of a TOML file that this user may read"),
            )
        })?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let (raw, mut errors) = raw::RawConfig::parse(&text, &|name| std::env::var(name).ok());
        let config = resolve::resolve(&raw, folder, &mut errors);
        resolve::probe(&raw, &config, &mut errors);
        in_order(config, errors).map_err(|errors| ConfigErrors { file: path.to_owned(), errors })
    }

    /// As [`Config::load`], from text, with `env` to look up `${NAME}`, and without a look at the folders it names.
    ///
    /// # Errors
    /// Every mistake in `text`, in the order of its lines.
    pub fn parse(text: &str, folder: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Vec<ConfigError>> {
        let (raw, mut errors) = raw::RawConfig::parse(text, env);
        let config = resolve::resolve(&raw, folder, &mut errors);
        in_order(config, errors)
    }
}

fn in_order(config: Config, mut errors: Vec<ConfigError>) -> Result<Config, Vec<ConfigError>> {
    if errors.is_empty() {
        return Ok(config);
    }
    errors.sort_by(|a, b| a.line.cmp(&b.line).then_with(|| a.field.cmp(&b.field)));
    Err(errors)
}
