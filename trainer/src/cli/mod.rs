//! One file a subcommand.

pub mod train;
