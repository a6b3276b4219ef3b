//! What `--to` may say.

use chrono::DateTime;

use crate::source::groups::Target;

/// One `--to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum To {
    /// Every partition.
    Everywhere(Target),
    /// One partition.
    Partition {
        /// Its topic.
        topic: String,
        /// Its number.
        partition: i32,
        /// Where it is set.
        offset: i64,
    },
}

/// Reads `earliest`, `latest`, a time, or `topic:partition=offset`.
pub(super) fn parse(text: &str) -> Result<To, String> {
    match text {
        "earliest" => return Ok(To::Everywhere(Target::Earliest)),
        "latest" => return Ok(To::Everywhere(Target::Latest)),
        _ => {}
    }
    if let Some((place, offset)) = text.split_once('=') {
        let (topic, partition) = place.rsplit_once(':').ok_or_else(|| format!("`{place}` is not topic:partition"))?;
        let number = |text: &str| text.parse::<i64>().ok().filter(|number| *number >= 0);
        let partition = number(partition).and_then(|number| i32::try_from(number).ok());
        let partition = partition.ok_or_else(|| format!("`{place}` has no number of a partition"))?;
        let offset = number(offset).ok_or_else(|| format!("`{offset}` is no offset"))?;
        return Ok(To::Partition { topic: topic.to_owned(), partition, offset });
    }
    let time = DateTime::parse_from_rfc3339(text).map(|time| time.timestamp_millis()).ok();
    let time = time.or_else(|| text.parse().ok()).filter(|time| *time >= 0);
    let time = time.ok_or(
        "not earliest, latest, a time such as 2026-11-26T08:00:00Z or in milliseconds since 1970, or topic:partition=offset",
    )?;
    Ok(To::Everywhere(Target::Time(time)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_target_is_read_and_others_are_named() {
        for (text, expected) in [
            ("earliest", To::Everywhere(Target::Earliest)),
            ("latest", To::Everywhere(Target::Latest)),
            ("1700000000123", To::Everywhere(Target::Time(1_700_000_000_123))),
            ("2023-11-14T22:13:20.123Z", To::Everywhere(Target::Time(1_700_000_000_123))),
            ("2023-11-15T00:13:20.123+02:00", To::Everywhere(Target::Time(1_700_000_000_123))),
            ("a:b:3=17", To::Partition { topic: "a:b".to_owned(), partition: 3, offset: 17 }),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        for text in ["", "newest", "-5", "2023-11-14", "t=1", "t:x=1", "t:1=-1", "t:1=x", "t:99999999999=1"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
