//! Picture bytes to the squashed RGB square that the image tower takes, as Pillow does it in the official evaluation.

mod gif;
mod header;
mod jpeg;
mod png;
mod raster;
mod resize;
mod segments;
mod sniff;

use std::cell::RefCell;

use crate::{ImageError, ImageLimits};
use resize::Squasher;
use sniff::Format;

/// A decode buffer above this size goes back to the system after its picture, so that one large picture does not stay in the memory
/// of every thread.
const SCRATCH_KEPT_BYTES_MAX: usize = 16 * 1024 * 1024;

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

/// Channels of decoded pixels, 8 bits each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    Gray,
    GrayAlpha,
    Rgb,
    Rgba,
}

impl Layout {
    const fn channels(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::GrayAlpha => 2,
            Self::Rgb => 3,
            Self::Rgba => 4,
        }
    }

    /// Makes RGB of `pixels` of this layout, in place; alpha is dropped as Pillow's `convert("RGB")` does.
    fn make_rgb(self, pixels: &mut Vec<u8>) {
        let count = pixels.len() / self.channels();
        match self {
            Self::Rgb => {}
            // From the end: what is written lies behind what is still to be read.
            Self::Gray | Self::GrayAlpha => {
                pixels.resize(count * 3, 0);
                for at in (0..count).rev() {
                    let gray = pixels[at * self.channels()];
                    pixels[at * 3..][..3].fill(gray);
                }
            }
            Self::Rgba => {
                for at in 1..count {
                    let [red, green, blue] = [pixels[at * 4], pixels[at * 4 + 1], pixels[at * 4 + 2]];
                    pixels[at * 3..][..3].copy_from_slice(&[red, green, blue]);
                }
                pixels.truncate(count * 3);
            }
        }
    }
}

/// What a decoder left in the scratch buffer.
#[derive(Debug, Clone, Copy)]
struct Decoded {
    width: u32,
    height: u32,
    /// How much of it is the picture, in its pixels: a scale that does not divide the size leaves part of the last column and row empty.
    covers: [f64; 2],
    layout: Layout,
}

impl Decoded {
    fn whole(width: u32, height: u32, layout: Layout) -> Self {
        Self { width, height, covers: [width, height].map(f64::from), layout }
    }
}

/// Buffers of one thread.
#[derive(Default)]
struct Scratch {
    pixels: Vec<u8>,
    squasher: Squasher,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Decodes JPEG, PNG, WebP, GIF (first frame) or BMP to RGB as Pillow's `Image.open(..).convert("RGB")` does: alpha is dropped, not
/// blended; EXIF orientation is not applied (docs/R2D2.md §3.4).
///
/// # Errors
/// The bytes are no picture, damaged, or beyond a limit; limits are checked on the header before any pixel is decoded.
pub fn decode_rgb(bytes: &[u8], limits: &ImageLimits) -> Result<RgbPicture, ImageError> {
    let mut pixels = Vec::new();
    let Decoded { width, height, layout, .. } = decode(bytes, None, limits, &mut pixels)?;
    layout.make_rgb(&mut pixels);
    Ok(RgbPicture { width, height, pixels })
}

/// [`decode_rgb`] and [`squash`] in one, in buffers that the thread keeps. A JPEG of four times the square or more is scaled down while
/// it is decoded, to no less than twice the square: a cosine of 0.999 and more to the whole one's.
///
/// # Errors
/// As [`decode_rgb`].
pub fn decode_and_squash(bytes: &[u8], size: u32, limits: &ImageLimits) -> Result<RgbSquare, ImageError> {
    SCRATCH.with_borrow_mut(|scratch| {
        let square = decode(bytes, Some(size), limits, &mut scratch.pixels).map(|Decoded { width, height, covers, layout }| {
            layout.make_rgb(&mut scratch.pixels);
            scratch.squasher.squash((width, height, &scratch.pixels), covers, size)
        });
        if scratch.pixels.capacity() > SCRATCH_KEPT_BYTES_MAX {
            scratch.pixels = Vec::new();
            scratch.squasher = Squasher::default();
        }
        square
    })
}

/// Resizes a picture to `size` x `size` whatever its shape, with Pillow's antialiased bicubic (a = -0.5) and its 8-bit result
/// within 1 (docs/R2D2.md §3.4).
///
/// # Panics
/// `picture.pixels` is shorter than its width and height say.
pub fn squash(picture: &RgbPicture, size: u32) -> RgbSquare {
    let RgbPicture { width, height, pixels } = picture;
    let covers = [*width, *height].map(f64::from);
    SCRATCH.with_borrow_mut(|scratch| scratch.squasher.squash((*width, *height, pixels), covers, size))
}

/// Decodes into `pixels`, which comes out exactly as long as the picture; for a square of `target` pixels not larger than it needs.
fn decode(bytes: &[u8], target: Option<u32>, limits: &ImageLimits, pixels: &mut Vec<u8>) -> Result<Decoded, ImageError> {
    if bytes.is_empty() {
        return Err(ImageError::Empty);
    }
    if bytes.len() > limits.bytes_max {
        return Err(ImageError::TooManyBytes { bytes: bytes.len(), bytes_max: limits.bytes_max });
    }
    let format = sniff::sniff(bytes).map_err(|found| ImageError::UnknownFormat { found })?;
    // Before any decoder sees the file. Each decoder's own word is held to the limits again.
    if let Some((width, height)) = header::declared_size(format, bytes) {
        check_size(format, width, height, limits)?;
    }
    match format {
        Format::Jpeg => jpeg::decode(bytes, target, limits, pixels),
        Format::Png => png::decode(bytes, limits, pixels),
        Format::Gif => gif::decode(bytes, limits, pixels),
        Format::WebP => raster::webp(bytes, limits, pixels),
        Format::Bmp => raster::bmp(bytes, limits, pixels),
    }
}

/// Holds a header's declared size to the limits.
fn check_size(format: Format, width: u32, height: u32, limits: &ImageLimits) -> Result<(), ImageError> {
    let ImageLimits { pixels_max, edge_max, .. } = *limits;
    let format = format.as_str();
    if width == 0 || height == 0 {
        return Err(ImageError::Damaged { format, reason: format!("it declares {width} x {height} pixels") });
    }
    if u64::from(width) * u64::from(height) > pixels_max {
        return Err(ImageError::TooManyPixels { format, width, height, pixels_max });
    }
    if width > edge_max || height > edge_max {
        return Err(ImageError::EdgeTooLong { format, width, height, edge_max });
    }
    Ok(())
}
