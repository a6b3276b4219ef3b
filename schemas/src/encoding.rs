//! What the bytes of a document are before they are JSON: a byte order mark, another encoding, a packed file, a serialiser's head.

use serde::de::IgnoredAny;

/// Why bytes are no JSON text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}; fix: {fix}")]
pub struct NotJson {
    /// What is wrong.
    pub problem: String,
    /// What the sender can do about it.
    pub fix: &'static str,
}

impl NotJson {
    fn new(problem: impl Into<String>, fix: &'static str) -> Self {
        Self { problem: problem.into(), fix }
    }
}

/// UTF-8's byte order mark.
pub const BOM: &[u8] = "\u{feff}".as_bytes();
/// Lengths of a schema's id behind the byte 0: Confluent's, and the one that Apicurio's serialisers wrote before their version 3.
const ID_BYTES: [usize; 2] = [4, 8];

/// `bytes` without the byte order mark before them.
pub fn without_bom(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(BOM).unwrap_or(bytes)
}

/// What `bytes` begin as, where that is neither UTF-8 nor anything else that holds JSON as it stands.
pub fn foreign(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        // As far as to what no schema's id and JSON behind it are.
        [0xff, 0xfe, 0, 0, ..]
        | [b'{' | b'[', 0, 0, 0, ..]
        | [0, 0, 0xfe, 0xff, 0, 0, 0, ..]
        | [0, 0, 0, b'{' | b'[', 0, 0, 0, ..] => Some("UTF-32"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [b'{' | b'[', 0, ..] | [0, b'{' | b'[', 0, _, 0, ..] => Some("UTF-16"),
        [0x1f, 0x8b, ..] => Some("gzip"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("Zstandard"),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => Some("xz"),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Some("bzip2"),
        [4, b'"', b'M', 0x18, ..] => Some("LZ4"),
        [b'P', b'K', 3, 4, ..] => Some("a ZIP archive"),
        [b'P', b'A', b'R', b'1', ..] => Some("Parquet"),
        [b'O', b'b', b'j', 1, ..] => Some("an Avro file"),
        _ => None,
    }
}

/// `bytes` as text.
///
/// # Errors
/// Another encoding, something packed, or bytes that are not UTF-8.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, NotJson> {
    if let Some(what) = foreign(bytes) {
        let fix = if what.starts_with("UTF") {
            "encode it as UTF-8"
        } else {
            "send UTF-8 JSON as it is; a topic's records are packed by the producer's compression.type"
        };
        return Err(NotJson::new(format!("{what} where JSON is expected"), fix));
    }
    let bytes = without_bom(bytes);
    if bytes.trim_ascii().is_empty() {
        return Err(NotJson::new("an empty document where JSON is expected", "send one JSON object"));
    }
    std::str::from_utf8(bytes).map_err(|e| {
        let problem = format!("invalid UTF-8 at byte {}", e.valid_up_to());
        NotJson::new(problem, "encode the record as UTF-8 JSON")
    })
}

/// The JSON of a record's value: the value itself, or what stands behind the head that a schema registry's JSON serialiser writes (byte
/// 0 and the schema's id). The schema is not asked for: JSON says by itself what it is.
///
/// # Errors
/// Such a head, and no JSON behind it.
pub fn unframed(bytes: &[u8]) -> Result<&[u8], NotJson> {
    let [0, id @ ..] = bytes else { return Ok(bytes) };
    if foreign(bytes).is_some() {
        return Ok(bytes);
    }
    let is_object = |json: &&[u8]| {
        let json = without_bom(json).trim_ascii_start();
        json.starts_with(b"{") && serde_json::from_slice::<IgnoredAny>(json).is_ok()
    };
    if let Some(json) = ID_BYTES.into_iter().find_map(|length| id.get(length..).filter(is_object)) {
        return Ok(json);
    }
    let [a, b, c, d, behind @ ..] = id else {
        return Err(NotJson::new("begins with byte 0, which no JSON does", "send one JSON object a record"));
    };
    let id = u32::from_be_bytes([*a, *b, *c, *d]);
    let head = format!("begins with byte 0 and the schema id {id}, as a schema registry's serialisers write");
    Err(if without_bom(behind).trim_ascii_start().starts_with(b"{") {
        let json = serde_json::from_slice::<IgnoredAny>(without_bom(behind)).err().map(|e| e.to_string()).unwrap_or_default();
        NotJson::new(format!("{head}, and the JSON behind it is damaged: {json}"), "send one JSON object a record")
    } else {
        let problem = format!("{head}, and what follows is Avro or Protobuf, not JSON");
        let fix = "set the topic's format to \"avro\" where it is Avro; have Protobuf sent as JSON or Avro";
        NotJson::new(problem, fix)
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn json_behind_a_registrys_head_is_read_and_anything_else_there_is_named() {
        let json = br#" {"title": "a"}"#;
        for head in [&[0, 0, 0, 0, 7][..], &[0, 255, 255, 255, 255], &[0, 0, 0, 0, 0, 0, 0, 0, 7], b""] {
            assert_eq!(unframed(&[head, json].concat()).unwrap(), json, "{head:?}");
        }
        for (value, says) in [
            (
                &[0, 0, 0, 1, 2, 2, b'a'][..],
                "schema id 258, as a schema registry's serialisers write, and what follows is Avro or Protobuf",
            ),
            (&[0, 0, 0, 0, 7, 0, 10, 1, b'a'], "Protobuf"),
            (&[0, 0, 0, 0, 7], "schema id 7"),
            (&[0, 0, 0, 0, 7, b'{', 1], "is damaged: "),
            (&[0, 1], "begins with byte 0"),
        ] {
            let error = unframed(value).unwrap_err();
            assert!(error.problem.contains(says) && !error.fix.is_empty(), "{value:?}: {error}");
        }
    }

    #[test]
    fn what_is_no_utf8_is_named_by_what_it_is() {
        let utf16 = |big: bool, text: &str| {
            text.encode_utf16().flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect::<Vec<u8>>()
        };
        for (bytes, what) in [
            (utf16(true, "{\"a\":1}"), "UTF-16"),
            (utf16(false, "{\"a\":1}"), "UTF-16"),
            (utf16(true, "\u{feff}{}"), "UTF-16"),
            (utf16(false, "\u{feff}{}"), "UTF-16"),
            ("{}".chars().flat_map(|c| u32::from(c).to_le_bytes()).collect(), "UTF-32"),
            ("\u{feff}{}".chars().flat_map(|c| u32::from(c).to_be_bytes()).collect(), "UTF-32"),
            (vec![0x1f, 0x8b, 8, 0], "gzip"),
            (vec![0x28, 0xb5, 0x2f, 0xfd, 4], "Zstandard"),
            (b"PK\x03\x04".to_vec(), "ZIP"),
            (b"PAR1".to_vec(), "Parquet"),
        ] {
            let error = text(unframed(&bytes).unwrap()).unwrap_err();
            assert!(error.problem.contains(what) && error.fix.contains("UTF-8"), "{bytes:?}: {error}");
        }
        assert_eq!(text(b"\xef\xbb\xbf{}").unwrap(), "{}");
        assert!(text(b" \r\n").unwrap_err().problem.contains("empty"));
        assert!(text(b"{\"\xc7\"").unwrap_err().problem.contains("invalid UTF-8 at byte 2"));
    }
}
