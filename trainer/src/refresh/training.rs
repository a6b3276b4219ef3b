//! Warm-start and training, and the checkpoints that the next job starts from.
//!
//! A bundle holds graphs, no weights that can be trained on. So the work folder keeps the native checkpoint of each bundle that it
//! published, under the bundle's fingerprint, and of a distilled one its teacher's too.

use std::path::{Path, PathBuf};

use astromech_schemas::Fingerprint;

use super::context::Job;
use super::error::RefreshError;
use super::state::Run;
use crate::checkpoint::{MODEL_FILE, STATE_FILE, read_model_config};
use crate::collect::{SHARDS_TRAIN, SnapshotManifest};
use crate::corpus::CorpusError;
use crate::files::write_atomically;
use crate::scenes::SceneError;
use crate::train::{DataSource, TrainConfig, TrainError};
use crate::zero::ZeroError;

/// End of the name of a teacher's checkpoint.
const TEACHER: &str = ".teacher.safetensors";
/// End of the name of a published model's checkpoint.
const MODEL: &str = ".safetensors";

fn checkpoints(job: &Job<'_>) -> PathBuf {
    job.config.job.work.join("checkpoints")
}

/// Trains on the snapshot, from where the live bundle is.
pub(super) fn train(job: &mut Job<'_>, run: &Run, snapshot: &SnapshotManifest) -> Result<(), RefreshError> {
    let step = &job.config.train;
    let init = start(job, run, &[TEACHER, MODEL], step.init.as_deref());
    run_training(job, run, ("train", &step.config, &step.set), snapshot, init.as_deref(), None)
}

/// Trains the student of the model that [`train`] made.
pub(super) fn distil(job: &mut Job<'_>, run: &Run, snapshot: &SnapshotManifest) -> Result<(), RefreshError> {
    let Some(step) = &job.config.distil else { return Ok(()) };
    let init = start(job, run, &[MODEL], step.init.as_deref());
    let teacher = job.folder(run).join("train").join(MODEL_FILE);
    let set = format!("distil.teacher={:?}", teacher.display().to_string());
    run_training(job, run, ("student", &step.config, &step.set), snapshot, init.as_deref(), Some(set))
}

/// The live bundle's checkpoint, else the configured one.
fn start(job: &Job<'_>, run: &Run, endings: &[&str], configured: Option<&Path>) -> Option<PathBuf> {
    let of_live = |ending: &&str| {
        let path = checkpoints(job).join(format!("{}{ending}", run.live.as_ref()?));
        path.is_file().then_some(path)
    };
    endings.iter().find_map(of_live).or_else(|| configured.map(Path::to_owned))
}

/// True where the run began at the live bundle's weights.
pub(super) fn is_warm(job: &Job<'_>, run: &Run) -> bool {
    run.live.as_ref().is_some_and(|live| checkpoints(job).join(format!("{live}{MODEL}")).is_file())
}

