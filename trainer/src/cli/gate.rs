use std::path::PathBuf;
use std::process::ExitCode;

use astromech_trainer::gate::{EXIT_BROKEN_INPUT, EXIT_REFUSED, GateConfig, run as run_gate};

/// Holds a bundle to named thresholds, beside the live one: recall, re-scoring, drift of int8, latency on this machine, size. Ends with
/// 0 when it passed, 10 when it was refused, 12 when a bundle, the data or the configuration is broken; the report says why.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The bundle that asks to be let through.
    #[arg(long)]
    candidate: PathBuf,
    /// The live bundle. Without one, only thresholds that need none are held: for a first release.
    #[arg(long)]
    live: Option<PathBuf>,
    /// Data and thresholds.
    #[arg(long)]
    config: PathBuf,
    /// Folder for report.json, report.md and figure.svg; else beside the candidate, its name with .gate appended.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> ExitCode {
    let out = args.out.clone().unwrap_or_else(|| {
        let mut name = args.candidate.as_os_str().to_owned();
        name.push(".gate");
        PathBuf::from(name)
    });
    let verdict = GateConfig::read(&args.config).map_err(anyhow::Error::from).and_then(|config| {
        let verdict = run_gate(&config, &args.candidate, args.live.as_deref())?;
        verdict.write(&out)?;
        Ok(verdict)
    });
    match verdict {
        Ok(verdict) => {
            #[expect(clippy::print_stdout, reason = "the table is what the command is for")]
            {
                println!("{}", verdict.to_markdown());
            }
            for refusal in verdict.refusals() {
                tracing::error!("refused: {refusal}");
            }
            tracing::info!(passed = verdict.passed, "report in {}", out.display());
            if verdict.passed { ExitCode::SUCCESS } else { ExitCode::from(EXIT_REFUSED) }
        }
        Err(error) => {
            tracing::error!("the gate could not decide: {error:#}");
            ExitCode::from(EXIT_BROKEN_INPUT)
        }
    }
}
