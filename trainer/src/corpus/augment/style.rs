//! Colours, line art, background and damage.

use rand::Rng;
use rand::seq::SliceRandom;

use super::{AugmentConfig, Canvas, chance, within};

/// Rec. 601 luma weights.
const LUMA: [f32; 3] = [0.299, 0.587, 0.114];
/// Gradient (0..255 a pixel) above which a line begins to show.
const LINE_THRESHOLD: [f64; 2] = [20.0, 60.0];
/// Gradient from a line's first grey to full black.
const LINE_RAMP: f32 = 60.0;

/// Applies the style operations in a fixed order, each with its probability.
pub(super) fn apply(canvas: &mut Canvas, config: &AugmentConfig, rng: &mut impl Rng) {
    if chance(rng, config.posterise_p) {
        posterise(canvas, rng);
    }
    if chance(rng, config.outline_p) {
        ink(canvas, 1.0, rng);
    } else if chance(rng, config.inked_p) {
        let wash = within(rng, [0.0, 0.5]) as f32;
        ink(canvas, wash, rng);
    }
    if chance(rng, config.hue_p) {
        rotate_hue(canvas, within(rng, [0.0, std::f64::consts::TAU]) as f32);
    }
    if chance(rng, config.recolour_p) {
        recolour(canvas, rng);
    }
    if chance(rng, config.jitter_p) {
        jitter(canvas, config.jitter, rng);
    }
    if chance(rng, config.auto_contrast_p) {
        auto_contrast(canvas);
    }
    if chance(rng, config.equalize_p) {
        equalize(canvas);
    }
    if chance(rng, config.gray_p) {
        saturate(canvas, 0.0);
    }
    if chance(rng, config.background_p) {
        background(canvas, rng);
    }
    if chance(rng, config.invert_p) {
        each(canvas, |value| 255.0 - value);
    }
    if chance(rng, config.blur_p) {
        blur(canvas);
    }
    if chance(rng, config.noise_p) {
        let strength = within(rng, [2.0, 12.0]);
        each(canvas, |value| value + ((rng.random::<f64>() - 0.5) * 2.0 * strength) as f32);
    }
    if chance(rng, config.erase_p) {
        erase(canvas, rng);
    }
}

fn each(canvas: &mut Canvas, mut change: impl FnMut(f32) -> f32) {
    for plane in &mut canvas.rgb {
        for value in plane.iter_mut() {
            *value = change(*value).clamp(0.0, 255.0);
        }
    }
}

/// Pillow's `ImageOps.autocontrast` without cutoff.
fn auto_contrast(canvas: &mut Canvas) {
    for plane in &mut canvas.rgb {
        let (low, high) = plane.iter().fold((f32::MAX, f32::MIN), |(low, high), value| (low.min(*value), high.max(*value)));
        if high > low {
            for value in plane.iter_mut() {
                *value = (*value - low) * 255.0 / (high - low);
            }
        }
    }
}

/// Pillow's `ImageOps.equalize`.
fn equalize(canvas: &mut Canvas) {
    for plane in &mut canvas.rgb {
        let level = |value: f32| value.round().clamp(0.0, 255.0) as usize;
        let mut histogram = [0usize; 256];
        for value in plane.iter() {
            histogram[level(*value)] += 1;
        }
        let last = histogram.iter().rev().find(|count| **count > 0).copied().unwrap_or(0);
        let step = (plane.len() - last) / 255;
        if step == 0 {
            continue;
        }
        let mut sum = step / 2;
        let table = histogram.map(|count| {
            let value = (sum / step).min(255) as f32;
            sum += count;
            value
        });
        for value in plane.iter_mut() {
            *value = table[level(*value)];
        }
    }
}

fn luma(canvas: &Canvas, index: usize) -> f32 {
    (0..3).map(|channel| canvas.rgb[channel][index] * LUMA[channel]).sum()
}

fn posterise(canvas: &mut Canvas, rng: &mut impl Rng) {
    let levels = rng.random_range(3..=6) as f32;
    each(canvas, |value| (value / 255.0 * (levels - 1.0)).round() / (levels - 1.0) * 255.0);
}

