//! One file a subcommand.

pub mod clicks;
pub mod evaluate;
pub mod export;
pub mod import;
pub mod preview;
pub mod release;
pub mod stream_check;
pub mod train;
