//! `refresh.toml`.

use std::path::{Path, PathBuf};

use astromech_schemas::manifest::{Precision, hex};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::error::RefreshError;
use crate::collect::{BrokerConfig, CollectConfig};
use crate::export::OPSET_DEFAULT;
use crate::gate::{Quality, SetConfig, Speed};
use crate::release::CardFacts;

/// Everything a job follows from. Paths are relative to the folder that it is started in.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefreshConfig {
    /// Where and when.
    pub job: JobConfig,
    /// The broker of topics and announcements.
    pub kafka: BrokerConfig,
    /// The snapshot.
    pub collect: CollectConfig,
    /// Training.
    pub train: TrainStep,
    /// A smaller student of the model that was trained; none publishes that model itself.
    #[serde(default)]
    pub distil: Option<DistilStep>,
    /// The bundle.
    pub export: ExportStep,
    /// What it is measured on.
    #[serde(default)]
    pub evaluate: EvaluateStep,
    /// Thresholds.
    #[serde(default)]
    pub gate: GateStep,
    /// Where it is published.
    pub registry: RegistryConfig,
    /// Where it is announced; none announces nothing.
    #[serde(default)]
    pub announce: Option<AnnounceStep>,
    /// Sha-256 of this file and of the training configurations that it names.
    #[serde(skip)]
    pub sha256: String,
}

/// Where and when a job works.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobConfig {
    /// Folder of state, runs and checkpoints; it outlives the job, on a volume that the next one sees.
    pub work: PathBuf,
    /// Seconds after which a job that gave no sign of life is taken over.
    #[serde(default = "lease_seconds")]
    pub lease_seconds: u64,
    /// Metrics for a node exporter's textfile collector: a file that ends in `.prom`.
    #[serde(default)]
    pub metrics_file: Option<PathBuf>,
    /// Least records that the topics must have beyond the last run, else there is nothing to do.
    #[serde(default = "one")]
    pub new_records_min: u64,
    /// Least records to train on.
    #[serde(default = "records_min")]
    pub records_min: u64,
    /// Folders of closed runs that are kept, the newest first.
    #[serde(default = "runs_kept")]
    pub runs_kept: usize,
    /// Checkpoints of published bundles that are kept beside the live one's, the newest first.
    #[serde(default = "checkpoints_kept")]
    pub checkpoints_kept: usize,
}

fn lease_seconds() -> u64 {
    60
}
fn one() -> u64 {
    1
}
fn records_min() -> u64 {
    1000
}
fn runs_kept() -> usize {
    2
}
fn checkpoints_kept() -> usize {
    3
}

/// Training.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainStep {
    /// Training configuration; the job sets its data source, `run.out` and `run.init`.
    pub config: PathBuf,
    /// Overrides of it: `section.key=value`.
    #[serde(default)]
    pub set: Vec<String>,
    /// A native checkpoint to start from where the work folder holds none of the live bundle.
    #[serde(default)]
    pub init: Option<PathBuf>,
}

/// Distillation: a training of its own, whose teacher is the model that was trained.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DistilStep {
    /// Training configuration of the student, with a `[distil]` section; the job sets `distil.teacher` too.
    pub config: PathBuf,
    /// Overrides of it.
    #[serde(default)]
    pub set: Vec<String>,
    /// A native checkpoint to start the student from where the work folder holds none of the live bundle.
    #[serde(default)]
    pub init: Option<PathBuf>,
}

/// The bundle.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportStep {
    /// Name of the model, for people.
    pub name: String,
    /// Graphs to write.
    #[serde(default = "precisions")]
    pub precisions: Vec<Precision>,
    /// Opset of the graphs.
    #[serde(default = "opset")]
    pub opset: u32,
    /// Parts of the names of layers that stay f32 in int8 graphs, for a model whose int8 graph is refused as too far from f32.
    #[serde(default)]
    pub keep_f32: Vec<String>,
    /// Longest text in tokens; else 64, or as many as the model has positions.
    #[serde(default)]
    pub max_tokens: Option<usize>,
    /// Corpus folder whose split `val` golden pictures and texts are taken from: the bundle carries their pixels. Without one they are
    /// held-out pictures of the topics.
    #[serde(default)]
    pub samples: Option<PathBuf>,
    /// Licence of the topics' pictures, as the corpus of the held-out ones names it.
    #[serde(default = "licence")]
    pub licence: String,
    /// What only people can say in the model card.
    #[serde(default)]
    pub facts: CardFacts,
}

