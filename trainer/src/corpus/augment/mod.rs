//! Augmentation of pictures on the CPU: geometry, then style. Every part has a named probability.

mod geometry;
mod style;

use astromech_settings::kinds::{array, float, int};
use astromech_settings::{defaults, settings};
use rand::Rng;

use super::pictures::Picture;

settings! {
    /// Probabilities and ranges. Ranges are [low, high].
    #[derive(Debug, Clone, PartialEq)]
    pub struct AugmentConfig {
        /// Steps over which every probability and range grows from none to what is configured; 0 has all of it from the start. A model
        /// that has to begin with distorted pictures takes long to learn anything.
        ramp_steps: u64 = 0 => int(0, u64::MAX);
        /// Side of the crop against the picture's side; above 1 zooms out.
        crop_scale: [f64; 2] = [0.7, 1.15] => array(float(0.0, 100.0));
        /// Aspect ratio of the crop.
        crop_ratio: [f64; 2] = [0.8, 1.25] => array(float(0.0, 100.0));
        /// Horizontal flip; 0 by default, since flags and many emoji have a handedness.
        flip_p: f64 = 0.0 => float(0.0, 1.0);
        /// Rotation and shear.
        affine_p: f64 = 0.5 => float(0.0, 1.0);
        /// Largest rotation, degrees.
        rotate_deg: f64 = 15.0 => float(0.0, 360.0);
        /// Largest shear, as a fraction.
        shear: f64 = 0.15 => float(0.0, 10.0);
        /// Brightness, contrast, saturation.
        jitter_p: f64 = 0.5 => float(0.0, 1.0);
        /// Strength of the jitter: factors are within 1 ± this.
        jitter: f64 = 0.4 => float(0.0, 10.0);
        /// Each channel stretched to 0..255, as Pillow's `autocontrast`.
        auto_contrast_p: f64 = 0.0 => float(0.0, 1.0);
        /// Each channel's histogram flattened, as Pillow's `equalize`.
        equalize_p: f64 = 0.0 => float(0.0, 1.0);
        /// Rotation of the hue by any angle.
        hue_p: f64 = 0.1 => float(0.0, 1.0);
        /// Permutation of the channels or a two-colour ramp in place of the colours.
        recolour_p: f64 = 0.1 => float(0.0, 1.0);
        /// Grey.
        gray_p: f64 = 0.1 => float(0.0, 1.0);
        /// Line art: the outlines alone.
        outline_p: f64 = 0.1 => float(0.0, 1.0);
        /// Line art over the flattened colours, as comic drawings have it.
        inked_p: f64 = 0.25 => float(0.0, 1.0);
        /// Fewer levels a channel.
        posterise_p: f64 = 0.1 => float(0.0, 1.0);
        /// A colour in place of the white background.
        background_p: f64 = 0.15 => float(0.0, 1.0);
        /// Negative.
        invert_p: f64 = 0.03 => float(0.0, 1.0);
        /// 3x3 blur.
        blur_p: f64 = 0.1 => float(0.0, 1.0);
        /// Pixel noise.
        noise_p: f64 = 0.1 => float(0.0, 1.0);
        /// A grey rectangle over a part.
        erase_p: f64 = 0.1 => float(0.0, 1.0);
    }
}

impl Default for AugmentConfig {
    fn default() -> Self {
        defaults()
    }
}

impl AugmentConfig {
    /// No change beyond the resize.
    pub fn none() -> Self {
        Self {
            ramp_steps: 0,
            crop_scale: [1.0, 1.0],
            crop_ratio: [1.0, 1.0],
            flip_p: 0.0,
            affine_p: 0.0,
            rotate_deg: 0.0,
            shear: 0.0,
            jitter_p: 0.0,
            jitter: 0.0,
            auto_contrast_p: 0.0,
            equalize_p: 0.0,
            hue_p: 0.0,
            recolour_p: 0.0,
            gray_p: 0.0,
            outline_p: 0.0,
            inked_p: 0.0,
            posterise_p: 0.0,
            background_p: 0.0,
            invert_p: 0.0,
            blur_p: 0.0,
            noise_p: 0.0,
            erase_p: 0.0,
        }
    }

