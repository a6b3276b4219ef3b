use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;

use anyhow::Context as _;
use astromech_trainer::nn::Device;
use astromech_trainer::stop::StopFlag;
use astromech_trainer::train::{TrainConfig, train};

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
const PRELOAD: &str = "LD_PRELOAD";

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
    restart_with_cuda(config.run.device)?;
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
    restart_with(name, value.as_ref())
}

/// LibTorch takes CUDA up only when its library is loaded before the first tensor: where a device needs it, the program starts itself
/// once more with the library preloaded. See [`Device::library_to_preload`].
pub(super) fn restart_with_cuda(device: Device) -> anyhow::Result<()> {
    let Some(library) = device.library_to_preload() else { return Ok(()) };
    let before = std::env::var_os(PRELOAD).unwrap_or_default();
    if before.to_string_lossy().contains(library.to_string_lossy().as_ref()) {
        return Ok(()); // It is loaded, and finds no device: opening the device says so.
    }
    let mut value = library.clone().into_os_string();
    if !before.is_empty() {
        value.push(":");
        value.push(before);
    }
    // A library that misses one of its own would end the program before its first line.
    let trial = std::process::Command::new(std::env::current_exe().context("own program")?)
        .arg("--version")
        .env(PRELOAD, &value)
        .output()
        .context("own program")?;
    anyhow::ensure!(
        trial.status.success(),
        "run.device is {device}, but {} can't be loaded ({}); install the CUDA libraries it names, or set run.device = \"cpu\"",
        library.display(),
        String::from_utf8_lossy(&trial.stderr).trim()
    );
    restart_with(PRELOAD, &value)
}

fn restart_with(name: &str, value: &OsStr) -> anyhow::Result<()> {
    let mut arguments = std::env::args_os();
    let own = arguments.next();
    let program = std::env::current_exe().context("own program")?;
    let mut again = std::process::Command::new(program);
    if let Some(own) = own {
        again.arg0(own);
    }
    Err(again.args(arguments).env(name, value).exec()).with_context(|| format!("restart with {name}"))
}
