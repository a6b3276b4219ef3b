use std::path::PathBuf;

use anyhow::Context as _;
use astromech_trainer::evaluate::Report;
use astromech_trainer::release::add_metrics;

/// Writes measured metrics into a bundle's manifest and model card. Its fingerprint stays.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The bundle.
    #[arg(long)]
    bundle: PathBuf,
    /// Results of `trainer evaluate --out`. Repeatable.
    #[arg(long, required = true)]
    metrics: Vec<PathBuf>,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let mut metrics = std::collections::BTreeMap::new();
    let mut measured = Vec::new();
    for path in &args.metrics {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let report: Report = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        metrics.extend(report.metrics());
        measured.push((path, report.fingerprint));
    }
    let bundle = astromech_towers::Bundle::open(&args.bundle)?;
    for (path, fingerprint) in measured {
        anyhow::ensure!(
            fingerprint == bundle.manifest.fingerprint.as_str(),
            "{} was measured on bundle {fingerprint}, not on {}; run trainer evaluate on this one",
            path.display(),
            bundle.manifest.fingerprint
        );
    }
    let manifest = add_metrics(&args.bundle, metrics)?;
    tracing::info!(fingerprint = %manifest.fingerprint, metrics = manifest.training.metrics.len(), "metrics written");
    Ok(())
}
