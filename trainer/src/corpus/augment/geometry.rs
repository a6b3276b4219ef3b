//! Crop, aspect, rotation, shear and flip as one affine map, sampled bilinearly.

use rand::Rng;

use super::{AugmentConfig, Canvas, chance, within};
use crate::corpus::pictures::Picture;

/// Output square (centre 0, side 1) → source square of the same convention.
pub(super) struct Transform {
    matrix: [f32; 4],
    shift: [f32; 2],
}

impl Transform {
    /// Draws one.
    pub(super) fn draw(config: &AugmentConfig, rng: &mut impl Rng) -> Self {
        let scale = within(rng, config.crop_scale);
        let [low, high] = config.crop_ratio;
        let ratio = within(rng, [low.ln(), high.ln()]).exp().sqrt();
        let (width, height) = (scale * ratio, scale / ratio);
        let affine = chance(rng, config.affine_p);
        let strength = if affine { 1.0 } else { 0.0 };
        let angle = within(rng, [-config.rotate_deg, config.rotate_deg]).to_radians() * strength;
        let shear = within(rng, [-config.shear, config.shear]) * strength;
        // The crop may lie anywhere in the picture (or the picture anywhere in the crop, when zoomed out).
        let slack_x = (1.0 - width).abs() / 2.0;
        let slack_y = (1.0 - height).abs() / 2.0;
        let shift = [within(rng, [-slack_x, slack_x]) as f32, within(rng, [-slack_y, slack_y]) as f32];
        let flip = if chance(rng, config.flip_p) { -1.0 } else { 1.0 };
        let (sin, cos) = angle.sin_cos();
        let (w, h) = (width * flip, height);
        let matrix = [cos * w, (cos * shear - sin) * h, sin * w, (sin * shear + cos) * h].map(|value| value as f32);
        Self { matrix, shift }
    }
}

/// Samples the picture through the transform; outside of it lies transparent white.
pub(super) fn sample(picture: &Picture, side: usize, transform: &Transform) -> Canvas {
    let pixels = side * side;
    let mut rgb = [vec![255.0f32; pixels], vec![255.0f32; pixels], vec![255.0f32; pixels]];
    let mut alpha = vec![0.0f32; pixels];
    let [xx, xy, yx, yy] = transform.matrix;
    let source = picture.side as f32;
    for y in 0..side {
        let v = (y as f32 + 0.5) / side as f32 - 0.5;
        for x in 0..side {
            let u = (x as f32 + 0.5) / side as f32 - 0.5;
            let sx = (xx * u + xy * v + transform.shift[0] + 0.5) * source - 0.5;
            let sy = (yx * u + yy * v + transform.shift[1] + 0.5) * source - 0.5;
            if sx <= -1.0 || sy <= -1.0 || sx >= source || sy >= source {
                continue;
            }
            let index = y * side + x;
            let value = bilinear(picture, sx, sy);
            for channel in 0..3 {
                rgb[channel][index] = value[channel];
            }
            alpha[index] = value[3] / 255.0;
        }
    }
    Canvas { side, rgb, alpha }
}

fn bilinear(picture: &Picture, x: f32, y: f32) -> [f32; 4] {
    let (x0, y0) = (x.floor(), y.floor());
    let (fx, fy) = (x - x0, y - y0);
    let last = picture.side as i32 - 1;
    let column = |offset: i32| (x0 as i32 + offset).clamp(0, last) as usize;
    let row = |offset: i32| (y0 as i32 + offset).clamp(0, last) as usize * picture.side;
    let taps = [
        (row(0) + column(0), (1.0 - fx) * (1.0 - fy)),
        (row(0) + column(1), fx * (1.0 - fy)),
        (row(1) + column(0), (1.0 - fx) * fy),
        (row(1) + column(1), fx * fy),
    ];
    let mut out = [0.0f32; 4];
    for (index, weight) in taps {
        let pixel = &picture.rgba[index * 4..index * 4 + 4];
        for channel in 0..4 {
            out[channel] += weight * f32::from(pixel[channel]);
        }
    }
    out
}