/// Draws dark lines where the picture or its silhouette has edges; the colours are washed out towards white by `wash` (1 = lines alone).
fn ink(canvas: &mut Canvas, wash: f32, rng: &mut impl Rng) {
    let threshold = within(rng, LINE_THRESHOLD) as f32;
    let dark = within(rng, [0.0, 60.0]) as f32;
    let mut line = edges(canvas, threshold);
    if rng.random_bool(0.5) {
        line = thicken(&line, canvas.side);
    }
    for plane in &mut canvas.rgb {
        for (value, line) in plane.iter_mut().zip(&line) {
            let washed = *value + (255.0 - *value) * wash;
            *value = washed + (dark - washed) * line;
        }
    }
}

/// Line strength 0..1 from the largest channel gradient, the silhouette counting as a channel.
fn edges(canvas: &Canvas, threshold: f32) -> Vec<f32> {
    let side = canvas.side;
    let mut strength = vec![0.0f32; side * side];
    let silhouette: Vec<f32> = canvas.alpha.iter().map(|alpha| alpha * 128.0).collect();
    for plane in canvas.rgb.iter().chain(std::iter::once(&silhouette)) {
        for y in 0..side {
            let (up, down) = (y.saturating_sub(1) * side, (y + 1).min(side - 1) * side);
            for x in 0..side {
                let (left, right) = (x.saturating_sub(1), (x + 1).min(side - 1));
                let dx = plane[y * side + right] - plane[y * side + left];
                let dy = plane[down + x] - plane[up + x];
                let magnitude = dx.abs().max(dy.abs());
                let cell = &mut strength[y * side + x];
                *cell = cell.max(magnitude);
            }
        }
    }
    strength.into_iter().map(|value| ((value - threshold) / LINE_RAMP).clamp(0.0, 1.0)).collect()
}

fn thicken(line: &[f32], side: usize) -> Vec<f32> {
    let mut out = line.to_vec();
    for y in 0..side {
        for x in 1..side {
            out[y * side + x] = out[y * side + x].max(line[y * side + x - 1]);
        }
    }
    for y in 1..side {
        for x in 0..side {
            out[y * side + x] = out[y * side + x].max(line[(y - 1) * side + x]);
        }
    }
    out
}

/// Rotates the hue about the grey axis.
fn rotate_hue(canvas: &mut Canvas, angle: f32) {
    let (sin, cos) = angle.sin_cos();
    let third = 1.0f32 / 3.0;
    let root = third.sqrt() * sin;
    let (own, next, last) = (cos + third * (1.0 - cos), third * (1.0 - cos) - root, third * (1.0 - cos) + root);
    mix(canvas, [[own, next, last], [last, own, next], [next, last, own]]);
}

/// Multiplies every pixel by a 3x3 matrix.
fn mix(canvas: &mut Canvas, matrix: [[f32; 3]; 3]) {
    for index in 0..canvas.alpha.len() {
        let pixel = [canvas.rgb[0][index], canvas.rgb[1][index], canvas.rgb[2][index]];
        for (channel, row) in matrix.iter().enumerate() {
            let value = row[0] * pixel[0] + row[1] * pixel[1] + row[2] * pixel[2];
            canvas.rgb[channel][index] = value.clamp(0.0, 255.0);
        }
    }
}

fn random_colour(rng: &mut impl Rng) -> [f32; 3] {
    [0; 3].map(|_| rng.random::<f32>() * 255.0)
}

fn recolour(canvas: &mut Canvas, rng: &mut impl Rng) {
    if rng.random_bool(0.5) {
        let mut order = [0usize, 1, 2];
        order.shuffle(rng);
        let mut matrix = [[0.0f32; 3]; 3];
        for (channel, &from) in order.iter().enumerate() {
            matrix[channel][from] = 1.0;
        }
        mix(canvas, matrix);
        return;
    }
    // A ramp from a dark colour to white by lightness, as single-colour icon sets look.
    let dark = random_colour(rng).map(|value| value * 0.6);
    for index in 0..canvas.alpha.len() {
        let light = luma(canvas, index) / 255.0;
        for (channel, dark) in dark.iter().enumerate() {
            canvas.rgb[channel][index] = dark + (255.0 - dark) * light;
        }
    }
}

