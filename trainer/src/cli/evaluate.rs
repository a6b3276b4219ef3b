use std::path::PathBuf;

use anyhow::Context as _;
use astromech_schemas::manifest::Precision;
use astromech_towers::{Bundle, Towers, TowersConfig, init_runtime};
use astromech_trainer::corpus::{PairSource, PublishedSet, PublishedSource, SwapTask};
use astromech_trainer::evaluate::{
    EvaluateOptions, PixelFloor, Report, TaskItems, draw_reports, evaluate, evaluate_matching, evaluate_swaps,
};
use indicatif::ProgressBar;

/// Largest number of candidates of the second stage.
const TOP_K_MAX: u64 = 128;
/// Candidates of the second stage for tasks of a corpus.
const CORPUS_TOP_K: usize = 16;
/// End of the names of matching tasks of a corpus.
const MATCH_SUFFIX: &str = ".match";
/// End of the names of swap tasks of a corpus.
const SWAP_SUFFIX: &str = ".swap";

/// Measures a bundle on retrieval, matching and swap tasks, through the same code that serves it. Prints Markdown tables.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The bundle.
    #[arg(long)]
    bundle: PathBuf,
    /// Tasks: icm, iqm, icr, iqr or flickr30k-cna (in --data), or names of `tasks/<name>.jsonl` (in --corpus), where one that ends in
    /// `.match` is a matching task and one that ends in `.swap` a swap task (near twins, as `trainer scenes` writes them).
    #[arg(long = "task", alias = "tasks", value_delimiter = ',', required = true)]
    tasks: Vec<String>,
    /// Corpus folder.
    #[arg(long)]
    corpus: Option<PathBuf>,
    /// Folder of the published sets: `<split>/<file>` below it, or below a folder in it named ICM, IQM, ICR, IQR or Flickr30k-CNA.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Folder of the published sets' pictures; else IQR_IQM_ICR_ICM_images or flickr30k_images in --data.
    #[arg(long)]
    images: Option<PathBuf>,
    /// Split of the published sets; else val, and test of Flickr30k-CNA.
    #[arg(long)]
    split: Option<String>,
    /// Leave out rows whose picture is not there, and say how many; else such a row is an error.
    #[arg(long)]
    skip_missing: bool,
    /// Candidates that the cross tower re-ranks; 0 leaves the second stage out. Below 10 it bounds R@10. Else 128 for Flickr30k-CNA,
    /// 64 for ICR and IQR, as the official evaluation has it, and 16 for tasks of a corpus.
    #[arg(long, value_parser = clap::value_parser!(u64).range(0..=TOP_K_MAX))]
    top_k: Option<u64>,
    /// Ask retrieval tasks by text alone: R@M is then the mean of three recalls.
    #[arg(long)]
    text_to_image_only: bool,
    /// Which of the bundle's graphs: f32, int8 or fp16; else as the daemon chooses.
    #[arg(long, value_parser = super::export::precision)]
    precision: Option<Precision>,
    /// Threads; 0 takes all cores.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Leave out the pixel floor of a corpus's tasks, which reads all training pictures.
    #[arg(long)]
    no_floor: bool,
    /// Write the results as JSON.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Draw the results as bars, an SVG.
    #[arg(long)]
    plot: Option<PathBuf>,
    /// Results of an earlier evaluation to draw beside them. Repeatable.
    #[arg(long, requires = "plot")]
    compare: Vec<PathBuf>,
}

/// What a task is and where it lies.
enum Task {
    CorpusRetrieval(String),
    CorpusMatching(String),
    CorpusSwaps(String),
    Published(PublishedSet),
}

