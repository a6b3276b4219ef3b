//! Logs: one line an event on standard error, for people or for machines.

use std::io::IsTerminal as _;

use serde::Deserialize;
use tracing_subscriber::EnvFilter;

/// Form of the logs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people; coloured on a terminal.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

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
    /// Another subscriber is installed.
    #[error("logging is set up already: {0}")]
    Installed(String),
}

/// Sends events of `level` and above to standard error. `level` is a level or a filter such as `info,astromech::pipeline=debug`.
///
/// # Errors
/// `level` is no filter, or logging was set up before.
pub fn init_log(format: LogFormat, level: &str) -> Result<(), LogError> {
    let filter = parse_filter(level)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let installed = match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
    };
    installed.map_err(|e| LogError::Installed(e.to_string()))
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
