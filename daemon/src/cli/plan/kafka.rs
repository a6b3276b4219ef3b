//! Topics and groups, as a start would find them.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

use crate::config::{Config, KafkaConfig, TopicConfig, VersionSource};
use crate::failure::hinted;
use crate::index::{Finding, Verdict};
use crate::source::groups::{GroupView, Position, Positions};

const HINT: &str = "are the brokers up? check kafka.brokers and kafka.properties";

/// What is found of `config`; `group` is the live generation's, where there are generations. Blocks.
///
/// # Errors
/// The brokers do not answer.
pub(super) fn survey(config: &Config, group: Option<String>) -> Result<Vec<Finding>> {
    let Some(kafka) = &config.kafka else { return Ok(Vec::new()) };
    let kafka = KafkaConfig { group: group.unwrap_or_else(|| kafka.group.clone()), ..kafka.clone() };
    let unanswered = || hinted("kafka was not looked at", HINT);
    let mut findings = of(&kafka, &[&kafka.results_topic, &kafka.dead_letter_topic]).with_context(unanswered)?;
    findings.extend(kafka.topics.iter().filter(|topic| topic.version == VersionSource::Offset).map(by_offsets));
    if let Some(topics) = config.rescore.topics.as_ref().filter(|_| config.rescore.enabled) {
        let replies: Vec<&String> = std::iter::once(&topics.reply).chain(&topics.reply_to).collect();
        findings.extend(of(&topics.source(&kafka), &replies).with_context(unanswered)?);
    }
    Ok(findings)
}

/// One group with the topics that it reads, and those that are `written`.
fn of(kafka: &KafkaConfig, written: &[&String]) -> Result<Vec<Finding>> {
    let view = GroupView::new(kafka)?;
    let mut findings = Vec::new();
    let mut read = Vec::new();
    for (topic, is_read) in
        kafka.topics.iter().map(|topic| (&topic.name, true)).chain(written.iter().map(|topic| (*topic, false)))
    {
        let subject = format!("topic {topic}");
        findings.push(match view.partitions(topic)? {
            Some(partitions) => {
                if is_read {
                    read.push(topic.as_str());
                }
                Finding::new(subject, Verdict::Right, format!("{} partitions", partitions.len()))
            }
            None => Finding::new(subject, Verdict::Wrong, "does not exist, and the daemon creates no topics: create it"),
        });
    }
    let members = view.groups(|name| name == kafka.group)?.iter().map(|group| group.members.len()).sum::<usize>();
    let positions = view.positions(read)?;
    let recreated = view.recreated(&positions)?;
    findings.extend(group(&kafka.group, &positions, members, &recreated));
    Ok(findings)
}

/// What must hold of a topic whose versions are offsets, since nobody can see it.
fn by_offsets(topic: &TopicConfig) -> Finding {
    let detail = "version = \"offset\": right only where all changes of an item are in one partition, and only while the topic is never made again";
    Finding::new(format!("versions of {}", topic.name), Verdict::Right, detail)
}

fn group(name: &str, positions: &Positions, members: usize, recreated: &BTreeMap<(String, i32), String>) -> Vec<Finding> {
    let subject = format!("group {name}");
    let remaining: u64 = positions.values().map(|position| position.remaining()).sum();
    if !positions.is_empty() && positions.values().all(|position| position.committed.is_none()) {
        let detail = format!("has committed nothing: it begins at the oldest of {remaining} records");
        return vec![Finding::new(subject, Verdict::Create, detail)];
    }
    let partition = |((topic, number), position): (&(String, i32), &Position)| {
        let subject = format!("group {name} in {topic}:{number}");
        if let Some(how) = recreated.get(&(topic.clone(), *number)) {
            let detail = format!(
                "the topic was deleted and made again: {how}; fix: stop every daemon of the group, run `astromech offsets reset --topic \
                 {topic} --to earliest`, and start again"
            );
            return Some(Finding::new(subject, Verdict::Wrong, detail));
        }
        Some(Finding::new(subject, Verdict::Change, odd(*position)?))
    };
    let whole = Finding::new(subject, Verdict::Right, format!("{members} members, lag {remaining}"));
    std::iter::once(whole).chain(positions.iter().filter_map(partition)).collect()
}

/// Why a partition would not simply be gone on with.
fn odd(position: Position) -> Option<String> {
    let Position { low, high, committed, .. } = position;
    match committed {
        None if high > low => Some(format!("has committed nothing here: it begins at the oldest of {} records", high - low)),
        Some(at) if at < low => {
            Some(format!("the records from {at} to {} were deleted before they were read: it goes on at {low}", low - 1))
        }
        None | Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positions(of: &[(i64, i64, Option<i64>)]) -> Positions {
        of.iter()
            .enumerate()
            .map(|(i, (low, high, committed))| {
                (("t".to_owned(), i as i32), Position { low: *low, high: *high, committed: *committed, mark: None })
            })
            .collect()
    }

    #[test]
    fn a_group_is_new_goes_on_or_has_partitions_that_are_named() {
        let none = BTreeMap::new();
        let new = group("g", &positions(&[(0, 5, None), (2, 4, None)]), 0, &none);
        assert_eq!(new.len(), 1);
        assert!(new[0].verdict == Verdict::Create && new[0].detail.contains("oldest of 7 records"), "{new:?}");
        let on = group("g", &positions(&[(0, 5, Some(3)), (0, 0, None)]), 2, &none);
        assert_eq!(on, [Finding::new("group g", Verdict::Right, "2 members, lag 2")]);
        let again = BTreeMap::from([(("t".to_owned(), 1), "it ends at 5".to_owned())]);
        let odd = group("g", &positions(&[(4, 9, Some(2)), (0, 5, Some(7)), (0, 3, None), (0, 1, Some(1))]), 0, &again);
        let subjects =
            |verdict: Verdict| -> Vec<&str> { odd.iter().filter(|f| f.verdict == verdict).map(|f| f.subject.as_str()).collect() };
        assert_eq!(subjects(Verdict::Change), ["group g in t:0", "group g in t:2"]);
        assert_eq!(subjects(Verdict::Wrong), ["group g in t:1"]);
    }
}
