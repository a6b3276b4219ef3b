//! The three graphs as plain functions over batches: one session each, no queue. The bench's baseline runs on these alone.

mod cross;
mod image;
mod session;
mod text;

pub use cross::{CrossGraph, CrossRequest};
pub use image::{ImageGraph, ImageOutput};
pub use session::GraphOptions;
pub use text::{TextGraph, TextOutput};

pub(crate) use session::{check_provider, provider_name};
