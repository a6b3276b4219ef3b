//! One file a subcommand.

pub mod evaluate;
pub mod export;
pub mod import;
pub mod release;
pub mod train;
