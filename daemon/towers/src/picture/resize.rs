//! The squash: Pillow's antialiased bicubic by SIMD.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use super::{Layout, RgbSquare};

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
    pub(super) fn squash(&mut self, width: u32, height: u32, layout: Layout, pixels: &[u8], size: u32) -> RgbSquare {
        let area = size as usize * size as usize;
        let mut rgb = vec![0; area * 3];
        // Pillow goes along the rows first, and rounds and clips to 8 bits between; the resizer by itself goes down the columns
        // first. On hard edges the clipping makes a difference of up to 15, so the passes are two calls in Pillow's order.
        let mut narrowed = std::mem::take(&mut self.narrowed);
        narrowed.resize(size as usize * height as usize * layout.channels(), 0);
        self.resize(layout, (width, height, pixels), (size, height, &mut narrowed));
        if layout == Layout::Rgb {
            self.resize(layout, (size, height, &narrowed), (size, size, &mut rgb));
        } else {
            let mut square = std::mem::take(&mut self.square);
            square.resize(area * layout.channels(), 0);
            self.resize(layout, (size, height, &narrowed), (size, size, &mut square));
            layout.write_rgb(&square, &mut rgb);
            self.square = square;
        }
        self.narrowed = narrowed;
        RgbSquare::from_rgb(size, rgb).expect("the buffer was made for this size")
    }

    fn resize(&mut self, layout: Layout, source: (u32, u32, &[u8]), target: (u32, u32, &mut [u8])) {
        let pixel_type = match layout {
            Layout::Gray => PixelType::U8,
            Layout::GrayAlpha => PixelType::U8x2,
            Layout::Rgb => PixelType::U8x3,
            Layout::Rgba => PixelType::U8x4,
        };
        let source = ImageRef::new(source.0, source.1, source.2, pixel_type).expect("the decoder filled width * height pixels");
        let mut target =
            Image::from_slice_u8(target.0, target.1, target.2, pixel_type).expect("the buffer was made for this size");
        self.resizer
            .resize(&source, &mut target, &self.options)
            .expect("both have one pixel type and the crop is the whole picture");
    }
}
