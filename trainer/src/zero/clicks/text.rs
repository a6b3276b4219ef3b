//! Near-duplicate texts: MinHash over character 3-grams (Broder 1997), banded.

use super::spill::{hash64, mix};

/// Characters a gram.
const GRAM: usize = 3;

/// Letters and digits alone, in lower case, full-width forms as ASCII.
pub(super) fn normalise(text: &str) -> Vec<char> {
    let narrow = |c: char| match u32::from(c) {
        code @ 0xFF01..=0xFF5E => char::from_u32(code - 0xFEE0).unwrap_or(c),
        _ => c,
    };
    text.chars().map(narrow).filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Hashes of the 3-grams of a normalised text, each once, in ascending order.
pub(super) fn grams(text: &[char]) -> Vec<u64> {
    let hash = |gram: &[char]| hash64(0, gram.iter().collect::<String>().as_bytes());
    let mut grams: Vec<u64> = text.windows(GRAM).map(hash).collect();
    grams.sort_unstable();
    grams.dedup();
    grams
}

/// One key a band: texts that share a key may be near-duplicates. Two texts of similarity s share one with probability
/// 1 - (1 - s^rows)^bands.
pub(super) fn band_keys(grams: &[u64], bands: usize, rows: usize) -> Vec<u64> {
    let least = |row: usize| grams.iter().map(|&gram| mix(gram ^ mix(row as u64 + 1))).min().unwrap_or(0);
    let key = |band: usize| (band * rows..(band + 1) * rows).fold(mix(!(band as u64)), |key, row| mix(key ^ least(row)));
    (0..bands).map(key).collect()
}

/// True where two texts share at least `least` of all their grams (Jaccard). Lengths alone rule most pairs out.
pub(super) fn similar(a: &[u64], b: &[u64], least: f64) -> bool {
    let (short, long) = if a.len() < b.len() { (a, b) } else { (b, a) };
    if short.is_empty() || (short.len() as f64) < least * long.len() as f64 {
        return false;
    }
    let (mut shared, mut at) = (0usize, 0);
    for gram in short {
        at += long[at..].partition_point(|other| other < gram);
        shared += usize::from(long.get(at) == Some(gram));
    }
    shared as f64 >= least * (a.len() + b.len() - shared) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn width_case_and_punctuation_do_not_tell_texts_apart() {
        assert_eq!(normalise("Ａ红色，Ford 车！"), normalise("a红色 ford车"));
    }

    #[test]
    fn near_texts_share_a_band_and_far_ones_do_not() {
        let of = |text: &str| grams(&normalise(text));
        let base = "一只棕色的小狗在绿色的草地上奔跑追逐一个红色的皮球天气晴朗阳光明媚孩子们在旁边笑着看它";
        let (a, near) = (of(base), of(&format!("{base}玩")));
        let far = of("城市夜景高楼大厦灯火辉煌车水马龙的街道上人来人往热闹非凡霓虹灯闪烁不停直到深夜才安静下来");
        assert!(similar(&a, &near, 0.9) && similar(&near, &a, 0.9) && !similar(&a, &near, 0.999) && !similar(&a, &far, 0.1));
        let shared =
            |x: &[u64], y: &[u64]| band_keys(x, 16, 4).iter().zip(band_keys(y, 16, 4)).filter(|(a, b)| **a == *b).count();
        assert!(shared(&a, &near) > 0);
        assert_eq!(shared(&a, &far), 0);
    }
}
