//! The order of the steps, and what holds between them.

use std::time::Duration;

use astromech_schemas::Fingerprint;
use serde_json::{Value, json};

use super::config::RefreshConfig;
use super::context::{Halt, Job};
use super::error::{Exit, RefreshError};
use super::lease::Lease;
use super::live::Registered;
use super::progress::Progress;
use super::state::{Closed, Published, Run, State, Step};
use super::{announce, evaluate, export, gate, training};
use crate::collect::time::{now_ms, stamp};
use crate::collect::{MANIFEST_FILE, SnapshotManifest, collect, new_records};
use crate::stop::StopFlag;

/// How a job is run, beside its configuration.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where to wait to be killed.
    pub halt: Option<Halt>,
}

/// How a job ended that was not broken off.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Published, refused or no data.
    pub exit: Exit,
    /// What there is to say of it.
    pub facts: Value,
}

/// Runs a job to its end, or goes on with one that was broken off.
///
/// # Errors
/// Another job holds the lease, something has to change first, something failed that may pass, or a stop was asked for.
pub fn refresh(config: &RefreshConfig, options: &Options, stop: &StopFlag, progress: &Progress) -> Result<Outcome, RefreshError> {
    let work = &config.job.work;
    std::fs::create_dir_all(work).map_err(RefreshError::failed(work.display().to_string()))?;
    let beat = {
        let progress = progress.clone();
        move || progress.beat()
    };
    let time = Duration::from_secs(config.job.lease_seconds);
    let lease = Lease::take(work, holder(), time, stop, beat)?;
    let registry = Registered::open(&config.registry)?;
    let state = State::read(work)?;
    let mut job = Job { config, stop, progress, registry, state, lease: &lease, halt: options.halt.as_ref() };
    let outcome = job.run();
    if matches!(outcome, Err(RefreshError::Stopped)) && lease.is_lost() {
        lease.check()?;
    }
    outcome
}

/// Machine, process and start, as people look for them.
fn holder() -> String {
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("process {} on {}, since {}", std::process::id(), machine.trim(), stamp(now_ms()))
}

