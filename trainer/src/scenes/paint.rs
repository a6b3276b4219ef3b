//! Pixels of a scene.

use image::RgbaImage;
use rand::Rng;

use super::cutout::TINTS;
use super::layout::Spot;
use super::stock::Stock;

/// Darkest channel of a ground: objects and tints stand out from it.
const GROUND_MIN: u8 = 185;
/// Part of the grounds that are plain white.
const WHITE_P: f64 = 0.25;
/// A tint's darkest part: the object's dark pixels keep that much of it, in 256ths.
const SHADE: u32 = 90;

/// A light colour that runs into another from above to below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ground([[u8; 3]; 2]);

impl Ground {
    /// Draws one.
    pub(super) fn draw(rng: &mut impl Rng) -> Self {
        if rng.random_bool(WHITE_P) {
            return Self([[255; 3]; 2]);
        }
        let mut light = || [0; 3].map(|_: u8| rng.random_range(GROUND_MIN..=255));
        let (above, below) = (light(), light());
        Self(if rng.random_bool(0.5) { [above, above] } else { [above, below] })
    }
}

/// One object of a scene.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Thing {
    /// Index of the cut-out.
    pub(super) cutout: usize,
    /// Index of its tint.
    pub(super) tint: Option<usize>,
    pub(super) spot: Spot,
    /// Index of its size.
    pub(super) size: usize,
}

/// Paints a scene: `side * side * 3` bytes, row by row.
pub(super) fn paint(stock: &Stock, ground: Ground, things: &[Thing]) -> Vec<u8> {
    let side = stock.side;
    let Ground([above, below]) = ground;
    let mut canvas = Vec::with_capacity(side * side * 3);
    for y in 0..side {
        let mix = |channel: usize| {
            let (from, to) = (usize::from(above[channel]), usize::from(below[channel]));
            ((from * (side - y) + to * y) / side) as u8
        };
        let colour = [mix(0), mix(1), mix(2)];
        canvas.extend(std::iter::repeat_n(colour, side).flatten());
    }
    for thing in things {
        let object = stock.cutouts[thing.cutout].scaled(thing.size, side);
        blend(&mut canvas, side, object, thing);
    }
    canvas
}

/// Lays one object over what is there.
fn blend(canvas: &mut [u8], side: usize, object: &RgbaImage, thing: &Thing) {
    let (width, height) = (object.width() as i32, object.height() as i32);
    let [left, top] = [(0, width), (1, height)].map(|(axis, edge)| {
        let centre = thing.spot[axis] * side as f32;
        (centre - edge as f32 / 2.0).round() as i32
    });
    let tint = thing.tint.map(|index| TINTS[index].rgb);
    for (y, row) in object.as_raw().chunks_exact(object.width() as usize * 4).enumerate() {
        let to_y = top + y as i32;
        if to_y < 0 || to_y >= side as i32 {
            continue;
        }
        for (x, pixel) in row.chunks_exact(4).enumerate() {
            let to_x = left + x as i32;
            if pixel[3] == 0 || to_x < 0 || to_x >= side as i32 {
                continue;
            }
            let at = (to_y as usize * side + to_x as usize) * 3;
            let colours = tint.map_or([pixel[0], pixel[1], pixel[2]], |tint| tinted(pixel, tint));
            let through = 255 - u32::from(pixel[3]);
            for (under, over) in canvas[at..at + 3].iter_mut().zip(colours) {
                *under = (u32::from(over) + (u32::from(*under) * through + 127) / 255).min(255) as u8;
            }
        }
    }
}

/// A premultiplied pixel in a tint: its brightness is kept, its colour isn't.
fn tinted(pixel: &[u8], tint: [u8; 3]) -> [u8; 3] {
    let [r, g, b, alpha] = [0, 1, 2, 3].map(|channel| u32::from(pixel[channel]));
    let light = (r * 77 + g * 150 + b * 29) / 256;
    let strength = (alpha * SHADE + light * (256 - SHADE)) / 256;
    tint.map(|channel| (u32::from(channel) * strength / 255) as u8)
}
