//! The roller: watches the registry and the aliases, makes a new generation ready, and lets the daemon follow what is live.
//!
//! It is one task. Whatever it waits for (a download, towers that start, a broker) runs in tasks of their own, so that it follows the
//! aliases within [`TICK`] whatever else goes on. A kill at any point loses nothing: what is live is in the index's book, how far a
//! generation is in its consumer group, and which one is wanted in the registry.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use astromech_schemas::{Fingerprint, Kind};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};

use super::bundles::Bundles;
use super::candidate::Candidate;
use super::command::{CommandRequest, Generations};
use super::group;
use super::kill_point::{KillPoint, reached};
use super::load::{LoadError, Loader};
use super::metrics::{GenerationMetrics, RolloutEnd};
use super::running::{GenerationContext, Running};
use super::serving::{Live, Serving};
use super::status::Refusal;
use super::traffic::Traffic;
use super::verify::verify;
use crate::clock::unix_ms;
use crate::index::book::{Catalog, Mark, Noted, StoredGeneration};
use crate::source::{Drained, SourceMetrics};

/// How often the aliases are looked at: so long after a change every daemon answers with the new generation.
const TICK: Duration = Duration::from_millis(500);
/// Time between two counts of the points.
const COUNT_EVERY: Duration = Duration::from_secs(5);
/// Looks at the registry after which a generation that a newer release has replaced before it was live is deleted.
const SUPERSEDED_POLLS: u32 = 10;

/// What the roller is made of.
pub(super) struct RollerParts {
    pub(super) shared: GenerationContext,
    pub(super) bundles: Arc<Bundles>,
    pub(super) catalog: Arc<dyn Catalog>,
    pub(super) live: Arc<Live>,
    pub(super) first: Running,
    pub(super) generations: Generations,
    pub(super) commands: mpsc::Receiver<CommandRequest>,
    pub(super) traffic: Arc<Traffic>,
}

/// A generation that is being loaded.
struct Loading {
    fingerprint: Fingerprint,
    task: JoinHandle<Result<Running, LoadError>>,
}

/// See the module.
pub(super) struct Roller {
    pub(super) shared: GenerationContext,
    pub(super) bundles: Arc<Bundles>,
    pub(super) catalog: Arc<dyn Catalog>,
    live: Arc<Live>,
    pub(super) generations: Generations,
    commands: mpsc::Receiver<CommandRequest>,
    traffic: Arc<Traffic>,
    pub(super) running: BTreeMap<Fingerprint, Running>,
    pub(super) live_is: Fingerprint,
    /// As last read.
    pub(super) stored: Vec<StoredGeneration>,
    pub(super) candidate: Option<Candidate>,
    loading: Option<Loading>,
    /// What could not be loaded when it was tried last: others go first.
    postponed: Option<Fingerprint>,
    pub(super) refused: BTreeMap<Fingerprint, Refusal>,
    /// What the registry points at, with its bundle's name.
    wanted: Option<(Fingerprint, String)>,
    polled: Option<Instant>,
    pub(super) registry_problem: Option<String>,
    index_problem: Option<String>,
    /// The live generation's parts, once it has ended by itself, and with what.
    kept_open: Option<Arc<Serving>>,
    ended: Option<Result<Drained>>,
    /// Live points by generation, and when they were counted.
    pub(super) points: BTreeMap<Fingerprint, BTreeMap<Kind, u64>>,
    counted: Option<Instant>,
}

impl Roller {
    pub(super) fn new(parts: RollerParts) -> Self {
        let RollerParts { shared, bundles, catalog, live, first, generations, commands, traffic } = parts;
        let live_is = first.fingerprint().clone();
        first.announce(&shared.vitals.metrics);
        Self {
            shared,
            bundles,
            catalog,
            live,
            generations,
            commands,
            traffic,
            running: BTreeMap::from([(live_is.clone(), first)]),
            live_is,
            stored: Vec::new(),
            candidate: None,
            loading: None,
            postponed: None,
            refused: BTreeMap::new(),
            wanted: None,
            polled: None,
            registry_problem: None,
            index_problem: None,
            kept_open: None,
            ended: None,
            points: BTreeMap::new(),
            counted: None,
        }
    }

