//! The squash: Pillow's antialiased bicubic by SIMD.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use super::{Layout, RgbSquare};

/// A resizer with its inner buffers, and room for a square that is not RGB yet.
pub(super) struct Squasher {
    resizer: Resizer,
    options: ResizeOptions,
    square: Vec<u8>,
}

impl Default for Squasher {
    fn default() -> Self {
        // CatmullRom is the cubic kernel with a = -0.5, Pillow's BICUBIC; a convolution widens it by the scale, so it is antialiased.
        // Alpha is not multiplied in: Pillow drops it before the resize.
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom)).use_alpha(false);
        Self { resizer: Resizer::new(), options, square: Vec::new() }
    }
}

impl Squasher {
    /// Squashes `pixels` to `size` x `size` RGB.
    pub(super) fn squash(&mut self, width: u32, height: u32, layout: Layout, pixels: &[u8], size: u32) -> RgbSquare {
        let area = size as usize * size as usize;
        let mut rgb = vec![0; area * 3];
        if layout == Layout::Rgb {
            self.resize(width, height, PixelType::U8x3, pixels, size, &mut rgb);
        } else {
            let pixel_type = match layout {
                Layout::Gray => PixelType::U8,
                Layout::GrayAlpha => PixelType::U8x2,
                Layout::Rgb | Layout::Rgba => PixelType::U8x4,
            };
            let mut square = std::mem::take(&mut self.square);
            square.resize(area * layout.channels(), 0);
            self.resize(width, height, pixel_type, pixels, size, &mut square);
            layout.write_rgb(&square, &mut rgb);
            self.square = square;
        }
        RgbSquare::from_rgb(size, rgb).expect("the buffer was made for this size")
    }

    fn resize(&mut self, width: u32, height: u32, pixel_type: PixelType, pixels: &[u8], size: u32, target: &mut [u8]) {
        let source = ImageRef::new(width, height, pixels, pixel_type).expect("the decoder filled width * height pixels");
        let mut target = Image::from_slice_u8(size, size, target, pixel_type).expect("the buffer was made for this size");
        self.resizer
            .resize(&source, &mut target, &self.options)
            .expect("both have one pixel type and the crop is the whole picture");
    }
}
