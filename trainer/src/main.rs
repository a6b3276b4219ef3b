//! The `trainer` program.

#![forbid(unsafe_code)]

mod cli;

use std::io::IsTerminal as _;
use std::process::ExitCode;

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
    /// Trains R2D2 without one of its terms at a time, beside R2D2 whole; as `compare` with configs/ablate.toml.
    Ablate(cli::compare::Args),
    Bench(cli::bench::Args),
    Compare(cli::compare::Args),
    Corpus(cli::corpus::Args),
    Evaluate(cli::evaluate::Args),
    EvaluatePlot(cli::evaluate_plot::Args),
    Export(cli::export::Args),
    Gate(cli::gate::Args),
    Keygen(cli::keygen::Args),
    Publish(cli::publish::Args),
    Release(cli::release::Args),
    Calibrate(cli::calibrate::Args),
    Train(cli::train::Args),
    Import(cli::import::Args),
    Init(cli::init::Args),
    Preview(cli::preview::Args),
    Refresh(cli::refresh::Args),
    Scenes(cli::scenes::Args),
    Clicks(cli::clicks::Args),
    Collect(cli::collect::Args),
    StreamCheck(cli::stream_check::Args),
}

fn main() -> anyhow::Result<ExitCode> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // The codes of colours are for a terminal: elsewhere they would stand in files and pipes.
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).init();
    match Cli::parse().command {
        // The commands whose outcome is told by their exit codes.
        Command::Gate(args) => return Ok(cli::gate::run(&args)),
        Command::Refresh(args) => return cli::refresh::run(&args),
        Command::Ablate(args) => cli::compare::run(&args, "configs/ablate.toml"),
        Command::Bench(args) => cli::bench::run(&args),
        Command::Compare(args) => cli::compare::run(&args, "configs/compare.toml"),
        Command::Corpus(args) => cli::corpus::run(&args),
        Command::Evaluate(args) => cli::evaluate::run(&args),
        Command::EvaluatePlot(args) => cli::evaluate_plot::run(&args),
        Command::Export(args) => cli::export::run(&args),
        Command::Keygen(args) => cli::keygen::run(&args),
        Command::Publish(args) => cli::publish::run(&args),
        Command::Release(args) => cli::release::run(&args),
        Command::Calibrate(args) => cli::calibrate::run(&args),
        Command::Train(args) => cli::train::run(&args),
        Command::Import(args) => cli::import::run(&args),
        Command::Init(args) => cli::init::run(&args),
        Command::Preview(args) => cli::preview::run(&args),
        Command::Scenes(args) => cli::scenes::run(&args),
        Command::Clicks(args) => cli::clicks::run(&args),
        Command::Collect(args) => cli::collect::run(&args),
        Command::StreamCheck(args) => cli::stream_check::run(&args),
    }?;
    Ok(ExitCode::SUCCESS)
}