    /// Runs until the daemon stops or the live generation ends by itself; then every generation has left its group. Their indexes are
    /// given back open, for requests that are still answered.
    pub(super) async fn run(mut self) -> (Vec<Arc<Serving>>, Result<Drained>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.ended.is_none() {
            tokio::select! {
                () = self.shared.stop.cancelled() => break,
                Some((command, reply)) = self.commands.recv() => {
                    let done = self.carry_out(command).await;
                    // Whoever asked may have gone.
                    let _ = reply.send(done);
                }
                _ = ticks.tick() => self.tick().await,
            }
        }
        self.shared.stop.cancel();
        if let Some(loading) = self.loading.take() {
            loading.task.abort();
        }
        let mut servings = Vec::from_iter(self.kept_open.take());
        let mut drained = self.ended.unwrap_or(Ok(Drained { unfinished: 0 }));
        for (_, generation) in self.running {
            let (serving, ended) = generation.drain().await;
            servings.push(serving);
            drained = match (drained, ended) {
                (Ok(sum), Ok(one)) => Ok(Drained { unfinished: sum.unfinished + one.unfinished }),
                (Err(error), _) | (_, Err(error)) => Err(error),
            };
        }
        (servings, drained)
    }

    async fn tick(&mut self) {
        self.traffic.sample();
        self.reap().await;
        let looked = self.look_at_index().await;
        self.note_index(looked.err().map(|error| error.to_string()));
        self.finish_loading().await;
        self.look_at_registry().await;
        self.load_next();
        self.advance().await;
        self.collect_garbage().await;
        self.count().await;
        self.report();
    }

    fn note_index(&mut self, problem: Option<String>) {
        if problem != self.index_problem {
            if let Some(problem) = &problem {
                warn!(problem, "the book of generations can't be read; what is live stays");
            }
            self.index_problem = problem;
        }
    }

    /// A generation that ended by itself: the live one stops the daemon, another only itself.
    async fn reap(&mut self) {
        let ended = self.running.iter().find(|(_, running)| running.has_ended()).map(|(fingerprint, _)| fingerprint.clone());
        let Some(fingerprint) = ended else { return };
        let Some(running) = self.running.remove(&fingerprint) else { return };
        let bundle = running.bundle().to_owned();
        let (serving, ended) = running.drain().await;
        if fingerprint == self.live_is {
            // Its index stays open for requests that are still answered.
            self.kept_open = Some(serving);
            self.ended = Some(ended);
            return;
        }
        let reason = ended.err().map_or_else(|| "it ended by itself".to_owned(), |error| format!("{error:#}"));
        close(&serving).await;
        if self.candidate.take_if(|candidate| candidate.fingerprint == fingerprint).is_some() {
            self.refuse(&fingerprint, &bundle, &reason).await;
        } else {
            warn!(fingerprint = fingerprint.short(), reason, "a generation that is not live ended");
        }
    }

    /// Follows the aliases.
    async fn look_at_index(&mut self) -> Result<(), crate::index::IndexError> {
        let (live, stored) = futures::try_join!(self.catalog.live(), self.catalog.generations())?;
        self.stored = stored;
        let Some(live) = live.filter(|live| *live != self.live_is) else { return Ok(()) };
        if self.running.contains_key(&live) {
            self.follow(&live);
        } else if self.loading.is_none() && !self.refused.contains_key(&live) {
            info!(fingerprint = live.short(), "another generation is live: loading it");
            self.start_loading(live);
        }
        Ok(())
    }

    /// Answers with `fingerprint`, which runs, from now on.
    pub(super) fn follow(&mut self, fingerprint: &Fingerprint) {
        let Some(new) = self.running.get(fingerprint) else { return };
        if let Some(old) = self.running.get(&self.live_is) {
            old.set_live(false);
        }
        self.shared.vitals.metrics.of::<SourceMetrics>().forget_partitions();
        new.set_live(true);
        self.live.switch(Arc::clone(&new.serving));
        new.announce(&self.shared.vitals.metrics);
        info!(from = self.live_is.short(), to = fingerprint.short(), bundle = new.bundle(), "another generation answers");
        self.live_is = fingerprint.clone();
        self.candidate.take_if(|candidate| candidate.fingerprint == *fingerprint);
    }

    fn start_loading(&mut self, fingerprint: Fingerprint) {
        let running = self.running.iter().map(|(fingerprint, running)| (fingerprint.clone(), Arc::clone(&running.serving)));
        let loader = Loader {
            shared: self.shared.clone(),
            bundles: Arc::clone(&self.bundles),
            catalog: Arc::clone(&self.catalog),
            live: self.live_is.clone(),
            running: running.collect(),
        };
        let task = tokio::spawn(loader.load(fingerprint.clone()));
        self.loading = Some(Loading { fingerprint, task });
    }

    async fn finish_loading(&mut self) {
        let Some(Loading { fingerprint, task }) = self.loading.take_if(|loading| loading.task.is_finished()) else { return };
        let loaded = task.await.unwrap_or_else(|error| Err(LoadError::Refused(format!("loading it failed: {error}"))));
        match loaded {
            Ok(running) => {
                if self.noted(&fingerprint).is_some() {
                    // It was live before this start.
                    running.set_live(false);
                } else {
                    self.begin_candidate(&running);
                }
                self.running.insert(fingerprint, running);
            }
            Err(LoadError::Refused(reason)) => {
                let named = self.wanted.as_ref().filter(|(wanted, _)| *wanted == fingerprint).map(|(_, name)| name.clone());
                self.note_refused(&fingerprint, &named.unwrap_or_default(), &reason);
            }
            Err(LoadError::Unanswered(reason)) => {
                self.postponed = Some(fingerprint.clone());
                warn!(fingerprint = fingerprint.short(), reason, "a generation can't be loaded now; it is tried again");
            }
        }
    }