fn run_training(
    job: &Job<'_>,
    run: &Run,
    (name, path, set): (&'static str, &Path, &[String]),
    snapshot: &SnapshotManifest,
    init: Option<&Path>,
    own: Option<String>,
) -> Result<(), RefreshError> {
    let out = job.folder(run).join(name);
    let mut overrides = set.to_vec();
    overrides.extend(own);
    overrides.extend(on_snapshot(job, run));
    overrides.push(format!("run.out={}", quoted(&out)));
    if let Some(init) = init {
        overrides.push(format!("run.init={}", quoted(init)));
    }
    let read = |overrides: &[String]| {
        TrainConfig::read(path, overrides).map_err(|error| RefreshError::of(path.display().to_string(), true, error))
    };
    let batch = read(&overrides)?.data.batch.max(1) as u64;
    overrides.push(format!("optim.steps_per_epoch={}", (snapshot.records.train / batch).max(1)));
    let config = read(&overrides)?;
    debug_assert_eq!(config.data.source, DataSource::Stream);
    if let Some(init) = init {
        check_start(init, &config)?;
    } else {
        tracing::warn!("no checkpoint to start from: {name} begins at random weights");
    }
    let resume = out.join(STATE_FILE).is_file();
    let outcome = crate::train::train(&config, resume, job.stop);
    let outcome = outcome.map_err(|error| RefreshError::of(name, is_input(&error), error))?;
    if outcome.finished {
        return Ok(());
    }
    if job.stop.is_set() {
        return Err(RefreshError::Stopped);
    }
    let limit = "run.part_steps ended the training early; set it to 0";
    Err(RefreshError::wrong(path.display().to_string(), limit))
}

/// Trains on the run's shards, in place of what a configuration says.
fn on_snapshot(job: &Job<'_>, run: &Run) -> [String; 3] {
    let shards = job.folder(run).join("snapshot").join(SHARDS_TRAIN);
    let shards = format!("data.stream.shards=[{}]", quoted(&shards));
    ["data.source=\"stream\"".to_owned(), shards, "eval.tasks=[]".to_owned()]
}

fn quoted(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}

/// How the model that is exported was trained.
pub(super) fn trained_by(job: &Job<'_>, run: &Run) -> Result<TrainConfig, RefreshError> {
    let (path, mut set) = match &job.config.distil {
        Some(distil) => (&distil.config, distil.set.clone()),
        None => (&job.config.train.config, job.config.train.set.clone()),
    };
    if job.config.distil.is_some() {
        // Named by the job alone; it is not opened here.
        set.push("distil.teacher=\"named by the job\"".to_owned());
    }
    set.extend(on_snapshot(job, run));
    TrainConfig::read(path, &set).map_err(|error| RefreshError::of(path.display().to_string(), true, error))
}

fn check_start(init: &Path, config: &TrainConfig) -> Result<(), RefreshError> {
    let name = init.display().to_string();
    let found = read_model_config(init).map_err(|error| RefreshError::of(name.clone(), true, error))?;
    if found == config.model {
        return Ok(());
    }
    let problem = "the checkpoint has other sizes than [model] of the training configuration; give one of these sizes";
    Err(RefreshError::wrong(name, problem))
}

fn is_input(error: &TrainError) -> bool {
    match error {
        TrainError::Io(_)
        | TrainError::Diverged { .. }
        | TrainError::LoaderGone
        | TrainError::Checkpoint(_)
        | TrainError::Scenes(SceneError::Io(_))
        | TrainError::Corpus(CorpusError::Stream(ZeroError::Io(_))) => false,
        TrainError::Corpus(_)
        | TrainError::Scenes(_)
        | TrainError::Distil(_)
        | TrainError::Config(_)
        | TrainError::TooFewRecords { .. }
        | TrainError::Seed { .. }
        | TrainError::Freeze { .. }
        | TrainError::Device(_) => true,
    }
}

/// The checkpoint that is exported.
pub(super) fn exported(job: &Job<'_>, run: &Run) -> PathBuf {
    let name = if job.config.distil.is_some() { "student" } else { "train" };
    job.folder(run).join(name).join(MODEL_FILE)
}

/// Keeps the run's checkpoints under the fingerprint of its bundle.
pub(super) fn keep_checkpoint(job: &Job<'_>, run: &Run, fingerprint: &Fingerprint) -> Result<(), RefreshError> {
    let folder = checkpoints(job);
    let failed = || RefreshError::failed(folder.display().to_string());
    std::fs::create_dir_all(&folder).map_err(failed())?;
    let keep = |from: PathBuf, ending: &str| {
        let to = folder.join(format!("{fingerprint}{ending}"));
        write_atomically(&to, |at| std::fs::copy(&from, at).map(|_| ())).map_err(failed())
    };
    if job.config.distil.is_some() {
        keep(job.folder(run).join("train").join(MODEL_FILE), TEACHER)?;
    }
    keep(exported(job, run), MODEL)
}

/// Removes the checkpoints of old bundles; never that of the live one or of the one published last.
pub(super) fn remove_checkpoints(job: &Job<'_>) -> Result<(), RefreshError> {
    let folder = checkpoints(job);
    let failed = || RefreshError::failed(folder.display().to_string());
    if !folder.is_dir() {
        return Ok(());
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        let time = entry.metadata().and_then(|meta| meta.modified()).map_err(failed())?;
        found.push((time, entry.path()));
    }
    let live = job.registry.current()?.map(|release| release.fingerprint);
    let last = job.state.published.as_ref().map(|published| published.fingerprint.clone());
    let kept = |path: &Path| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        [&live, &last].into_iter().flatten().any(|fingerprint| name.starts_with(fingerprint.as_str()))
    };
    found.retain(|(_, path)| !kept(path));
    found.sort();
    let old = found.len().saturating_sub(job.config.job.checkpoints_kept);
    found.iter().take(old).try_for_each(|(_, path)| std::fs::remove_file(path).map_err(failed()))
}
