//! A job at work: what its steps are given, and how a step is done once.

use std::path::PathBuf;
use std::time::Instant;

use serde_json::json;

use super::config::RefreshConfig;
use super::error::RefreshError;
use super::lease::Lease;
use super::live::Registered;
use super::progress::Progress;
use super::state::{Run, State, Step, run_folder};
use crate::checkpoint::METRICS_FILE;
use crate::stop::StopFlag;

/// Where a job waits to be killed: for tests of what happens then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Halt {
    /// The step.
    pub step: Step,
    /// `begin`, `output` (it is in place, the state does not say so) or `done` (the state says so).
    pub at: String,
}

impl std::str::FromStr for Halt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fail = || "write it as STEP:begin, STEP:output or STEP:done".to_owned();
        let (step, at) = text.split_once(':').ok_or_else(fail)?;
        let step = Step::ALL.into_iter().find(|known| known.as_str() == step).ok_or_else(fail)?;
        if ["begin", "output", "done"].contains(&at) { Ok(Self { step, at: at.to_owned() }) } else { Err(fail()) }
    }
}

/// A job at work.
pub(super) struct Job<'a> {
    pub config: &'a RefreshConfig,
    pub stop: &'a StopFlag,
    pub progress: &'a Progress,
    pub registry: Registered,
    pub state: State,
    pub lease: &'a Lease,
    pub halt: Option<&'a Halt>,
}

impl Job<'_> {
    /// Does a step, unless it is done. What it makes is whole before the state says so; doing it again changes nothing.
    pub(super) fn step(
        &mut self,
        run: &mut Run,
        step: Step,
        training: Option<&str>,
        act: impl FnOnce(&mut Self, &Run) -> Result<(), RefreshError>,
    ) -> Result<(), RefreshError> {
        if run.done.contains_key(&step) {
            return Ok(());
        }
        if self.stop.is_set() {
            return Err(RefreshError::Stopped);
        }
        self.lease.check()?;
        let metrics = training.map(|folder| self.folder(run).join(folder).join(METRICS_FILE));
        self.progress.begin(step, metrics);
        self.halt_at(step, "begin");
        let began = Instant::now();
        act(self, run)?;
        self.halt_at(step, "output");
        let seconds = began.elapsed().as_secs_f64();
        run.done.insert(step, seconds);
        self.state.run = Some(run.clone());
        self.state.write(&self.config.job.work)?;
        self.progress.done(step, seconds);
        self.halt_at(step, "done");
        Ok(())
    }

    /// Waits for ever where a test wants to kill the job.
    fn halt_at(&self, step: Step, at: &str) {
        if self.halt.is_some_and(|halt| halt.step == step && halt.at == at) {
            self.progress.say(Some(step), "halt", &json!({ "at": at }));
            loop {
                std::thread::park();
            }
        }
    }

    /// Folder of the run.
    pub(super) fn folder(&self, run: &Run) -> PathBuf {
        run_folder(&self.config.job.work, &run.id)
    }

    /// Folder of its bundle.
    pub(super) fn bundle(&self, run: &Run) -> PathBuf {
        self.folder(run).join("bundle")
    }

    /// Renews the lease before something that must not happen twice at once.
    pub(super) fn check_lease(&self) -> Result<(), RefreshError> {
        Ok(self.lease.check()?)
    }
}
