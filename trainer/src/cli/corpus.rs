use std::path::PathBuf;

use anyhow::Context as _;
use astromech_trainer::zero::{FolderOptions, RecordStream, StreamSettings, write_folder};

/// Makes a corpus folder of shards: records to train on, pictures held out to validate on and to make golden vectors of, and retrieval
/// tasks over them. A stream too large to be copied is validated on one of its shards, which is then left out of training.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files, folders or patterns of shards: .jsonl, .tsv, .tar, .parquet. Repeatable.
    #[arg(long, required = true)]
    shards: Vec<String>,
    /// A new or empty folder.
    #[arg(long)]
    out: PathBuf,
    /// Pictures held out as the split val; a number beyond the records holds out all.
    #[arg(long, default_value_t = 500)]
    held_out: usize,
    /// Licence of the pictures, as configurations and `export --samples-licences` name it.
    #[arg(long)]
    licence: String,
    /// Name of the source family, as in the names of tasks: `val.<domain>.long`.
    #[arg(long, default_value = "pairs")]
    domain: String,
    /// Folder that paths of pictures are relative to; else each shard's own.
    #[arg(long)]
    image_root: Option<PathBuf>,
    /// Stop after more faults than this.
    #[arg(long)]
    faults_max: Option<u64>,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let plain = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_'));
    anyhow::ensure!(plain(&args.domain), "--domain {:?} may hold letters, digits, - and _ only: it names files", args.domain);
    if args.out.exists() {
        let mut entries = std::fs::read_dir(&args.out).with_context(|| args.out.display().to_string())?;
        anyhow::ensure!(entries.next().is_none(), "--out {} is not empty; give a new folder", args.out.display());
    }
    let defaults = StreamSettings::default();
    let settings = StreamSettings {
        shards: args.shards.clone(),
        image_root: args.image_root.clone(),
        shuffle_records: 1,
        faults_max: args.faults_max.unwrap_or(defaults.faults_max),
        ..defaults
    };
    let mut stream = RecordStream::open(settings, 0)?;
    let options = FolderOptions {
        out: args.out.clone(),
        held_out: args.held_out,
        licence: args.licence.clone(),
        domain: args.domain.clone(),
    };
    let stats = write_folder(&mut stream, &options)?;
    tracing::info!(
        train = stats.train,
        val = stats.val,
        tasks = stats.tasks.join(", "),
        "written to {}; {}",
        args.out.display(),
        stream.ledger.summary()
    );
    Ok(())
}
