use std::path::PathBuf;

use astromech_trainer::checkpoint::save_model;
use astromech_trainer::model::{ModelConfig, R2d2};

/// Writes a checkpoint with random weights: a start for `run.init`, or a model of a size whose speed is to be measured.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Model sizes: a preset of configs/models.
    #[arg(long)]
    config: PathBuf,
    /// Seed of the weights.
    #[arg(long, default_value_t = 1)]
    seed: i64,
    /// The native checkpoint to write.
    #[arg(long)]
    out: PathBuf,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let config = ModelConfig::read(&args.config)?;
    let (_, mut params) = R2d2::new(&config)?;
    params.initialise(args.seed);
    save_model(&args.out, &config, &params, params.flat())?;
    tracing::info!(parameters = params.numel(), "written to {}", args.out.display());
    Ok(())
}
