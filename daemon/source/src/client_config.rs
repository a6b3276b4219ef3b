//! librdkafka's properties: those the promises rest on, then the user's.

use rdkafka::ClientConfig;
use rdkafka::producer::future_producer::Delivery;

use astromech_config::KafkaConfig;

/// Prefetched records, kibibytes: the consumer's queue inside librdkafka.
const PREFETCH_KIB_MAX: u32 = 65_536;
/// Largest record that a producer sends, bytes: the largest inline picture in base64 with room for headers.
const MESSAGE_BYTES_MAX: u32 = 64 * 1024 * 1024;
/// Records that wait in a producer, kibibytes.
const PRODUCER_QUEUE_KIB_MAX: u32 = 262_144;
/// librdkafka's own default for the longest time between two polls; raised where a drain may take longer.
const POLL_INTERVAL_MS: u128 = 300_000;

/// What only consumers have (librdkafka's CONFIGURATION.md, `C`): a producer would warn of each.
const CONSUMER_ONLY: &[&str] = &[
    "auto.offset.reset",
    "check.crcs",
    "coordinator.query.interval.ms",
    "fetch.error.backoff.ms",
    "fetch.max.bytes",
    "fetch.message.max.bytes",
    "fetch.min.bytes",
    "fetch.queue.backoff.ms",
    "fetch.wait.max.ms",
    "group.instance.id",
    "heartbeat.interval.ms",
    "isolation.level",
    "max.partition.fetch.bytes",
    "max.poll.interval.ms",
    "queued.max.messages.kbytes",
    "queued.min.messages",
];
/// What only producers have (`P`).
const PRODUCER_ONLY: &[&str] = &[
    "batch.num.messages",
    "batch.size",
    "compression.codec",
    "compression.level",
    "compression.type",
    "delivery.timeout.ms",
    "linger.ms",
    "message.send.max.retries",
    "message.timeout.ms",
    "partitioner",
    "queue.buffering.backpressure.threshold",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "queue.buffering.max.ms",
    "queuing.strategy",
    "request.timeout.ms",
    "retries",
    "sticky.partitioning.linger.ms",
];

/// Properties of the consumer.
pub fn consumer(kafka: &KafkaConfig) -> ClientConfig {
    let session_ms = kafka.session_timeout.as_millis();
    let mut config = common(kafka, PRODUCER_ONLY);
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
    set_default(&mut config, "topic.metadata.refresh.interval.ms", &kafka.topics_refresh.as_millis().to_string());
    set_default(&mut config, "heartbeat.interval.ms", &(session_ms / 5).clamp(100, 3000).to_string());
    config
}

/// Properties of the producers.
pub fn producer(kafka: &KafkaConfig) -> ClientConfig {
    let mut config = common(kafka, CONSUMER_ONLY);
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("queue.buffering.max.kbytes", PRODUCER_QUEUE_KIB_MAX.to_string());
    set_default(&mut config, "linger.ms", "5");
    set_default(&mut config, "compression.type", "lz4");
    set_default(&mut config, "message.max.bytes", &MESSAGE_BYTES_MAX.to_string());
    config
}

/// Whether the broker itself said that it has the record.
///
/// librdkafka 2.12 reports a record as delivered, without an offset, as soon as a later request to its partition is accepted: it trusts the
/// broker to refuse a gap in an idempotent producer's sequence. A leader that knows nothing of the producer yet (the producer is new, or the
/// leader is, and nothing of it was replicated) can see no gap. So a request that was refused, as by a broker that did not lead yet, and that
/// had others under way behind it, may be reported as delivered and lie nowhere.
pub const fn is_confirmed(delivery: &Delivery) -> bool {
    delivery.offset >= 0
}

/// The user's properties but `others`, which are not of this client's kind.
fn common(kafka: &KafkaConfig, others: &[&str]) -> ClientConfig {
    let mut config = ClientConfig::new();
    let secret = kafka.secret_properties.iter().map(|(name, value)| (name, value.reveal()));
    let all = kafka.properties.iter().map(|(name, value)| (name, value.as_str())).chain(secret);
    for (name, value) in all.filter(|(name, _)| !others.contains(&name.as_str())) {
        config.set(name, value);
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::path::Path;

    use super::*;
    use astromech_config::Config;

    #[test]
    fn each_client_gets_the_users_properties_that_are_of_its_kind() {
        let text = "[bundle]\npath = \"b\"\n[index.embedded]\npath = \"i\"\n\
                    [kafka]\nbrokers = \"b:1\"\ngroup = \"g\"\nresults_topic = \"r\"\ndead_letter_topic = \"d\"\n\
                    [kafka.properties]\n\"heartbeat.interval.ms\" = \"500\"\n\"linger.ms\" = \"7\"\n\"client.rack\" = \"one\"\n\
                    [[kafka.topics]]\nname = \"t\"\n";
        let kafka = Config::parse(text, Path::new("/"), &|_| None).unwrap().kafka.unwrap();
        let (consumer, producer) = (consumer(&kafka), producer(&kafka));
        let values = |name| (consumer.get(name), producer.get(name));
        assert_eq!(values("heartbeat.interval.ms"), (Some("500"), None));
        assert_eq!(values("linger.ms"), (None, Some("7")));
        assert_eq!(values("client.rack"), (Some("one"), Some("one")));
    }
}
