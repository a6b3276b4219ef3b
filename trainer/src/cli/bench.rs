use std::path::PathBuf;

use astromech_trainer::train::{TrainConfig, bench_steps};

/// Times one training step on made-up data and prints one JSON line, as trainer/bench/pytorch_step.py does for the same model in PyTorch.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Training configuration: sizes, batch, precision.
    #[arg(long)]
    config: PathBuf,
    /// Override any value: section.key=value. Repeatable.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    overrides: Vec<String>,
    /// Steps that are timed.
    #[arg(long, default_value_t = 20)]
    steps: usize,
    /// LibTorch's threads.
    #[arg(long, default_value_t = 2)]
    threads: i32,
    /// Tokens of every text.
    #[arg(long, default_value_t = 40)]
    length: usize,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let config = TrainConfig::read(&args.config, &args.overrides)?;
    super::train::restart_with_cuda(config.run.device)?;
    anyhow::ensure!(args.steps > 0, "--steps is 0; time at least 1");
    anyhow::ensure!(
        args.length >= 3 && args.length as i64 <= config.model.positions,
        "--length is {}; it must be from 3 to model.positions = {}",
        args.length,
        config.model.positions
    );
    tch::set_num_threads(args.threads);
    let times = bench_steps(&config, args.steps, args.length)?;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak_kib =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    let line = serde_json::json!({
        "who": "trainer", "median_ms": times.median_ms, "min_ms": times.min_ms, "peak_mib": peak_kib.map(|kib| kib / 1024),
        "pairs_per_second": config.data.batch as f64 / times.median_ms * 1000.0, "gflop_per_step": times.flops / 1e9,
        "peak_gflops": times.peak_flops / 1e9, "mfu": times.utilisation(),
    });
    #[expect(clippy::print_stdout, reason = "the line is what the command is for")]
    {
        println!("{line}");
    }
    Ok(())
}
