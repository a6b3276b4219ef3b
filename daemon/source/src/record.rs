//! One record, as it came: what a dead letter must give back byte for byte.

use std::sync::Arc;

use astromech_schemas::record::SourceRecord;
use astromech_schemas::results::RecordPosition;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};

/// One header of a record; names may repeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Name.
    pub name: String,
    /// Value; `None` where it is null.
    pub value: Option<Vec<u8>>,
}

/// A record of a topic, or a line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Topic, or the file's name.
    pub topic: Arc<str>,
    /// Partition; 0 for a file.
    pub partition: i32,
    /// Offset, or the line's number.
    pub offset: i64,
    /// Time of the record, milliseconds since 1970, if it has one.
    pub timestamp_ms: Option<i64>,
    /// Key; `None` where it is null.
    pub key: Option<Vec<u8>>,
    /// Value; `None` is a delete.
    pub value: Option<Vec<u8>>,
    /// Headers, in their order.
    pub headers: Vec<Header>,
}

impl Record {
    /// A message copied out of librdkafka's memory: the one copy of a record.
    pub fn of(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().map_or_else(Vec::new, |headers| {
            headers.iter().map(|header| Header { name: header.key.to_owned(), value: header.value.map(<[u8]>::to_vec) }).collect()
        });
        Self {
            topic: message.topic().into(),
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis().filter(|time| *time >= 0),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers,
        }
    }

    /// Bytes of key, value and headers: what the record counts towards `pipeline.bytes_in_flight_max`.
    pub fn bytes(&self) -> usize {
        let headers = self.headers.iter().map(|h| h.name.len() + h.value.as_ref().map_or(0, Vec::len));
        self.key.as_ref().map_or(0, Vec::len) + self.value.as_ref().map_or(0, Vec::len) + headers.sum::<usize>()
    }

    /// The last header of that name whose value is not null: Kafka lets names repeat, and the last one is the newest.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().rev().find(|header| header.name == name).and_then(|header| header.value.as_deref())
    }

    /// Where it came from, as results carry it.
    pub fn position(&self) -> RecordPosition {
        RecordPosition { topic: self.topic.to_string(), partition: self.partition, offset: self.offset }
    }
}

impl SourceRecord for Record {
    fn key(&self) -> Option<&[u8]> {
        self.key.as_deref()
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        self.header(name)
    }

    fn offset(&self) -> i64 {
        self.offset
    }

    fn timestamp_ms(&self) -> Option<i64> {
        self.timestamp_ms
    }
}
