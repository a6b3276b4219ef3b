//! The squash: Pillow's antialiased bicubic by SIMD.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{U8, U8x2, U8x3, U8x4};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};

use super::{Decoded, Layout, RgbSquare};

/// A resizer with its inner buffers.
pub(super) struct Squasher {
    resizer: Resizer,
    options: ResizeOptions,
    /// The picture after the horizontal pass.
    narrowed: Vec<u8>,
    /// The square, while it is not RGB yet.
    square: Vec<u8>,
}

impl Default for Squasher {
    fn default() -> Self {
        // CatmullRom is the cubic kernel with a = -0.5, Pillow's BICUBIC; a convolution widens it by the scale, so it is antialiased.
        // Alpha is not multiplied in: Pillow drops it before the resize.
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom)).use_alpha(false);
        Self { resizer: Resizer::new(), options, narrowed: Vec::new(), square: Vec::new() }
    }
}

impl Squasher {
    /// Squashes `pixels` to `size` x `size` RGB.
    pub(super) fn squash(&mut self, decoded: Decoded, pixels: &[u8], size: u32) -> RgbSquare {
        let Decoded { width, height, covers: [across, down], layout } = decoded;
        let area = size as usize * size as usize;
        let mut rgb = vec![0; area * 3];
        // Pillow goes along the rows first, and rounds and clips to 8 bits between; the resizer by itself goes down the columns
        // first. On hard edges the clipping makes a difference of up to 15, so the passes are two calls in Pillow's order.
        let mut narrowed = std::mem::take(&mut self.narrowed);
        narrowed.resize(size as usize * height as usize * layout.channels(), 0);
        let rows = [across, f64::from(height)];
        self.resize(layout, (width, height, pixels), rows, (size, height, &mut narrowed));
        let columns = [f64::from(size), down];
        if layout == Layout::Rgb {
            self.resize(layout, (size, height, &narrowed), columns, (size, size, &mut rgb));
        } else {
            let mut square = std::mem::take(&mut self.square);
            square.resize(area * layout.channels(), 0);
            self.resize(layout, (size, height, &narrowed), columns, (size, size, &mut square));
            layout.write_rgb(&square, &mut rgb);
            self.square = square;
        }
        self.narrowed = narrowed;
        RgbSquare::from_rgb(size, rgb).expect("the buffer was made for this size")
    }

    /// The first `covers` pixels across and down of `source` to all of `target`.
    fn resize(&mut self, layout: Layout, source: (u32, u32, &[u8]), covers: [f64; 2], target: (u32, u32, &mut [u8])) {
        match layout {
            Layout::Gray => self.resize_pixels::<U8>(source, covers, target),
            Layout::GrayAlpha => self.resize_pixels::<U8x2>(source, covers, target),
            Layout::Rgb => self.resize_pixels::<U8x3>(source, covers, target),
            Layout::Rgba => self.resize_pixels::<U8x4>(source, covers, target),
        }
    }

    // Typed calls: the untyped one compiles the resizer for all thirteen pixel types into this crate, a minute of every build.
    fn resize_pixels<P: PixelTrait>(
        &mut self,
        source: (u32, u32, &[u8]),
        [across, down]: [f64; 2],
        (width, height, pixels): (u32, u32, &mut [u8]),
    ) {
        let source =
            TypedImageRef::<P>::from_buffer(source.0, source.1, source.2).expect("the decoder filled width * height pixels");
        let mut target = TypedImage::<P>::from_buffer(width, height, pixels).expect("the buffer was made for this size");
        self.resizer
            .resize_typed(&source, &mut target, &self.options.crop(0.0, 0.0, across, down))
            .expect("both have one pixel type and the crop is inside the picture");
    }
}
