//! librdkafka's properties: those the promises rest on, then the user's.

use rdkafka::ClientConfig;

use crate::config::KafkaConfig;

/// Prefetched records, kibibytes: the consumer's queue inside librdkafka.
const PREFETCH_KIB_MAX: u32 = 65_536;
/// Largest record that a producer sends, bytes: the largest inline picture in base64 with room for headers.
const MESSAGE_BYTES_MAX: u32 = 64 * 1024 * 1024;
/// Records that wait in a producer, kibibytes.
const PRODUCER_QUEUE_KIB_MAX: u32 = 262_144;
/// librdkafka's own default for the longest time between two polls; raised where a drain may take longer.
const POLL_INTERVAL_MS: u128 = 300_000;

/// Properties of the consumer.
pub fn consumer(kafka: &KafkaConfig) -> ClientConfig {
    let session_ms = kafka.session_timeout.as_millis();
    let mut config = common(kafka);
    config
        .set("group.id", &kafka.group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("isolation.level", "read_committed")
        .set("session.timeout.ms", session_ms.to_string())
        .set("max.poll.interval.ms", POLL_INTERVAL_MS.max(session_ms + kafka.drain_timeout.as_millis()).to_string())
        .set("queued.max.messages.kbytes", PREFETCH_KIB_MAX.to_string())
        // Prefer a deep queue of small records, and ask again soon after it was full: the default waits a second.
        .set("fetch.queue.backoff.ms", "50")
        .set("statistics.interval.ms", "1000");
    set_default(&mut config, "auto.offset.reset", "earliest");
    set_default(&mut config, "heartbeat.interval.ms", &(session_ms / 5).clamp(100, 3000).to_string());
    config
}

/// Properties of the producers.
pub fn producer(kafka: &KafkaConfig) -> ClientConfig {
    let mut config = common(kafka);
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("queue.buffering.max.kbytes", PRODUCER_QUEUE_KIB_MAX.to_string());
    set_default(&mut config, "linger.ms", "5");
    set_default(&mut config, "compression.type", "lz4");
    set_default(&mut config, "message.max.bytes", &MESSAGE_BYTES_MAX.to_string());
    config
}

fn common(kafka: &KafkaConfig) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (name, value) in &kafka.properties {
        config.set(name, value);
    }
    for (name, value) in &kafka.secret_properties {
        config.set(name, value.reveal());
    }
    config.set("bootstrap.servers", &kafka.brokers);
    set_default(&mut config, "client.id", "astromech");
    set_default(&mut config, "reconnect.backoff.max.ms", "2000");
    config
}

fn set_default(config: &mut ClientConfig, name: &str, value: &str) {
    if config.get(name).is_none() {
        config.set(name, value);
    }
}
