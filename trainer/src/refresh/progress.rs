//! Progress as JSON lines on standard output, and as metrics for a node exporter's textfile collector.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use super::error::Exit;
use super::state::Step;
use crate::collect::time::now_ms;
use crate::files::write_atomically;

/// Tells how far a job is. Clones share it.
#[derive(Debug, Clone)]
pub struct Progress {
    metrics_file: Option<PathBuf>,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    run: String,
    step: Option<Step>,
    /// File of training's metrics.
    training: Option<PathBuf>,
    seconds: BTreeMap<Step, f64>,
    gauges: BTreeMap<&'static str, f64>,
    rejects: BTreeMap<String, u64>,
    exit: Option<Exit>,
    last_published_ms: Option<i64>,
}

impl Progress {
    /// Metrics go to `metrics_file`, where one is given.
    pub fn new(metrics_file: Option<PathBuf>) -> Self {
        Self { metrics_file, inner: Arc::default() }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The run's name, and when something was published last.
    pub fn run(&self, run: &str, last_published_ms: Option<i64>) {
        self.with(|inner| {
            run.clone_into(&mut inner.run);
            inner.last_published_ms = last_published_ms;
        });
    }

    /// One line: `event` of the step with `facts`. A point where a job may be killed, for whoever watches.
    pub fn say(&self, step: Option<Step>, event: &str, facts: &Value) {
        let run = self.with(|inner| inner.run.clone());
        let mut line = json!({ "time_ms": now_ms(), "run": run, "step": step.map(Step::as_str), "event": event });
        if let (Some(line), Some(facts)) = (line.as_object_mut(), facts.as_object()) {
            line.extend(facts.clone());
        }
        // A reader that is gone is no reason to stop.
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    }

    /// A step begins; of training, `metrics` is its file of metrics.
    pub fn begin(&self, step: Step, metrics: Option<PathBuf>) {
        self.with(|inner| {
            inner.step = Some(step);
            inner.training = metrics;
        });
        self.say(Some(step), "begin", &Value::Null);
        self.write_metrics();
    }

    /// A step is done.
    pub fn done(&self, step: Step, seconds: f64) {
        self.with(|inner| {
            inner.step = None;
            inner.training = None;
            inner.seconds.insert(step, seconds);
        });
        self.say(Some(step), "done", &json!({ "seconds": seconds }));
        self.write_metrics();
    }

    /// A figure of the run.
    pub fn gauge(&self, name: &'static str, value: f64) {
        self.with(|inner| inner.gauges.insert(name, value));
    }

    /// Refused records by reason.
    pub fn rejects(&self, rejects: &BTreeMap<String, u64>) {
        self.with(|inner| inner.rejects.clone_from(rejects));
    }

    /// The end.
    pub fn end(&self, exit: Exit, facts: &Value) {
        self.with(|inner| {
            (inner.exit, inner.step) = (Some(exit), None);
            if exit == Exit::Published {
                inner.last_published_ms = Some(now_ms());
            }
        });
        let mut facts = facts.clone();
        if !facts.is_object() {
            facts = json!({});
        }
        facts["exit_code"] = exit.code().into();
        self.say(None, exit.as_str(), &facts);
        self.write_metrics();
    }

    /// Called with each heartbeat: how far training is.
    pub fn beat(&self) {
        let (step, metrics) = self.with(|inner| (inner.step, inner.training.clone()));
        if let Some(line) = metrics.and_then(|path| last_line(&path)) {
            let fact = |name: &str| line.get(name).cloned().unwrap_or_default();
            let facts = json!({ "optimiser_step": fact("step"), "progress": fact("progress"), "loss": fact("loss"), "pairs_per_second": fact("pairs_per_second") });
            if let Some(progress) = line["progress"].as_f64() {
                self.gauge("training_progress", progress);
            }
            self.say(step, "progress", &facts);
        }
        self.write_metrics();
    }

    fn write_metrics(&self) {
        let Some(path) = &self.metrics_file else { return };
        let text = self.with(|inner| inner.metrics());
        if let Err(error) = write_atomically(path, |at| std::fs::write(at, &text)) {
            tracing::warn!("{}: {error}", path.display());
        }
    }
}

/// The last whole line of a file of JSON lines.
fn last_line(path: &Path) -> Option<Value> {
    let text = std::fs::read_to_string(path).ok()?;
    serde_json::from_str(text.lines().next_back()?).ok()
}

impl Inner {
    fn metrics(&self) -> String {
        let mut text = String::new();
        let mut metric = |name: &str, help: &str, rows: &[(String, f64)]| {
            // Writing to a String can't fail.
            let _ = writeln!(text, "# HELP astromech_refresh_{name} {help}\n# TYPE astromech_refresh_{name} gauge");
            for (labels, value) in rows {
                let _ = writeln!(text, "astromech_refresh_{name}{labels} {value}");
            }
        };
        let plain = |value: f64| vec![(String::new(), value)];
        let running = |step: Step| (format!("{{step=\"{}\"}}", step.as_str()), f64::from(u8::from(self.step == Some(step))));
        metric("step_running", "1 for the step that runs", &Step::ALL.map(running));
        let seconds = |(step, &seconds): (&Step, &f64)| (format!("{{step=\"{}\"}}", step.as_str()), seconds);
        metric("step_seconds", "Seconds that a step of this run took", &self.seconds.iter().map(seconds).collect::<Vec<_>>());
        for (name, value) in &self.gauges {
            metric(name, "Of this run, see trainer/DATA.md", &plain(*value));
        }
        let reject = |(reason, &count): (&String, &u64)| (format!("{{reason=\"{reason}\"}}"), count as f64);
        metric("rejects", "Records that were refused, by reason", &self.rejects.iter().map(reject).collect::<Vec<_>>());
        if let Some(ms) = self.last_published_ms {
            metric("last_published_timestamp_seconds", "When a bundle was published last", &plain(ms as f64 / 1000.0));
        }
        if let Some(exit) = self.exit {
            metric("exit_code", "Exit code of the last job", &plain(f64::from(exit.code())));
        }
        metric("updated_timestamp_seconds", "When this file was written", &plain(now_ms() as f64 / 1000.0));
        text
    }
}
