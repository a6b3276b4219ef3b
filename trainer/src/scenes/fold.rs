//! Which combinations of concepts are seen in training. Unordered pairs are held out: with ordered ones the twin would be seen.

use sha2::{Digest, Sha256};

/// Hundredths of the pairs held out for test, and for validation.
const HELD_OUT_PERCENT: [u64; 2] = [10, 10];

/// Part of the combinations that a pair of concepts belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fold {
    /// Seen in training.
    Train,
    /// For choosing settings and weights.
    Val,
    /// For the figures that are reported.
    Test,
}

impl Fold {
    /// The fold of an unordered pair of names; a name with itself stands for the concept alone. It follows from the names and nothing else,
    /// so that runs of any seed and corpus agree on what is held out.
    pub fn of(one: &str, other: &str) -> Self {
        let (first, second) = if one <= other { (one, other) } else { (other, one) };
        let at = hash(&[first, "|", second]) % 100;
        let [test, val] = HELD_OUT_PERCENT;
        if at < test {
            Self::Test
        } else if at < test + val {
            Self::Val
        } else {
            Self::Train
        }
    }

    /// Whether a scene of this fold may show a pair beside the one that decides: training shows none held out, validation none of the
    /// test's.
    pub(super) fn allows(self, beside: Self) -> bool {
        match self {
            Self::Train => beside == Self::Train,
            Self::Val => beside != Self::Test,
            Self::Test => true,
        }
    }
}

/// Eight bytes of a digest of words.
pub(super) fn hash(words: &[&str]) -> u64 {
    let digest = words.iter().fold(Sha256::new(), Digest::chain_update).finalize();
    digest.iter().take(8).fold(0, |value, &byte| value << 8 | u64::from(byte))
}
