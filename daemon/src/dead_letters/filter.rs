//! Which dead letters are meant.

use super::Letter;

/// Every condition that is set must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// One of these reasons; any where empty.
    pub reasons: Vec<String>,
    /// Topic that the record came from.
    pub topic: Option<String>,
    /// Partition that the record came from.
    pub partition: Option<i32>,
    /// Key of the record, byte for byte.
    pub key: Option<Vec<u8>>,
    /// It became a dead letter at this time or later, milliseconds since 1970.
    pub since_ms: Option<i64>,
    /// It became a dead letter before this time.
    pub until_ms: Option<i64>,
}

impl Filter {
    /// Whether nothing is set: every letter is meant.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether `letter` is meant.
    pub fn holds(&self, letter: &Letter) -> bool {
        let origin = letter.origin.as_ref();
        // A letter without a time is never in a span of time.
        let time = letter.timestamp_ms;
        (self.reasons.is_empty() || self.reasons.contains(&letter.reason))
            && self.topic.as_ref().is_none_or(|topic| origin.is_some_and(|origin| origin.topic == *topic))
            && self.partition.is_none_or(|partition| origin.is_some_and(|origin| origin.partition == partition))
            && self.key.as_ref().is_none_or(|key| letter.key.as_ref() == Some(key))
            && self.since_ms.is_none_or(|since| time.is_some_and(|time| time >= since))
            && self.until_ms.is_none_or(|until| time.is_some_and(|time| time < until))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Origin;
    use super::*;

    #[test]
    fn every_condition_that_is_set_must_hold() {
        let letter = Letter {
            partition: 0,
            offset: 0,
            timestamp_ms: Some(1000),
            reason: "invalid_image".to_owned(),
            detail: String::new(),
            origin: Some(Origin { topic: "t".to_owned(), partition: 2, offset: 7 }),
            record_time_ms: None,
            key: Some(b"k".to_vec()),
            value: None,
            headers: Vec::new(),
        };
        let all = Filter {
            reasons: vec!["url_not_found".to_owned(), "invalid_image".to_owned()],
            topic: Some("t".to_owned()),
            partition: Some(2),
            key: Some(b"k".to_vec()),
            since_ms: Some(1000),
            until_ms: Some(1001),
        };
        assert!(all.holds(&letter) && Filter::default().holds(&letter) && Filter::default().is_empty() && !all.is_empty());
        for other in [
            Filter { reasons: vec!["invalid_key".to_owned()], ..all.clone() },
            Filter { topic: Some("u".to_owned()), ..all.clone() },
            Filter { partition: Some(1), ..all.clone() },
            Filter { key: Some(b"kk".to_vec()), ..all.clone() },
            Filter { since_ms: Some(1001), ..all.clone() },
            Filter { until_ms: Some(1000), ..all.clone() },
        ] {
            assert!(!other.holds(&letter), "{other:?}");
        }
        assert!(!all.holds(&Letter { origin: None, ..letter }));
    }
}
