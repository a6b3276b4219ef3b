//! The partitions that are ours now.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::partition::{Partition, Standing};

/// Partitions by topic and number.
type ByName = BTreeMap<(Arc<str>, i32), Arc<Partition>>;

/// Assigned partitions, shared by the polling thread and the consumer's callbacks.
#[derive(Debug, Default)]
pub struct Assignment {
    partitions: Mutex<ByName>,
}

impl Assignment {
    /// Adds a partition; one that is here already keeps its state.
    pub fn add(&self, topic: &str, number: i32) {
        let key = (Arc::<str>::from(topic), number);
        self.lock().entry(key).or_insert_with_key(|(topic, number)| Partition::unchecked(Arc::clone(topic), *number));
    }

    /// The partition, if it is ours.
    pub fn get(&self, topic: &str, number: i32) -> Option<Arc<Partition>> {
        self.lock().get(&(Arc::from(topic), number)).cloned()
    }

    /// Every partition that is ours.
    pub fn all(&self) -> Vec<Arc<Partition>> {
        self.lock().values().cloned().collect()
    }

    /// Closes the fences of `partitions` and waits until nobody writes for them any more, at most `drain`. Returns how many were idle in time.
    pub fn fence_off(partitions: &[Arc<Partition>], drain: Duration) -> usize {
        for partition in partitions {
            partition.fence().close();
        }
        let deadline = Instant::now() + drain;
        partitions.iter().filter(|partition| partition.fence().wait_idle(deadline)).count()
    }

    /// Gives partitions up.
    pub fn remove(&self, partitions: &[Arc<Partition>]) {
        let mut ours = self.lock();
        for partition in partitions {
            ours.remove(&(Arc::clone(partition.topic()), partition.number()));
        }
    }

    /// Age of the oldest record that is not finished.
    pub fn oldest_age(&self) -> Duration {
        self.reading().filter_map(|partition| partition.oldest()).min().map_or(Duration::ZERO, |oldest| oldest.elapsed())
    }

    /// Records that were received and are not part of a committable prefix.
    pub fn open_records(&self) -> usize {
        self.reading().map(|partition| partition.window()).sum()
    }

    /// Whether what is finished can't be committed yet: see [`Partition::waits_for_a_look`].
    pub fn waits_for_a_look(&self) -> bool {
        self.reading().any(|partition| partition.waits_for_a_look())
    }

    /// Those that are not stopped.
    fn reading(&self) -> impl Iterator<Item = Arc<Partition>> {
        self.all().into_iter().filter(|partition| partition.standing() != Standing::Stopped)
    }

    fn lock(&self) -> MutexGuard<'_, ByName> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What can be committed for `partitions` and was not yet, or not confirmed within `resend_after`: offsets of the next records to read.
pub fn committable(partitions: &[Arc<Partition>], resend_after: Duration) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        if let Some(offset) = partition.take_committable(resend_after) {
            let mut element = list.add_partition(partition.topic(), partition.number());
            // An offset of a record plus one is a valid offset.
            let _ = element.set_offset(Offset::Offset(offset));
            if let Some(mark) = partition.mark() {
                element.set_metadata(mark.to_string());
            }
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_that_comes_back_has_a_new_fence() {
        let assignment = Assignment::default();
        assignment.add("t", 0);
        let first = assignment.get("t", 0).unwrap();
        assert_eq!(Assignment::fence_off(std::slice::from_ref(&first), Duration::ZERO), 1);
        assignment.remove(std::slice::from_ref(&first));
        assert!(assignment.get("t", 0).is_none());
        assignment.add("t", 0);
        assert!(assignment.get("t", 0).unwrap().fence().enter().is_some());
        assert!(first.fence().enter().is_none());
    }

    #[test]
    fn only_partitions_with_a_new_prefix_are_committed() {
        let assignment = Assignment::default();
        assignment.add("t", 0);
        assignment.add("t", 1);
        let partition = assignment.get("t", 1).unwrap();
        partition.recognise(None);
        partition.receive(0);
        partition.acknowledge(0);
        let soon = Duration::from_mins(1);
        let list = committable(&assignment.all(), soon);
        assert_eq!(list.count(), 1);
        assert_eq!(list.find_partition("t", 1).unwrap().offset(), Offset::Offset(1));
        assert_eq!(committable(&assignment.all(), soon).count(), 0);
    }
}
