//! Vectors in their two forms: exact on disk, and short in memory with a bound on what that changes.

use simsimd::{SpatialSimilarity as _, bf16};

/// Unit vectors of one named vector, shortened to bf16: half the bytes to read of f32, and SimSIMD sums their products in f32 on every
/// processor (its f16 sums in f16 where AVX512-FP16 is there).
#[derive(Debug, Clone)]
pub(super) struct Short {
    /// One after another, each of the space's length.
    pub(super) numbers: Box<[bf16]>,
    /// Largest distance of a unit vector to its short form.
    pub(super) error: f32,
}

impl Short {
    pub(super) fn of(vectors: &[f32], dim: usize) -> Self {
        let mut numbers = Vec::with_capacity(vectors.len());
        let mut error = 0.0_f64;
        for vector in vectors.chunks_exact(dim) {
            let scale = norm(vector).recip();
            let scale = if scale.is_finite() { scale } else { 0.0 };
            let mut squares = 0.0;
            for number in vector {
                let unit = f64::from(*number) * scale;
                let short = shorten(unit as f32);
                squares += (unit - f64::from(lengthen(short))).powi(2);
                numbers.push(short);
            }
            error = error.max(squares.sqrt());
        }
        Self { numbers: numbers.into(), error: error as f32 }
    }
}

fn norm(vector: &[f32]) -> f64 {
    vector.iter().map(|number| f64::from(*number).powi(2)).sum::<f64>().sqrt()
}

/// Rounds to the nearest; vectors are finite (see `guard::check_vector`) and of length 1 here.
fn shorten(number: f32) -> bf16 {
    let bits = number.to_bits();
    bf16((bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16)
}

fn lengthen(number: bf16) -> f32 {
    f32::from_bits(u32::from(number.0) << 16)
}

/// About the mean over the query's vectors of the best product among the item's: their cosine where each has one.
pub(super) fn near(query: &[bf16], item: &[bf16], dim: usize) -> f32 {
    let dot = |a: &[bf16], b: &[bf16]| bf16::dot(a, b).unwrap_or_default() as f32;
    if query.len() == dim && item.len() == dim {
        return dot(query, item);
    }
    let best = |token: &[bf16]| item.chunks_exact(dim).map(|other| dot(token, other)).fold(f32::NEG_INFINITY, f32::max);
    query.chunks_exact(dim).map(best).sum::<f32>() / (query.len() / dim) as f32
}

/// By how much [`near`] may differ from [`exact`], for vectors whose short forms are this far from them. By Cauchy and Schwarz
/// `|q·v - q'·v'| <= |q - q'| |v| + |q'| |v - v'|`; a best or a mean of such differs by no more. The rest is the sum's own rounding.
pub(super) fn bound(query_error: f32, item_error: f32, dim: usize) -> f32 {
    query_error + (1.0 + query_error) * item_error + dim as f32 * f32::EPSILON * 2.0
}

/// As [`near`], of the vectors as they were given, in f64.
pub(super) fn exact(query: &[f32], item: &[f32], dim: usize) -> f32 {
    let scaled = |vectors: &[f32]| -> Vec<f64> { vectors.chunks_exact(dim).map(|vector| norm(vector).recip()).collect() };
    let item_scales = scaled(item);
    let best = |token: &[f32], scale: f64| {
        let cosine = |(other, other_scale): (&[f32], &f64)| {
            let dot: f64 = token.iter().zip(other).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            let cosine = dot * scale * other_scale;
            // A vector of zeros has no direction.
            if cosine.is_finite() { cosine } else { 0.0 }
        };
        item.chunks_exact(dim).zip(&item_scales).map(cosine).fold(f64::NEG_INFINITY, f64::max)
    };
    let tokens = query.chunks_exact(dim).zip(scaled(query));
    (tokens.map(|(token, scale)| best(token, scale)).sum::<f64>() / (query.len() / dim) as f64) as f32
}

/// As the database keeps them.
pub(super) fn to_blob(vectors: &[f32]) -> Vec<u8> {
    vectors.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// Reads [`to_blob`]; what is no whole number of f32 is cut.
pub(super) fn from_blob(blob: &[u8]) -> Vec<f32> {
    blob.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seeded pseudo-random numbers from -1 to 1 (splitmix64).
    fn random(seed: u64, count: usize) -> Vec<f32> {
        let mut state = seed;
        let next = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
        };
        std::iter::repeat_with(next).take(count).collect()
    }

    #[test]
    fn the_short_form_is_never_further_from_the_exact_score_than_its_bound() {
        for (dim, tokens) in [(1, 1), (3, 1), (32, 1), (255, 1), (256, 1), (768, 1), (32, 7)] {
            for seed in 0..200 {
                let (query, item) = (random(seed, dim * tokens), random(seed + 1000, dim * tokens));
                let (short_query, short_item) = (Short::of(&query, dim), Short::of(&item, dim));
                let about = near(&short_query.numbers, &short_item.numbers, dim);
                let off = (about - exact(&query, &item, dim)).abs();
                let most = bound(short_query.error, short_item.error, dim);
                assert!(off <= most, "{dim} {tokens} {seed}: {off} > {most}");
                assert!(most < 0.01, "a bound of {most} would not narrow anything");
            }
        }
    }

    #[test]
    fn a_vector_of_zeros_scores_nothing_and_lengths_do_not_count() {
        let (unit, zeros) = ([0.6, 0.8], [0.0, 0.0]);
        assert_eq!(exact(&unit, &zeros, 2), 0.0);
        assert_eq!(near(&Short::of(&unit, 2).numbers, &Short::of(&zeros, 2).numbers, 2), 0.0);
        assert!((exact(&unit, &[6.0, 8.0], 2) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn a_blob_gives_back_the_very_numbers() {
        let numbers = random(3, 100);
        assert_eq!(from_blob(&to_blob(&numbers)), numbers);
    }
}