    /// The configuration of one step: see `ramp_steps`.
    #[must_use]
    pub fn at_step(&self, step: u64) -> Self {
        let part = if self.ramp_steps == 0 { 1.0 } else { (step as f64 / self.ramp_steps as f64).min(1.0) };
        let around_one = |value: f64| 1.0 + (value - 1.0) * part;
        Self {
            ramp_steps: 0,
            crop_scale: self.crop_scale.map(around_one),
            crop_ratio: self.crop_ratio.map(around_one),
            flip_p: self.flip_p * part,
            affine_p: self.affine_p * part,
            rotate_deg: self.rotate_deg,
            shear: self.shear,
            jitter_p: self.jitter_p * part,
            jitter: self.jitter,
            auto_contrast_p: self.auto_contrast_p * part,
            equalize_p: self.equalize_p * part,
            hue_p: self.hue_p * part,
            recolour_p: self.recolour_p * part,
            gray_p: self.gray_p * part,
            outline_p: self.outline_p * part,
            inked_p: self.inked_p * part,
            posterise_p: self.posterise_p * part,
            background_p: self.background_p * part,
            invert_p: self.invert_p * part,
            blur_p: self.blur_p * part,
            noise_p: self.noise_p * part,
            erase_p: self.erase_p * part,
        }
    }
}

/// A picture under way: planar values 0..255 and the foreground's opacity 0..1.
struct Canvas {
    side: usize,
    /// Three planes of `side * side`.
    rgb: [Vec<f32>; 3],
    alpha: Vec<f32>,
}

/// Augments a picture to `side` pixels: appends three planes of bytes to `out`.
pub fn augment(picture: &Picture, side: usize, config: &AugmentConfig, rng: &mut impl Rng, out: &mut Vec<u8>) {
    let transform = geometry::Transform::draw(config, rng);
    let mut canvas = geometry::sample(picture, side, &transform);
    style::apply(&mut canvas, config, rng);
    for plane in &canvas.rgb {
        out.extend(plane.iter().map(|value| value.round().clamp(0.0, 255.0) as u8));
    }
}

/// True with probability `p`.
fn chance(rng: &mut impl Rng, p: f64) -> bool {
    p > 0.0 && rng.random::<f64>() < p
}

/// Uniform in [low, high].
fn within(rng: &mut impl Rng, [low, high]: [f64; 2]) -> f64 {
    low + (high - low) * rng.random::<f64>()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn checker(side: usize) -> Picture {
        let pixel = |i: usize| if (i / 8 + i / side / 8).is_multiple_of(2) { [250, 10, 10, 255] } else { [255, 255, 255, 0] };
        Picture { side, rgba: (0..side * side).flat_map(pixel).collect() }
    }

    #[test]
    fn without_augmentation_a_picture_of_the_right_size_is_unchanged() {
        let picture = checker(32);
        let mut out = Vec::new();
        augment(&picture, 32, &AugmentConfig::none(), &mut StdRng::seed_from_u64(1), &mut out);
        for (index, pixel) in picture.rgba.chunks_exact(4).enumerate() {
            for channel in 0..3 {
                assert_eq!(out[channel * 32 * 32 + index], pixel[channel]);
            }
        }
    }

    #[test]
    fn augmentation_grows_over_its_ramp() {
        let config = AugmentConfig { ramp_steps: 100, inked_p: 0.6, crop_scale: [0.8, 1.4], ..AugmentConfig::none() };
        assert_eq!(config.at_step(0), AugmentConfig::none());
        assert!((config.at_step(50).inked_p - 0.3).abs() < 1e-9);
        assert_eq!(config.at_step(1_000), AugmentConfig { ramp_steps: 0, ..config });
    }

    #[test]
    fn every_operation_at_once_stays_within_its_buffer_and_follows_the_seed() {
        let all = AugmentConfig {
            flip_p: 1.0,
            affine_p: 1.0,
            jitter_p: 1.0,
            auto_contrast_p: 1.0,
            equalize_p: 1.0,
            hue_p: 1.0,
            recolour_p: 0.5,
            gray_p: 0.5,
            outline_p: 0.5,
            inked_p: 1.0,
            posterise_p: 1.0,
            background_p: 1.0,
            invert_p: 1.0,
            blur_p: 1.0,
            noise_p: 1.0,
            erase_p: 1.0,
            ..AugmentConfig::default()
        };
        let run = |seed| {
            let mut out = Vec::new();
            augment(&checker(40), 24, &all, &mut StdRng::seed_from_u64(seed), &mut out);
            out
        };
        assert_eq!(run(5).len(), 3 * 24 * 24);
        assert_eq!(run(5), run(5));
        assert_ne!(run(5), run(6));
    }
}
