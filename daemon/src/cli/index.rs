//! `astromech index FILE.jsonl`: messages of the topics' form, or deletes, one a line, through the same pipeline, without Kafka.

mod line;
mod lines;

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use astromech_schemas::results::{Outcome, ResultMessage};
use astromech_schemas::{Kind, TraceContext};
use astromech_towers::Towers;
use futures::future::BoxFuture;
use indicatif::{ProgressBar, ProgressStyle};
use tokio_util::sync::CancellationToken;

use self::lines::Lines;
use super::failure::{EXIT_FAILED, EXIT_OK};
use super::output;
use super::signals::stop_on_signals;
use crate::assemble::{open_index, start_towers, vitals_of};
use crate::config::{Config, ResultsConfig};
use crate::failure::{Usage, hinted};
use crate::index::IndexWriter;
use crate::media::Media;
use crate::pipeline::{self, Outlet, PipelineParts, PublishError, TopicRules, VersionRule};
use crate::prepare::Fault;
use crate::rescore::StateCache;
use crate::source::{Intake, Partition, Record, RecordSpan};
use crate::vitals::{Condition, Metrics};

/// Bad lines that are listed one by one.
const LISTED_MAX: usize = 100;

/// What became of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexReport {
    /// Changes that the index holds.
    pub applied: u64,
    /// Changes that it does not take, because it holds a newer one of the item.
    pub superseded: u64,
    /// Lines that can never be applied.
    pub bad: u64,
    /// The first of them: line, reason and detail, in the order of the lines.
    pub listed: Vec<(i64, String)>,
    /// How long it took.
    pub took: Duration,
    /// Whether a signal ended it early.
    pub interrupted: bool,
}

/// What a file is indexed with.
pub struct Indexing<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The running towers.
    pub towers: &'a Towers,
    /// Where points are written.
    pub index: &'a Arc<dyn IndexWriter>,
    /// Counters.
    pub metrics: &'a Arc<Metrics>,
    /// Where states go too, for re-scoring.
    pub warm: Option<Arc<StateCache>>,
}

/// Runs the command; returns the exit code.
///
/// # Errors
/// The file can't be read, or something did not start.
pub async fn run(config: Config, file: &Path, kind: Option<Kind>) -> Result<u8> {
    if !file.is_file() {
        let hint = "give a file of JSON Lines: one message of the topics' form a line, see `astromech schema`, or a delete: {\"delete\": {\"kind\": …, \"id\": …, \"version\": …}}".to_owned();
        return Err(Usage { problem: format!("{} is no file", file.display()), hint }.into());
    }
    let stop = CancellationToken::new();
    stop_on_signals(stop.clone()).context("no signal handler")?;
    let metrics = Arc::new(Metrics::new());
    let towers = start_towers(&config, &metrics, false).await?;
    let index = open_index(&config, &towers).await;
    let index =
        index.with_context(|| hinted("the index was not opened", "start the server, or use index.engine = \"embedded\""))?;
    let indexing = Indexing { config: &config, towers: &towers, index: &index, metrics: &metrics, warm: None };
    let report = index_file(indexing, file, kind, stop).await;
    index.close().await.context("the index was not closed cleanly")?;
    let report = report?;
    for (line, problem) in &report.listed {
        output::note(&format!("{}:{line}: {problem}", file.display()));
    }
    let unlisted = report.bad.saturating_sub(report.listed.len() as u64);
    if unlisted > 0 {
        output::note(&format!("… and {unlisted} more"));
    }
    let seconds = report.took.as_secs_f64();
    let rate = report.applied as f64 / seconds.max(0.001);
    let superseded = match report.superseded {
        0 => String::new(),
        some => format!(", {some} older than what the index holds"),
    };
    output::data(&format!("{} indexed, {} bad{superseded}, {seconds:.1} s, {rate:.0} items/s", report.applied, report.bad));
    if report.interrupted {
        bail!("interrupted; run it again: what is indexed already stays as it is");
    }
    Ok(if report.bad > 0 { EXIT_FAILED } else { EXIT_OK })
}

