//! A line of a file as the record of a topic.

use std::sync::Arc;

use astromech_schemas::Kind;
use astromech_schemas::dead_letter::{HEADER_KIND, HEADER_VERSION};
use serde::Deserialize;

use crate::source::{Header, Record};

/// What a topic says by a record without a value: `{"delete": {"kind": "image", "id": "a", "version": 3}}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeleteLine {
    delete: Delete,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Delete {
    kind: Option<Kind>,
    id: String,
    version: Option<u64>,
}

/// The record of line `number`: a message as it stands, or a delete. A line that is neither stays as it is: the pipeline says what is wrong.
pub(super) fn record_of(line: Vec<u8>, topic: &Arc<str>, number: i64) -> Record {
    let record = Record {
        topic: Arc::clone(topic),
        partition: 0,
        offset: number,
        timestamp_ms: None,
        key: None,
        value: None,
        headers: Vec::new(),
    };
    match delete(&line) {
        None => Record { value: Some(line), ..record },
        Some(Delete { kind, id, version }) => {
            let header = |name: &str, value: String| Header { name: name.to_owned(), value: Some(value.into_bytes()) };
            let kind = kind.map(|kind| header(HEADER_KIND, kind.to_string()));
            let version = version.map(|version| header(HEADER_VERSION, version.to_string()));
            Record { key: Some(id.into_bytes()), headers: kind.into_iter().chain(version).collect(), ..record }
        }
    }
}

/// The delete that the line says. A message is not parsed here: of those that hold a picture each is megabytes.
fn delete(line: &[u8]) -> Option<Delete> {
    let inside = line.trim_ascii_start().strip_prefix(b"{")?.trim_ascii_start();
    if !inside.starts_with(b"\"delete\"") {
        return None;
    }
    serde_json::from_slice::<DeleteLine>(line).ok().map(|line| line.delete)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Record {
        record_of(line.as_bytes().to_vec(), &Arc::from("file"), 7)
    }

    #[test]
    fn a_delete_is_a_record_without_a_value_and_everything_else_stays_as_it_is() {
        let whole = of(r#" { "delete" : {"kind": "image", "id": "红", "version": 3}}"#);
        assert_eq!((whole.key.as_deref(), whole.value, whole.offset), (Some("红".as_bytes()), None, 7));
        let headers: Vec<_> = whole.headers.iter().map(|header| (header.name.as_str(), header.value.as_deref())).collect();
        assert_eq!(headers, [(HEADER_KIND, Some(&b"image"[..])), (HEADER_VERSION, Some(&b"3"[..]))]);
        assert!(of(r#"{"delete": {"id": "a"}}"#).headers.is_empty());
        for other in [r#"{"kind": "image", "delete": {"id": "a"}}"#, r#"{"delete": {"kind": "cat", "id": "a"}}"#, "not json"] {
            assert_eq!(of(other).value.as_deref(), Some(other.as_bytes()));
        }
    }
}
