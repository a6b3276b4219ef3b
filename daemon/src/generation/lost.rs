//! An index that is gone while its group's offsets stayed: what comes next would be written into an empty one, and all that was read before
//! would be missing without a word.

use astromech_schemas::Fingerprint;
use tracing::warn;

use super::{group_name, is_group_of};
use crate::assemble::index_options;
use crate::config::{Config, KafkaConfig, OnLost};
use crate::index::{self, IndexError, Space};
use crate::source::groups::{GroupView, Position, Positions, Target};

/// What is missing, and what was read into it.
#[derive(Debug)]
pub struct Lost {
    kafka: KafkaConfig,
    /// What a start would make.
    missing: Vec<String>,
    positions: Positions,
    choice: OnLost,
}

/// Whether a group has read something here. One that was set to the oldest record by hand has not, though it has an offset.
fn has_read(position: &Position) -> bool {
    position.mark.is_some() || position.committed.is_some_and(|at| at > position.low)
}

impl Lost {
    /// Looks whether collections of `space` are missing that the group of `kafka` has read into; changes nothing. `beside` as for
    /// [`index_options`].
    ///
    /// # Errors
    /// [`IndexError::Transient`] where the index or the brokers do not answer: what is missing is not made before they do.
    pub async fn find(config: &Config, kafka: &KafkaConfig, space: &Space, beside: bool) -> Result<Option<Self>, IndexError> {
        let missing = index::missing(&index_options(config, beside), space).await?;
        if missing.is_empty() {
            return Ok(None);
        }
        let (choice, kafka) = (config.index.on_lost, kafka.clone());
        let asked = asked(kafka.clone(), |view, kafka| view.positions(kafka.topics.iter().map(|topic| topic.name.as_str())));
        let positions = asked.await.map_err(|error| {
            let problem =
                format!("{}, and the brokers do not say whether group {} has read: {error}", made(&missing), kafka.group);
            IndexError::Transient(problem.into())
        })?;
        let lost = Self { kafka, missing, positions, choice };
        Ok(lost.positions.values().any(has_read).then_some(lost))
    }

    /// What a start does about it.
    pub fn on_lost(&self) -> OnLost {
        self.choice
    }

    /// In words, with what can be done.
    pub fn problem(&self) -> String {
        let read: i64 = self
            .positions
            .values()
            .map(|position| position.committed.unwrap_or_default().saturating_sub(position.low).max(0))
            .sum();
        let is = if self.missing.len() == 1 { "is" } else { "are" };
        format!(
            "the index was lost: {} {is} not there, and group {} has read {read} records that the topics still hold, and perhaps older ones, \
             which would never be read again; fix: bring the index back from its backup; or read the topics from the start, by `astromech offsets reset --to \
             earliest` or index.on_lost = \"refill\"",
            self.missing.join(", "),
            self.kafka.group
        )
    }

    /// Sets the group to the oldest records, so that the index is filled anew.
    ///
    /// # Errors
    /// [`IndexError::Transient`] where the group has members, which must leave first, or the brokers do not answer.
    pub async fn refill(self) -> Result<(), IndexError> {
        let (group, positions) = (self.kafka.group.clone(), self.positions);
        let gone = positions.iter().filter(|(_, position)| position.low > 0);
        let gone: Vec<_> =
            gone.map(|((topic, partition), position)| format!("{topic}/{partition} before {}", position.low)).collect();
        let set = asked(self.kafka, move |view, _| {
            let oldest = view.resolve(&positions, Target::Earliest)?;
            view.commit(&oldest)
        });
        set.await.map_err(|error| {
            let problem = format!("the index was lost, and group {group} can't be set to the oldest records: {error}; has it other members? stop them");
            IndexError::Transient(problem.into())
        })?;
        warn!(
            group,
            missing = self.missing.join(", "),
            gone = gone.join(", "),
            "the index was lost: it is filled anew from the oldest records (index.on_lost)"
        );
        Ok(())
    }
}

