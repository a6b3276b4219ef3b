//! The `trainer` program.

mod cli;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// Trains, imports, exports, evaluates and releases R2D2 models.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Evaluate(cli::evaluate::Args),
    Export(cli::export::Args),
    Release(cli::release::Args),
    Train(cli::train::Args),
    Import(cli::import::Args),
    Preview(cli::preview::Args),
    Clicks(cli::clicks::Args),
    StreamCheck(cli::stream_check::Args),
}

fn main() -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match Cli::parse().command {
        Command::Evaluate(args) => cli::evaluate::run(&args),
        Command::Export(args) => cli::export::run(&args),
        Command::Release(args) => cli::release::run(&args),
        Command::Train(args) => cli::train::run(&args),
        Command::Import(args) => cli::import::run(&args),
        Command::Preview(args) => cli::preview::run(&args),
        Command::Clicks(args) => cli::clicks::run(&args),
        Command::StreamCheck(args) => cli::stream_check::run(&args),
    }
}
