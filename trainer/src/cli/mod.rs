//! One file a subcommand.

pub mod bench;
pub mod calibrate;
pub mod clicks;
pub mod collect;
pub mod compare;
pub mod corpus;
pub mod evaluate;
pub mod evaluate_plot;
pub mod export;
pub mod gate;
pub mod import;
pub mod init;
pub mod keygen;
pub mod preview;
pub mod publish;
pub mod refresh;
pub mod release;
pub mod scenes;
pub mod stream_check;
pub mod train;
