//! `refresh.toml`.

use std::path::{Path, PathBuf};

use astromech_schemas::manifest::{Precision, hex};
use astromech_settings::kinds::{choice, flag, int, list, path, text};
use astromech_settings::{Document, SettingErrors, Value as _, checked, settings};
use sha2::{Digest as _, Sha256};

use super::error::RefreshError;
use crate::collect::{BrokerConfig, CollectConfig};
use crate::gate::{PRECISIONS, Quality, SetConfig, Speed, TOP_K_MAX, check_sets};
use crate::release::CardFacts;

/// Name of the corpus folder of held-out records, and of the source family in its tasks: `val.fresh.long`.
pub(super) const FRESH: &str = "fresh";
/// A file that shows every key.
const EXAMPLE: &str = "configs/refresh.toml";

settings! {
    /// Everything a job follows from. Paths are relative to the folder that it is started in.
    #[derive(Debug, Clone)]
    pub struct RefreshConfig {
        /// Where and when.
        job: JobConfig;
        /// The broker of topics and announcements.
        kafka: BrokerConfig;
        /// The snapshot.
        collect: CollectConfig;
        /// Training.
        train: TrainStep;
        /// A smaller student of the model that was trained; none publishes that model itself.
        distil: Option<DistilStep>;
        /// The bundle.
        export: ExportStep;
        /// What it is measured on.
        evaluate: EvaluateStep;
        /// Thresholds.
        gate: GateStep;
        /// Where it is published.
        registry: RegistryConfig;
        /// Where it is announced; none announces nothing.
        announce: Option<AnnounceStep>;
        /// Sha-256 of this file and of the training configurations that it names.
        sha256: String = derived => String::new();
    }

    /// Where and when a job works.
    #[derive(Debug, Clone)]
    pub struct JobConfig {
        /// Folder of state, runs and checkpoints; it outlives the job, on a volume that the next one sees.
        work: PathBuf = (required "refresh") => path();
        /// Seconds after which a job that gave no sign of life is taken over.
        lease_seconds: u64 = 60 => int(1, u64::MAX);
        /// Metrics for a node exporter's textfile collector: a file that ends in `.prom`.
        metrics_file: Option<PathBuf> = optional => path().or_none();
        /// Least records that the topics must have beyond the last run, else there is nothing to do.
        new_records_min: u64 = 1 => int(0, u64::MAX);
        /// Least records to train on.
        records_min: u64 = 1000 => int(0, u64::MAX);
        /// Folders of closed runs that are kept, the newest first.
        runs_kept: usize = 2 => int(0, u64::MAX);
        /// Checkpoints of published bundles that are kept beside the live one's, the newest first.
        checkpoints_kept: usize = 3 => int(0, u64::MAX);
    }

    /// Training.
    #[derive(Debug, Clone)]
    pub struct TrainStep {
        /// Training configuration; the job sets its data source, `run.out` and `run.init`.
        config: PathBuf = (required "configs/train-demo.toml") => path();
        /// Overrides of it: `section.key=value`.
        set: Vec<String> = [] => list(text());
        /// A native checkpoint to start from where the work folder holds none of the live bundle.
        init: Option<PathBuf> = optional => path().or_none();
    }

    /// Distillation: a training of its own, whose teacher is the model that was trained.
    #[derive(Debug, Clone)]
    pub struct DistilStep {
        /// Training configuration of the student, with a `[distil]` section; the job sets `distil.teacher` too.
        config: PathBuf = (required "configs/train-student.toml") => path();
        /// Overrides of it.
        set: Vec<String> = [] => list(text());
        /// A native checkpoint to start the student from where the work folder holds none of the live bundle.
        init: Option<PathBuf> = optional => path().or_none();
    }

    /// The bundle.
    #[derive(Debug, Clone)]
    pub struct ExportStep {
        /// Name of the model, for people.
        name: String = (required "refreshed") => text();
        /// Graphs to write.
        precisions: Vec<Precision> = ["f32", "int8"] => list(choice(PRECISIONS));
        /// Opset of the graphs.
        opset: u32 = 23 => int(1, 1000);
        /// Parts of the names of layers that stay f32 in int8 graphs, for a model whose int8 graph is refused as too far from f32.
        keep_f32: Vec<String> = [] => list(text());
        /// Longest text in tokens; else 64, or as many as the model has positions.
        max_tokens: Option<usize> = optional => int(0, u64::MAX).or_none();
        /// Corpus folder whose split `val` golden pictures and texts are taken from: the bundle carries their pixels. Without one they
        /// are held-out pictures of the topics.
        samples: Option<PathBuf> = optional => path().or_none();
        /// Licence of the topics' pictures, as the corpus of the held-out ones names it.
        licence: String = "proprietary" => text();
        /// What only people can say in the model card.
        facts: CardFacts;
    }

    /// What a bundle is measured on, beside the pictures that were held out.
    #[derive(Debug, Clone)]
    pub struct EvaluateStep {
        /// Corpus folder of frozen tasks.
        corpus: Option<PathBuf> = optional => path().or_none();
        /// Its tasks; those that end in `.match` are matching tasks.
        tasks: Vec<String> = [] => list(text());
        /// Candidates that the single tower re-ranks; 0 leaves it out.
        top_k: usize = 0 => int(0, TOP_K_MAX);
    }

    /// Thresholds, as `trainer gate` has them. What was held out is a set of its own, `fresh`, beside those that are named.
    #[derive(Debug, Clone)]
    pub struct GateStep {
        /// Frozen sets.
        sets as "set": Vec<SetConfig>;
        /// How much worse than the live bundle a set's figures may be, where the set says nothing else.
        quality: Quality;
        /// The same for what was held out alone.
        fresh: Quality;
        /// Drift of int8, latency, size.
        speed: Speed;
        /// Threads; 0 takes all cores.
        threads: usize = 0 => int(0, 4096);
    }

    /// The registry.
    #[derive(Debug, Clone)]
    pub struct RegistryConfig {
        /// A folder, or `s3://bucket/prefix`.
        url: String = (required "registry") => text();
        /// Address of the object storage, where it is not Amazon's.
        endpoint: Option<String> = optional => text().or_none();
        /// Region.
        region: Option<String> = optional => text().or_none();
        /// File with the access key; none takes `AWS_*` or the machine's role.
        access_key_file: Option<PathBuf> = optional => path().or_none();
        /// File with its secret.
        secret_key_file: Option<PathBuf> = optional => path().or_none();
        /// Speak to an `http://` endpoint.
        allow_http: bool = false => flag();
        /// Secret key that releases are signed with, of `trainer keygen`; none signs nothing.
        sign_key: Option<PathBuf> = optional => path().or_none();
        /// File with its password.
        sign_password_file: Option<PathBuf> = optional => path().or_none();
        /// Public key that the live bundle must be signed with, a `.pub` file; none trusts any.
        trust_key: Option<PathBuf> = optional => path().or_none();
        /// Releases that are kept, the newest first; 0 keeps all.
        keep: usize = 0 => int(0, u64::MAX);
    }

    /// The announcement.
    #[derive(Debug, Clone)]
    pub struct AnnounceStep {
        /// The topic.
        topic: String = (required "astromech.models") => text();
    }
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
    /// It can't be read, or every mistake in it: a field is unknown, missing, of the wrong type or outside its range.
    pub fn read(path: &Path) -> Result<Self, RefreshError> {
        let read = |path: &Path| {
            std::fs::read_to_string(path).map_err(|error| RefreshError::of(path.display().to_string(), true, error))
        };
        let text = read(path)?;
        let (document, errors) = Document::parse(&text);
        let checked = checked(&document, errors, EXAMPLE, |config: &Self, at, errors| {
            config.collect.check(&at.collect, errors);
            check_sets(&config.gate.sets, &at.gate.sets, &[FRESH], errors);
        });
        let broken = |errors| SettingErrors { file: path.to_owned(), errors };
        let mut config = checked.map_err(|errors| RefreshError::of("refresh", true, broken(errors)))?;
        config.collect.broker = config.kafka.clone();
        let mut sha256 = Sha256::new();
        sha256.update(&text);
        for path in std::iter::once(&config.train.config).chain(config.distil.as_ref().map(|distil| &distil.config)) {
            sha256.update(read(path)?);
        }
        config.sha256 = hex(&sha256.finalize());
        Ok(config)
    }
}
