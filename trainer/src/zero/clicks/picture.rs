//! What tells pictures apart: the SHA-256 of the file and a difference hash of what it shows.

use std::path::Path;

use astromech_schemas::manifest::hex;
use astromech_towers::{ImageLimits, decode_and_squash};
use sha2::{Digest as _, Sha256};

use super::pair::Pair;

/// Side that a picture is squashed to before its cells are averaged: 9 columns of 8 pixels, 8 rows of 9.
const SIDE: usize = 72;
const COLUMNS: usize = 9;
const ROWS: usize = 8;
/// Brightness (sum of three channels over a cell) that neighbours must differ by to count as a step: compression noise is below.
const STEP_MIN: u32 = 3 * (SIDE / COLUMNS * (SIDE / ROWS)) as u32;
/// A picture with fewer steps is nearly plain; such hashes say nothing and are not compared.
const STEPS_MIN: u32 = 4;

/// How a picture was identified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// Its file was read and decoded.
    Decoded,
    /// Its file was read, the decoder refused it.
    Undecodable,
    /// It is on the web, or named by its hash alone.
    Elsewhere,
    /// Its file is not there.
    Missing,
}

/// Reads a pair's picture where it is a file: sets its hashes.
pub(super) fn identify(pair: &mut Pair, image_root: Option<&Path>) -> Seen {
    let remote = pair.image.is_empty() || pair.image.starts_with("http://") || pair.image.starts_with("https://");
    if remote {
        return Seen::Elsewhere;
    }
    let root = image_root.unwrap_or_else(|| Path::new(&pair.root));
    let Ok(bytes) = std::fs::read(root.join(&pair.image)) else { return Seen::Missing };
    pair.hash = hex(&Sha256::digest(&bytes));
    match decode_and_squash(&bytes, SIDE as u32, &ImageLimits::default()) {
        Ok(square) => {
            pair.dhash = dhash(square.pixels());
            Seen::Decoded
        }
        Err(_) => Seen::Undecodable,
    }
}

/// Difference hash (dHash, N. Krawetz 2013): bit r·8 + c is set where cell c of row r is darker than the cell to its right.
fn dhash(rgb: &[u8]) -> Option<u64> {
    let mut cells = [[0u32; COLUMNS]; ROWS];
    for (index, pixel) in rgb.chunks_exact(3).enumerate() {
        let (x, y) = (index % SIDE, index / SIDE);
        cells[y / (SIDE / ROWS)][x / (SIDE / COLUMNS)] += pixel.iter().map(|&value| u32::from(value)).sum::<u32>();
    }
    let (mut hash, mut steps) = (0u64, 0);
    for pair in cells.iter().flat_map(|row| row.windows(2)) {
        let rises = pair[1] > pair[0] + STEP_MIN;
        hash = hash << 1 | u64::from(rises);
        steps += u32::from(rises || pair[0] > pair[1] + STEP_MIN);
    }
    (steps >= STEPS_MIN).then_some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(shift: u8, plain: bool) -> Vec<u8> {
        let pixel = |i: usize| {
            let (x, y) = (i % SIDE, i / SIDE);
            if plain { [200; 3] } else { [((x * 7 + y * 13) % 200) as u8 + shift; 3] }
        };
        (0..SIDE * SIDE).flat_map(pixel).collect()
    }

    #[test]
    fn brightness_does_not_change_the_hash_and_plain_pictures_have_none() {
        let hash = dhash(&drawn(0, false)).unwrap();
        assert_eq!(dhash(&drawn(20, false)), Some(hash));
        assert_eq!(dhash(&drawn(0, true)), None);
    }
}