    fn begin_candidate(&mut self, running: &Running) {
        let fingerprint = running.fingerprint();
        match Candidate::new(fingerprint.clone(), &self.shared.kafka_of(fingerprint), running.filled()) {
            Ok(candidate) => self.candidate = Some(candidate),
            Err(error) => error!(%error, "the broker can't be asked how far the new generation is"),
        }
    }

    /// Whether the registry points at it.
    pub(super) fn is_wanted(&self, fingerprint: &Fingerprint) -> bool {
        self.wanted.as_ref().is_some_and(|(wanted, _)| wanted == fingerprint)
    }

    pub(super) fn noted(&self, fingerprint: &Fingerprint) -> Option<Noted> {
        self.stored.iter().find(|stored| stored.fingerprint == *fingerprint)?.noted
    }

    async fn look_at_registry(&mut self) {
        if self.polled.is_some_and(|polled| polled.elapsed() < self.shared.rollout.poll) {
            return;
        }
        self.polled = Some(Instant::now());
        let problem = match self.bundles.current().await {
            Ok(release) => {
                self.wanted = release.map(|release| (release.fingerprint, release.name));
                None
            }
            Err(error) => Some(error.to_string()),
        };
        if problem != self.registry_problem {
            if let Some(problem) = &problem {
                warn!(problem, "the registry can't be read; what is live stays");
            }
            self.registry_problem = problem;
        }
    }

    /// Loads what is wanted, or what is kept, one at a time.
    fn load_next(&mut self) {
        if self.loading.is_some() {
            return;
        }
        let free = |fingerprint: &Fingerprint| !self.running.contains_key(fingerprint) && !self.refused.contains_key(fingerprint);
        // A rollback is a decision: what was given up is not made live again until somebody says so.
        let wanted = self.wanted.as_ref().map(|(fingerprint, _)| fingerprint).filter(|wanted| self.noted(wanted).is_none());
        let kept = self.stored.iter().filter(|stored| stored.noted.is_some()).map(|stored| &stored.fingerprint);
        let next = wanted.into_iter().chain(kept).filter(|fingerprint| free(fingerprint));
        let next = next.min_by_key(|fingerprint| Some(*fingerprint) == self.postponed.as_ref()).cloned();
        if let Some(next) = next {
            self.start_loading(next);
        }
    }

    /// Looks how far the candidate is, compares it at the live head, and makes it live.
    async fn advance(&mut self) {
        let superseded = self
            .candidate
            .as_ref()
            .is_some_and(|candidate| self.wanted.as_ref().is_some_and(|(wanted, _)| *wanted != candidate.fingerprint));
        if superseded {
            return self.supersede().await;
        }
        let Some(candidate) = &mut self.candidate else { return };
        let fingerprint = candidate.fingerprint.clone();
        if !candidate.look().await && candidate.verifying.is_none() {
            if candidate.is_begun() {
                reached(KillPoint::MidFill);
            }
            return;
        }
        reached(KillPoint::Verifying);
        let (Some(live), Some(new)) = (self.running.get(&self.live_is), self.running.get(&fingerprint)) else { return };
        let verified = verify(&live.serving, &new.serving, &self.shared.rollout, candidate.left_out()).await;
        match verified {
            Ok(()) => self.go_live(&fingerprint).await,
            Err(problem) => {
                let bundle = new.bundle().to_owned();
                if let Some(reason) = candidate.differs(&problem, self.shared.rollout.verify_max) {
                    self.refuse(&fingerprint, &bundle, &reason).await;
                }
            }
        }
    }

    async fn go_live(&mut self, fingerprint: &Fingerprint) {
        // The note first: a kill in between leaves a note on the live generation, which counts for nothing there.
        let promoted = async {
            self.catalog.note(&self.live_is, Some(noted(Mark::Retired))).await?;
            reached(KillPoint::BeforeAlias);
            self.catalog.promote(fingerprint).await
        };
        match promoted.await {
            Ok(()) => {
                reached(KillPoint::AfterAlias);
                self.shared.vitals.metrics.of::<GenerationMetrics>().rollout_ended(RolloutEnd::Live);
                self.follow(fingerprint);
                reached(KillPoint::Retired);
            }
            Err(error) => warn!(%error, "the new generation was not made live; it is tried again"),
        }
    }

