use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;

use anyhow::Context as _;
use astromech_trainer::train::{StopFlag, TrainConfig, train};

/// Trains by a TOML configuration. Ctrl-C or SIGTERM saves and exits 0; `--resume` goes on.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Training configuration (configs/train-demo.toml is a commented one).
    #[arg(long)]
    config: PathBuf,
    /// Override any value: section.key=value. Repeatable.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    overrides: Vec<String>,
    /// Folder of checkpoints and metrics (run.out).
    #[arg(long)]
    out: Option<PathBuf>,
    /// Go on from the state in the output folder.
    #[arg(long)]
    resume: bool,
    /// Stop after this many seconds of training in total; the schedule follows (optim.max_seconds).
    #[arg(long)]
    max_seconds: Option<u64>,
    /// LibTorch's threads (run.threads); 0 takes all cores.
    #[arg(long)]
    threads: Option<usize>,
}

/// How idle threads of LibTorch's OpenMP wait. Spinning, its default, doubles the time of a step when anything else runs on the machine
/// (measured: 9.1 s against 5.1 s); waiting passively costs nothing measurable on an idle one.
const WAIT_POLICY: (&str, &str) = ("OMP_WAIT_POLICY", "passive");

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<()> {
    restart_with_wait_policy()?;
    let mut overrides = args.overrides.clone();
    if let Some(out) = &args.out {
        overrides.push(format!("run.out={:?}", out.display().to_string()));
    }
    if let Some(seconds) = args.max_seconds {
        overrides.push(format!("optim.max_seconds={seconds}"));
    }
    if let Some(threads) = args.threads {
        overrides.push(format!("run.threads={threads}"));
    }
    let config = TrainConfig::read(&args.config, &overrides)?;
    let stop = StopFlag::on_signals().context("signal handlers")?;
    let outcome = train(&config, args.resume, &stop)?;
    tracing::info!(
        steps = outcome.steps,
        seconds = outcome.elapsed_seconds as u64,
        finished = outcome.finished,
        "saved to {}",
        config.run.out.display()
    );
    Ok(())
}

/// OpenMP reads its environment when the library is loaded, so the program starts itself once more with the variable set.
pub(super) fn restart_with_wait_policy() -> anyhow::Result<()> {
    let (name, value) = WAIT_POLICY;
    if std::env::var_os(name).is_some() {
        return Ok(());
    }
    let mut arguments = std::env::args_os();
    let own = arguments.next();
    let program = std::env::current_exe().context("own program")?;
    let mut again = std::process::Command::new(program);
    if let Some(own) = own {
        again.arg0(own);
    }
    Err(again.args(arguments).env(name, value).exec()).context("restart with OMP_WAIT_POLICY")
}
