//! Logs: one line an event on standard error, for people or for machines.

use std::io::IsTerminal as _;

use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

use super::json::JsonLines;
use crate::config::LogFormat;

/// A layer above the registry.
pub(super) type Boxed = Box<dyn Layer<Registry> + Send + Sync>;

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is no filter.
    #[error(
        "log.level: `{level}` is not a filter: {problem}; fix: use error, warn, info, debug or trace, or target=level pairs split by commas"
    )]
    Level {
        /// What was given.
        level: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The exporter of traces can't be made.
    #[error(
        "telemetry.otlp_endpoint: {0}; fix: write the gRPC address of an OpenTelemetry collector, for example http://127.0.0.1:4317"
    )]
    Exporter(String),
    /// Another subscriber is installed.
    #[error("logging is set up already: {0}")]
    Installed(String),
}

/// Sends events of `level` and above to standard error. `level` is a level or a filter such as `info,astromech::pipeline=debug`.
///
/// # Errors
/// `level` is no filter, or logging was set up before.
pub fn init_log(format: LogFormat, level: &str) -> Result<(), LogError> {
    init(format, level, None)
}

/// As [`init_log`], with `traces` beside the log.
pub(super) fn init(format: LogFormat, level: &str, traces: Option<Boxed>) -> Result<(), LogError> {
    let filter = parse_filter(level)?;
    let lines: Boxed = match format {
        LogFormat::Text => {
            fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal()).with_filter(filter).boxed()
        }
        LogFormat::Json => {
            let lines = fmt::layer().with_writer(std::io::stderr).fmt_fields(JsonFields::new()).event_format(JsonLines);
            lines.with_filter(filter).boxed()
        }
    };
    // Without traces there is one layer only: what it filters out costs one look at a constant.
    let layers: Vec<Boxed> = std::iter::once(lines).chain(traces).collect();
    tracing_subscriber::registry().with(layers).try_init().map_err(|e| LogError::Installed(e.to_string()))
}

fn parse_filter(level: &str) -> Result<EnvFilter, LogError> {
    // An empty filter would silence everything, errors too.
    if level.trim().is_empty() {
        return Err(LogError::Level { level: level.to_owned(), problem: "it is empty".to_owned() });
    }
    EnvFilter::try_new(level).map_err(|e| LogError::Level { level: level.to_owned(), problem: e.to_string() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_level_is_named_with_the_fix() {
        for level in ["", " ", "astromech=loud"] {
            let error = parse_filter(level).unwrap_err().to_string();
            assert!(error.starts_with("log.level: ") && error.contains("fix: "), "{error}");
        }
    }

    #[test]
    fn levels_and_filters_by_target_are_read() {
        for level in ["info", "DEBUG", "warn,astromech::pipeline=trace"] {
            assert!(parse_filter(level).is_ok(), "{level}");
        }
    }
}
