//! Why one record can never be applied.

use astromech_schemas::dead_letter::Reason;

/// A permanent fault of one record: what its dead letter says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// For machines.
    pub reason: Reason,
    /// For people: field, problem, fix.
    pub detail: String,
}

/// Longest detail, bytes: a header of a dead letter is no place for a document.
const DETAIL_BYTES_MAX: usize = 2048;

impl Fault {
    /// A fault; a long detail is cut at a character.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        if detail.len() > DETAIL_BYTES_MAX {
            let end = (0..=DETAIL_BYTES_MAX - 3).rev().find(|at| detail.is_char_boundary(*at)).unwrap_or(0);
            detail.truncate(end);
            detail.push('…');
        }
        Self { reason, detail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_detail_is_cut_at_a_character() {
        let fault = Fault::new(Reason::InvalidRecord, "车".repeat(2000));
        assert!(fault.detail.len() <= DETAIL_BYTES_MAX && fault.detail.ends_with('…'));
    }
}
