//! The gate's configuration: data and thresholds.

use std::path::{Path, PathBuf};

use astromech_schemas::manifest::Precision;
use serde::{Deserialize, Serialize};

use super::GateError;

/// Most texts and pictures that drift and latency are measured on.
const SAMPLES_MAX: usize = 4096;
/// Most candidates of the second stage.
const TOP_K_MAX: usize = 128;

/// Data and thresholds, one TOML file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateConfig {
    /// Which graphs are measured: f32, int8 or fp16; without it, those that the daemon would serve.
    #[serde(default)]
    pub precision: Option<Precision>,
    /// Threads; 0 takes all cores.
    #[serde(default)]
    pub threads: usize,
    /// The data, each set with a name of its own: a frozen one, and the newest.
    #[serde(rename = "set")]
    pub sets: Vec<SetConfig>,
    /// How much worse than the live bundle a set's figures may be, where the set says nothing else.
    #[serde(default)]
    pub quality: Quality,
    /// How far int8 may be from f32, how much slower and larger than the live bundle the candidate may be.
    #[serde(default)]
    pub speed: Speed,
}

/// One set of data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetConfig {
    /// Name in the report, for example `frozen`.
    pub name: String,
    /// Corpus folder.
    pub corpus: PathBuf,
    /// Tasks of the corpus: names of `tasks/<name>.jsonl`; one that ends in `.match` is a matching task.
    #[serde(default)]
    pub tasks: Vec<String>,
    /// Make tasks of the records themselves: of a snapshot, which has none.
    #[serde(default)]
    pub newest: Option<Newest>,
    /// Candidates that the cross tower re-ranks; 0 leaves the second stage out.
    #[serde(default = "top_k_default")]
    pub top_k: usize,
    /// Thresholds of this set alone; what it leaves out is taken from the common ones.
    #[serde(default)]
    pub quality: Quality,
}

/// Tasks made of a corpus's records: each title asks for its picture, and is paired with another record's picture for matching.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Newest {
    /// Splits.
    pub splits: Vec<String>,
    /// Most records; they are taken evenly over the split, always the same ones.
    #[serde(default = "records_default")]
    pub records_max: usize,
}

/// Thresholds of a set's figures, in parts of one (0.02 is two points). A threshold that is not given is not held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quality {
    /// Largest fall of R@1, R@10 and R@M of the dual tower, and of R@M after re-ranking, below the live bundle's.
    pub recall_drop_max: Option<f64>,
    /// Least R@M of the dual tower, whatever the live bundle has.
    pub mean_recall_min: Option<f64>,
    /// Largest fall of the AUC of matching, of the cosine and of the single tower, below the live bundle's.
    pub auc_drop_max: Option<f64>,
    /// Least AUC of matching by the single tower, whatever the live bundle has.
    pub auc_min: Option<f64>,
    /// Largest fall of the accuracy of matching at .5 by the single tower below the live bundle's.
    pub accuracy_drop_max: Option<f64>,
}

impl Quality {
    /// This one, and of `common` what it leaves out.
    pub(super) fn or(self, common: Self) -> Self {
        Self {
            recall_drop_max: self.recall_drop_max.or(common.recall_drop_max),
            mean_recall_min: self.mean_recall_min.or(common.mean_recall_min),
            auc_drop_max: self.auc_drop_max.or(common.auc_drop_max),
            auc_min: self.auc_min.or(common.auc_min),
            accuracy_drop_max: self.accuracy_drop_max.or(common.accuracy_drop_max),
        }
    }