impl Job<'_> {
    fn run(&mut self) -> Result<Outcome, RefreshError> {
        let Some(mut run) = self.begin()? else {
            return Ok(no_data(json!({ "new_records_min": self.config.job.new_records_min })));
        };
        let snapshot = self.snapshot(&mut run)?;
        if snapshot.records.train < self.config.job.records_min {
            let facts = json!({ "records": snapshot.records.train, "records_min": self.config.job.records_min });
            self.state.run = None;
            self.state.write(&self.config.job.work)?;
            self.remove_runs()?;
            return Ok(no_data(facts));
        }
        self.step(&mut run, Step::HoldOut, None, export::hold_out)?;
        self.step(&mut run, Step::Train, Some("train"), |job, run| training::train(job, run, &snapshot))?;
        if self.config.distil.is_some() {
            self.step(&mut run, Step::Distil, Some("student"), |job, run| training::distil(job, run, &snapshot))?;
        }
        if run.done.contains_key(&Step::Export) && !self.bundle(&run).join(MANIFEST_FILE).is_file() {
            // It was being replaced by itself with its figures when the job was killed.
            run.done.retain(|&step, _| step < Step::Export);
        }
        self.step(&mut run, Step::Export, None, |job, run| export::export(job, run, &snapshot))?;
        self.step(&mut run, Step::Evaluate, None, evaluate::evaluate_bundle)?;
        self.step(&mut run, Step::Gate, None, gate::gate)?;
        if let Some(failed) = gate::refusal(self, &run)? {
            let facts = json!({ "failed": failed, "report": self.folder(&run).join(gate::REPORT_FOLDER) });
            self.close(&run, Exit::Refused, &snapshot, None)?;
            return Ok(Outcome { exit: Exit::Refused, facts });
        }
        self.step(&mut run, Step::Publish, None, |job, run| announce::publish(job, run))?;
        if self.config.announce.is_some() {
            self.step(&mut run, Step::Announce, None, |job, run| announce::announce(job, run))?;
        }
        let fingerprint = export::fingerprint(&self.bundle(&run))?;
        self.close(&run, Exit::Published, &snapshot, Some(&fingerprint))?;
        Ok(Outcome { exit: Exit::Published, facts: json!({ "fingerprint": fingerprint, "registry": self.config.registry.url }) })
    }

    /// The run that goes on, or a new one; none where the topics have too little that is new.
    fn begin(&mut self) -> Result<Option<Run>, RefreshError> {
        let published_ms = self.state.published.as_ref().map(|published| published.time_ms);
        if let Some(run) = self.state.run.clone() {
            if run.config_sha256 == self.config.sha256 {
                self.progress.run(&run.id, published_ms);
                self.progress.say(None, "resume", &json!({ "done": run.done.keys().collect::<Vec<_>>() }));
                return Ok(Some(run));
            }
            tracing::warn!(run = run.id, "the configuration changed since this run began: it is dropped");
        }
        let earlier = self.state.closed.as_ref().map(|closed| closed.topics.as_slice()).unwrap_or_default();
        let new = new_records(&self.config.kafka, &self.config.collect, earlier);
        let new = new.map_err(|error| RefreshError::of("collect", error.is_input(), error))?;
        self.progress.gauge("new_records", new as f64);
        let now = now_ms();
        // Two runs of one second must not share a folder.
        let id = format!("{}-{:03}", stamp(now), now.rem_euclid(1000));
        self.progress.run(&id, published_ms);
        if new < self.config.job.new_records_min {
            self.progress.say(None, "nothing_new", &json!({ "new_records": new }));
            self.state.run = None;
            self.state.write(&self.config.job.work)?;
            return Ok(None);
        }
        let live = self.registry.current()?.map(|release| release.fingerprint);
        let run = Run { id, config_sha256: self.config.sha256.clone(), live, done: std::collections::BTreeMap::new() };
        self.state.run = Some(run.clone());
        let folder = self.folder(&run);
        std::fs::create_dir_all(&folder).map_err(RefreshError::failed(folder.display().to_string()))?;
        self.state.write(&self.config.job.work)?;
        self.progress.say(None, "run", &json!({ "new_records": new, "live": run.live }));
        Ok(Some(run))
    }

    fn snapshot(&mut self, run: &mut Run) -> Result<SnapshotManifest, RefreshError> {
        self.step(run, Step::Collect, None, |job, run| {
            let out = job.folder(run).join("snapshot");
            match collect(&job.config.collect, &out, job.stop) {
                Ok(_) => Ok(()),
                Err(crate::collect::CollectError::Stopped) => Err(RefreshError::Stopped),
                Err(error) => Err(RefreshError::of("collect", error.is_input(), error)),
            }
        })?;
        let path = self.folder(run).join("snapshot").join(MANIFEST_FILE);
        let manifest = SnapshotManifest::read(&path).map_err(|error| RefreshError::of("collect", false, error))?;
        self.progress.gauge("snapshot_records", manifest.records.train as f64);
        self.progress.gauge("snapshot_held_out", manifest.records.held_out as f64);
        self.progress.gauge("snapshot_items", manifest.counts.items as f64);
        self.progress.rejects(&manifest.rejects);
        Ok(manifest)
    }

    fn close(
        &mut self,
        run: &Run,
        exit: Exit,
        snapshot: &SnapshotManifest,
        fingerprint: Option<&Fingerprint>,
    ) -> Result<(), RefreshError> {
        let (time_ms, topics) = (now_ms(), snapshot.topics.clone());
        if let Some(fingerprint) = fingerprint {
            let (fingerprint, run) = (fingerprint.clone(), run.id.clone());
            self.state.published = Some(Published { fingerprint, run, time_ms, topics: topics.clone() });
        }
        self.state.closed = Some(Closed { run: run.id.clone(), outcome: exit.as_str().to_owned(), time_ms, topics });
        self.state.run = None;
        self.state.write(&self.config.job.work)?;
        self.remove_runs()?;
        // What the gate compared with; it is fetched anew, whichever is live then.
        let live = self.config.job.work.join("live");
        if live.exists() {
            std::fs::remove_dir_all(&live).map_err(RefreshError::failed(live.display().to_string()))?;
        }
        training::remove_checkpoints(self)
    }

    /// Removes the folders of old runs: their names are times. One that goes on is kept.
    fn remove_runs(&self) -> Result<(), RefreshError> {
        let folder = self.config.job.work.join("runs");
        let failed = || RefreshError::failed(folder.display().to_string());
        let mut runs = Vec::new();
        for entry in std::fs::read_dir(&folder).map_err(failed())? {
            runs.push(entry.map_err(failed())?.path());
        }
        runs.sort();
        let old = runs.len().saturating_sub(self.config.job.runs_kept);
        runs.iter().take(old).try_for_each(|path| std::fs::remove_dir_all(path).map_err(failed()))
    }
}

fn no_data(facts: Value) -> Outcome {
    Outcome { exit: Exit::NoData, facts }
}
