use std::path::PathBuf;

use anyhow::Context as _;
use astromech_trainer::train::{TrainConfig, batch_source};

/// Draws the pictures of one batch as training sees them, augmented: a PNG grid to judge `[augment]` by before hours are spent.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Training configuration.
    #[arg(long)]
    config: PathBuf,
    /// Override any value: section.key=value. Repeatable.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    overrides: Vec<String>,
    /// The step whose batch is drawn; a large one lies behind `augment.ramp_steps`.
    #[arg(long, default_value_t = 1_000_000)]
    step: u64,
    /// The PNG to write.
    #[arg(long)]
    out: PathBuf,
}

/// Pictures a row.
const COLUMNS: usize = 16;

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let config = TrainConfig::read(&args.config, &args.overrides)?;
    let side = config.model.vision.image as usize;
    let batch = batch_source(&config)?.next(args.step)?;
    let rows = batch.size.div_ceil(COLUMNS);
    let mut grid = image::RgbImage::new((COLUMNS.min(batch.size) * side) as u32, (rows * side) as u32);
    for (index, planes) in batch.pixels.chunks_exact(3 * side * side).enumerate() {
        let (left, top) = (index % COLUMNS * side, index / COLUMNS * side);
        for at in 0..side * side {
            let pixel = image::Rgb([planes[at], planes[side * side + at], planes[2 * side * side + at]]);
            grid.put_pixel((left + at % side) as u32, (top + at / side) as u32, pixel);
        }
    }
    grid.save(&args.out).with_context(|| args.out.display().to_string())?;
    tracing::info!(pictures = batch.size, "{}", args.out.display());
    Ok(())
}
