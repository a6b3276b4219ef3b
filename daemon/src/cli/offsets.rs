//! `astromech offsets`: where the consumer groups of a configuration are, and setting one anew. Asks the brokers, not a daemon.

mod reset;
mod target;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::ConfigArg;
use super::failure::EXIT_OK;
use super::output;
use crate::config::{Config, KafkaConfig};
use crate::failure::{Usage, hinted};
use crate::generation::is_group_of;
use crate::source::groups::{Group, GroupView, Next, Positions};

const HINT_BROKERS: &str = "check kafka.brokers and kafka.properties; `astromech plan` names what is missing";

#[derive(Debug, Args)]
pub(super) struct OffsetsArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// For each partition: committed offset, end, lag, and the age of the record that is read next.
    Show(ShowArgs),
    /// Set a group's offsets anew. Refused while the group has members.
    Reset(reset::ResetArgs),
}

#[derive(Debug, Args)]
struct ShowArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Only this group.
    #[arg(long)]
    group: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command; returns the exit code.
///
/// # Errors
/// The configuration has no `[kafka]`, the brokers do not answer, or a reset is refused.
pub(super) async fn run(args: OffsetsArgs) -> Result<u8> {
    // Every question to the brokers blocks.
    let work = move || match args.what {
        What::Show(args) => show(&args),
        What::Reset(args) => reset::run(&args),
    };
    tokio::task::spawn_blocking(work).await.context("asking the brokers failed")?
}

/// One partition, as shown.
#[derive(Debug, Serialize)]
struct PartitionLine {
    topic: String,
    partition: i32,
    committed: Option<i64>,
    begin: i64,
    end: i64,
    lag: u64,
    /// Milliseconds since the record that is read next was made.
    age_ms: Option<u64>,
}

/// One group, as shown.
#[derive(Debug, Serialize)]
struct GroupLines {
    group: String,
    state: String,
    members: Vec<MemberLine>,
    lag: u64,
    partitions: Vec<PartitionLine>,
}

#[derive(Debug, Serialize)]
struct MemberLine {
    id: String,
    client: String,
    host: String,
    partitions: Vec<String>,
}

fn show(args: &ShowArgs) -> Result<u8> {
    let config = args.config.load()?;
    let sources = sources(&config)?;
    let found = groups(&sources, args.group.as_deref())?;
    let mut shown = Vec::with_capacity(found.len());
    for (kafka, group) in found {
        shown.push(lines(&kafka, group).with_context(|| hinted("the brokers were not asked", HINT_BROKERS))?);
    }
    if args.json {
        output::data(&serde_json::to_string_pretty(&shown).context("the groups are no JSON")?);
    } else {
        shown.iter().for_each(print);
    }
    Ok(EXIT_OK)
}

/// What reads from Kafka by this configuration: the changes, and re-scoring requests where they come from a topic.
fn sources(config: &Config) -> Result<Vec<KafkaConfig>> {
    let Some(kafka) = &config.kafka else {
        let hint = "add [kafka] and [[kafka.topics]]".to_owned();
        return Err(Usage { problem: "the configuration has no [kafka]".to_owned(), hint }.into());
    };
    let requests = config.rescore.topics.as_ref().map(|topics| topics.source(kafka));
    Ok(std::iter::once(kafka.clone()).chain(requests).collect())
}

/// The groups of `sources` that the brokers know, each with what it reads: the configured one, and one for each generation. A configured
/// group that the brokers do not know has committed nothing.
fn groups(sources: &[KafkaConfig], only: Option<&str>) -> Result<Vec<(KafkaConfig, Group)>> {
    let mut found: Vec<(KafkaConfig, Group)> = Vec::new();
    for (i, kafka) in sources.iter().enumerate() {
        let view = GroupView::new(kafka).context("kafka")?;
        let wanted =
            |name: &str| only.is_none_or(|only| only == name) && (name == kafka.group || is_group_of(&kafka.group, name));
        let known = view.groups(wanted).with_context(|| hinted("the groups were not listed", HINT_BROKERS))?;
        let unknown =
            known.is_empty() && only.is_none_or(|only| only == kafka.group || (i == 0 && is_group_of(&kafka.group, only)));
        let none = unknown.then(|| Group {
            name: only.unwrap_or(&kafka.group).to_owned(),
            state: "Unknown".to_owned(),
            members: Vec::new(),
        });
        found.extend(
            known.into_iter().chain(none).map(|group| (KafkaConfig { group: group.name.clone(), ..kafka.clone() }, group)),
        );
    }
    if found.is_empty() {
        let names: Vec<&str> = sources.iter().map(|kafka| kafka.group.as_str()).collect();
        let hint = format!("name {}, or a generation's group: {}-FINGERPRINT", names.join(" or "), names[0]);
        return Err(Usage { problem: format!("`{}` is no group of this configuration", only.unwrap_or_default()), hint }.into());
    }
    Ok(found)
}

fn positions(kafka: &KafkaConfig, view: &GroupView) -> Result<Positions> {
    let topics = kafka.topics.iter().map(|topic| topic.name.as_str());
    view.positions(topics).with_context(|| hinted("the offsets were not read", HINT_BROKERS))
}

fn lines(kafka: &KafkaConfig, group: Group) -> Result<GroupLines> {
    let view = GroupView::new(kafka)?;
    let positions = positions(kafka, &view)?;
    let next = view.next_records(&positions)?;
    let now = crate::clock::unix_ms();
    let partitions = positions.iter().map(|(key, position)| PartitionLine {
        topic: key.0.clone(),
        partition: key.1,
        committed: position.committed,
        begin: position.low,
        end: position.high,
        lag: if next.get(key) == Some(&Next::Nothing) { 0 } else { position.remaining() },
        age_ms: match next.get(key) {
            Some(Next::Made(time)) => Some(now.saturating_sub(*time as u64)),
            Some(Next::Untimed | Next::Nothing) | None => None,
        },
    });
    let partitions: Vec<PartitionLine> = partitions.collect();
    let member = |member: crate::source::groups::Member| MemberLine {
        id: member.id,
        client: member.client,
        host: member.host,
        partitions: member.partitions,
    };
    Ok(GroupLines {
        group: group.name,
        state: group.state,
        members: group.members.into_iter().map(member).collect(),
        lag: partitions.iter().map(|partition| partition.lag).sum(),
        partitions,
    })
}

fn print(group: &GroupLines) {
    let GroupLines { group, state, members, lag, partitions } = group;
    output::data(&format!("{group}  {state}  {} members  lag {lag}", members.len()));
    for member in members {
        output::data(&format!("  member {} at {}: {}", member.client, member.host, member.partitions.join(", ")));
    }
    let widest = partitions.iter().map(|line| line.topic.len()).max().unwrap_or_default().max("topic".len());
    output::data(&format!("  {:<widest$} {:>9} {:>12} {:>12} {:>10}  age", "topic", "partition", "committed", "end", "lag"));
    for line in partitions {
        let committed = line.committed.map_or_else(|| "-".to_owned(), |offset| offset.to_string());
        let age = line.age_ms.map_or_else(|| "-".to_owned(), |ms| format!("{:.1} s", ms as f64 / 1000.0));
        output::data(&format!(
            "  {:<widest$} {:>9} {committed:>12} {:>12} {:>10}  {age}",
            line.topic, line.partition, line.end, line.lag
        ));
    }
}
