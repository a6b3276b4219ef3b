//! What is read: the offsets of every partition, fixed at the start of the command and kept in a file.

use std::path::Path;

use rdkafka::consumer::BaseConsumer;
use serde::{Deserialize, Serialize};

use super::broker::{consumer, partitions, resolve, watermarks};
use super::config::{Bound, BrokerConfig, CollectConfig};
use super::error::CollectError;
use super::manifest::SnapshotManifest;
use super::window::{PartitionWindow, Role, TopicWindow};
use crate::files::{file_error, write_atomically};
use crate::stop::StopFlag;

const PLAN_FILE: &str = "plan.json";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Plan {
    pub config_sha256: String,
    pub topics: Vec<TopicWindow>,
}

/// One partition of a plan, numbered over all topics.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    pub number: u32,
    pub topic: &'a str,
    pub role: Role,
    pub window: PartitionWindow,
}

impl Plan {
    /// The plan that lies in `work`, or a new one, written there before it is used.
    pub(super) fn open(config: &CollectConfig, digest: &str, work: &Path, stop: &StopFlag) -> Result<Self, CollectError> {
        let path = work.join(PLAN_FILE);
        if path.is_file() {
            let bytes = std::fs::read(&path).map_err(file_error(&path))?;
            let plan: Self = serde_json::from_slice(&bytes).map_err(|error| CollectError::Damaged {
                path: path.clone(),
                message: error.to_string(),
                fix: "remove its folder and collect anew",
            })?;
            if plan.config_sha256 != digest {
                return Err(CollectError::OtherWork { path: work.to_owned() });
            }
            tracing::info!("going on with what was begun");
            return Ok(plan);
        }
        let plan = Self { config_sha256: digest.to_owned(), topics: windows(config, stop)? };
        let bytes = serde_json::to_vec_pretty(&plan).map_err(std::io::Error::other).map_err(file_error(&path))?;
        write_atomically(&path, |at| std::fs::write(at, &bytes)).map_err(file_error(&path))?;
        Ok(plan)
    }

    /// Every partition, numbered.
    pub(super) fn sources(&self) -> impl Iterator<Item = Source<'_>> {
        let each = self.topics.iter().flat_map(|topic| topic.partitions.iter().map(move |&window| (topic, window)));
        each.zip(0..).map(|((topic, window), number)| Source { number, topic: &topic.topic, role: topic.role, window })
    }
}

fn windows(config: &CollectConfig, stop: &StopFlag) -> Result<Vec<TopicWindow>, CollectError> {
    let consumer = consumer(&config.broker)?;
    let mut windows = Vec::new();
    for topic in &config.items {
        windows.push(window(&consumer, &topic.topic, Role::Items, &config.from, &config.to)?);
    }
    if let Some(clicks) = &config.clicks {
        let from = clicks.from.as_ref().unwrap_or(&config.from);
        windows.push(window(&consumer, &clicks.topic, Role::Clicks, from, &config.to)?);
    }
    if stop.is_set() { Err(CollectError::Stopped) } else { Ok(windows) }
}

fn window(consumer: &BaseConsumer, topic: &str, role: Role, from: &Bound, to: &Bound) -> Result<TopicWindow, CollectError> {
    let earlier = |bound: &Bound| match bound {
        Bound::Offsets(path) => SnapshotManifest::read(path).map(|manifest| manifest.topics),
        _ => Ok(Vec::new()),
    };
    let (from_windows, to_windows) = (earlier(from)?, earlier(to)?);
    let mut found = Vec::new();
    for partition in partitions(consumer, topic)? {
        let ends = watermarks(consumer, topic, partition)?;
        let first = resolve(consumer, (topic, partition), ends, from, &from_windows)?;
        let end = resolve(consumer, (topic, partition), ends, to, &to_windows)?;
        found.push(PartitionWindow { partition, from: first, to: end.max(first) });
    }
    Ok(TopicWindow { topic: topic.to_owned(), role, partitions: found })
}

/// Records that the topics of a configuration have now beyond where `earlier` ended, by offsets: compacted ones and markers of
/// transactions count too.
///
/// # Errors
/// A topic is not there, or the broker doesn't answer.
pub fn new_records(broker: &BrokerConfig, config: &CollectConfig, earlier: &[TopicWindow]) -> Result<u64, CollectError> {
    let consumer = consumer(broker)?;
    let mut records = 0;
    let topics = config.items.iter().map(|topic| &topic.topic).chain(config.clicks.as_ref().map(|topic| &topic.topic));
    for topic in topics {
        for partition in partitions(&consumer, topic)? {
            let (low, high) = watermarks(&consumer, topic, partition)?;
            let known = earlier.iter().filter(|window| &window.topic == topic).flat_map(|window| &window.partitions);
            let seen = known.into_iter().find(|window| window.partition == partition).map_or(low, |window| window.to);
            records += u64::try_from(high - seen.clamp(low, high)).unwrap_or(0);
        }
    }
    Ok(records)
}
