use std::path::PathBuf;

use anyhow::Context as _;
use astromech_trainer::compare::{Arms, Plan, compare, draw, markdown, summarise};
use astromech_trainer::stop::StopFlag;
use astromech_trainer::train::TrainConfig;

/// Trains several objectives on the same data and budget over several seeds, and writes a table with means and spreads and a figure.
/// Runs that are already measured are not repeated.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Training configuration that all arms share.
    #[arg(long)]
    config: PathBuf,
    /// TOML of `[[arm]]` tables: name, about, set, rerank.
    #[arg(long)]
    arms: Option<PathBuf>,
    /// Override any value for all arms: section.key=value. Repeatable.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    overrides: Vec<String>,
    /// Seeds; each arm is trained with each.
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    seeds: Vec<u64>,
    /// Seconds of training for every run.
    #[arg(long, conflicts_with = "steps")]
    seconds: Option<u64>,
    /// Steps of training for every run.
    #[arg(long)]
    steps: Option<u64>,
    /// Retrieval tasks of the corpus.
    #[arg(long, value_delimiter = ',', required = true)]
    tasks: Vec<String>,
    /// Candidates that the cross encoders re-rank where an arm has them.
    #[arg(long, default_value_t = 16)]
    top_k: i64,
    /// Folder of the runs.
    #[arg(long)]
    runs: PathBuf,
    /// Folder of table.md, figure.svg and results.json.
    #[arg(long)]
    out: PathBuf,
}

/// Runs the subcommand with the arms of `default_arms` where none are given.
pub fn run(args: &Args, default_arms: &str) -> anyhow::Result<()> {
    super::train::restart_with_wait_policy()?;
    super::train::restart_with_cuda(TrainConfig::read_device(&args.config, &args.overrides)?)?;
    let arms = Arms::read(args.arms.as_deref().unwrap_or(default_arms.as_ref()))?;
    let mut overrides = args.overrides.clone();
    if let Some(seconds) = args.seconds {
        overrides.extend([format!("optim.max_seconds={seconds}"), format!("optim.steps={}", u32::MAX)]);
    }
    if let Some(steps) = args.steps {
        overrides.extend([format!("optim.steps={steps}"), "optim.max_seconds=0".to_owned()]);
    }
    let plan = Plan {
        config: args.config.clone(),
        overrides,
        arms,
        seeds: args.seeds.clone(),
        tasks: args.tasks.clone(),
        top_k: args.top_k,
        runs: args.runs.clone(),
    };
    let results = compare(&plan, &StopFlag::on_signals().context("signal handlers")?)?;
    let summaries = summarise(&plan.arms.arms, &plan.tasks, &results);
    let table = markdown(&plan.arms.arms, &summaries);
    std::fs::create_dir_all(&args.out).with_context(|| args.out.display().to_string())?;
    let write = |name: &str, bytes: &[u8]| {
        let path = args.out.join(name);
        std::fs::write(&path, bytes).with_context(|| path.display().to_string())
    };
    write("results.json", &serde_json::to_vec_pretty(&summaries)?)?;
    write("table.md", table.as_bytes())?;
    draw(&args.out.join("figure.svg"), &summaries).map_err(anyhow::Error::msg)?;
    #[expect(clippy::print_stdout, reason = "the table is what the command is for")]
    {
        println!("{table}");
    }
    Ok(())
}
