//! A line of a file as the record of a topic.

use std::sync::Arc;

use astromech_schemas::dead_letter::{HEADER_KIND, HEADER_VERSION};
use astromech_schemas::delete_line::{DeleteLine, decode_delete_line};

use crate::prepare::Fault;
use crate::source::{Header, Record};

/// The record of line `number`: a message as it stands, or what a topic says by a record without a value. What is wrong with a message
/// the pipeline says.
///
/// # Errors
/// A delete with a wrong field.
pub(super) fn record_of(line: Vec<u8>, topic: &Arc<str>, number: i64) -> Result<Record, Fault> {
    let record = Record {
        topic: Arc::clone(topic),
        partition: 0,
        offset: number,
        timestamp_ms: None,
        key: None,
        value: None,
        headers: Vec::new(),
    };
    let Some(delete) = decode_delete_line(&line) else {
        return Ok(Record { value: Some(line), ..record });
    };
    let DeleteLine { kind, id, version } = delete?;
    let header = |name: &str, value: String| Header { name: name.to_owned(), value: Some(value.into_bytes()) };
    let kind = kind.map(|kind| header(HEADER_KIND, kind.to_string()));
    let version = version.map(|version| header(HEADER_VERSION, version.to_string()));
    Ok(Record { key: Some(id.into_bytes()), headers: kind.into_iter().chain(version).collect(), ..record })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delete_is_a_record_without_a_value_and_everything_else_stays_as_it_is() {
        let of = |line: &str| record_of(line.as_bytes().to_vec(), &Arc::from("file"), 7).unwrap();
        let whole = of(r#" { "delete" : {"kind": "image", "id": "红", "version": 3}}"#);
        assert_eq!((whole.key.as_deref(), whole.value, whole.offset), (Some("红".as_bytes()), None, 7));
        let headers: Vec<_> = whole.headers.iter().map(|header| (header.name.as_str(), header.value.as_deref())).collect();
        assert_eq!(headers, [(HEADER_KIND, Some(&b"image"[..])), (HEADER_VERSION, Some(&b"3"[..]))]);
        assert!(of(r#"{"delete": {"id": "a"}}"#).headers.is_empty());
        for other in [r#"{"kind": "image", "delete": {"id": "a"}}"#, "not json"] {
            assert_eq!(of(other).value.as_deref(), Some(other.as_bytes()));
        }
    }
}
