//! The harness's own client of the broker: makes topics, produces, reads whole topics, looks at committed offsets.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::join_all;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, FutureProducer, FutureRecord, Producer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::unique::unique;
use crate::wait::{block_on, wait_until};

/// Partitions of every topic of the tests.
pub const PARTITIONS: i32 = 4;
/// For one answer of the broker.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Group of the client that looks at watermarks; it never joins it.
const WATCHER: &str = "astromech-e2e-watcher";
/// One attempt at what is asked again: a broker may just have been killed.
const ATTEMPT: Duration = Duration::from_secs(5);
/// For a broker that was killed, to be back and to lead its partitions again.
const WATERMARKS_DEADLINE: Duration = Duration::from_secs(90);
/// For reading a whole topic.
const READ_TIMEOUT: Duration = Duration::from_mins(1);

/// The three topics of a daemon.
#[derive(Debug, Clone)]
pub struct Topics {
    /// Changes, in.
    pub changes: String,
    /// Results, out.
    pub results: String,
    /// Dead letters, out.
    pub dead_letters: String,
}

/// What is produced.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// Key; null where absent.
    pub key: Option<Vec<u8>>,
    /// Value; null where absent.
    pub value: Option<Vec<u8>>,
    /// Headers in order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Partition; by the key's hash where absent.
    pub partition: Option<i32>,
}

/// A record and where the broker put it (or where it was read).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// The record.
    pub record: Record,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
}

/// How far a group is in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Committed offset: that of the next record to read; 0 where nothing is committed.
    pub committed: i64,
    /// High watermark: the offset after the last record.
    pub high: i64,
}

/// The client.
pub struct KafkaClient {
    bootstrap: String,
    admin: AdminClient<DefaultClientContext>,
    producer: FutureProducer,
    /// Looks at watermarks: asked often, so it keeps its connections.
    watcher: Mutex<Arc<BaseConsumer>>,
    members: Mutex<BTreeMap<String, Arc<BaseConsumer>>>,
}

/// A transaction that is open; dropped, it stays so until the broker gives it up.
pub struct Transaction(BaseProducer);

impl Transaction {
    /// Commits it: a control marker follows in every partition.
    pub fn commit(self) {
        self.0.commit_transaction(TIMEOUT).expect("the broker commits");
    }

    /// Aborts it: its records stay in the log, and no consumer that reads what is committed receives them.
    pub fn abort(self) {
        self.0.abort_transaction(TIMEOUT).expect("the broker aborts");
    }
}

/// Hands one record to a producer; the partition and offset that it got.
pub(crate) fn deliver<'a>(
    producer: &FutureProducer,
    topic: &str,
    record: &'a Record,
    time_ms: Option<i64>,
) -> impl Future<Output = Result<(i32, i64), KafkaError>> + use<'a> {
    let mut future = FutureRecord::<[u8], [u8]>::to(topic);
    future.timestamp = time_ms;
    if let Some(key) = &record.key {
        future = future.key(key.as_slice());
    }
    if let Some(value) = &record.value {
        future = future.payload(value.as_slice());
    }
    if let Some(partition) = record.partition {
        future = future.partition(partition);
    }
    let headers = record
        .headers
        .iter()
        .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(value.as_slice()) }));
    if !record.headers.is_empty() {
        future = future.headers(headers);
    }
    let delivery = producer.send_result(future).map_err(|(error, _)| error);
    async move {
        let delivered = delivery?.await.map_err(|_| KafkaError::Canceled)?.map_err(|(error, _)| error)?;
        Ok((delivered.partition, delivered.offset))
    }
}

impl std::fmt::Debug for KafkaClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaClient").field("bootstrap", &self.bootstrap).finish_non_exhaustive()
    }
}

