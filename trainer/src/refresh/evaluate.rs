//! Bundle → figures, in its manifest and model card and beside it.

use std::path::Path;

use astromech_towers::{Bundle, Towers, TowersConfig, init_runtime};

use super::config::FRESH;
use super::context::Job;
use super::error::RefreshError;
use super::state::{Run, write_json};
use crate::corpus::PairSource;
use crate::evaluate::{EvaluateOptions, Report, TaskItems, evaluate, evaluate_matching};
use crate::release::add_metrics;

/// Figures of the new bundle, in the run's folder.
pub(super) const REPORT_FILE: &str = "evaluation.json";
/// End of the names of matching tasks.
const MATCHING: &str = ".match";

/// Measures the bundle on the frozen tasks and on what was held out, and writes the figures into it.
pub(super) fn evaluate_bundle(job: &mut Job<'_>, run: &Run) -> Result<(), RefreshError> {
    let (bundle, path) = (job.bundle(run), job.folder(run).join(REPORT_FILE));
    let report = measure(job, run, &bundle)?;
    add_metrics(&bundle, report.metrics()).map_err(RefreshError::failed("evaluate"))?;
    write_json(&path, &report)
}

fn measure(job: &Job<'_>, run: &Run, bundle: &Path) -> Result<Report, RefreshError> {
    let failed = || "evaluate";
    let step = &job.config.evaluate;
    init_runtime(None).map_err(RefreshError::failed(failed()))?;
    let bundle = Bundle::open(bundle).map_err(RefreshError::failed(failed()))?;
    let config = TowersConfig { load_cross: step.top_k > 0, ..TowersConfig::default() };
    let towers = Towers::start(&bundle, &config).map_err(RefreshError::failed(failed()))?;
    let mut report = Report::of(&bundle, &towers);
    let fresh = job.folder(run).join(FRESH);
    let fresh_tasks = ["long", "short"].map(|name| format!("val.{FRESH}.{name}"));
    let fresh_tasks = fresh_tasks.iter().filter(|name| fresh.join(format!("tasks/{name}.jsonl")).is_file());
    let frozen = step.corpus.iter().flat_map(|corpus| step.tasks.iter().map(move |name| (corpus.as_path(), name)));
    for (corpus, name) in frozen.chain(fresh_tasks.map(|name| (fresh.as_path(), name))) {
        let wrong = |error: crate::evaluate::EvaluateError| RefreshError::of(format!("evaluate {name}"), true, error);
        let runtime = &job.registry.runtime;
        if name.ends_with(MATCHING) {
            let pairs = PairSource::corpus_task(corpus, name).read();
            let pairs = pairs.map_err(|error| RefreshError::of(format!("evaluate {name}"), true, error))?;
            report.matching.push(runtime.block_on(evaluate_matching(&towers, &pairs, step.top_k > 0)).map_err(wrong)?);
        } else {
            let items = TaskItems::load(corpus, name).map_err(wrong)?;
            let options = EvaluateOptions { top_k: step.top_k, text_to_image_only: false };
            report.tasks.push(runtime.block_on(evaluate(&towers, &items, options)).map_err(wrong)?);
        }
    }
    Ok(report)
}
