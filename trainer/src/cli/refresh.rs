use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use astromech_trainer::refresh::{Exit, Halt, Options, Progress, RefreshConfig, RefreshError, refresh};
use astromech_trainer::stop::StopFlag;
use astromech_trainer::train::TrainConfig;
use serde_json::json;

/// Refreshes the live model: collects, trains from where it is, distils, exports, evaluates, gates, publishes, announces. Killed or
/// stopped, the same command goes on. Exit codes: 0 published, 10 refused by the gate, 11 no or too little new data, 12 broken input or
/// configuration, 13 another job holds the lease, 1 anything else. Progress goes to standard output as JSON lines.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The job (configs/refresh.toml is a commented one).
    #[arg(long)]
    config: PathBuf,
    /// Read and check the configuration, do nothing.
    #[arg(long)]
    check: bool,
    /// Wait for ever at a point, to be killed there: STEP:begin, STEP:output or STEP:done. For tests.
    #[arg(long, hide = true)]
    halt_at: Option<Halt>,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    super::train::restart_with_wait_policy()?;
    let config = match RefreshConfig::read(&args.config) {
        Ok(config) => config,
        Err(error) => return Ok(failed(&Progress::new(None), &error)),
    };
    if args.check {
        tracing::info!("{} can be used", args.config.display());
        return Ok(ExitCode::SUCCESS);
    }
    for (path, set) in config.train_configs() {
        // A file that can't be read is told by the step that needs it.
        super::train::restart_with_cuda(TrainConfig::read_device(path, set).unwrap_or_default())?;
    }
    let stop = StopFlag::on_signals().context("signal handlers")?;
    let progress = Progress::new(config.job.metrics_file.clone());
    let options = Options { halt: args.halt_at.clone() };
    match refresh(&config, &options, &stop, &progress) {
        Ok(outcome) => {
            progress.end(outcome.exit, &outcome.facts);
            Ok(ExitCode::from(outcome.exit.code()))
        }
        Err(error) => Ok(failed(&progress, &error)),
    }
}

fn failed(progress: &Progress, error: &RefreshError) -> ExitCode {
    let exit: Exit = error.exit();
    tracing::error!("{error}");
    progress.end(exit, &json!({ "error": error.to_string() }));
    ExitCode::from(exit.code())
}
