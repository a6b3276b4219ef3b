//! What most tests need: topics, a picture host, items, a daemon's configuration that may fetch them.

use std::time::Duration;

use astromech_e2e::checks::Answers;
use astromech_e2e::corpus::{Corpus, corpus};
use astromech_e2e::http_server::PictureHost;
use astromech_e2e::items::{Item, mixed};
use astromech_e2e::points::Snapshot;
use astromech_e2e::{Daemon, DaemonConfig, Sent, Topics, World, wait_until};

/// For a stream of some hundred records on two busy cores.
pub const STREAM_DEADLINE: Duration = Duration::from_secs(150);

/// A stream of records: so many at a time, with a pause before each.
const STREAM_CHUNK: usize = 10;
const STREAM_PACE: Duration = Duration::from_millis(50);

/// One test's surroundings.
pub struct Scenario<'w> {
    pub world: &'w World,
    pub corpus: &'static Corpus,
    pub host: PictureHost,
    pub topics: Topics,
    pub config: DaemonConfig,
}

impl<'w> Scenario<'w> {
    pub fn new(world: &'w World, name: &str) -> Self {
        let corpus = corpus();
        let topics = world.client.topics(name);
        let mut config = DaemonConfig::new(world, &topics);
        config.file_roots = vec![corpus.root.clone()];
        config.http_hosts = vec!["localhost:*".to_owned()];
        Self { world, corpus, host: PictureHost::start(), topics, config }
    }

    /// As [`Scenario::new`], with so little under way at once that what happens next happens in the middle.
    pub fn slow(world: &'w World, name: &str) -> Self {
        let mut scenario = Self::new(world, name);
        "[pipeline]\nrecords_in_flight_max = 64\n".clone_into(&mut scenario.config.extra);
        scenario
    }

    pub fn items(&self, count: usize, version: u64) -> Vec<Item> {
        mixed(self.corpus, &self.host, count, version)
    }

    pub fn produce(&self, items: &[Item]) -> Vec<Sent> {
        self.world.client.produce(&self.topics.changes, items.iter().map(Item::record).collect())
    }

    /// Produces `items` little by little, so that there is always work under way, until all are sent.
    pub fn stream(&self, items: &[Item]) -> Vec<Sent> {
        let send = |chunk: &[Item]| {
            std::thread::sleep(STREAM_PACE);
            self.produce(chunk)
        };
        items.chunks(STREAM_CHUNK).flat_map(send).collect()
    }

    pub fn results(&self) -> u64 {
        self.world.client.count(&self.topics.results)
    }

    pub fn wait_results(&self, at_least: u64, mut alive: impl FnMut()) {
        wait_until(&format!("{at_least} results"), STREAM_DEADLINE, || {
            alive();
            let results = self.results();
            if results >= at_least { Ok(()) } else { Err(format!("{results} results")) }
        });
    }

    pub fn wait_committed(&self, at_least: i64, mut alive: impl FnMut()) {
        wait_until(&format!("{at_least} records committed"), STREAM_DEADLINE, || {
            alive();
            let progress = self.world.client.progress(&self.topics.changes, &self.config.group)?;
            let committed: i64 = progress.values().map(|p| p.committed).sum();
            if committed >= at_least { Ok(()) } else { Err(format!("{committed} committed")) }
        });
    }

    pub fn wait_done(&self, daemon: &mut Daemon) {
        self.world.client.wait_lag_0(&self.topics.changes, &self.config.group, STREAM_DEADLINE, || daemon.expect_alive());
    }

    pub fn answers(&self) -> Answers {
        Answers::read(&self.world.client, &self.topics)
    }

    pub fn snapshot(&self) -> Snapshot {
        self.world.points.snapshot()
    }

    /// Promise 1 at this moment: everything below the committed offsets has its answer.
    pub fn assert_committed_is_answered(&self) -> i64 {
        // Commits first: what is answered in between can only help.
        let progress = self.world.client.progress(&self.topics.changes, &self.config.group).expect("the broker answers");
        let answers = self.answers();
        for (partition, progress) in &progress {
            for offset in 0..progress.committed {
                let position = (*partition, offset);
                let answered = answers.results.contains_key(&position) || answers.dead_letters.contains_key(&position);
                assert!(
                    answered,
                    "partition {partition} is committed up to {} and offset {offset} has no answer",
                    progress.committed
                );
            }
        }
        progress.values().map(|p| p.committed).sum()
    }
}
