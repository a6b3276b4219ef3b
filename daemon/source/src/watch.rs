//! The thread that looks at the topics from outside, with a client of its own that joins no group: whether each is there, whether it has
//! new partitions, and whether it is still the one that was read (`mark`).
//!
//! Until a partition that was assigned is known to be the one that its group read, nothing of it is committed: a commit would take the mark
//! of the topic that was read away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tracing::{error, info, warn};

use super::assignment::Assignment;
use super::groups::{partitions_of, watermarks};
use super::mark::{ByPartition, Expected, Found, Mark, compare};
use super::metrics::SourceMetrics;
use super::outside::{ANSWER_MAX, Outside, outside};
use super::partition::{Partition, Standing};
use astromech_config::{KafkaConfig, VersionSource};
use astromech_vitals::{Condition, Meter, Readiness, WarnLimiter};

/// Between two looks at what is to be done.
const TICK: Duration = Duration::from_millis(50);
/// Between two looks at the brokers while a partition waits to be known.
const RETRY: Duration = Duration::from_secs(1);
/// Milliseconds between statistics of the client, which wake a wait for a record: librdkafka waits by the wall clock, and where that is set
/// back by days a wait would last as long, with nothing committed.
const WAKE: &str = "1000";
/// So long a partition must end before what was read of it, to be taken for another: a broker that comes back may show an old end.
const SETTLE: Duration = Duration::from_secs(10);
/// Looks without an answer after which a partition is taken for the one that was read: its record can't be read again, and what can't be read
/// must not hold the commits.
const UNANSWERED_MAX: u32 = 5;
/// Failed looks while brokers are down.
static UNSEEN: WarnLimiter = WarnLimiter::new();

/// What is wrong with the topics, for readiness.
#[derive(Debug, Default)]
pub(super) struct Trouble(Mutex<Option<String>>);

impl Trouble {
    /// In words; `None` where nothing is.
    pub(super) fn reason(&self) -> Option<String> {
        self.lock().clone()
    }

    fn set(&self, reason: Option<String>) {
        *self.lock() = reason;
    }

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Client = BaseConsumer<Outside>;

/// What is looked at, and what is remembered of it.
pub(super) struct Watch {
    parts: WatchParts,
    memory: Memory,
}

#[derive(Default)]
struct Memory {
    /// Partitions of each topic.
    seen: BTreeMap<String, BTreeSet<i32>>,
    /// Those that are new, and of which the group has read nothing yet.
    new: BTreeSet<(String, i32)>,
    /// Topics that are not there.
    absent: BTreeSet<String>,
    /// Partitions that end before what was read, and since when.
    shorter: ByPartition<Instant>,
    /// Looks without an answer.
    unanswered: ByPartition<u32>,
}

/// What a watch is made of, beside what it remembers.
pub(super) struct WatchParts {
    pub(super) kafka: KafkaConfig,
    pub(super) assignment: Arc<Assignment>,
    pub(super) metrics: Meter<SourceMetrics>,
    pub(super) readiness: Arc<Readiness>,
    pub(super) condition: Condition,
    pub(super) trouble: Arc<Trouble>,
    pub(super) ended: Arc<AtomicBool>,
}

impl Watch {
    pub(super) fn new(parts: WatchParts) -> Self {
        for topic in &parts.kafka.topics {
            parts.metrics.set_topic_recreated(&topic.name, false);
        }
        Self { parts, memory: Memory::default() }
    }

    /// Looks from time to time until the polling thread has ended.
    pub(super) fn run(mut self) {
        let mut client = None;
        let mut looked: Option<Instant> = None;
        let mut waited = false;
        while !self.parts.ended.load(Ordering::Acquire) {
            let waits = self.parts.assignment.all().iter().any(|partition| partition.standing() == Standing::Unchecked);
            let every = if waits || !self.memory.shorter.is_empty() { RETRY } else { self.parts.kafka.topics_refresh };
            // What was just assigned is looked at at once: nothing of it is committed before.
            if waits && !waited || looked.is_none_or(|looked| looked.elapsed() >= every) {
                (looked, waited) = (Some(Instant::now()), waits);
                match self.look(client.take()) {
                    Ok(kept) => client = Some(kept),
                    // The client is given up: librdkafka may remember for a quarter of an hour what a broker on its way back said once.
                    Err(error) => {
                        if let Some(repeated) = UNSEEN.due(&error.to_string()) {
                            warn!(%error, repeated, "the topics were not looked at; it is tried again");
                        }
                    }
                }
            }
            std::thread::sleep(TICK);
        }
    }

