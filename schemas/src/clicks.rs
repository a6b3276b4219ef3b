//! The click log: how often an item was shown for a query, and how often it was then clicked.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::encoding::unframed;
use crate::error::{DecodeError, from_json};
use crate::field::{RecordLimits, check_id};
use crate::identity::Kind;
use crate::lenient::{optional_whole, whole};

/// A count over any stretch of time: one impression, or an hour's aggregate. Counts of the same query and item add up, so a producer
/// that sends a record twice counts it twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClickCount {
    /// What a user searched, as it was typed.
    pub query: String,
    /// Kind of the item that was shown.
    pub kind: Kind,
    /// Id of the item that was shown.
    pub id: String,
    /// How often it was shown for the query, at least once.
    #[serde(deserialize_with = "whole")]
    #[schemars(range(min = 1))]
    pub impressions: u64,
    /// How often it was then clicked, at most `impressions`.
    #[serde(deserialize_with = "whole")]
    pub clicks: u64,
    /// End of the stretch of time that was counted, milliseconds since 1970 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "optional_whole")]
    pub time_ms: Option<i64>,
}

/// Reads one record of the click-log topic. Unknown fields are accepted.
///
/// # Errors
/// Invalid UTF-8 or JSON, a missing or wrong field (named with its path), an empty query, more clicks than impressions, or a field over
/// its limit.
pub fn decode_click(bytes: &[u8], limits: &RecordLimits) -> Result<ClickCount, DecodeError> {
    let count: ClickCount = from_json(unframed(bytes)?)?;
    check_id("id", &count.id, limits)?;
    if count.query.trim().is_empty() {
        return Err(DecodeError::new("query", "empty query", "send what the user searched, or no record"));
    }
    if count.query.len() > limits.text_bytes_max {
        let problem = format!("{} bytes, over the limit text_bytes_max = {}", count.query.len(), limits.text_bytes_max);
        return Err(DecodeError::new("query", problem, "send less, or raise the limit"));
    }
    if count.impressions == 0 {
        return Err(DecodeError::new("impressions", "0 impressions", "send a record once the item was shown"));
    }
    if count.clicks > count.impressions {
        let problem = format!("{} clicks of {} impressions", count.clicks, count.impressions);
        return Err(DecodeError::new("clicks", problem, "count impressions and clicks of the same stretch of time"));
    }
    Ok(count)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn decode(text: &str) -> Result<ClickCount, DecodeError> {
        decode_click(text.as_bytes(), &RecordLimits::default())
    }

    #[test]
    fn a_count_is_read_and_unknown_fields_are_accepted() {
        let count = decode(r#"{"query":"红车","kind":"ad","id":"7","impressions":9,"clicks":2,"time_ms":5,"page":1}"#).unwrap();
        assert_eq!((count.kind, count.impressions, count.clicks, count.time_ms), (Kind::Ad, 9, 2, Some(5)));
    }

    #[test]
    fn wrong_counts_are_refused_with_their_field() {
        for (text, path) in [
            (r#"{"query":" ","kind":"ad","id":"7","impressions":9,"clicks":2}"#, "query"),
            (r#"{"query":"a","kind":"ad","id":"","impressions":9,"clicks":2}"#, "id"),
            (r#"{"query":"a","kind":"ad","id":"7","impressions":0,"clicks":0}"#, "impressions"),
            (r#"{"query":"a","kind":"ad","id":"7","impressions":1,"clicks":2}"#, "clicks"),
            (r#"{"query":"a","kind":"ad","id":"7","impressions":-1,"clicks":0}"#, "impressions"),
        ] {
            assert_eq!(decode(text).unwrap_err().path, path, "{text}");
        }
    }
}