impl KafkaClient {
    /// A client of the broker at `bootstrap`.
    pub fn new(bootstrap: &str) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap).set("message.max.bytes", "16000000").set("linger.ms", "5");
        config.set("queue.buffering.max.kbytes", "524288").set("reconnect.backoff.max.ms", "1000");
        let admin = config.create().expect("an admin client is made");
        let producer = block_on(async { config.create() }).expect("a producer is made");
        let watcher = Mutex::new(Arc::new(consumer(bootstrap, WATCHER)));
        Self { bootstrap: bootstrap.to_owned(), admin, producer, watcher, members: Mutex::default() }
    }

    /// Three new topics for the test called `name`, of one replica.
    pub fn topics(&self, name: &str) -> Topics {
        self.replicated_topics(name, 1)
    }

    /// Three new topics for the test called `name`, of `replicas` replicas; the brokers' own settings say how many must be in step.
    pub fn replicated_topics(&self, name: &str, replicas: i32) -> Topics {
        self.make_topics(name, replicas, "CreateTime")
    }

    /// Three new topics for the test called `name`, whose records the broker stamps: those of one batch get one time.
    pub fn stamped_topics(&self, name: &str) -> Topics {
        self.make_topics(name, 1, "LogAppendTime")
    }

    fn make_topics(&self, name: &str, replicas: i32, times: &str) -> Topics {
        let topics = Topics {
            changes: unique(&format!("{name}.changes")),
            results: unique(&format!("{name}.results")),
            dead_letters: unique(&format!("{name}.dead-letters")),
        };
        for topic in [&topics.changes, &topics.results, &topics.dead_letters] {
            self.create(topic, replicas, times).unwrap_or_else(|error| panic!("topic {topic}: {error}"));
        }
        topics
    }

    fn create(&self, topic: &str, replicas: i32, times: &str) -> Result<(), String> {
        let new = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(replicas))
            .set("max.message.bytes", "16000000")
            .set("message.timestamp.type", times);
        let made = block_on(self.admin.create_topics([&new], &options())).expect("the broker answers");
        made.into_iter().try_for_each(|made| made.map(drop).map_err(|(_, error)| error.to_string()))
    }

    /// Deletes `topic` and makes it again, empty.
    pub fn make_again(&self, topic: &str) {
        for deleted in block_on(self.admin.delete_topics(&[topic], &options())).expect("the broker answers") {
            deleted.unwrap_or_else(|(topic, error)| panic!("topic {topic}: {error}"));
        }
        // The name is free once the deletion has reached every part of the broker.
        wait_until(&format!("{topic} is made again"), TIMEOUT, || self.create(topic, 1, "CreateTime"));
    }

    /// Whether the client that produces may know `count` partitions of `topic`.
    ///
    /// # Errors
    /// How many it knows.
    pub fn partitions(&self, topic: &str, count: usize) -> Result<(), String> {
        let metadata = self.producer.client().fetch_metadata(Some(topic), TIMEOUT).map_err(|error| error.to_string())?;
        let led = metadata
            .topics()
            .iter()
            .flat_map(rdkafka::metadata::MetadataTopic::partitions)
            .filter(|one| one.leader() >= 0)
            .count();
        if led == count { Ok(()) } else { Err(format!("{led} partitions")) }
    }

    /// Gives `topic` partitions until it has `count`.
    pub fn add_partitions(&self, topic: &str, count: usize) {
        let added = block_on(self.admin.create_partitions(&[NewPartitions::new(topic, count)], &options()));
        for added in added.expect("the broker answers") {
            added.unwrap_or_else(|(topic, error)| panic!("partitions of {topic}: {error}"));
        }
    }

    /// Produces `records` in order and waits until the broker has all.
    pub fn produce(&self, topic: &str, records: Vec<Record>) -> Vec<Sent> {
        self.produce_at(topic, records, None)
    }

    /// As [`KafkaClient::produce`], all with the time `time_ms`, milliseconds since 1970.
    pub fn produce_at(&self, topic: &str, records: Vec<Record>, time_ms: Option<i64>) -> Vec<Sent> {
        block_on(async {
            let deliveries: Vec<_> = records.iter().map(|record| self.send(topic, record, time_ms)).collect();
            let delivered = join_all(deliveries).await;
            let sent = records.into_iter().zip(delivered).map(|(record, (partition, offset))| Sent { record, partition, offset });
            sent.collect()
        })
    }

    /// Sends `records` in a transaction of its own; returns it open.
    pub fn transaction(&self, topic: &str, records: &[Record]) -> Transaction {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap).set("transactional.id", unique("transaction"));
        let producer: BaseProducer = config.create().expect("a producer is made");
        producer.init_transactions(TIMEOUT).expect("the broker knows transactions");
        producer.begin_transaction().expect("none is open");
        for record in records {
            let mut sent = BaseRecord::<[u8], [u8]>::to(topic);
            sent.key = record.key.as_deref();
            sent.payload = record.value.as_deref();
            sent.partition = record.partition;
            producer.send(sent).unwrap_or_else(|(error, _)| panic!("produce: {error}"));
        }
        producer.flush(TIMEOUT).expect("the broker has them");
        Transaction(producer)
    }

    fn send<'a>(&self, topic: &str, record: &'a Record, time_ms: Option<i64>) -> impl Future<Output = (i32, i64)> + use<'a> {
        let delivery = deliver(&self.producer, topic, record, time_ms);
        async move { delivery.await.unwrap_or_else(|error| panic!("produce: {error}")) }
    }

    /// Deletes every record of `topic`, as a retention time does.
    pub fn truncate(&self, topic: &str) {
        let mut ends = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            let (_, high) = self.watermarks(topic, partition);
            ends.add_partition_offset(topic, partition, Offset::Offset(high)).expect("an offset");
        }
        let deleted = block_on(self.admin.delete_records(&ends, &options()));
        deleted.expect("the broker deletes records");
        assert_eq!(self.count(topic), 0, "{topic} is empty");
    }

    /// Everything on `topic` now, in the order of partitions and offsets.
    pub fn read_all(&self, topic: &str) -> Vec<Sent> {
        let mut read = Vec::new();
        self.read(topic, |message| read.push(owned(message)));
        read.sort_by_key(|sent| (sent.partition, sent.offset));
        read
    }

    /// The time of every record on `topic`, milliseconds since 1970 UTC, in no order.
    pub fn times(&self, topic: &str) -> Vec<i64> {
        let mut times = Vec::new();
        self.read(topic, |message| times.push(message.timestamp().to_millis().expect("the broker stamps every record")));
        times
    }

    fn read(&self, topic: &str, mut take: impl FnMut(&BorrowedMessage<'_>)) {
        let consumer = self.consumer("astromech-e2e-reader");
        let mut assignment = TopicPartitionList::new();
        let mut open = BTreeMap::new();
        for partition in 0..PARTITIONS {
            let (low, high) = self.watermarks(topic, partition);
            if high > low {
                assignment.add_partition_offset(topic, partition, Offset::Offset(low)).expect("an offset");
                open.insert(partition, high);
            }
        }
        consumer.assign(&assignment).expect("an assignment");
        let began = Instant::now();
        while !open.is_empty() {
            assert!(began.elapsed() < READ_TIMEOUT, "reading {topic}: open partitions and their ends: {open:?}");
            // Errors here are passing ones (a connection that comes back): the deadline decides.
            let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else { continue };
            let Some(high) = open.get(&message.partition()).copied() else { continue };
            if message.offset() + 1 >= high {
                open.remove(&message.partition());
            }
            if message.offset() < high {
                take(&message);
            }
        }
    }

    /// How many records `topic` has now.
    pub fn count(&self, topic: &str) -> u64 {
        (0..PARTITIONS).map(|partition| self.watermarks(topic, partition)).map(|(low, high)| (high - low).cast_unsigned()).sum()
    }

    /// First offset and the offset after the last. A broker that has just come back needs a moment to lead its partitions again.
    fn watermarks(&self, topic: &str, partition: i32) -> (i64, i64) {
        wait_until(&format!("watermarks of {topic}"), WATERMARKS_DEADLINE, || self.ask_watermarks(topic, partition))
    }

    /// One attempt. A client that was told once by a broker on its way back that there is no such partition believes so for a quarter of an
    /// hour (librdkafka's metadata cache): the next attempt is a new one's.
    fn ask_watermarks(&self, topic: &str, partition: i32) -> Result<(i64, i64), String> {
        let watcher = Arc::clone(&self.watcher.lock().unwrap_or_else(PoisonError::into_inner));
        watcher.fetch_watermarks(topic, partition, ATTEMPT).map_err(|error| {
            *self.watcher.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(self.consumer(WATCHER));
            error.to_string()
        })
    }

    /// How far `group` is in each partition of `topic`.
    ///
    /// # Errors
    /// The broker did not answer.
    pub fn progress(&self, topic: &str, group: &str) -> Result<BTreeMap<i32, Progress>, String> {
        let consumer = self.member(group);
        let mut wanted = TopicPartitionList::new();
        wanted.add_partition_range(topic, 0, PARTITIONS - 1);
        let committed = consumer.committed_offsets(wanted, TIMEOUT).map_err(|e| e.to_string())?;
        let mut progress = BTreeMap::new();
        for partition in 0..PARTITIONS {
            let (_, high) = self.ask_watermarks(topic, partition)?;
            let element = committed.find_partition(topic, partition).ok_or("a partition is missing")?;
            let committed = if let Offset::Offset(offset) = element.offset() { offset } else { 0 };
            progress.insert(partition, Progress { committed, high });
        }
        Ok(progress)
    }

    /// Waits until `group` has committed everything on `topic`; `alive` is asked along the way and panics where waiting is vain.
    pub fn wait_lag_0(&self, topic: &str, group: &str, deadline: Duration, mut alive: impl FnMut()) {
        wait_until(&format!("lag 0 of {group} on {topic}"), deadline, || {
            alive();
            let progress = self.progress(topic, group)?;
            // Each by itself: a broker that comes back may show an old end, and one partition's surplus would hide another's lag.
            let done = progress.values().all(|p| p.committed == p.high);
            if done { Ok(()) } else { Err(format!("behind: {progress:?}")) }
        });
    }

    /// A client that asks about `group` and never joins it; kept, because it is asked often.
    fn member(&self, group: &str) -> Arc<BaseConsumer> {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(members.entry(group.to_owned()).or_insert_with(|| Arc::new(self.consumer(group))))
    }

    fn consumer(&self, group: &str) -> BaseConsumer {
        consumer(&self.bootstrap, group)
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(TIMEOUT))
}

fn consumer(bootstrap: &str, group: &str) -> BaseConsumer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("group.id", group).set("enable.auto.commit", "false");
    config
        .set("fetch.wait.max.ms", "50")
        .set("fetch.message.max.bytes", "16000000")
        .set("log_level", "0")
        .set("reconnect.backoff.max.ms", "1000");
    config.create().expect("a consumer is made")
}

fn owned(message: &impl Message) -> Sent {
    let headers = message.headers().map(|headers| {
        let each = headers.iter().map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec()));
        each.collect::<Vec<_>>()
    });
    let record = Record {
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.unwrap_or_default(),
        partition: None,
    };
    Sent { record, partition: message.partition(), offset: message.offset() }
}
