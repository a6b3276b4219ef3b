//! For tests: librdkafka's own broker, which can be told to refuse one request. No real broker does that on command, and in a real cluster the
//! moment is a few milliseconds of an election.

use std::path::Path;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::consumer_config;
use astromech_config::{Config, KafkaConfig};

/// The one topic, of one partition.
pub const TOPIC: &str = "changes";
/// Long enough that every record of a test is under way before the first answer.
const ROUND_TRIP: Duration = Duration::from_millis(300);
const DEADLINE: Duration = Duration::from_secs(20);

/// The broker, and a configuration of clients that send every record in a request of its own.
pub struct Refusing {
    /// Where it listens, and the one topic.
    pub config: KafkaConfig,
    _cluster: MockCluster<'static, DefaultProducerContext>,
}

/// A broker that says to the first request that it does not lead the partition, and takes all others.
pub fn refusing() -> Refusing {
    let cluster = MockCluster::new(1).expect("a broker starts");
    cluster.create_topic(TOPIC, 1, 1).expect("a topic");
    cluster.broker_round_trip_time(-1, ROUND_TRIP).expect("a round trip");
    let not_leader = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION;
    cluster.request_errors(RDKafkaApiKey::Produce, &[not_leader]);
    let text = format!(
        "[bundle]\npath = \"b\"\n[index.embedded]\npath = \"i\"\n\
         [kafka]\nbrokers = \"{}\"\ngroup = \"g\"\nresults_topic = \"r\"\ndead_letter_topic = \"d\"\n\
         [kafka.properties]\n\"batch.num.messages\" = \"1\"\n[[kafka.topics]]\nname = \"{TOPIC}\"\n",
        cluster.bootstrap_servers()
    );
    let config = Config::parse(&text, Path::new("/"), &|_| None).expect("a configuration").kafka.expect("Kafka's part");
    Refusing { config, _cluster: cluster }
}

impl Refusing {
    /// The values in the topic in their order, once there are `count`.
    pub fn values(&self, count: i64) -> Vec<String> {
        let consumer: BaseConsumer = consumer_config(&self.config).create().expect("a consumer is made");
        let deadline = Instant::now() + DEADLINE;
        let ends = loop {
            let (low, high) = consumer.fetch_watermarks(TOPIC, 0, DEADLINE).expect("the broker answers");
            if high - low >= count {
                break low..high;
            }
            assert!(Instant::now() < deadline, "{count} records in {TOPIC}: {low}..{high}");
        };
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition_offset(TOPIC, 0, Offset::Offset(ends.start)).expect("an offset");
        consumer.assign(&assignment).expect("an assignment");
        let mut values = Vec::new();
        while (values.len() as i64) < ends.end - ends.start {
            assert!(Instant::now() < deadline, "{TOPIC} holds {ends:?}, read {values:?}");
            let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else { continue };
            values.push(String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned());
        }
        values
    }
}
