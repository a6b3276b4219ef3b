use std::path::PathBuf;

use anyhow::Context as _;
use astromech_schemas::manifest::Precision;
use astromech_towers::{Bundle, Towers, TowersConfig, init_runtime};
use astromech_trainer::evaluate::{EvaluateOptions, PixelFloor, Report, TaskItems, evaluate};
use indicatif::ProgressBar;

/// Smallest and largest number of candidates of the second stage.
const TOP_K_MAX: u64 = 128;

/// Measures a bundle on retrieval tasks, through the same code that serves it. Prints a Markdown table.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The bundle.
    #[arg(long)]
    bundle: PathBuf,
    /// Corpus folder.
    #[arg(long)]
    corpus: PathBuf,
    /// Tasks: names of `tasks/<name>.jsonl`.
    #[arg(long, value_delimiter = ',', required = true)]
    tasks: Vec<String>,
    /// Candidates that the cross tower re-ranks; 0 leaves the second stage out. Below 10 it bounds R@10.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(0..=TOP_K_MAX))]
    top_k: u64,
    /// Which of the bundle's graphs: f32, int8 or fp16; else as the daemon chooses.
    #[arg(long, value_parser = super::export::precision)]
    precision: Option<Precision>,
    /// Threads; 0 takes all cores.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Leave out the pixel floor, which reads all training pictures.
    #[arg(long)]
    no_floor: bool,
    /// Write the results as JSON.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<()> {
    init_runtime(None)?;
    let bundle = Bundle::open(&args.bundle)?;
    let top_k = args.top_k as usize;
    let config =
        TowersConfig { precision: args.precision, threads: args.threads, load_cross: top_k > 0, ..TowersConfig::default() };
    let towers = Towers::start(&bundle, &config)?;
    let floor = if args.no_floor { None } else { Some(PixelFloor::load(&args.corpus)?) };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut report = Report {
        bundle: bundle.manifest.name.clone(),
        fingerprint: bundle.manifest.fingerprint.to_string(),
        precision: towers.precision().as_str().to_owned(),
        provider: towers.provider_in_use().to_owned(),
        tasks: Vec::new(),
    };
    let bar = ProgressBar::new(args.tasks.len() as u64);
    for name in &args.tasks {
        bar.set_message(name.clone());
        let items = TaskItems::load(&args.corpus, name)?;
        let options = EvaluateOptions { top_k };
        let mut task = runtime.block_on(evaluate(&towers, &args.corpus, &items, options))?;
        if let Some(floor) = &floor {
            task.floor_text_to_image = Some(floor.text_to_image(&args.corpus, &items)?);
        }
        report.tasks.push(task);
        bar.inc(1);
    }
    bar.finish_and_clear();
    if let Some(path) = &args.out {
        let json = serde_json::to_vec_pretty(&report)?;
        std::fs::write(path, json).with_context(|| path.display().to_string())?;
    }
    #[expect(clippy::print_stdout, reason = "the table is what the command is for")]
    {
        println!("{}", report.to_markdown());
    }
    Ok(())
}
