//! From a record to a change, by the rules that the trainer reads records by too.

use astromech_schemas::RecordLimits;
pub use astromech_schemas::record::{Decoded, TopicRules, VersionRule};
use astromech_schemas::record::{Refused, decode_record};

use crate::prepare::Fault;
use crate::source::Record;

impl From<Refused> for Fault {
    fn from(refused: Refused) -> Self {
        Self::new(refused.reason, refused.detail)
    }
}

/// Reads `record` by the rules of its topic.
///
/// # Errors
/// A [`Fault`] that names the field, the problem and the fix.
pub fn decode(record: &Record, rules: TopicRules, limits: &RecordLimits) -> Result<Decoded, Fault> {
    decode_value(record, record.value.as_deref(), rules, limits)
}

/// As [`decode`], with the JSON that the record's value stands for.
pub(super) fn decode_value(
    record: &Record,
    value: Option<&[u8]>,
    rules: TopicRules,
    limits: &RecordLimits,
) -> Result<Decoded, Fault> {
    Ok(decode_record(record, value, rules, limits)?)
}