/// Indexes the messages of `file` through the pipeline, with a progress bar on a terminal. A version that a message lacks is its line's
/// number. Ends early, with what is under way finished, when `stop` is cancelled.
///
/// # Errors
/// The file can't be read, or the index or the towers failed for good.
pub async fn index_file(indexing: Indexing<'_>, file: &Path, kind: Option<Kind>, stop: CancellationToken) -> Result<IndexReport> {
    let Indexing { config, towers, index, metrics, warm } = indexing;
    let started = Instant::now();
    let unread = || format!("{} can't be read", file.display());
    let count = lines::count(file).map_err(|error| or_context(error, unread))?;
    let lines = Lines::open(file).map_err(|error| or_context(error, unread))?;
    let topic: Arc<str> = file.to_string_lossy().into();
    let outlet = Arc::new(Terminal {
        bar: progress_bar(count),
        applied: AtomicU64::new(0),
        superseded: AtomicU64::new(0),
        bad: Mutex::default(),
    });
    let vitals = vitals_of(config, Arc::clone(metrics), &[Condition::Index]);
    let halt = vitals.halt.clone();
    let parts = PipelineParts {
        throttle: None,
        towers: towers.clone(),
        index: Arc::clone(index),
        media: Arc::new(Media::new(&config.media)?.measured(metrics)),
        outlet: Arc::clone(&outlet) as Arc<dyn Outlet>,
        vitals,
        rules: HashMap::from([(Arc::clone(&topic), TopicRules { kind, version: VersionRule::FieldOrOffset })]),
        avro: None,
        // Every bad line is listed, however many there are.
        poison: None,
        results: ResultsConfig::default(),
        warm,
    };
    let (intake, pipeline) = pipeline::start(config, parts);
    let stopped = {
        let halted = halt.token().clone();
        async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = halted.cancelled() => {}
            }
        }
    };
    let partition = Partition::new(Arc::clone(&topic), 0);
    let reading = Reading { topic, partition, intake: &intake, outlet: &outlet };
    let read = tokio::select! {
        read = reading.read(lines) => read.map(|()| false),
        () = stopped => Ok(true),
    };
    drop(intake);
    pipeline.await.context("the pipeline failed")?;
    outlet.bar.finish_and_clear();
    if let Some(cause) = halt.cause() {
        bail!(cause.clone());
    }
    let interrupted = read.with_context(unread)?;
    Ok(outlet.report(started.elapsed(), interrupted))
}

/// What is read where.
struct Reading<'a> {
    topic: Arc<str>,
    partition: Arc<Partition>,
    intake: &'a Intake,
    outlet: &'a Terminal,
}

impl Reading<'_> {
    async fn read(&self, mut lines: Lines) -> std::io::Result<()> {
        while let Some((number, line)) = lines.next()? {
            let record = match line.and_then(|line| line::record_of(line, &self.topic, number)) {
                Ok(record) => record,
                Err(fault) => {
                    self.outlet.refuse(number, &fault);
                    continue;
                }
            };
            let Ok(admission) = self.intake.admit(&record).await else { return Ok(()) };
            let span = RecordSpan::of(&record);
            if self.intake.send(record, Arc::clone(&self.partition), admission, span).is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}

fn progress_bar(lines: u64) -> ProgressBar {
    let template = "{bar:32} {pos}/{len} items  {per_sec}  {eta} left  {msg}";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(lines).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

/// Counts, and collects what is bad.
struct Terminal {
    bar: ProgressBar,
    applied: AtomicU64,
    superseded: AtomicU64,
    bad: Mutex<Bad>,
}

#[derive(Default)]
struct Bad {
    count: u64,
    listed: Vec<(i64, String)>,
}

/// A file that is no JSON Lines says so itself.
fn or_context(error: anyhow::Error, context: impl FnOnce() -> String) -> anyhow::Error {
    if error.is::<Usage>() { error } else { error.context(context()) }
}

impl Terminal {
    /// A line that can never be applied.
    fn refuse(&self, line: i64, fault: &Fault) {
        let mut bad = self.bad.lock().unwrap_or_else(PoisonError::into_inner);
        bad.count += 1;
        if bad.listed.len() < LISTED_MAX {
            bad.listed.push((line, format!("{}: {}", fault.reason, fault.detail)));
        }
        self.bar.set_message(format!("{} bad", bad.count));
        drop(bad);
        self.bar.inc(1);
    }

    fn report(&self, took: Duration, interrupted: bool) -> IndexReport {
        let mut bad = self.bad.lock().unwrap_or_else(PoisonError::into_inner);
        bad.listed.sort();
        IndexReport {
            applied: self.applied.load(Ordering::Relaxed),
            superseded: self.superseded.load(Ordering::Relaxed),
            bad: bad.count,
            listed: std::mem::take(&mut bad.listed),
            took,
            interrupted,
        }
    }
}

impl Outlet for Terminal {
    fn result<'a>(&'a self, message: &'a ResultMessage, _: Option<&'a TraceContext>) -> BoxFuture<'a, Result<(), PublishError>> {
        let counter = if message.outcome == Outcome::Applied { &self.applied } else { &self.superseded };
        counter.fetch_add(1, Ordering::Relaxed);
        self.bar.inc(1);
        Box::pin(std::future::ready(Ok(())))
    }

    fn dead_letter<'a>(&'a self, record: &'a Record, fault: &'a Fault) -> BoxFuture<'a, Result<(), PublishError>> {
        self.refuse(record.offset, fault);
        Box::pin(std::future::ready(Ok(())))
    }
}