    fn look(&mut self, client: Option<Client>) -> Result<Client, KafkaError> {
        let client = match client {
            Some(client) => client,
            None => outside(&self.parts.kafka).set("statistics.interval.ms", WAKE).create_with_context(Outside)?,
        };
        self.topics(&client)?;
        self.new_partitions(&client)?;
        self.partitions(&client)?;
        self.tell();
        self.stopped_lag(&client)?;
        Ok(client)
    }

    /// Whether every topic is there, and with which partitions.
    fn topics(&mut self, client: &Client) -> Result<(), KafkaError> {
        for topic in &self.parts.kafka.topics {
            let name = &topic.name;
            let Some(numbers) = partitions_of(client, name)? else {
                self.memory.absent.insert(name.clone());
                continue;
            };
            if self.memory.absent.remove(name) && self.memory.seen.contains_key(name) {
                warn!(
                    topic = name,
                    "the topic was made again; what was committed in it went with it, and it is read from the start"
                );
            }
            let numbers = BTreeSet::from_iter(numbers);
            let before = self.memory.seen.insert(name.clone(), numbers.clone());
            let new: Vec<i32> = before.map_or_else(Vec::new, |before| numbers.difference(&before).copied().collect());
            if !new.is_empty() {
                info!(topic = name, partitions = ?new, "the topic has new partitions");
            }
            self.memory.new.extend(new.into_iter().map(|number| (name.clone(), number)));
        }
        Ok(())
    }

    /// New partitions belong to nobody until the group has met: their records are a lag all the same.
    fn new_partitions(&mut self, client: &Client) -> Result<(), KafkaError> {
        let is_ours = |(topic, number): &(String, i32)| self.parts.assignment.get(topic, *number).is_some();
        self.memory.new.retain(|key| !is_ours(key));
        if self.memory.new.is_empty() {
            return Ok(());
        }
        let mut asked = TopicPartitionList::new();
        for (topic, number) in &self.memory.new {
            asked.add_partition(topic, *number);
        }
        for element in client.committed_offsets(asked, ANSWER_MAX)?.elements() {
            let (topic, number) = (element.topic(), element.partition());
            if matches!(element.offset(), Offset::Offset(_)) {
                // Another member reads it: its lag is that one's to report.
                self.parts.metrics.forget_partition(topic, number);
                self.memory.new.remove(&(topic.to_owned(), number));
            } else {
                let (low, high) = watermarks(client, topic, number)?;
                self.parts.metrics.set_partition_lag(topic, number, high.saturating_sub(low));
            }
        }
        Ok(())
    }

    /// Whether the partitions that are ours are those that were read.
    fn partitions(&mut self, client: &Client) -> Result<(), KafkaError> {
        let there = |partition: &Arc<Partition>| !self.memory.absent.contains(&**partition.topic());
        let partitions: Vec<_> = self.parts.assignment.all().into_iter().filter(there).collect();
        let committed = committed(client, &partitions)?;
        // Taken before the look: what is read meanwhile is not what was looked at.
        let mut expected = ByPartition::new();
        let mut looked: Vec<(Arc<Partition>, Option<Mark>)> = Vec::new();
        for partition in partitions {
            let key = (partition.topic().to_string(), partition.number());
            let expect = match partition.standing() {
                Standing::Stopped => continue,
                Standing::Unchecked => committed.get(&key).copied().unwrap_or(Expected { read_to: 0, mark: None }),
                Standing::Known => {
                    let Some(mark) = partition.mark() else { continue };
                    Expected { read_to: mark.offset + 1, mark: Some(mark) }
                }
            };
            let fresh = partition.fresh();
            expected.insert(key, expect);
            looked.push((partition, fresh));
        }
        let found = compare(client, &expected)?;
        for (partition, fresh) in looked {
            let key = (partition.topic().to_string(), partition.number());
            let held = expected.get(&key).and_then(|expected| expected.mark);
            self.judge(&partition, key.clone(), found.get(&key), fresh.or(held));
        }
        Ok(())
    }

