//! `astromech offsets reset`.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde::Serialize;

use super::super::ConfigArg;
use super::super::failure::EXIT_OK;
use super::super::output;
use super::target::{To, parse};
use super::{HINT_BROKERS, groups, positions, sources};
use crate::config::{KafkaConfig, VersionSource};
use crate::failure::{Usage, hinted};
use crate::source::groups::{Group, GroupView, Positions};

#[derive(Debug, Args)]
pub(super) struct ResetArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// earliest, latest, a time (RFC 3339, or milliseconds since 1970), or topic:partition=offset, which may be given several times.
    #[arg(long, required = true, value_parser = parse, value_name = "WHERE")]
    to: Vec<To>,
    /// The group, where there are several: one for each generation.
    #[arg(long)]
    group: Option<String>,
    /// Only this topic.
    #[arg(long)]
    topic: Option<String>,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What is done to one partition.
#[derive(Debug, Serialize)]
struct Move {
    topic: String,
    partition: i32,
    from: Option<i64>,
    to: i64,
    /// Records that are read once more.
    again: u64,
    /// Records that are never read.
    skipped: u64,
}

#[derive(Debug, Serialize)]
struct Reset {
    group: String,
    dry_run: bool,
    moves: Vec<Move>,
}

pub(super) fn run(args: &ResetArgs) -> Result<u8> {
    let config = args.config.load()?;
    let (kafka, group) = one_group(groups(&sources(&config)?, args.group.as_deref())?)?;
    let view = GroupView::new(&kafka)?;
    let mut positions = positions(&kafka, &view)?;
    if let Some(only) = &args.topic {
        positions.retain(|(topic, _), _| topic == only);
    }
    if positions.is_empty() {
        let problem = match &args.topic {
            Some(topic) => format!("group {} reads no topic `{topic}`, or it does not exist", kafka.group),
            None => "none of the topics exists".to_owned(),
        };
        return Err(Usage { problem, hint: "name one of [[kafka.topics]]".to_owned() }.into());
    }
    let offsets = wanted(&args.to, &positions, &view)?;
    let recreated = view.recreated(&positions).with_context(|| hinted("the topics were not compared", HINT_BROKERS))?;
    let moves = moves(&offsets, &positions);
    // A dry run tells it too: it is the first thing that would stop the reset.
    let active = refusal(&group);
    if !args.dry_run {
        if let Some(active) = active {
            bail!(
                anyhow::anyhow!(active).context(hinted(
                    "nothing was changed",
                    "stop every daemon of the group, wait until it is empty, and try again"
                ))
            );
        }
        let members = "a member joined meanwhile? nothing was changed: stop every daemon of the group and try again";
        view.commit(&offsets).with_context(|| hinted("the brokers did not take the offsets", members))?;
    } else if let Some(active) = active {
        output::note(&format!("would be refused now: {active}"));
    }
    let changes = config.kafka.iter().flat_map(|kafka| &kafka.topics);
    for topic in changes.filter(|topic| topic.version == VersionSource::Offset) {
        if recreated.keys().any(|(name, _)| *name == topic.name) {
            output::note(&format!(
                "topic {} was made again and its versions are offsets, which began anew: the index keeps the higher ones, and drops what \
                 comes as old, until it is given up (index.embedded.path, or the collections) and every topic is read from the start",
                topic.name
            ));
        }
    }
    say(&Reset { group: kafka.group, dry_run: args.dry_run, moves }, args.json)?;
    Ok(EXIT_OK)
}

/// The only group, or the one that was asked for.
fn one_group(mut found: Vec<(KafkaConfig, Group)>) -> Result<(KafkaConfig, Group)> {
    if found.len() > 1 {
        let names: Vec<&str> = found.iter().map(|(_, group)| group.name.as_str()).collect();
        let hint = format!("name one with --group: {}", names.join(", "));
        return Err(Usage { problem: "this configuration has several groups".to_owned(), hint }.into());
    }
    found.pop().context("no group")
}

/// Why a group can't be set: who is in it.
fn refusal(group: &Group) -> Option<String> {
    let members: Vec<String> = group
        .members
        .iter()
        .map(|m| format!("{} ({}) at {} reads {}", m.client, m.id, m.host, m.partitions.join(", ")))
        .collect();
    (!members.is_empty()).then(|| format!("group {} has {} active members: {}", group.name, members.len(), members.join("; ")))
}

fn wanted(to: &[To], positions: &Positions, view: &GroupView) -> Result<BTreeMap<(String, i32), i64>> {
    let mut offsets = BTreeMap::new();
    for to in to {
        match to {
            To::Everywhere(target) => {
                let found = view.resolve(positions, *target);
                offsets.extend(found.with_context(|| hinted("the offsets were not looked up", HINT_BROKERS))?);
            }
            To::Partition { topic, partition, offset } => {
                let key = (topic.clone(), *partition);
                let Some(position) = positions.get(&key) else {
                    let hint = "`astromech offsets show` lists the partitions".to_owned();
                    return Err(Usage { problem: format!("the group reads no partition {topic}:{partition}"), hint }.into());
                };
                if !(position.low..=position.high).contains(offset) {
                    let problem =
                        format!("{topic}:{partition}={offset}: the partition has offsets {} to {}", position.low, position.high);
                    return Err(Usage { problem, hint: "give an offset between them, both ends included".to_owned() }.into());
                }
                offsets.insert(key, *offset);
            }
        }
    }
    Ok(offsets)
}

fn moves(offsets: &BTreeMap<(String, i32), i64>, positions: &Positions) -> Vec<Move> {
    let of = |(key, to): (&(String, i32), &i64)| {
        let position = positions.get(key)?;
        let at = position.at();
        Some(Move {
            topic: key.0.clone(),
            partition: key.1,
            from: position.committed,
            to: *to,
            again: at.saturating_sub(*to).max(0) as u64,
            skipped: to.saturating_sub(at).max(0) as u64,
        })
    };
    offsets.iter().filter_map(of).collect()
}

fn say(reset: &Reset, json: bool) -> Result<()> {
    if json {
        output::data(&serde_json::to_string_pretty(reset).context("the moves are no JSON")?);
        return Ok(());
    }
    for one in &reset.moves {
        let from = one.from.map_or_else(|| "-".to_owned(), |offset| offset.to_string());
        let what = match (one.again, one.skipped) {
            (0, 0) => "nothing changes".to_owned(),
            (again, 0) => format!("{again} records are read again"),
            (_, skipped) => format!("{skipped} records are never read"),
        };
        output::data(&format!("{}:{}  {from} -> {}  {what}", one.topic, one.partition, one.to));
    }
    let sum = |of: fn(&Move) -> u64| reset.moves.iter().map(of).sum::<u64>();
    let (again, skipped) = (sum(|one| one.again), sum(|one| one.skipped));
    let done = if reset.dry_run { "would be set" } else { "is set" };
    output::data(&format!("group {} {done}: {again} records again, {skipped} never", reset.group));
    Ok(())
}
