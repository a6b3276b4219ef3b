//! The squash: Pillow's antialiased bicubic by SIMD.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};

use super::RgbSquare;

/// A resizer with its inner buffers.
pub(super) struct Squasher {
    resizer: Resizer,
    options: ResizeOptions,
    /// The picture after the horizontal pass.
    narrowed: Vec<u8>,
}

impl Default for Squasher {
    fn default() -> Self {
        // CatmullRom is the cubic kernel with a = -0.5, Pillow's BICUBIC; a convolution widens it by the scale, so it is antialiased.
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom));
        Self { resizer: Resizer::new(), options, narrowed: Vec::new() }
    }
}

impl Squasher {
    /// Squashes the first `covers` pixels across and down of a picture (width, height, RGB) to `size` x `size`.
    pub(super) fn squash(&mut self, (width, height, pixels): (u32, u32, &[u8]), covers: [f64; 2], size: u32) -> RgbSquare {
        let [across, down] = covers;
        let mut square = vec![0; size as usize * size as usize * 3];
        // Pillow goes along the rows first, and rounds and clips to 8 bits between; the resizer by itself goes down the columns
        // first. On hard edges the clipping makes a difference of up to 15, so the passes are two calls in Pillow's order.
        let mut narrowed = std::mem::take(&mut self.narrowed);
        narrowed.resize(size as usize * height as usize * 3, 0);
        self.resize((width, height, pixels), [across, f64::from(height)], (size, height, &mut narrowed));
        self.resize((size, height, &narrowed), [f64::from(size), down], (size, size, &mut square));
        self.narrowed = narrowed;
        RgbSquare::from_rgb(size, square).expect("the buffer was made for this size")
    }

    // A typed call, and of one type: each compiles 800 functions into this crate, some 20 s of every build. Channels are resized one by
    // one, so gray and RGBA come out the same as RGB.
    fn resize(&mut self, source: (u32, u32, &[u8]), [across, down]: [f64; 2], (width, height, pixels): (u32, u32, &mut [u8])) {
        let source =
            TypedImageRef::<U8x3>::from_buffer(source.0, source.1, source.2).expect("the decoder filled width * height pixels");
        let mut target = TypedImage::<U8x3>::from_buffer(width, height, pixels).expect("the buffer was made for this size");
        self.resizer
            .resize_typed(&source, &mut target, &self.options.crop(0.0, 0.0, across, down))
            .expect("both have one pixel type and the crop is inside the picture");
    }
}