    fn judge(&mut self, partition: &Arc<Partition>, key: (String, i32), found: Option<&Found>, mark: Option<Mark>) {
        let Some(found) = found else {
            let times = self.memory.unanswered.entry(key).or_default();
            *times += 1;
            if *times == UNANSWERED_MAX && partition.standing() == Standing::Unchecked {
                let (topic, number) = (partition.topic(), partition.number());
                warn!(%topic, partition = number, "no record tells whether the topic was made again; it is taken for the one that was read");
                partition.recognise(mark);
            }
            return;
        };
        self.memory.unanswered.remove(&key);
        if !matches!(found, Found::Shorter(_)) {
            self.memory.shorter.remove(&key);
        }
        match found {
            Found::Same => partition.recognise(mark),
            Found::Other(how) => self.stop(partition, how),
            Found::Shorter(how) => {
                let since = *self.memory.shorter.entry(key.clone()).or_insert_with(Instant::now);
                if since.elapsed() >= SETTLE {
                    self.memory.shorter.remove(&key);
                    self.stop(partition, how);
                }
            }
        }
    }

    /// Nothing of the topic is read, written or committed any more.
    fn stop(&self, found: &Partition, how: &str) {
        let topic = found.topic();
        let changes = self.parts.condition == Condition::Kafka;
        let offsets =
            changes && self.parts.kafka.topics.iter().any(|one| *one.name == **topic && one.version == VersionSource::Offset);
        let reason = format!(
            "topic {topic} was deleted and made again since group {} read it: of partition {}, {how}; nothing of it is read; fix: stop \
             every daemon of the group, run `astromech offsets reset --topic {topic} --to earliest`, and start again{}",
            self.parts.kafka.group,
            found.number(),
            if offsets { OFFSETS_BEGAN_ANEW } else { "" }
        );
        error!(%topic, partition = found.number(), "{reason}");
        self.parts.metrics.set_topic_recreated(topic, true);
        for partition in self.parts.assignment.all().iter().filter(|partition| partition.topic() == topic) {
            partition.stop(&reason);
        }
    }

    /// All that lies in a partition that is stopped is left.
    fn stopped_lag(&self, client: &Client) -> Result<(), KafkaError> {
        for partition in self.parts.assignment.all().iter().filter(|partition| partition.standing() == Standing::Stopped) {
            let (low, high) = watermarks(client, partition.topic(), partition.number())?;
            self.parts.metrics.set_partition_lag(partition.topic(), partition.number(), high.saturating_sub(low));
        }
        Ok(())
    }

    /// Into readiness; what is told from time to time is composed there.
    fn tell(&self) {
        let absent = self.memory.absent.iter().map(|topic| format!("topic {topic} does not exist; create it"));
        let stopped: BTreeSet<Arc<str>> =
            self.parts.assignment.all().iter().filter_map(|partition| partition.stopped()).collect();
        let reasons: Vec<String> = stopped.iter().map(ToString::to_string).chain(absent).collect();
        let reason = (!reasons.is_empty()).then(|| reasons.join("; "));
        if let Some(reason) = &reason
            && !self.parts.ended.load(Ordering::Acquire)
        {
            self.parts.readiness.set_missing(self.parts.condition, reason);
        }
        self.parts.trouble.set(reason);
    }
}

/// What a topic whose versions are offsets needs beside its offsets, once it was made again.
pub(super) const OFFSETS_BEGAN_ANEW: &str = "; its versions are offsets, which began anew, and the index keeps the higher ones: give the index \
                                              up too, and every topic is read from the start";

/// What the group has committed in those that are not known yet.
fn committed(client: &Client, partitions: &[Arc<Partition>]) -> Result<ByPartition<Expected>, KafkaError> {
    let mut asked = TopicPartitionList::new();
    for partition in partitions.iter().filter(|partition| partition.standing() == Standing::Unchecked) {
        asked.add_partition(partition.topic(), partition.number());
    }
    if asked.count() == 0 {
        return Ok(ByPartition::new());
    }
    let committed = client.committed_offsets(asked, ANSWER_MAX)?;
    let each = committed.elements().into_iter().filter_map(|element| {
        let Offset::Offset(at) = element.offset() else { return None };
        let mark: Option<Mark> = element.metadata().parse().ok();
        let read_to = mark.map_or(at, |mark| at.max(mark.offset + 1));
        Some(((element.topic().to_owned(), element.partition()), Expected { read_to, mark }))
    });
    Ok(each.collect())
}
