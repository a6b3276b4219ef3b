//! Figures against thresholds.

use super::measure::LoadedSet;
use super::{Check, GateConfig, Measured, Quality, Verdict};
use crate::evaluate::{HeadAuc, MatchReport, TaskReport};

/// One figure of a task: its name, and how it is read.
type Figure<R> = (&'static str, fn(&R) -> Option<f64>);

const RECALLS: [Figure<TaskReport>; 6] = [
    ("text to image R@1", |task| Some(task.text_to_image.r1)),
    ("text to image R@10", |task| Some(task.text_to_image.r10)),
    ("image to text R@1", |task| Some(task.image_to_text?.r1)),
    ("image to text R@10", |task| Some(task.image_to_text?.r10)),
    ("R@M", |task| Some(task.mean_recall())),
    ("R@M re-ranked", TaskReport::mean_recall_reranked),
];
const AUCS: [Figure<MatchReport>; 2] =
    [("AUC of the cosine", |task| Some(task.cosine.auc)), ("AUC of the single tower", |task| Some(task.matched.as_ref()?.auc))];
const ACCURACIES: [Figure<MatchReport>; 1] = [("accuracy of the single tower", |task| Some(task.matched.as_ref()?.accuracy))];

/// Each head of the single tower apart, among a direction's re-ranked candidates.
const HEADS: [Figure<HeadAuc>; 2] = [("itm_text", |heads| Some(heads.itm_text)), ("itm_image", |heads| Some(heads.itm_image))];
/// The same over a matching task's pairs.
const MATCHING_HEADS: [Figure<MatchReport>; 2] = [
    ("AUC of the head itm_text", |task| Some(task.itm_text.as_ref()?.auc)),
    ("AUC of the head itm_image", |task| Some(task.itm_image.as_ref()?.auc)),
];

struct Checks {
    checks: Vec<Check>,
    notes: Vec<String>,
}

impl Checks {
    /// The candidate may be at most `allowed` below the live bundle.
    fn drop(&mut self, threshold: &str, figure: String, [candidate, live]: [Option<f64>; 2], allowed: Option<f64>) {
        let (Some(allowed), Some(candidate), Some(live)) = (allowed, candidate, live) else { return };
        self.add(threshold, figure, candidate, Some(live), (live - candidate, allowed), true);
    }

    /// The candidate may be at most `allowed` times the live bundle.
    fn ratio(&mut self, threshold: &str, figure: &str, candidate: f64, live: Option<f64>, allowed: Option<f64>) {
        let (Some(allowed), Some(live)) = (allowed, live) else { return };
        self.add(threshold, figure.to_owned(), candidate, Some(live), (candidate / live, allowed), true);
    }

    /// The candidate must reach `allowed`.
    fn least(&mut self, threshold: &str, figure: String, candidate: Option<f64>, live: Option<f64>, allowed: Option<f64>) {
        let (Some(allowed), Some(candidate)) = (allowed, candidate) else { return };
        self.add(threshold, figure, candidate, live, (candidate, allowed), false);
    }

    fn add(&mut self, threshold: &str, figure: String, candidate: f64, live: Option<f64>, limit: (f64, f64), at_most: bool) {
        let (found, allowed) = limit;
        // A figure that is no number passes nothing.
        let passed = if at_most { found <= allowed } else { found >= allowed };
        self.checks.push(Check { threshold: threshold.to_owned(), figure, candidate, live, found, allowed, at_most, passed });
    }

    fn retrieval(&mut self, quality: Quality, candidate: &TaskReport, live: Option<&TaskReport>) {
        for (name, read) in RECALLS {
            let values = [read(candidate), live.and_then(read)];
            self.drop("recall_drop_max", format!("{}: {name}", candidate.task), values, quality.recall_drop_max);
        }
        let figure = format!("{}: R@M", candidate.task);
        let live = live.map(TaskReport::mean_recall);
        self.least("mean_recall_min", figure, Some(candidate.mean_recall()), live, quality.mean_recall_min);
        for (direction, _, heads) in candidate.heads() {
            for (head, read) in HEADS {
                let figure = format!("{}: AUC of the head {head} among the re-ranked, {direction}", candidate.task);
                self.least("head_auc_min", figure, read(&heads), None, quality.head_auc_min);
            }
        }
    }

    fn matching(&mut self, quality: Quality, candidate: &MatchReport, live: Option<&MatchReport>) {
        let figures = AUCS.map(|figure| (figure, "auc_drop_max", quality.auc_drop_max)).into_iter();
        let accuracies = ACCURACIES.map(|figure| (figure, "accuracy_drop_max", quality.accuracy_drop_max));
        for ((name, read), threshold, allowed) in figures.chain(accuracies) {
            self.drop(threshold, format!("{}: {name}", candidate.task), [read(candidate), live.and_then(read)], allowed);
        }
        let (name, read) = AUCS[1];
        self.least("auc_min", format!("{}: {name}", candidate.task), read(candidate), live.and_then(read), quality.auc_min);
        for (name, read) in MATCHING_HEADS {
            let figure = format!("{}: {name}", candidate.task);
            self.least("head_auc_min", figure, read(candidate), live.and_then(read), quality.head_auc_min);
        }
    }

    fn speed(&mut self, config: &GateConfig, candidate: &Measured, live: Option<&Measured>) {
        let speed = &config.speed;
        match (&candidate.drift, speed.drift_cosine_min) {
            (Some(drift), allowed) => {
                let beside = live.and_then(|live| live.drift);
                let (image, text) = (beside.map(|drift| drift.image_mean), beside.map(|drift| drift.text_mean));
                let name = |kind: &str| format!("mean cosine of int8 to f32, {kind}");
                self.least("drift_cosine_min", name("pictures"), Some(drift.image_mean), image, allowed);
                self.least("drift_cosine_min", name("texts"), Some(drift.text_mean), text, allowed);
            }
            (None, Some(_)) => {
                self.notes.push("drift is not measured: the candidate has not both f32 and int8 graphs".to_owned());
            }
            (None, None) => {}
        }
        let (own, beside) = (candidate.latency, live.map(|live| live.latency));
        let image = beside.map(|latency| latency.image_ms);
        self.ratio("image_latency_ratio_max", "ms for one picture", own.image_ms, image, speed.image_latency_ratio_max);
        let text = beside.map(|latency| latency.text_ms);
        self.ratio("text_latency_ratio_max", "ms for one text", own.text_ms, text, speed.text_latency_ratio_max);
        let bytes = live.map(|live| live.bytes as f64);
        self.ratio("size_ratio_max", "bytes of the bundle", candidate.bytes as f64, bytes, speed.size_ratio_max);
    }
}

pub(super) fn verdict(config: &GateConfig, sets: &[LoadedSet], candidate: Measured, live: Option<Measured>) -> Verdict {
    let mut checks = Checks { checks: Vec::new(), notes: Vec::new() };
    let beside = live.as_ref();
    // Both reports list the same tasks in the same order: the order of the sets.
    let (mut tasks, mut matching) = (0, 0);
    for set in sets {
        let quality = set.config.quality.or(config.quality);
        for _ in &set.retrieval {
            let live = beside.map(|live| &live.report.tasks[tasks]);
            checks.retrieval(quality, &candidate.report.tasks[tasks], live);
            tasks += 1;
        }
        for _ in &set.matching {
            let live = beside.map(|live| &live.report.matching[matching]);
            checks.matching(quality, &candidate.report.matching[matching], live);
            matching += 1;
        }
    }
    checks.speed(config, &candidate, beside);
    if live.is_none() {
        checks.notes.push("there is no live bundle: thresholds that compare with it are left out".to_owned());
    }
    if checks.checks.is_empty() {
        checks.notes.push("no threshold was held: the configuration gives none that could be".to_owned());
    }
    let passed = checks.checks.iter().all(|check| check.passed);
    Verdict { passed, candidate, live, checks: checks.checks, notes: checks.notes }
}