    fn values(&self) -> [(&'static str, Option<f64>); 5] {
        [
            ("recall_drop_max", self.recall_drop_max),
            ("mean_recall_min", self.mean_recall_min),
            ("auc_drop_max", self.auc_drop_max),
            ("auc_min", self.auc_min),
            ("accuracy_drop_max", self.accuracy_drop_max),
        ]
    }
}

/// Thresholds of drift, latency and size. A threshold that is not given is not held.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Speed {
    /// Least mean cosine of int8's embeddings to f32's, of pictures and of texts.
    #[serde(default)]
    pub drift_cosine_min: Option<f64>,
    /// Largest ratio of the candidate's median time for one picture to the live bundle's.
    #[serde(default)]
    pub image_latency_ratio_max: Option<f64>,
    /// Largest ratio of the candidate's median time for one text to the live bundle's.
    #[serde(default)]
    pub text_latency_ratio_max: Option<f64>,
    /// Largest ratio of the candidate's bytes to the live bundle's.
    #[serde(default)]
    pub size_ratio_max: Option<f64>,
    /// Pictures and texts that drift is measured on, and requests that latency is the median of.
    #[serde(default = "samples_default")]
    pub samples: usize,
}

impl Default for Speed {
    fn default() -> Self {
        Self {
            drift_cosine_min: None,
            image_latency_ratio_max: None,
            text_latency_ratio_max: None,
            size_ratio_max: None,
            samples: samples_default(),
        }
    }
}

const fn top_k_default() -> usize {
    16
}

const fn records_default() -> usize {
    1000
}

const fn samples_default() -> usize {
    64
}

impl GateConfig {
    /// Reads the file; relative folders in it are as the process finds them.
    ///
    /// # Errors
    /// The file can't be read, or a field is wrong.
    pub fn read(path: &Path) -> Result<Self, GateError> {
        let wrong = |problem: String| GateError::Config { path: path.to_owned(), problem };
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        let config: Self = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        config.check().map_err(|error| wrong(error.to_string()))?;
        Ok(config)
    }

    pub(super) fn check(&self) -> Result<(), GateError> {
        let wrong = |field: String, problem: String| Err(GateError::Field { field, problem });
        if self.sets.is_empty() {
            return wrong("set".to_owned(), "no data is given; add a [[set]]".to_owned());
        }
        for (index, set) in self.sets.iter().enumerate() {
            let field = |name: &str| format!("set[{index}].{name}");
            if set.name.is_empty() || self.sets[..index].iter().any(|other| other.name == set.name) {
                return wrong(field("name"), format!("`{}` is empty or there twice; give each set a name of its own", set.name));
            }
            if set.tasks.is_empty() && set.newest.is_none() {
                return wrong(field("tasks"), "no task is given; name tasks of the corpus, or give `newest`".to_owned());
            }
            if set.top_k > TOP_K_MAX {
                return wrong(field("top_k"), format!("{} is over {TOP_K_MAX}", set.top_k));
            }
            if let Some(newest) = &set.newest
                && newest.records_max < 2
            {
                return wrong(field("newest.records_max"), format!("{} is under 2", newest.records_max));
            }
            for (name, value) in set.quality.values() {
                check_part(&format!("set[{index}].quality.{name}"), value)?;
            }
        }
        for (name, value) in self.quality.values() {
            check_part(&format!("quality.{name}"), value)?;
        }
        let speed = &self.speed;
        check_part("speed.drift_cosine_min", speed.drift_cosine_min)?;
        let ratios = [
            ("image_latency_ratio_max", speed.image_latency_ratio_max),
            ("text_latency_ratio_max", speed.text_latency_ratio_max),
            ("size_ratio_max", speed.size_ratio_max),
        ];
        for (name, value) in ratios {
            if value.is_some_and(|value| !(value > 0.0 && value.is_finite())) {
                return wrong(format!("speed.{name}"), format!("{value:?} is not a number over 0"));
            }
        }
        if speed.samples == 0 || speed.samples > SAMPLES_MAX {
            return wrong("speed.samples".to_owned(), format!("{} is outside 1 to {SAMPLES_MAX}", speed.samples));
        }
        Ok(())
    }
}

fn check_part(field: &str, value: Option<f64>) -> Result<(), GateError> {
    match value {
        Some(value) if !(0.0..=1.0).contains(&value) => {
            Err(GateError::Field { field: field.to_owned(), problem: format!("{value} is outside 0 to 1: two points are 0.02") })
        }
        _ => Ok(()),
    }
}
