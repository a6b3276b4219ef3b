use std::path::PathBuf;
use std::time::Instant;

use astromech_towers::{ImageLimits, decode_and_squash};
use astromech_trainer::zero::clicks::process_mib;
use astromech_trainer::zero::{Drawn, FaultKind, RecordStream, ShardFault, StreamSettings, list_shards, synthetic_shards};
use rayon::prelude::*;

/// Reads shards as training would, without training: records a second, memory, and every fault counted. With --synthetic it makes up
/// the records, to measure the stream itself.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files, folders or patterns of shards. Repeatable.
    #[arg(long, required_unless_present = "synthetic", conflicts_with = "synthetic")]
    shards: Vec<String>,
    /// Make up the records instead: no file, no picture, the same parser.
    #[arg(long, requires = "records")]
    synthetic: bool,
    /// Stop after so many records; else after one epoch.
    #[arg(long)]
    records: Option<u64>,
    /// Records a made-up shard.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    synthetic_shard_records: u64,
    /// Records between two lines.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    report_every: u64,
    /// Decode every picture too, on all cores, at this side in pixels.
    #[arg(long, conflicts_with = "synthetic")]
    decode_px: Option<u32>,
    /// Records of the shuffle buffer.
    #[arg(long, default_value_t = 10_000)]
    shuffle_records: usize,
    /// This worker, from 0.
    #[arg(long, default_value_t = 0)]
    worker: usize,
    /// Workers that share the shards.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Seed of the order.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder that paths of pictures are relative to; else each shard's own.
    #[arg(long)]
    image_root: Option<PathBuf>,
    /// Stop after more faults than this; else all are counted.
    #[arg(long)]
    faults_max: Option<u64>,
}

/// Records decoded at a time.
const CHUNK: usize = 1024;

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let settings = StreamSettings {
        shards: args.shards.clone(),
        image_root: args.image_root.clone(),
        shuffle_records: args.shuffle_records,
        worker: args.worker,
        workers: args.workers,
        faults_max: args.faults_max.unwrap_or(u64::MAX),
        fault_fraction_max: 1.0,
        ..StreamSettings::default()
    };
    let shards = match args.records {
        Some(records) if args.synthetic => synthetic_shards(records, args.synthetic_shard_records),
        _ => list_shards(&settings.shards)?,
    };
    let mut stream = RecordStream::over(shards, settings, args.seed)?;
    let begun = Instant::now();
    let (mut records, mut decoded) = (0u64, 0u64);
    let report = |records: u64, faults: &str| {
        let rate = records as f64 / begun.elapsed().as_secs_f64();
        say(&format!("{records} records, {rate:.0} a second, RSS {} MiB, {faults}", process_mib("VmRSS")));
    };
    let mut chunk: Vec<Drawn> = Vec::new();
    while args.records.is_none_or(|most| records < most) {
        let drawn = stream.draw()?;
        if args.records.is_none() && stream.epoch() > 0 {
            break;
        }
        records += 1;
        if let Some(side) = args.decode_px {
            chunk.push(drawn);
            if chunk.len() >= CHUNK {
                decoded += decode(&mut chunk, side, &mut stream)?;
            }
        }
        if records.is_multiple_of(args.report_every) {
            report(records, &stream.ledger.summary());
        }
    }
    if let Some(side) = args.decode_px {
        decoded += decode(&mut chunk, side, &mut stream)?;
    }
    report(records, &stream.ledger.summary());
    if args.decode_px.is_some() {
        say(&format!("{decoded} pictures decoded"));
    }
    if let Some((shard, faults)) = stream.ledger.worst() {
        say(&format!(
            "worst shard {} ({faults} faults); first fault: {}",
            shard.display(),
            stream.ledger.first().unwrap_or_default()
        ));
    }
    Ok(())
}

fn decode(chunk: &mut Vec<Drawn>, side: u32, stream: &mut RecordStream) -> anyhow::Result<u64> {
    let one = |drawn: &Drawn| -> Result<(), ShardFault> {
        let bytes = drawn.record.picture()?;
        let decoded = decode_and_squash(&bytes, side, &ImageLimits::default());
        decoded.map(|_| ()).map_err(|error| drawn.record.fault(FaultKind::BadPicture, error.to_string()))
    };
    let made: Vec<Result<(), ShardFault>> = chunk.par_iter().map(one).collect();
    chunk.clear();
    let mut good = 0;
    for made in made {
        match made {
            Ok(()) => good += 1,
            Err(fault) => stream.fault(&fault)?,
        }
    }
    Ok(good)
}

#[expect(clippy::print_stdout, reason = "the lines are what the command is for")]
fn say(line: &str) {
    println!("{line}");
}
