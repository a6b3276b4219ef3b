//! Several objectives on the same data and budget, over several seeds: the comparison and the ablation of the paper in one harness.
//!
//! An *arm* is a name and a list of overrides of one training configuration. Every arm is trained with every seed under the same limit
//! of seconds or steps, from the same initial weights of that seed, and measured on the same tasks by the same code.

mod figure;
mod table;

use std::path::{Path, PathBuf};

use astromech_settings::kinds::{flag, list, text};
use astromech_settings::{SettingErrors, load, settings};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use figure::draw;
pub use table::{Summary, markdown, summarise};

use crate::checkpoint::{CheckpointError, MODEL_FILE, load_model};
use crate::corpus::{CorpusError, open_tokenizer};
use crate::files::write_atomically;
use crate::nn::Precision;
use crate::stop::StopFlag;
use crate::train::{Recall, TrainConfig, TrainError, ValidateOptions, Validator, train};

/// Result of one run inside its folder; a run that has one is not repeated.
const RESULT_FILE: &str = "result.json";

settings! {
    /// The arms of a comparison.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Arms {
        /// Overrides for all arms, before their own.
        common: Vec<String> = [] => list(text());
        /// In the order of the table.
        arms as "arm": Vec<Arm>;
    }

    /// One objective.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Arm {
        /// Its name, also that of its folder.
        name: String = (required "CLIP") => text();
        /// What it is, for the table's notes.
        about: String = (required "two towers") => text();
        /// Overrides of the configuration: `section.key=value`.
        set: Vec<String> = (required []) => list(text());
        /// Has a second stage worth measuring.
        rerank: bool = false => flag();
    }
}

/// What is compared and how.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Training configuration that all arms share.
    pub config: PathBuf,
    /// Overrides for all of them, before those of the arms' file.
    pub overrides: Vec<String>,
    /// The arms.
    pub arms: Arms,
    /// Seeds; each arm is trained with each.
    pub seeds: Vec<u64>,
    /// Retrieval tasks.
    pub tasks: Vec<String>,
    /// Candidates that the cross encoders re-rank.
    pub top_k: i64,
    /// Folder of runs.
    pub runs: PathBuf,
}

/// One run measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// Arm.
    pub arm: String,
    /// Seed.
    pub seed: u64,
    /// Steps done within the budget.
    pub steps: u64,
    /// Seconds trained.
    pub seconds: f64,
    /// Overrides it was made with: a changed arm is trained again.
    pub overrides: Vec<String>,
    /// Its recalls.
    pub recall: Vec<Recall>,
}

