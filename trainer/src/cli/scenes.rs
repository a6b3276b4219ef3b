use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use astromech_trainer::scenes::{FolderPlan, SceneStream, ScenesConfig, Stock, StockSettings, write_scenes};
use image::RgbImage;

/// Pairs of scenes that `--speed` makes before it counts, so that objects have their sizes, and that it counts.
const SPEED_PAIRS: [u64; 2] = [5_000, 20_000];
/// Pairs of scenes of a sheet, and how many a row.
const SHEET: [u32; 2] = [64, 4];

/// Composes scenes of one to three objects with near twins, and writes those that training with `data.scenes` never sees as a corpus folder:
/// records, pictures, and tasks (`<split>.scenes.long`, `.swap`, `.match`) for `trainer evaluate --corpus`. Splits: val, test,
/// `test_templates` (captions of unseen templates too), `test_designer` (objects of an unseen designer too).
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Corpus that objects are cut out of.
    #[arg(long)]
    corpus: PathBuf,
    /// Folder to write, new or empty.
    #[arg(long)]
    out: PathBuf,
    /// Seed of the scenes. Which combinations are held out does not follow from it.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Edge of a scene in pixels: best that of the model's pictures.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(16..=1024))]
    side: u64,
    /// Scenes of each retrieval task, in pairs of near twins.
    #[arg(long, default_value_t = 500)]
    scenes: usize,
    /// Pairs of near twins of each kind in each swap task.
    #[arg(long, default_value_t = 100)]
    swaps: usize,
    /// The designer whose objects are kept for test, of any licence.
    #[arg(long, default_value = "openmoji")]
    held_out_designer: String,
    /// Split with that designer's pictures; else they are looked for in the splits of the others.
    #[arg(long)]
    held_out_split: Option<String>,
    /// Splits of the other designers.
    #[arg(long, value_delimiter = ',', default_value = "train")]
    splits: Vec<String>,
    /// Licences of the other designers' pictures, exact.
    #[arg(long, value_delimiter = ',', default_value = "Apache-2.0,MIT,CC-BY-4.0")]
    licences: Vec<String>,
    /// Domains of the pictures.
    #[arg(long, value_delimiter = ',', default_value = "emoji")]
    domains: Vec<String>,
    /// Names of the concepts; else the built-in list of emoji.
    #[arg(long, value_delimiter = ',')]
    names: Vec<String>,
    /// Designers that must have drawn a concept.
    #[arg(long, default_value_t = 3)]
    designers_min: usize,
    /// Draw training scenes as a PNG sheet too, twins side by side; the captions go to a text file beside it.
    #[arg(long)]
    sheet: Option<PathBuf>,
    /// Measure how many training scenes a second one core composes.
    #[arg(long)]
    speed: bool,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let settings = StockSettings {
        corpus: args.corpus.clone(),
        splits: args.splits.clone(),
        licences: args.licences.clone(),
        domains: args.domains.clone(),
        names: args.names.clone(),
        designers_min: args.designers_min,
        concepts_max: 0,
        held_out: args.held_out_designer.clone(),
        held_out_split: args.held_out_split.clone(),
    };
    let stock = Arc::new(Stock::load(&settings, args.side as usize)?);
    tracing::info!(concepts = stock.concepts(), objects = stock.objects(), "cut out");
    let plan = FolderPlan { seed: args.seed, scenes: args.scenes, swaps: args.swaps };
    for written in write_scenes(&stock, &args.out, plan)? {
        tracing::info!(split = written.split, pictures = written.pictures, "written");
    }
    let training = ScenesConfig::default();
    let stream = || SceneStream::new(Arc::clone(&stock), &training.kinds, training.twins, args.seed);
    if args.speed {
        measure(&stream()?);
    }
    if let Some(path) = &args.sheet {
        draw_sheet(&stream()?, args.side as u32, path)?;
    }
    Ok(())
}

fn measure(stream: &SceneStream) {
    let [warm, counted] = SPEED_PAIRS;
    let make = |from: u64, pairs: u64| (from..from + pairs).map(|pair| stream.painted(pair)[1].1.len()).sum::<usize>();
    make(0, warm);
    let begun = Instant::now();
    make(warm, counted);
    let seconds = begun.elapsed().as_secs_f64();
    tracing::info!("{:.0} scenes/s on one core", 2.0 * counted as f64 / seconds);
}

fn draw_sheet(stream: &SceneStream, side: u32, path: &PathBuf) -> anyhow::Result<()> {
    let [pairs, columns] = SHEET;
    let mut sheet = RgbImage::new(columns * 2 * side, pairs / columns * side);
    let mut captions = String::new();
    for pair in 0..pairs {
        for (index, (scene, pixels)) in stream.painted(u64::from(pair)).into_iter().enumerate() {
            let picture = RgbImage::from_raw(side, side, pixels).context("a scene of another size")?;
            let (x, y) = ((pair % columns * 2 + index as u32) * side, pair / columns * side);
            image::imageops::replace(&mut sheet, &picture, i64::from(x), i64::from(y));
            captions.push_str(&scene.caption);
            captions.push('\n');
        }
    }
    sheet.save(path).with_context(|| path.display().to_string())?;
    let text = path.with_extension("txt");
    std::fs::write(&text, captions).with_context(|| text.display().to_string())
}
