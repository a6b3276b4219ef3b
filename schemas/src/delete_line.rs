//! A delete in a file of messages, which has no null value to say it by: `{"delete": {"kind": "image", "id": "a", "version": 3}}`.

use serde::Deserialize;
use serde_json::Number;

use crate::dead_letter::Reason;
use crate::encoding::without_bom;
use crate::error::{DecodeError, from_json};
use crate::identity::Kind;
use crate::lenient::whole_number;
use crate::record::Refused;

/// The item that a line deletes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteLine {
    /// Its kind, unless whoever reads the file knows it.
    pub kind: Option<Kind>,
    /// Its id.
    pub id: String,
    /// The version from which it is gone; the line's number where there is none.
    pub version: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    delete: Body,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    kind: Option<Kind>,
    id: String,
    version: Option<Number>,
}

/// The delete that a line says; `None` where it is a message. A message is not parsed: of those that hold a picture each is megabytes.
///
/// # Errors
/// A delete with a wrong or unknown field, named with its path.
pub fn decode_delete_line(line: &[u8]) -> Option<Result<DeleteLine, Refused>> {
    let inside = without_bom(line).trim_ascii_start().strip_prefix(b"{")?.trim_ascii_start();
    let value = inside.strip_prefix(b"\"delete\"")?.trim_ascii_start().strip_prefix(b":")?;
    // Of a message's own field of that name anything but an object is none of ours.
    value.trim_ascii_start().starts_with(b"{").then(|| {
        read(line).map_err(|error| {
            let reason = match error.path.as_str() {
                "delete.version" => Reason::InvalidVersion,
                "delete.id" => Reason::InvalidKey,
                _ => Reason::InvalidRecord,
            };
            Refused { reason, detail: error.to_string() }
        })
    })
}

fn read(line: &[u8]) -> Result<DeleteLine, DecodeError> {
    let Line { delete: Body { kind, id, version } } = from_json(line)?;
    let version = version.map(|number| {
        let version =
            whole_number(&number).and_then(|whole| i64::try_from(whole).ok()).and_then(|whole| u64::try_from(whole).ok());
        version.ok_or_else(|| {
            let problem = format!("{number} is not a version: expected a whole number from 0 to {}", i64::MAX);
            DecodeError::new(
                "delete.version",
                problem,
                "send a counter or a time in milliseconds, or leave it out for the line's number",
            )
        })
    });
    Ok(DeleteLine { kind, id, version: version.transpose()? })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn a_delete_is_told_from_a_message_and_its_version_may_be_written_as_any_whole_number() {
        let read = |line: &str| decode_delete_line(line.as_bytes());
        let whole = read("\u{feff} { \"delete\" : {\"kind\": \"image\", \"id\": \"红\", \"version\": 3.0}}").unwrap().unwrap();
        assert_eq!(whole, DeleteLine { kind: Some(Kind::Image), id: "红".to_owned(), version: Some(3) });
        for none in ["", r#","version":null"#] {
            let line = read(&format!(r#"{{"delete":{{"id":"a"{none}}}}}"#)).unwrap().unwrap();
            assert_eq!((line.kind, line.version), (None, None));
        }
        for message in
            [r#"{"kind":"image","delete":{"id":"a"}}"#, r#"{"delete":true,"kind":"ad"}"#, r#"{"deleted":{}}"#, "not json"]
        {
            assert_eq!(read(message), None, "{message}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_delete_is_named_with_its_field() {
        for (body, reason, says) in [
            (r#""id":"a","version":-1"#, Reason::InvalidVersion, "delete.version: -1 is not a version"),
            (r#""id":"a","version":1.5"#, Reason::InvalidVersion, "delete.version: 1.5 is not a version"),
            (r#""id":"a","version":9223372036854775808"#, Reason::InvalidVersion, "delete.version: 9223372036854775808 is not"),
            (r#""id":"a","version":"3""#, Reason::InvalidVersion, "delete.version: invalid type: string"),
            (r#""id":"a","version":1e400"#, Reason::InvalidVersion, "delete.version: number out of range"),
            (r#""id":7"#, Reason::InvalidKey, "delete.id: invalid type"),
            (r#""version":3"#, Reason::InvalidRecord, "delete: missing field `id`"),
            (r#""id":"a","kind":"cat""#, Reason::InvalidRecord, "delete.kind: "),
            (r#""id":"a","verison":3"#, Reason::InvalidRecord, "unknown field `verison`"),
        ] {
            let refused = decode_delete_line(format!(r#"{{"delete":{{{body}}}}}"#).as_bytes()).unwrap().unwrap_err();
            assert!(refused.reason == reason && refused.detail.contains(says), "{body}: {refused:?}");
        }
        let after = decode_delete_line(br#"{"delete":{"id":"a"},"kind":"image"}"#).unwrap().unwrap_err();
        assert!(after.detail.contains("unknown field `kind`"), "{after}");
    }
}