/// As [`Lost::find`], and does what `index.on_lost` says. What is refused is returned in words: nothing may be opened.
///
/// # Errors
/// As [`Lost::find`] and [`Lost::refill`].
pub async fn refused(config: &Config, kafka: &KafkaConfig, space: &Space, beside: bool) -> Result<Option<String>, IndexError> {
    match Lost::find(config, kafka, space, beside).await? {
        Some(lost) if lost.on_lost() == OnLost::Refuse => Ok(Some(lost.problem())),
        Some(lost) => lost.refill().await.map(|()| None),
        None => Ok(None),
    }
}

/// Whether the group of a generation other than `configured` has read, though the book of generations names none live: then the book is
/// lost with the index, and to begin with the configured bundle would be to begin empty. In words; nothing where `index.on_lost` takes that.
///
/// # Errors
/// [`IndexError::Transient`] where the brokers do not answer.
pub async fn book_lost(config: &Config, configured: &Fingerprint) -> Result<Option<String>, IndexError> {
    let Some(kafka) = &config.kafka else { return Ok(None) };
    let own = group_name(&kafka.group, configured);
    let readers = asked(kafka.clone(), move |view, kafka| {
        let others = view.groups(|name| is_group_of(&kafka.group, name) && name != own)?;
        let mut readers = Vec::new();
        for group in others {
            let kafka = KafkaConfig { group: group.name.clone(), ..kafka.clone() };
            let positions = GroupView::new(&kafka)?.positions(kafka.topics.iter().map(|topic| topic.name.as_str()))?;
            if positions.values().any(has_read) {
                readers.push(group.name);
            }
        }
        Ok(readers)
    });
    let readers = readers.await.map_err(|error| {
        let problem = format!("no generation is live, and the brokers do not say whether one has been: {error}");
        IndexError::Transient(problem.into())
    })?;
    if readers.is_empty() {
        return Ok(None);
    }
    let groups = readers.join(", ");
    if config.index.on_lost == OnLost::Refill {
        warn!(groups, "the book of generations was lost: the configured bundle is filled from the topics (index.on_lost)");
        return Ok(None);
    }
    Ok(Some(format!(
        "the index was lost: no generation is live, though {groups} of other generations has read; fix: bring the index back from its backup; \
         or begin with the configured bundle, by index.on_lost = \"refill\""
    )))
}

/// `kafka` with the group that fills the generation `fingerprint`: its own where there are rollouts.
pub fn kafka_of(config: &Config, kafka: &KafkaConfig, fingerprint: &Fingerprint) -> KafkaConfig {
    let group = if config.rollout.is_some() { group_name(&kafka.group, fingerprint) } else { kafka.group.clone() };
    KafkaConfig { group, ..kafka.clone() }
}

fn made(missing: &[String]) -> String {
    format!("{} would be made", missing.join(", "))
}

/// Asks the brokers, on a blocking thread.
async fn asked<T: Send + 'static>(
    kafka: KafkaConfig,
    ask: impl FnOnce(&GroupView, &KafkaConfig) -> Result<T, rdkafka::error::KafkaError> + Send + 'static,
) -> Result<T, String> {
    let answer = tokio::task::spawn_blocking(move || ask(&GroupView::new(&kafka)?, &kafka)).await;
    answer.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_at_the_oldest_record_has_read_only_where_a_daemon_committed() {
        let at = |committed, mark: Option<&str>| Position {
            low: 5,
            high: 9,
            committed,
            mark: mark.and_then(|mark| mark.parse().ok()),
        };
        assert!(!has_read(&at(None, None)));
        assert!(!has_read(&at(Some(5), None)), "set by hand");
        assert!(has_read(&at(Some(6), None)));
        assert!(has_read(&at(Some(5), Some("astromech-mark-1 4 -1 00000000000000ff"))), "what it read is deleted from the topic");
    }
}
