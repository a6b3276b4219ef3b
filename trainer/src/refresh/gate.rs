//! The gate of the job: the new bundle beside the live one, on the frozen sets and on what was held out.

use std::path::PathBuf;

use super::config::FRESH;
use super::context::Job;
use super::error::RefreshError;
use super::state::Run;
use crate::gate::{GateConfig, GateError, Newest, SetConfig, Verdict, run as run_gate};

/// Folder of the gate's report inside a run's.
pub(super) const REPORT_FOLDER: &str = "gate";
/// The verdict in it; written last.
const VERDICT_FILE: &str = "report.json";
/// Most records of what was held out that are asked for.
const FRESH_RECORDS_MAX: usize = 1000;

fn wrong(error: GateError) -> RefreshError {
    let is_input = matches!(error, GateError::Corpus(_));
    RefreshError::of("gate", is_input, error)
}

fn report(job: &Job<'_>, run: &Run) -> PathBuf {
    job.folder(run).join(REPORT_FOLDER)
}

/// Measures both bundles and writes the report.
pub(super) fn gate(job: &mut Job<'_>, run: &Run) -> Result<(), RefreshError> {
    let step = &job.config.gate;
    let live = job.registry.fetch_current(&job.config.job.work.join("live"))?;
    let newest = Newest { splits: vec!["val".to_owned()], records_max: FRESH_RECORDS_MAX };
    let fresh = SetConfig {
        name: FRESH.to_owned(),
        corpus: job.folder(run).join(FRESH),
        tasks: Vec::new(),
        newest: Some(newest),
        top_k: job.config.evaluate.top_k,
        quality: step.fresh,
    };
    let config = GateConfig {
        precision: None,
        threads: step.threads,
        sets: step.sets.iter().cloned().chain([fresh]).collect(),
        quality: step.quality,
        speed: step.speed.clone(),
    };
    let verdict = run_gate(&config, &job.bundle(run), live.as_deref()).map_err(wrong)?;
    verdict.write(&report(job, run)).map_err(wrong)
}

/// The checks that the bundle failed, in words; none where it passed.
pub(super) fn refusal(job: &Job<'_>, run: &Run) -> Result<Option<Vec<String>>, RefreshError> {
    let path = report(job, run).join(VERDICT_FILE);
    let bytes = std::fs::read(&path).map_err(RefreshError::failed(path.display().to_string()))?;
    let verdict: Verdict = serde_json::from_slice(&bytes).map_err(RefreshError::failed(path.display().to_string()))?;
    Ok((!verdict.passed).then(|| verdict.refusals().map(ToString::to_string).collect()))
}
