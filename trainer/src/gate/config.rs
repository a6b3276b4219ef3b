//! The gate's configuration: data and thresholds.

use std::path::{Path, PathBuf};

use astromech_schemas::manifest::Precision;
use astromech_settings::kinds::{above_zero, choice, float, int, list, path, text};
use astromech_settings::{Part, SettingError, SettingErrors, Value as _, defaults, load, settings};

/// Most texts and pictures that drift and latency are measured on.
const SAMPLES_MAX: u64 = 4096;
/// Most candidates of the second stage.
pub(crate) const TOP_K_MAX: u64 = 128;
/// Names of the graphs' precisions.
pub(crate) const PRECISIONS: &[(&str, Precision)] =
    &[("f32", Precision::F32), ("int8", Precision::Int8), ("fp16", Precision::Fp16)];

settings! {
    /// Data and thresholds, one TOML file.
    #[derive(Debug, Clone, PartialEq)]
    pub struct GateConfig {
        /// Which graphs are measured: f32, int8 or fp16; without it, those that the daemon would serve.
        precision: Option<Precision> = optional => choice(PRECISIONS).or_none();
        /// Threads; 0 takes all cores.
        threads: usize = 0 => int(0, 4096);
        /// The data, each set with a name of its own: a frozen one, and the newest.
        sets as "set": Vec<SetConfig>;
        /// How much worse than the live bundle a set's figures may be, where the set says nothing else.
        quality: Quality;
        /// How far int8 may be from f32, how much slower and larger than the live bundle the candidate may be.
        speed: Speed;
    }

    /// One set of data.
    #[derive(Debug, Clone, PartialEq)]
    pub struct SetConfig {
        /// Name in the report, for example `frozen`.
        name: String = (required "frozen") => text();
        /// Corpus folder.
        corpus: PathBuf = (required "corpus") => path();
        /// Tasks of the corpus: names of `tasks/<name>.jsonl`; one that ends in `.match` is a matching task.
        tasks: Vec<String> = [] => list(text());
        /// Make tasks of the records themselves: of a snapshot, which has none.
        newest: Option<Newest>;
        /// Candidates that the cross tower re-ranks; 0 leaves the second stage out.
        top_k: usize = 16 => int(0, TOP_K_MAX);
        /// Thresholds of this set alone; what it leaves out is taken from the common ones.
        quality: Quality;
    }

    /// Tasks made of a corpus's records: each title asks for its picture, and is paired with another record's picture for matching.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Newest {
        /// Splits.
        splits: Vec<String> = (required ["train"]) => list(text());
        /// Most records; they are taken evenly over the split, always the same ones.
        records_max: usize = 1000 => int(2, u64::MAX);
    }

    /// Thresholds of a set's figures, in parts of one (0.02 is two points). A threshold that is not given is not held.
    #[derive(Debug, Clone, Copy, Default, PartialEq)]
    pub struct Quality {
        /// Largest fall of R@1, R@10 and R@M of the dual tower, and of R@M after re-ranking, below the live bundle's.
        recall_drop_max: Option<f64> = optional => float(0.0, 1.0).or_none();
        /// Least R@M of the dual tower, whatever the live bundle has.
        mean_recall_min: Option<f64> = optional => float(0.0, 1.0).or_none();
        /// Largest fall of the AUC of matching, of the cosine and of the single tower, below the live bundle's.
        auc_drop_max: Option<f64> = optional => float(0.0, 1.0).or_none();
        /// Least AUC of matching by the single tower, whatever the live bundle has.
        auc_min: Option<f64> = optional => float(0.0, 1.0).or_none();
        /// Least AUC of each head of the single tower, `itm_text` and `itm_image` apart: among the re-ranked candidates of retrieval in both
        /// directions, and over the pairs of matching tasks. 0.5 is chance; a mean of both heads hides one that is dead.
        head_auc_min: Option<f64> = optional => float(0.0, 1.0).or_none();
        /// Largest fall of the accuracy of matching at .5 by the single tower below the live bundle's.
        accuracy_drop_max: Option<f64> = optional => float(0.0, 1.0).or_none();
    }

    /// Thresholds of drift, latency and size. A threshold that is not given is not held.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Speed {
        /// Least mean cosine of int8's embeddings to f32's, of pictures and of texts.
        drift_cosine_min: Option<f64> = optional => float(0.0, 1.0).or_none();
        /// Largest ratio of the candidate's median time for one picture to the live bundle's.
        image_latency_ratio_max: Option<f64> = optional => float(0.0, f64::INFINITY).parsed(above_zero, || 1.0).or_none();
        /// Largest ratio of the candidate's median time for one text to the live bundle's.
        text_latency_ratio_max: Option<f64> = optional => float(0.0, f64::INFINITY).parsed(above_zero, || 1.0).or_none();
        /// Largest ratio of the candidate's bytes to the live bundle's.
        size_ratio_max: Option<f64> = optional => float(0.0, f64::INFINITY).parsed(above_zero, || 1.0).or_none();
        /// Pictures and texts that drift is measured on, and requests that latency is the median of.
        samples: usize = 64 => int(1, SAMPLES_MAX);
    }
}

impl Quality {
    /// This one, and of `common` what it leaves out.
    pub(super) fn or(self, common: Self) -> Self {
        Self {
            recall_drop_max: self.recall_drop_max.or(common.recall_drop_max),
            mean_recall_min: self.mean_recall_min.or(common.mean_recall_min),
            auc_drop_max: self.auc_drop_max.or(common.auc_drop_max),
            auc_min: self.auc_min.or(common.auc_min),
            head_auc_min: self.head_auc_min.or(common.head_auc_min),
            accuracy_drop_max: self.accuracy_drop_max.or(common.accuracy_drop_max),
        }
    }
}

impl Default for Speed {
    fn default() -> Self {
        defaults()
    }
}

impl GateConfig {
    /// Reads the file; relative folders in it are as the process finds them.
    ///
    /// # Errors
    /// The file can't be read, or every mistake in it.
    pub fn read(path: &Path) -> Result<Self, SettingErrors> {
        load(path, "configs/gate.toml", |config: &Self, at, errors| {
            if config.sets.is_empty() {
                errors.push(at.sets.header.error("no data is given", "add a [[set]]"));
            }
            check_sets(&config.sets, &at.sets, &[], errors);
        })
    }
}

/// What lies between the keys of sets: each has a name of its own, not one of `taken`, and something to measure.
pub(crate) fn check_sets(
    sets: &[SetConfig],
    at: &<Vec<SetConfig> as Part>::Place,
    taken: &[&str],
    errors: &mut Vec<SettingError>,
) {
    for (index, (set, at)) in sets.iter().zip(&at.each).enumerate() {
        let twice = taken.contains(&set.name.as_str()) || sets[..index].iter().any(|other| other.name == set.name);
        if twice && !set.name.is_empty() {
            errors.push(at.name.error(format!("`{}` is there twice", set.name), "give each set a name of its own"));
        }
        let broken = at.tasks.is_given() && !at.tasks.is_written();
        if set.tasks.is_empty() && set.newest.is_none() && !broken {
            errors.push(at.tasks.error("no task is given", "name tasks of the corpus, or give `newest`"));
        }
    }
}
