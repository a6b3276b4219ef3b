//! Clients that look at the brokers from outside: they join no group.

use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;

use super::client_config::consumer;
use super::log::log;
use astromech_config::KafkaConfig;

/// Longest wait for one answer of the brokers.
pub const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Bytes fetched of a partition to look at one record.
const FETCH_BYTES: &str = "65536";

/// Context of a client without a group's callbacks: what librdkafka logs, the cause of a connection that fails for one, goes into our log.
pub struct Outside;

impl ClientContext for Outside {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    /// They only wake whoever waits.
    fn stats_raw(&self, _: &[u8]) {}
}

impl ConsumerContext for Outside {}

/// The daemon's own properties, so that what reaches the brokers here reaches them there; with little fetched ahead and no statistics.
/// What is gone is read from the oldest that is left.
pub(super) fn outside(kafka: &KafkaConfig) -> ClientConfig {
    let mut config = consumer(kafka);
    config
        .set("auto.offset.reset", "earliest")
        .set("statistics.interval.ms", "0")
        .set("fetch.message.max.bytes", FETCH_BYTES)
        .set("queued.min.messages", "1");
    config
}
