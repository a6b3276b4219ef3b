use std::path::PathBuf;

use anyhow::Context as _;
use astromech_trainer::train::{StopFlag, TrainConfig, train};

/// Trains by a TOML configuration. Ctrl-C or SIGTERM saves and exits 0; `--resume` goes on.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Training configuration (configs/train-demo.toml is a commented one).
    #[arg(long)]
    config: PathBuf,
    /// Override any value: section.key=value. Repeatable.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    overrides: Vec<String>,
    /// Folder of checkpoints and metrics (run.out).
    #[arg(long)]
    out: Option<PathBuf>,
    /// Go on from the state in the output folder.
    #[arg(long)]
    resume: bool,
    /// Stop after this many seconds of training in total; the schedule follows (optim.max_seconds).
    #[arg(long)]
    max_seconds: Option<u64>,
    /// LibTorch's threads (run.threads); 0 takes all cores.
    #[arg(long)]
    threads: Option<usize>,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let mut overrides = args.overrides.clone();
    if let Some(out) = &args.out {
        overrides.push(format!("run.out={:?}", out.display().to_string()));
    }
    if let Some(seconds) = args.max_seconds {
        overrides.push(format!("optim.max_seconds={seconds}"));
    }
    if let Some(threads) = args.threads {
        overrides.push(format!("run.threads={threads}"));
    }
    let config = TrainConfig::read(&args.config, &overrides)?;
    let stop = StopFlag::on_signals().context("signal handlers")?;
    let outcome = train(&config, args.resume, &stop)?;
    tracing::info!(
        steps = outcome.steps,
        seconds = outcome.elapsed_seconds as u64,
        finished = outcome.finished,
        "saved to {}",
        config.run.out.display()
    );
    Ok(())
}