fn jitter(canvas: &mut Canvas, strength: f64, rng: &mut impl Rng) {
    let mut factor = || within(rng, [1.0 - strength, 1.0 + strength]) as f32;
    let (brightness, contrast, saturation) = (factor(), factor(), factor());
    let count = canvas.alpha.len() as f32;
    let mean = (0..canvas.alpha.len()).map(|index| luma(canvas, index)).sum::<f32>() / count;
    each(canvas, |value| ((value - mean) * contrast + mean) * brightness);
    saturate(canvas, saturation);
}

fn saturate(canvas: &mut Canvas, factor: f32) {
    for index in 0..canvas.alpha.len() {
        let gray = luma(canvas, index);
        for plane in &mut canvas.rgb {
            plane[index] = (gray + (plane[index] - gray) * factor).clamp(0.0, 255.0);
        }
    }
}

/// Puts a colour in place of the white background.
fn background(canvas: &mut Canvas, rng: &mut impl Rng) {
    let colour = random_colour(rng);
    for (plane, colour) in canvas.rgb.iter_mut().zip(colour) {
        for (value, alpha) in plane.iter_mut().zip(&canvas.alpha) {
            *value = (*value + (1.0 - alpha) * (colour - 255.0)).clamp(0.0, 255.0);
        }
    }
}

fn blur(canvas: &mut Canvas) {
    let side = canvas.side;
    for plane in &mut canvas.rgb {
        // [1 2 1]/4 along rows, then along columns.
        for y in 0..side {
            let row = &mut plane[y * side..(y + 1) * side];
            let mut before = row[0];
            for x in 0..side {
                let after = row[(x + 1).min(side - 1)];
                let own = row[x];
                row[x] = (before + 2.0 * own + after) / 4.0;
                before = own;
            }
        }
        for x in 0..side {
            let mut before = plane[x];
            for y in 0..side {
                let after = plane[(y + 1).min(side - 1) * side + x];
                let own = plane[y * side + x];
                plane[y * side + x] = (before + 2.0 * own + after) / 4.0;
                before = own;
            }
        }
    }
}

fn erase(canvas: &mut Canvas, rng: &mut impl Rng) {
    let side = canvas.side;
    let mut span = || {
        let length = ((within(rng, [0.15, 0.4]) * side as f64) as usize).clamp(1, side);
        let start = rng.random_range(0..=side - length);
        start..start + length
    };
    let (rows, columns) = (span(), span());
    let colour = random_colour(rng);
    for (plane, colour) in canvas.rgb.iter_mut().zip(colour) {
        for y in rows.clone() {
            plane[y * side..][columns.clone()].fill(colour);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canvas(values: &[f32]) -> Canvas {
        let side = (values.len() as f64).sqrt() as usize;
        Canvas { side, rgb: [values.to_vec(), values.to_vec(), values.to_vec()], alpha: vec![1.0; values.len()] }
    }

    #[test]
    fn auto_contrast_stretches_each_channel_and_leaves_a_flat_one() {
        let mut stretched = canvas(&[50.0, 100.0, 75.0, 150.0]);
        stretched.rgb[2] = vec![7.0; 4];
        auto_contrast(&mut stretched);
        assert_eq!(stretched.rgb[0], [0.0, 127.5, 63.75, 255.0]);
        assert_eq!(stretched.rgb[2], [7.0; 4]);
    }

    /// Expected values from Pillow 13: `ImageOps.equalize` of 32 x 32 pixels, 256 of each of 10, 20, 30, 200.
    #[test]
    fn equalize_is_pillows() {
        let values: Vec<f32> = (0..1024).map(|at| [10.0, 20.0, 30.0, 200.0][at / 256]).collect();
        let mut flat = canvas(&values);
        equalize(&mut flat);
        let found: Vec<f32> = flat.rgb[0].iter().step_by(256).copied().collect();
        assert_eq!(found, [0.0, 85.0, 171.0, 255.0]);
    }
}
