use std::path::PathBuf;

use astromech_settings::load;
use astromech_trainer::zero::clicks::{ClickConfig, STATS_FILE, run as make_records};

/// Makes training records of a click log: pairs of query and picture summed, filtered by click-through rate, ranked, freed of duplicates,
/// sampled, written as JSON Lines shards with a STATS.json of what each step took away.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The log: files, folders or patterns of .jsonl, .tsv (also .gz) or .parquet with query, image (or image_hash), impressions,
    /// clicks, and title, content, url where there are. Repeatable.
    #[arg(long)]
    impressions: Vec<String>,
    /// A new or empty folder for the records.
    #[arg(long)]
    out: PathBuf,
    /// TOML with any setting (trainer/DATA.md lists them); the options here come before it.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Folder that paths of pictures are relative to; else each file's own.
    #[arg(long)]
    image_root: Option<PathBuf>,
    /// Records of the sample; 0 keeps all.
    #[arg(long)]
    records: Option<u64>,
    /// Seed of the sample.
    #[arg(long)]
    seed: Option<u64>,
    /// Records a shard.
    #[arg(long)]
    shard_records: Option<u64>,
    /// Memory, MiB; what does not fit goes through files in the output folder.
    #[arg(long)]
    memory_max_mib: Option<u64>,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let mut config = match &args.config {
        Some(path) => load(path, "trainer/DATA.md", |_, _, _| {})?,
        None => ClickConfig::default(),
    };
    if !args.impressions.is_empty() {
        config.impressions.clone_from(&args.impressions);
    }
    anyhow::ensure!(!config.impressions.is_empty(), "no log is named; give --impressions or `impressions` in the configuration");
    config.image_root = args.image_root.clone().or(config.image_root);
    config.records = args.records.unwrap_or(config.records);
    config.seed = args.seed.unwrap_or(config.seed);
    config.shard_records = args.shard_records.unwrap_or(config.shard_records);
    config.memory_max_mib = args.memory_max_mib.unwrap_or(config.memory_max_mib);
    let stats = make_records(&config, &args.out)?;
    tracing::info!(
        records = stats.records,
        shards = stats.shards.len(),
        peak_rss_mib = stats.peak_rss_mib,
        "written to {}",
        args.out.join(STATS_FILE).display()
    );
    Ok(())
}
