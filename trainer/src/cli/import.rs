use std::path::PathBuf;

use astromech_trainer::checkpoint::{import_official, save_model};
use astromech_trainer::model::ModelConfig;

/// Converts official weights (.pth or safetensors) to a native checkpoint and reports every key that differs.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The official checkpoint: a .pth container or safetensors.
    #[arg(long)]
    from: PathBuf,
    /// Model sizes: a preset of configs/models.
    #[arg(long)]
    config: PathBuf,
    /// The native checkpoint to write.
    #[arg(long)]
    out: PathBuf,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let config = ModelConfig::read(&args.config)?;
    let loaded = import_official(&args.from, &config)?;
    tracing::info!("{}", loaded.report);
    save_model(&args.out, &config, &loaded.params, loaded.params.flat())?;
    tracing::info!(parameters = loaded.params.numel(), "written to {}", args.out.display());
    Ok(())
}
