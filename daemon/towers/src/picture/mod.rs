//! Picture bytes to the squashed RGB square that the image tower takes, as Pillow does it in the official evaluation.

use crate::{ImageError, ImageLimits};

/// A decoded picture: RGB, 8 bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RgbPicture {
    /// Width, pixels.
    pub width: u32,
    /// Height, pixels.
    pub height: u32,
    /// `height * width * 3` bytes, rows from the top.
    pub pixels: Vec<u8>,
}

/// A picture squashed to the tower's square: RGB, 8 bits, not yet normalised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RgbSquare {
    size: u32,
    pixels: Vec<u8>,
}

/// What the image tower takes.
pub type PreparedImage = RgbSquare;

impl RgbSquare {
    /// A square from `size * size * 3` bytes, rows from the top; `None` when the length differs.
    pub fn from_rgb(size: u32, pixels: Vec<u8>) -> Option<Self> {
        (pixels.len() == size as usize * size as usize * 3).then_some(Self { size, pixels })
    }

    /// Edge, pixels.
    pub const fn size(&self) -> u32 {
        self.size
    }

    /// `size * size * 3` bytes, rows from the top.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }
}

/// Decodes JPEG, PNG, WebP, GIF (first frame) or BMP to RGB as Pillow's `Image.open(..).convert("RGB")` does: alpha is dropped, not
/// blended; EXIF orientation is not applied (r2d2.md §3.4).
///
/// # Errors
/// The bytes are no picture, damaged, or beyond a limit; limits are checked on the header before any pixel is decoded.
pub fn decode_rgb(bytes: &[u8], limits: &ImageLimits) -> Result<RgbPicture, ImageError> {
    todo!("{} {limits:?}", bytes.len())
}

/// [`decode_rgb`] and [`squash`] in one, without an intermediate copy.
///
/// # Errors
/// As [`decode_rgb`].
pub fn decode_and_squash(bytes: &[u8], size: u32, limits: &ImageLimits) -> Result<RgbSquare, ImageError> {
    todo!("{} {size} {limits:?}", bytes.len())
}

/// Resizes a picture to `size` x `size` whatever its shape, with Pillow's antialiased bicubic (a = -0.5) and its 8-bit result
/// within 1 (r2d2.md §3.4).
pub fn squash(picture: &RgbPicture, size: u32) -> RgbSquare {
    todo!("{} {size}", picture.width)
}