    /// A newer release than the candidate's was published.
    async fn supersede(&mut self) {
        let Some(candidate) = self.candidate.take() else { return };
        info!(fingerprint = candidate.fingerprint.short(), "a newer bundle was published: this one is given up");
        self.end(&candidate.fingerprint).await;
        if let Err(error) = self.catalog.note(&candidate.fingerprint, Some(noted(Mark::Superseded))).await {
            warn!(%error, "a generation that was given up was not noted");
        }
    }

    /// Stops a generation that is not live, and closes its index.
    pub(super) async fn end(&mut self, fingerprint: &Fingerprint) {
        if let Some(running) = self.running.remove(fingerprint) {
            let (serving, _) = running.drain().await;
            close(&serving).await;
        }
    }

    pub(super) fn note_refused(&mut self, fingerprint: &Fingerprint, bundle: &str, reason: &str) {
        error!(fingerprint = fingerprint.short(), bundle, reason, "a bundle is refused; the live generation is untouched");
        self.shared.vitals.metrics.of::<GenerationMetrics>().rollout_ended(RolloutEnd::Refused);
        let refusal = Refusal { fingerprint: fingerprint.clone(), bundle: bundle.to_owned(), reason: reason.to_owned() };
        self.refused.insert(fingerprint.clone(), refusal);
    }

    /// Gives a generation up for good: its collections go, the reason stays.
    async fn refuse(&mut self, fingerprint: &Fingerprint, bundle: &str, reason: &str) {
        self.candidate.take_if(|candidate| candidate.fingerprint == *fingerprint);
        self.note_refused(fingerprint, bundle, reason);
        self.bundles.refuse(fingerprint, reason).await;
        self.end(fingerprint).await;
        self.forget_group(fingerprint).await;
        if let Err(error) = self.catalog.drop_generation(fingerprint).await {
            warn!(%error, "the collections of a refused generation were not deleted; `astromech generations drop` does it");
        }
    }

    /// Counts the points of each generation, now and then: an exact count costs the engine.
    async fn count(&mut self) {
        if self.counted.is_some_and(|counted| counted.elapsed() < COUNT_EVERY) {
            return;
        }
        self.counted = Some(Instant::now());
        for (fingerprint, running) in &self.running {
            if let Ok(points) = running.serving.index.counts().await {
                self.points.insert(fingerprint.clone(), points);
            }
        }
    }

    async fn collect_garbage(&mut self) {
        let (keep, poll) = (self.shared.rollout.keep, self.shared.rollout.poll);
        let is_over = |noted: Noted| {
            let kept = Duration::from_millis(unix_ms().saturating_sub(noted.since_ms));
            kept > if noted.mark == Mark::Superseded { poll * SUPERSEDED_POLLS } else { keep }
        };
        // The registry points at what was given up by a rollback: without its note it would be made live once more.
        let stays = |stored: &StoredGeneration| {
            let is_wanted = self.is_wanted(&stored.fingerprint);
            stored.fingerprint == self.live_is || is_wanted && stored.noted.is_some_and(|noted| noted.mark == Mark::Held)
        };
        let over = self.stored.iter().find(|stored| !stays(stored) && stored.noted.is_some_and(is_over));
        let Some(fingerprint) = over.map(|stored| stored.fingerprint.clone()) else { return };
        info!(fingerprint = fingerprint.short(), "a generation is kept no longer");
        if let Err(error) = self.drop_for_good(&fingerprint).await {
            warn!(%error, "a generation was not dropped; it is tried again");
        }
    }

    /// Deletes a generation's group before its collections: where it stayed, the same bundle published again would find its group at the
    /// live head and its collections empty.
    async fn forget_group(&self, fingerprint: &Fingerprint) {
        if let Err(error) = group::forget(&self.shared.kafka_of(fingerprint)).await {
            warn!(%error, fingerprint = fingerprint.short(), "the consumer group of a generation was not deleted");
        }
    }

    pub(super) async fn drop_for_good(&mut self, fingerprint: &Fingerprint) -> Result<()> {
        if *fingerprint == self.live_is {
            bail!("generation {} is live", fingerprint.short());
        }
        self.end(fingerprint).await;
        reached(KillPoint::BeforeDrop);
        self.forget_group(fingerprint).await;
        self.catalog.drop_generation(fingerprint).await?;
        reached(KillPoint::AfterDrop);
        self.bundles.forget(fingerprint).await;
        Ok(())
    }
}

/// `mark`, since now.
pub(super) fn noted(mark: Mark) -> Noted {
    Noted { mark, since_ms: unix_ms() }
}

async fn close(serving: &Serving) {
    if let Err(error) = serving.index.close().await {
        warn!(%error, "the index of a generation was not closed cleanly");
    }
}
