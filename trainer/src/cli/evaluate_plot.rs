use std::path::PathBuf;

use astromech_trainer::evaluate::{Report, draw_reports};

/// Draws results of `trainer evaluate --out` as bars, report beside report: an SVG.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Results to draw. Repeatable.
    #[arg(long = "report", required = true)]
    reports: Vec<PathBuf>,
    /// The SVG to write.
    #[arg(long)]
    out: PathBuf,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let reports = args.reports.iter().map(|path| Report::read(path)).collect::<Result<Vec<_>, _>>()?;
    draw_reports(&reports, &args.out)?;
    tracing::info!(reports = reports.len(), "drawn to {}", args.out.display());
    Ok(())
}
