//! `[telemetry]` and `[log]`.

use astromech_settings::kinds::{choice, float, text};
use astromech_settings::{Mistake, Value as _, settings};
use tracing_subscriber::EnvFilter;
use url::Url;

/// Form of the logs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people; coloured on a terminal.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

settings! {
    /// `[telemetry]`, where it names a collector.
    #[derive(Debug, Clone, PartialEq)]
    pub struct TelemetryConfig {
        /// gRPC address of the collector, for example "http://127.0.0.1:4317"; empty exports nothing.
        otlp_endpoint: String = "" => text().parsed(collector, String::new);
        /// Share of the traces that begin here and are recorded. A trace that comes with a record or a request is recorded where its
        /// sender records it.
        sampling_ratio: f64 = 1.0 => float(0.0, 1.0);
    }

    /// `[log]`
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct LogConfig {
        /// text for people, json for machines.
        format: LogFormat = "text" => choice(&[("text", LogFormat::Text), ("json", LogFormat::Json)]);
        /// error, warn, info, debug, trace, or a filter such as "info,astromech=debug".
        level: String = "info" => text().parsed(filter, String::new);
    }
}

fn collector(endpoint: String) -> Result<String, Mistake> {
    let usable = Url::parse(&endpoint).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if usable || endpoint.is_empty() {
        return Ok(endpoint);
    }
    Err(Mistake::new(format!("`{endpoint}` is no address of a collector"), "write \"http://127.0.0.1:4317\", or https for TLS"))
}

fn filter(level: String) -> Result<String, Mistake> {
    let checked = if level.trim().is_empty() {
        Err("it is empty".to_owned())
    } else {
        EnvFilter::try_new(&level).map(drop).map_err(|e| e.to_string())
    };
    match checked {
        Ok(()) => Ok(level),
        Err(problem) => {
            Err(Mistake::new(format!("`{level}` is no filter: {problem}"), "write error, warn, info, debug or trace"))
        }
    }
}
