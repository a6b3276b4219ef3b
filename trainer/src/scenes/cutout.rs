//! Objects cut out of their white paper, tinted and scaled.

use std::ops::RangeInclusive;
use std::sync::OnceLock;

use image::imageops::{FilterType, resize};
use image::{Rgba, RgbaImage};

use crate::corpus::Picture;

/// Edges of an object, as parts of the scene's: each cut-out is scaled to each of them once.
pub(super) const SIZES: [f32; 7] = [0.20, 0.24, 0.28, 0.32, 0.36, 0.40, 0.46];
/// Part of the picture that an object covers at least and at most: else no background was found, or nothing is left.
const COVERED: RangeInclusive<f64> = 0.04..=0.92;
/// Chroma from which a pixel has a colour.
const CHROMA_MIN: i32 = 60;
/// Part of an object's pixels from which a colour is its own.
const OWN_MIN: f64 = 0.2;

/// A colour that an object can be given.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tint {
    /// Its name, such as 红色.
    pub name: &'static str,
    /// Its full tone.
    pub rgb: [u8; 3],
    /// Degrees on the wheel of hues that are called by this name.
    hues: [f64; 2],
}

/// The tints. They part the wheel of hues among them.
pub const TINTS: [Tint; 5] = [
    Tint { name: "红色", rgb: [225, 35, 35], hues: [340.0, 22.0] },
    Tint { name: "黄色", rgb: [245, 205, 25], hues: [35.0, 70.0] },
    Tint { name: "绿色", rgb: [40, 165, 60], hues: [70.0, 170.0] },
    Tint { name: "蓝色", rgb: [40, 90, 225], hues: [180.0, 255.0] },
    Tint { name: "紫色", rgb: [150, 55, 190], hues: [255.0, 325.0] },
];

/// An object.
#[derive(Debug)]
pub(super) struct Cutout {
    /// Bounding box of the object, colours multiplied by alpha: scaled otherwise, the paper would shine through at the rim.
    object: RgbaImage,
    scaled: [OnceLock<RgbaImage>; SIZES.len()],
    /// Tints, one bit each, that the object has by itself: given to it they would say nothing.
    pub(super) own: u8,
}

impl Cutout {
    /// Cuts an object out; none where the picture has no white background, or nothing on it.
    pub(super) fn of(picture: &Picture) -> Option<Self> {
        let side = picture.side as u32;
        let source = RgbaImage::from_raw(side, side, picture.rgba.clone())?;
        let opaque: Vec<(u32, u32)> = source.enumerate_pixels().filter(|(_, _, p)| p[3] > 0).map(|(x, y, _)| (x, y)).collect();
        let covered = opaque.len() as f64 / f64::from(side * side);
        if !COVERED.contains(&covered) {
            return None;
        }
        let (left, right) = (opaque.iter().map(|p| p.0).min()?, opaque.iter().map(|p| p.0).max()?);
        let (top, bottom) = (opaque.iter().map(|p| p.1).min()?, opaque.iter().map(|p| p.1).max()?);
        let object = RgbaImage::from_fn(right - left + 1, bottom - top + 1, |x, y| {
            let pixel = *source.get_pixel(left + x, top + y);
            if pixel[3] > 0 { pixel } else { Rgba([0; 4]) }
        });
        let own = own_tints(opaque.iter().map(|&(x, y)| source.get_pixel(x, y)));
        Some(Self { object, scaled: Default::default(), own })
    }

    /// The object with its longer edge at size `size` of [`SIZES`], for a scene of `side` pixels.
    pub(super) fn scaled(&self, size: usize, side: usize) -> &RgbaImage {
        self.scaled[size].get_or_init(|| {
            let wanted = (SIZES[size] * side as f32).round().max(2.0);
            let (width, height) = self.object.dimensions();
            let factor = wanted / width.max(height) as f32;
            let edge = |length: u32| ((length as f32 * factor).round() as u32).max(1);
            resize(&self.object, edge(width), edge(height), FilterType::Triangle)
        })
    }
}

/// Bits of the tints that at least [`OWN_MIN`] of the pixels have.
fn own_tints<'a>(pixels: impl Iterator<Item = &'a Rgba<u8>>) -> u8 {
    let (mut all, mut counts) = (0u32, [0u32; TINTS.len()]);
    for pixel in pixels {
        all += 1;
        let hue = hue(*pixel);
        let within = |tint: &Tint| {
            let [low, high] = tint.hues;
            hue.is_some_and(|hue| if low < high { hue >= low && hue < high } else { hue >= low || hue < high })
        };
        for (count, tint) in counts.iter_mut().zip(&TINTS) {
            *count += u32::from(within(tint));
        }
    }
    let own = |count: u32| f64::from(count) >= OWN_MIN * f64::from(all);
    counts.iter().enumerate().fold(0, |bits, (index, &count)| bits | u8::from(own(count)) << index)
}

/// Degrees on the wheel of hues; none for greys.
fn hue(pixel: Rgba<u8>) -> Option<f64> {
    let [r, g, b] = [0, 1, 2].map(|channel| i32::from(pixel[channel]));
    let (high, low) = (r.max(g).max(b), r.min(g).min(b));
    let chroma = high - low;
    if chroma < CHROMA_MIN {
        return None;
    }
    let sector = |from: i32, minus: i32, turn: f64| f64::from(from - minus) / f64::from(chroma) + turn;
    let sextant = if high == r {
        sector(g, b, 0.0)
    } else if high == g {
        sector(b, r, 2.0)
    } else {
        sector(r, g, 4.0)
    };
    Some((sextant * 60.0).rem_euclid(360.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of one colour on white paper.
    fn square(colour: [u8; 3]) -> Picture {
        let side = 32;
        let inside = |i: usize| (8..24).contains(&(i % side)) && (4..28).contains(&(i / side));
        let pixel = |i: usize| if inside(i) { [colour[0], colour[1], colour[2], 255] } else { [255, 255, 255, 0] };
        Picture { side, rgba: (0..side * side).flat_map(pixel).collect() }
    }

    #[test]
    fn every_tint_is_known_as_an_object_s_own_and_grey_is_none() {
        for (index, tint) in TINTS.iter().enumerate() {
            assert_eq!(Cutout::of(&square(tint.rgb)).unwrap().own, 1 << index, "{}", tint.name);
        }
        assert_eq!(Cutout::of(&square([120, 120, 120])).unwrap().own, 0);
    }

    #[test]
    fn a_scaled_object_has_no_white_rim() {
        let cutout = Cutout::of(&square([200, 0, 0])).unwrap();
        let scaled = cutout.scaled(0, 64);
        assert_eq!(scaled.dimensions(), (9, 13));
        // Premultiplied: no channel is above alpha, and where there is no red there is nothing.
        assert!(scaled.pixels().all(|p| p[1] == 0 && p[2] == 0 && p[0] <= p[3]));
    }

    #[test]
    fn a_picture_without_a_background_is_no_object() {
        let side = 16;
        let full = Picture { side, rgba: [10, 20, 30, 255].repeat(side * side) };
        assert!(Cutout::of(&full).is_none());
        let empty = Picture { side, rgba: [255, 255, 255, 0].repeat(side * side) };
        assert!(Cutout::of(&empty).is_none());
    }
}
