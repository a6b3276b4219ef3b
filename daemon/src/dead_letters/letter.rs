//! One dead letter, taken apart: the record as it was, and what the daemon wrote behind it.

use astromech_schemas::dead_letter::{
    HEADER_DETAIL, HEADER_OFFSET, HEADER_PARTITION, HEADER_REASON, HEADER_TIMESTAMP, HEADER_TOPIC,
};

use crate::source::{Header, Record};

/// The daemon's own headers, each once, behind the record's own.
const OURS: [&str; 6] = [HEADER_REASON, HEADER_DETAIL, HEADER_TOPIC, HEADER_PARTITION, HEADER_OFFSET, HEADER_TIMESTAMP];

/// Where the record came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
}

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Partition of the dead-letter topic.
    pub partition: i32,
    /// Offset there.
    pub offset: i64,
    /// When it became a dead letter, milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
    /// The word of a [`Reason`](astromech_schemas::dead_letter::Reason); text, because another version may know others.
    pub reason: String,
    /// One sentence for a person.
    pub detail: String,
    /// Where the record came from; `None` where the headers do not say.
    pub origin: Option<Origin>,
    /// Time of the record itself, milliseconds since 1970; `None` where it had none or an older daemon did not write it down.
    pub record_time_ms: Option<i64>,
    /// Key of the record.
    pub key: Option<Vec<u8>>,
    /// Value of the record; `None` is a delete.
    pub value: Option<Vec<u8>>,
    /// Headers of the record: those of ours behind them are taken away, nothing else.
    pub headers: Vec<Header>,
}

impl Letter {
    /// Takes a record of the dead-letter topic apart.
    pub fn of(record: Record) -> Self {
        let Record { partition, offset, timestamp_ms, key, value, mut headers, .. } = record;
        let ours = split_off_ours(&mut headers);
        let text = |name: &str| {
            let found = ours.iter().find(|header| header.name == name).and_then(|header| header.value.as_deref());
            found.map(|value| String::from_utf8_lossy(value).into_owned())
        };
        let origin = || {
            let (topic, partition, offset) = (text(HEADER_TOPIC)?, text(HEADER_PARTITION)?, text(HEADER_OFFSET)?);
            Some(Origin { topic, partition: partition.parse().ok()?, offset: offset.parse().ok()? })
        };
        Self {
            partition,
            offset,
            timestamp_ms,
            reason: text(HEADER_REASON).unwrap_or_default(),
            detail: text(HEADER_DETAIL).unwrap_or_default(),
            origin: origin(),
            record_time_ms: text(HEADER_TIMESTAMP).and_then(|time| time.parse().ok()),
            key,
            value,
            headers,
        }
    }
}

/// The block of ours at the end. A record may have had headers of these names itself, as one has that was buried and sent again by another
/// tool: they stand before, and each name ends the block when it comes a second time.
fn split_off_ours(headers: &mut Vec<Header>) -> Vec<Header> {
    let mut from = headers.len();
    while from > 0 {
        let name = headers[from - 1].name.as_str();
        let again = headers[from..].iter().any(|header| header.name == name);
        if again || !OURS.contains(&name) {
            break;
        }
        from -= 1;
    }
    headers.split_off(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &str, value: &str) -> Header {
        Header { name: name.to_owned(), value: Some(value.as_bytes().to_vec()) }
    }

    fn buried(own: &[Header]) -> Record {
        let ours = [
            header(HEADER_REASON, "invalid_record"),
            header(HEADER_DETAIL, "title: wrong"),
            header(HEADER_TOPIC, "changes"),
            header(HEADER_PARTITION, "3"),
            header(HEADER_OFFSET, "9"),
            header(HEADER_TIMESTAMP, "1700000000000"),
        ];
        let headers = own.iter().chain(&ours).cloned().collect();
        Record { topic: "dead".into(), partition: 1, offset: 2, timestamp_ms: Some(5), key: None, value: None, headers }
    }

    #[test]
    fn the_records_own_headers_come_back_as_they_were() {
        let own = [
            header("trace", "a"),
            Header { name: "null".to_owned(), value: None },
            header("astromech-version", "7"),
            header("trace", "b"),
        ];
        let letter = Letter::of(buried(&own));
        assert_eq!(letter.headers, own);
        assert_eq!((letter.reason.as_str(), letter.detail.as_str()), ("invalid_record", "title: wrong"));
        assert_eq!(letter.origin, Some(Origin { topic: "changes".to_owned(), partition: 3, offset: 9 }));
        assert_eq!(letter.record_time_ms, Some(1_700_000_000_000));
    }

    #[test]
    fn headers_of_our_names_that_the_record_had_itself_are_its_own() {
        let own = buried(&[header("a", "b")]).headers;
        let letter = Letter::of(buried(&own));
        assert_eq!(letter.headers, own);
    }

    #[test]
    fn a_record_that_is_no_dead_letter_has_no_origin() {
        let record = Record { headers: vec![header("x", "y")], ..buried(&[]) };
        let letter = Letter::of(record);
        assert_eq!((letter.origin, letter.reason.as_str(), letter.headers.len()), (None, "", 1));
    }
}