/// A comparison that can't be made.
#[derive(Debug, Error)]
pub enum CompareError {
    /// A configuration of an arm.
    #[error("arm {arm}: {source}")]
    Config {
        /// Arm.
        arm: String,
        /// What is wrong with it.
        source: Box<SettingErrors>,
    },
    /// A training run.
    #[error("arm {arm}, seed {seed}: {source}")]
    Train {
        /// Arm.
        arm: String,
        /// Seed.
        seed: u64,
        /// What ended it.
        source: Box<TrainError>,
    },
    /// Weights of a run.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Tasks or vocabulary.
    #[error(transparent)]
    Corpus(#[from] CorpusError),
    /// A file of results.
    #[error("{path}: {message}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A plan that compares nothing.
    #[error("{field} {problem}")]
    Plan {
        /// What.
        field: &'static str,
        /// Why.
        problem: String,
    },
}

impl Arms {
    /// Reads a TOML file of `[[arm]]` tables.
    ///
    /// # Errors
    /// The file can't be read, or every mistake in it: an unknown or missing field, or two arms of one name.
    pub fn read(path: &Path) -> Result<Self, SettingErrors> {
        load(path, "configs/compare.toml", |arms: &Self, at, errors| {
            for (index, (arm, at)) in arms.arms.iter().zip(&at.arms.each).enumerate() {
                let plain = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_' | '+');
                if !arm.name.chars().all(plain) {
                    let problem = format!("{:?} has characters that it may not have: it names a folder", arm.name);
                    errors.push(at.name.error(problem, "write letters, digits, space, - _ + only"));
                }
                if !arm.name.is_empty() && arms.arms[..index].iter().any(|other| other.name == arm.name) {
                    errors.push(at.name.error(format!("two arms are named {:?}", arm.name), "give each its own name"));
                }
            }
        })
    }
}

/// Trains and measures every arm with every seed; seeds go outside, so that a comparison cut short is even. Returns what was measured.
///
/// # Errors
/// The first configuration, run or measurement that fails; what was measured before stays in `plan.runs` and is not repeated.
pub fn compare(plan: &Plan, stop: &StopFlag) -> Result<Vec<RunResult>, CompareError> {
    if plan.arms.arms.is_empty() || plan.seeds.is_empty() {
        let field = if plan.arms.arms.is_empty() { "arms" } else { "seeds" };
        return Err(CompareError::Plan { field, problem: "is empty; give at least one".to_owned() });
    }
    // Every configuration is checked before hours are spent on the first.
    for arm in &plan.arms.arms {
        configure(plan, arm, plan.seeds[0])?;
    }
    let mut results = Vec::new();
    for &seed in &plan.seeds {
        for arm in &plan.arms.arms {
            if let Some(result) = run_arm(plan, arm, seed, stop)? {
                results.push(result);
            }
            if stop.is_set() {
                return Ok(results);
            }
        }
    }
    Ok(results)
}

fn configure(plan: &Plan, arm: &Arm, seed: u64) -> Result<(TrainConfig, Vec<String>), CompareError> {
    let out = plan.runs.join(format!("{}-{seed}", arm.name.replace(' ', "-")));
    let overrides: Vec<String> = plan.overrides.iter().chain(&plan.arms.common).chain(&arm.set).cloned().collect();
    let own = [format!("run.seed={seed}"), format!("run.out={:?}", out.display().to_string()), "eval.every_steps=0".to_owned()];
    let all: Vec<String> = overrides.iter().cloned().chain(own).collect();
    let config = TrainConfig::read(&plan.config, &all)
        .map_err(|source| CompareError::Config { arm: arm.name.clone(), source: source.into() })?;
    Ok((TrainConfig { eval: crate::train::EvalConfig { tasks: Vec::new(), ..config.eval.clone() }, ..config }, overrides))
}

/// `None` when a signal ended the run before its budget.
fn run_arm(plan: &Plan, arm: &Arm, seed: u64, stop: &StopFlag) -> Result<Option<RunResult>, CompareError> {
    let (config, overrides) = configure(plan, arm, seed)?;
    let path = config.run.out.join(RESULT_FILE);
    if let Some(result) = finished(&path, &overrides) {
        tracing::info!(arm = arm.name, seed, "already measured: {}", path.display());
        return Ok(Some(result));
    }
    let outcome = train(&config, false, stop).map_err(|source| CompareError::Train {
        arm: arm.name.clone(),
        seed,
        source: source.into(),
    })?;
    if !outcome.finished {
        return Ok(None);
    }
    let loaded = load_model(&config.run.out.join(MODEL_FILE))?;
    let tokenizer = open_tokenizer(&config.data.vocabulary, config.data.max_tokens)?;
    let validator = Validator::new(&config.data.corpus, &plan.tasks, config.model.vision.image, &tokenizer, 0)?;
    let options = ValidateOptions { token_wise: config.loss.token_wise, top_k: if arm.rerank { plan.top_k } else { 0 } };
    let weights = loaded.params.weights_of(loaded.params.flat(), Precision::F32);
    let recall = validator.run(&loaded.model, &weights, options);
    let result =
        RunResult { arm: arm.name.clone(), seed, steps: outcome.steps, seconds: outcome.elapsed_seconds, overrides, recall };
    let file = |message: String| CompareError::File { path: path.clone(), message };
    let json = serde_json::to_vec_pretty(&result).map_err(|error| file(error.to_string()))?;
    write_atomically(&path, |at| std::fs::write(at, &json)).map_err(|error| file(error.to_string()))?;
    tracing::info!(arm = arm.name, seed, steps = result.steps, "measured");
    Ok(Some(result))
}

fn finished(path: &Path, overrides: &[String]) -> Option<RunResult> {
    let result: RunResult = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    (result.overrides == overrides).then_some(result)
}