fn precisions() -> Vec<Precision> {
    vec![Precision::F32, Precision::Int8]
}
fn opset() -> u32 {
    OPSET_DEFAULT
}
fn licence() -> String {
    "proprietary".to_owned()
}

/// What a bundle is measured on, beside the pictures that were held out.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluateStep {
    /// Corpus folder of frozen tasks.
    pub corpus: Option<PathBuf>,
    /// Its tasks; those that end in `.match` are matching tasks.
    pub tasks: Vec<String>,
    /// Candidates that the single tower re-ranks; 0 leaves it out.
    pub top_k: usize,
}

/// Thresholds, as `trainer gate` has them. What was held out is a set of its own, `fresh`, beside those that are named.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GateStep {
    /// Frozen sets.
    #[serde(rename = "set")]
    pub sets: Vec<SetConfig>,
    /// How much worse than the live bundle a set's figures may be, where the set says nothing else.
    pub quality: Quality,
    /// The same for what was held out alone.
    pub fresh: Quality,
    /// Drift of int8, latency, size.
    pub speed: Speed,
    /// Threads; 0 takes all cores.
    pub threads: usize,
}

/// The registry.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryConfig {
    /// A folder, or `s3://bucket/prefix`.
    pub url: String,
    /// Address of the object storage, where it is not Amazon's.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// Region.
    #[serde(default)]
    pub region: Option<String>,
    /// File with the access key; none takes `AWS_*` or the machine's role.
    #[serde(default)]
    pub access_key_file: Option<PathBuf>,
    /// File with its secret.
    #[serde(default)]
    pub secret_key_file: Option<PathBuf>,
    /// Speak to an `http://` endpoint.
    #[serde(default)]
    pub allow_http: bool,
    /// Secret key that releases are signed with, of `trainer keygen`; none signs nothing.
    #[serde(default)]
    pub sign_key: Option<PathBuf>,
    /// File with its password.
    #[serde(default)]
    pub sign_password_file: Option<PathBuf>,
    /// Public key that the live bundle must be signed with, a `.pub` file; none trusts any.
    #[serde(default)]
    pub trust_key: Option<PathBuf>,
    /// Releases that are kept, the newest first; 0 keeps all.
    #[serde(default)]
    pub keep: usize,
}

/// The announcement.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnnounceStep {
    /// The topic.
    pub topic: String,
}

impl RefreshConfig {
    /// Files of the trainings of this job, with what the job sets in them.
    pub fn train_configs(&self) -> impl Iterator<Item = (&Path, &[String])> {
        let distil = self.distil.iter().map(|step| (step.config.as_path(), step.set.as_slice()));
        std::iter::once((self.train.config.as_path(), self.train.set.as_slice())).chain(distil)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// It can't be read, a field is unknown, missing or of the wrong type, or a value is outside its range.
    pub fn read(path: &Path) -> Result<Self, RefreshError> {
        let name = path.display().to_string();
        let read = |path: &Path| {
            std::fs::read_to_string(path).map_err(|error| RefreshError::of(path.display().to_string(), true, error))
        };
        let text = read(path)?;
        let mut config: Self = toml::from_str(&text).map_err(|error| RefreshError::of(name.clone(), true, error))?;
        config.collect.broker = config.kafka.clone();
        config.collect.validate().map_err(|error| RefreshError::of(format!("{name}: collect"), true, error))?;
        if config.job.lease_seconds == 0 {
            return Err(RefreshError::wrong(name, "job.lease_seconds is 0; it must be at least 1"));
        }
        let mut sha256 = Sha256::new();
        sha256.update(&text);
        for path in std::iter::once(&config.train.config).chain(config.distil.as_ref().map(|distil| &distil.config)) {
            sha256.update(read(path)?);
        }
        config.sha256 = hex(&sha256.finalize());
        Ok(config)
    }
}
