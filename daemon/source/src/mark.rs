//! A partition is known again by one of its records. A topic that is deleted and made again has the same name and the same group, and the
//! group's offsets mean other records: those before them would be skipped without a word.
//!
//! With each commit goes the mark of a record that was read, in the metadata that Kafka keeps beside an offset. Whoever reads the partition
//! next reads that record again and compares. The brokers' topic ids would say the same, but librdkafka tells them to nobody who may not use
//! `unsafe`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use sha2::{Digest as _, Sha256};

use super::outside::ANSWER_MAX;
use super::record::Record;

/// First word of a mark as text, and its version.
const NAME: &str = "astromech-mark-1";
/// Bytes of a record's value that are looked at; its length counts too.
const VALUE_BYTES: usize = 1024;
/// Longest time inside one `poll`.
const POLL_MAX: Duration = Duration::from_millis(50);

/// What a record is known again by: its offset, its time, and a digest of its key and the beginning of its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Offset.
    pub offset: i64,
    /// Milliseconds since 1970; -1 where it has none.
    time_ms: i64,
    digest: u64,
}

impl Mark {
    /// The mark of a record.
    pub fn of(record: &Record) -> Self {
        let mut hasher = Sha256::new();
        for part in [&record.key, &record.value] {
            let length = part.as_ref().map_or(-1, |part| part.len() as i64);
            hasher.update(length.to_be_bytes());
            hasher.update(part.as_ref().map_or(&[][..], |part| &part[..part.len().min(VALUE_BYTES)]));
        }
        let digest = hasher.finalize().iter().take(8).fold(0, |digest, byte| digest << 8 | u64::from(*byte));
        Self { offset: record.offset, time_ms: record.timestamp_ms.unwrap_or(-1), digest }
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{NAME} {} {} {:016x}", self.offset, self.time_ms, self.digest)
    }
}

/// Metadata that is somebody else's, or of a version that is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoMark;

impl FromStr for Mark {
    type Err = NoMark;

    fn from_str(text: &str) -> Result<Self, NoMark> {
        let words: Vec<&str> = text.split(' ').collect();
        let [NAME, offset, time_ms, digest] = words[..] else { return Err(NoMark) };
        let number = |word: &str| word.parse::<i64>().map_err(|_| NoMark);
        let digest = u64::from_str_radix(digest, 16).map_err(|_| NoMark)?;
        Ok(Self { offset: number(offset)?, time_ms: number(time_ms)?, digest })
    }
}

/// What a partition must be, to be the one that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// It was read up to here: it can't end before.
    pub read_to: i64,
    /// A record of it.
    pub mark: Option<Mark>,
}

/// What a look at a partition found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It is the one that was read, as far as can be told: a record that was deleted or compacted away tells nothing.
    Same,
    /// It ends before what was read. A broker that has just come back may say so for a moment.
    Shorter(String),
    /// It is another one.
    Other(String),
}

/// Partitions by topic and number.
pub type ByPartition<T> = BTreeMap<(String, i32), T>;

/// Compares partitions with what is expected of them; one that did not answer is left out. Blocks. What `consumer` reads is its own
/// affair: it is assigned anew.
///
/// # Errors
/// The brokers do not answer.
pub fn compare<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    expected: &ByPartition<Expected>,
) -> Result<ByPartition<Found>, KafkaError> {
    let mut found = ByPartition::new();
    if expected.is_empty() {
        return Ok(found);
    }
    let mut asked = TopicPartitionList::new();
    for (topic, number) in expected.keys() {
        // Asked for the time -1 a broker tells the end.
        asked.add_partition_offset(topic, *number, Offset::End)?;
    }
    let ends = consumer.offsets_for_times(asked, ANSWER_MAX)?;
    let mut open: ByPartition<(Mark, i64)> = ByPartition::new();
    let mut assignment = TopicPartitionList::new();
    for element in ends.elements() {
        let key = (element.topic().to_owned(), element.partition());
        let (Ok(()), Offset::Offset(end), Some(expected)) = (element.error(), element.offset(), expected.get(&key)) else {
            continue;
        };
        if end < expected.read_to {
            let how = format!("it was read up to offset {}, and ends at {end}", expected.read_to);
            found.insert(key, Found::Shorter(how));
        } else if let Some(mark) = expected.mark {
            assignment.add_partition_offset(element.topic(), element.partition(), Offset::Offset(mark.offset))?;
            open.insert(key, (mark, end));
        } else {
            found.insert(key, Found::Same);
        }
    }
    if !open.is_empty() {
        consumer.assign(&assignment)?;
        read(consumer, open, &mut found)?;
        consumer.unassign()?;
    }
    Ok(found)
}

/// Reads the first record of each partition from its mark on.
fn read<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    mut open: ByPartition<(Mark, i64)>,
    found: &mut ByPartition<Found>,
) -> Result<(), KafkaError> {
    let deadline = Instant::now() + ANSWER_MAX;
    while !open.is_empty() && Instant::now() < deadline {
        // A fault here is a passing one, or the partition stays unanswered.
        if let Some(Ok(message)) = consumer.poll(POLL_MAX) {
            let read = Mark::of(&Record::of(&message));
            let key = (rdkafka::Message::topic(&message).to_owned(), rdkafka::Message::partition(&message));
            if let Some((mark, _)) = open.remove(&key) {
                let other = read.offset == mark.offset && read != mark;
                let how = || format!("its record at offset {} is another one than was read there", mark.offset);
                found.insert(key, if other { Found::Other(how()) } else { Found::Same });
            }
            continue;
        }
        // From the mark to the end there may be nothing but markers of transactions.
        for element in consumer.position()?.elements() {
            let key = (element.topic().to_owned(), element.partition());
            if let Offset::Offset(position) = element.offset()
                && open.get(&key).is_some_and(|(_, end)| position >= *end)
            {
                open.remove(&key);
                found.insert(key, Found::Same);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(offset: i64, time: i64, key: &str, value: Option<&[u8]>) -> Record {
        Record {
            topic: "t".into(),
            partition: 0,
            offset,
            timestamp_ms: Some(time),
            key: Some(key.as_bytes().to_vec()),
            value: value.map(<[u8]>::to_vec),
            headers: Vec::new(),
        }
    }

    #[test]
    fn a_mark_comes_out_of_its_text_and_other_metadata_is_none() {
        let mark = Mark::of(&record(19, 1_764_547_200_000, "o19", Some(b"{}")));
        assert_eq!(mark.to_string().parse(), Ok(mark));
        for text in ["", "astromech-mark-2 1 2 3", "astromech-mark-1 1 2", "astromech-mark-1 x 2 3", "someone's own"] {
            assert_eq!(text.parse::<Mark>(), Err(NoMark), "{text}");
        }
    }

    #[test]
    fn records_that_differ_in_anything_have_other_marks() {
        let long = [7_u8; 5000];
        let first = record(1, 2, "k", Some(&long));
        let marks = [
            Mark::of(&first),
            Mark::of(&record(2, 2, "k", Some(&long))),
            Mark::of(&record(1, 3, "k", Some(&long))),
            Mark::of(&record(1, 2, "l", Some(&long))),
            Mark::of(&record(1, 2, "k", Some(&long[1..]))),
            Mark::of(&record(1, 2, "k", None)),
            Mark::of(&record(1, 2, "k", Some(b""))),
        ];
        for (i, one) in marks.iter().enumerate() {
            assert!(marks[..i].iter().all(|other| other != one), "{i}");
        }
        assert_eq!(marks[0], Mark::of(&first));
    }
}
