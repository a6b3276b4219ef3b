use std::path::PathBuf;

use anyhow::Context as _;
use astromech_schemas::Blend;
use astromech_towers::{Bundle, Towers, TowersConfig, init_runtime};
use astromech_trainer::evaluate::{TaskItems, calibrate};
use astromech_trainer::release::set_blend;

/// Fits how much the single tower counts beside the cosine, on tasks held out of training, and writes it into the bundle: weights of 0
/// unless the bundle ranks better with it. The fingerprint stays.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The bundle.
    #[arg(long)]
    bundle: PathBuf,
    /// Corpus folder of the tasks.
    #[arg(long)]
    corpus: PathBuf,
    /// Retrieval tasks that nothing was trained or chosen on.
    #[arg(long, required = true, value_delimiter = ',')]
    tasks: Vec<String>,
    /// Candidates of the first stage that are scored.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(2..=128))]
    top_k: u16,
    /// Threads; 0 takes all cores.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Print what was fitted and leave the bundle as it is.
    #[arg(long)]
    dry_run: bool,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let tasks = args.tasks.iter().map(|name| TaskItems::load(&args.corpus, name)).collect::<Result<Vec<_>, _>>()?;
    init_runtime(None)?;
    let bundle = Bundle::open(&args.bundle)?;
    let towers = Towers::start(&bundle, &TowersConfig { threads: args.threads, load_cross: true, ..TowersConfig::default() })?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let blend = runtime.block_on(calibrate(&towers, &tasks, args.top_k.into()))?;
    drop(towers);
    #[expect(clippy::print_stdout, reason = "the blend is what the command is for")]
    {
        println!("{}", serde_json::to_string_pretty(&blend)?);
    }
    let Blend { text, image, .. } = &blend;
    if blend.is_idle() {
        tracing::info!("the single tower gets no weight: the tasks are ranked no better with it");
    } else {
        tracing::info!(text, image, "the single tower gets weight");
    }
    if !args.dry_run {
        set_blend(&args.bundle, blend).with_context(|| args.bundle.display().to_string())?;
    }
    Ok(())
}