impl Task {
    fn of(name: &str) -> Self {
        match PublishedSet::from_name(name) {
            Some(set) => Self::Published(set),
            None if name.ends_with(MATCH_SUFFIX) => Self::CorpusMatching(name.to_owned()),
            None if name.ends_with(SWAP_SUFFIX) => Self::CorpusSwaps(name.to_owned()),
            None => Self::CorpusRetrieval(name.to_owned()),
        }
    }
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let tasks: Vec<Task> = args.tasks.iter().map(|name| Task::of(name)).collect();
    let earlier = args.compare.iter().map(|path| Report::read(path)).collect::<Result<Vec<_>, _>>()?;
    init_runtime(None)?;
    let bundle = Bundle::open(&args.bundle)?;
    let load_cross = args.top_k != Some(0);
    let config = TowersConfig { precision: args.precision, threads: args.threads, load_cross, ..TowersConfig::default() };
    let towers = Towers::start(&bundle, &config)?;
    let with_floor = !args.no_floor && tasks.iter().any(|task| matches!(task, Task::CorpusRetrieval(_)));
    // A folder of held-out scenes has no training split to be nearest to.
    let with_floor = with_floor && args.corpus()?.join("train.jsonl").exists();
    let floor = if with_floor { Some(PixelFloor::load(args.corpus()?)?) } else { None };
    let mut report = Report::of(&bundle, &towers);
    let bar = ProgressBar::new(args.tasks.len() as u64);
    for (task, name) in tasks.iter().zip(&args.tasks) {
        bar.set_message(name.clone());
        args.measure(&towers, task, floor.as_ref(), &mut report)?;
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
    if let Some(path) = &args.plot {
        let all: Vec<Report> = std::iter::once(report).chain(earlier).collect();
        draw_reports(&all, path)?;
        tracing::info!("drawn to {}", path.display());
    }
    Ok(())
}

impl Args {
    fn corpus(&self) -> anyhow::Result<&PathBuf> {
        self.corpus.as_ref().context("tasks of a corpus need --corpus FOLDER")
    }

    fn published(&self, set: PublishedSet) -> anyhow::Result<PublishedSource> {
        let folder = self.data.clone().with_context(|| format!("task {} needs --data FOLDER", set.name()))?;
        let split = self.split.clone().unwrap_or_else(|| set.split_default().to_owned());
        Ok(PublishedSource { set, folder, split, images: self.images.clone(), skip_missing: self.skip_missing })
    }

    /// Measures one task into the report.
    fn measure(&self, towers: &Towers, task: &Task, floor: Option<&PixelFloor>, report: &mut Report) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let top_k = |default: usize| self.top_k.map_or(default, |top_k| top_k as usize);
        let retrieval = |items: &TaskItems, default: usize| {
            let options = EvaluateOptions { top_k: top_k(default), text_to_image_only: self.text_to_image_only };
            runtime.block_on(evaluate(towers, items, options))
        };
        let with_single = self.top_k != Some(0);
        match task {
            Task::CorpusRetrieval(name) => {
                let items = TaskItems::load(self.corpus()?, name)?;
                let mut measured = retrieval(&items, CORPUS_TOP_K)?;
                measured.floor_text_to_image = floor.map(|floor| floor.text_to_image(&items)).transpose()?;
                report.tasks.push(measured);
            }
            Task::CorpusMatching(name) => {
                let pairs = PairSource::corpus_task(self.corpus()?, name).read()?;
                report.matching.push(runtime.block_on(evaluate_matching(towers, &pairs, with_single))?);
            }
            Task::CorpusSwaps(name) => {
                let swaps = SwapTask::read(self.corpus()?, name)?;
                report.swaps.push(runtime.block_on(evaluate_swaps(towers, &swaps, with_single))?);
            }
            Task::Published(set) if set.is_matching() => {
                let source = self.published(*set)?;
                let from = PairSource {
                    path: source.file(),
                    corpus: None,
                    images: Some(source.images()),
                    skip_missing: self.skip_missing,
                };
                let mut pairs = from.read()?;
                pairs.name = format!("{}.{}", set.name(), source.split);
                report.matching.push(runtime.block_on(evaluate_matching(towers, &pairs, with_single))?);
            }
            Task::Published(set) => {
                let items = TaskItems::published(&self.published(*set)?)?;
                report.tasks.push(retrieval(&items, set.top_k())?);
            }
        }
        Ok(())
    }
}
