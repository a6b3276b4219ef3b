//! librdkafka's log.

use rdkafka::config::RDKafkaLogLevel;
use tracing::{debug, error, warn};

use astromech_vitals::WarnLimiter;

/// Lines that librdkafka logs, by what they are about.
static LINES: WarnLimiter = WarnLimiter::new();

/// librdkafka's own log lines, in ours.
pub fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => error!(facility, "{message}"),
        // librdkafka logs each failed connection as an error; it goes on trying.
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
            if let Some(repeated) = LINES.due(facility) {
                warn!(facility, repeated, "{message}");
            }
        }
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => debug!(facility, "{message}"),
    }
}
