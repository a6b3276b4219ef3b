//! Times as RFC 3339 writes them, in milliseconds since 1970 UTC.

use chrono::{DateTime, SecondsFormat, Utc};

/// Milliseconds since 1970 UTC, now.
pub fn now_ms() -> i64 {
    Utc::now().timestamp_millis()
}

/// Reads `2026-01-31T23:59:59Z`, with a fraction or an offset such as `+08:00`; a date alone is its midnight in UTC. `None` where it is
/// neither.
pub fn parse(text: &str) -> Option<i64> {
    let time = DateTime::parse_from_rfc3339(text).or_else(|_| DateTime::parse_from_rfc3339(&format!("{text}T00:00:00Z")));
    time.ok().map(|time| time.timestamp_millis())
}

/// A time as `2026-01-31T23:59:59.000Z`.
pub(super) fn text(time_ms: i64) -> String {
    utc(time_ms).to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// A time as `2026-01-31T23-59-59Z`: sorted by name it is sorted by time, and it may name a folder.
pub fn stamp(time_ms: i64) -> String {
    utc(time_ms).format("%Y-%m-%dT%H-%M-%SZ").to_string()
}

/// 1970 for a time that no calendar reaches.
fn utc(time_ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(time_ms).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_rfc_3339_has_them_and_nothing_else_is() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01", 0),
            ("2026-11-26T07:18:36Z", 1_795_677_516_000),
            ("2026-11-26T15:18:36.25+08:00", 1_795_677_516_250),
            ("2024-02-29 23:59:59Z", 1_709_251_199_000),
        ] {
            assert_eq!(parse(text), Some(ms), "{text}");
        }
        for text in ["", "latest", "2026-02-30", "2026-1-1", "2026-01-01T00:00:00", "2026-01-01T24:00:00Z", "2026-01-01T0:0:0Z"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_stamp_says_the_time_that_it_was_made_of() {
        assert_eq!(stamp(1_795_677_516_000), "2026-11-26T07-18-36Z");
        assert_eq!(stamp(1_709_251_199_999), "2024-02-29T23-59-59Z");
    }
}
