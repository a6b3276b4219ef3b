//! Masked language modelling: which tokens are hidden (BERT, as ALBEF applies it to pairs; docs/R2D2.md §2.3).

use rand::Rng;

/// Label of a token that is not to be guessed.
pub const NOT_MASKED: i64 = -100;
/// Of the chosen tokens, how many become [MASK]; of the rest one half becomes a random token, one half stays.
const REPLACED_BY_MASK: f64 = 0.8;

/// How tokens are hidden.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MaskSettings {
    /// Probability of each token but the first and last (`[CLS]`, `[SEP]`).
    pub probability: f64,
    /// Id of `[MASK]`.
    pub mask: i64,
    /// Tokens of the vocabulary.
    pub vocabulary: i64,
}

/// Ids with some hidden, and for every place its true id or [`NOT_MASKED`].
pub fn mask_tokens(ids: &[i64], settings: &MaskSettings, rng: &mut impl Rng) -> (Vec<i64>, Vec<i64>) {
    let (mut hidden, mut labels) = (ids.to_vec(), vec![NOT_MASKED; ids.len()]);
    let last = ids.len().saturating_sub(1);
    for place in 1..last {
        if rng.random::<f64>() >= settings.probability {
            continue;
        }
        labels[place] = ids[place];
        let fate = rng.random::<f64>();
        if fate < REPLACED_BY_MASK {
            hidden[place] = settings.mask;
        } else if fate < f64::midpoint(REPLACED_BY_MASK, 1.0) {
            hidden[place] = rng.random_range(0..settings.vocabulary);
        }
    }
    (hidden, labels)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn masking_follows_its_rates_and_spares_the_ends() {
        let settings = MaskSettings { probability: 0.15, mask: 103, vocabulary: 21_128 };
        let ids: Vec<i64> = std::iter::once(101).chain((0..20_000).map(|i| 1000 + i % 7000)).chain([102]).collect();
        let (hidden, labels) = mask_tokens(&ids, &settings, &mut StdRng::seed_from_u64(3));
        assert_eq!((hidden[0], hidden[ids.len() - 1], labels[0]), (101, 102, NOT_MASKED));
        let chosen: Vec<usize> = (0..ids.len()).filter(|&place| labels[place] != NOT_MASKED).collect();
        let part = |count: usize, of: usize| count as f64 / of as f64;
        assert!((part(chosen.len(), ids.len()) - 0.15).abs() < 0.01);
        let masked = chosen.iter().filter(|&&place| hidden[place] == 103).count();
        let kept = chosen.iter().filter(|&&place| hidden[place] == ids[place]).count();
        assert!((part(masked, chosen.len()) - 0.8).abs() < 0.03);
        assert!((part(kept, chosen.len()) - 0.1).abs() < 0.03);
        assert!(chosen.iter().all(|&place| labels[place] == ids[place]));
        assert!((0..ids.len()).all(|place| labels[place] != NOT_MASKED || hidden[place] == ids[place]));
    }
}
