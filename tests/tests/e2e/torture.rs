//! Torture: three brokers, Qdrant and three daemons of one group are killed and frozen by a seeded schedule while changes stream in out of
//! order; at the end the index equals the model. The short form is a test of its own; `make torture MINUTES=10 SEED=7` makes it long.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use astromech_e2e::checks::{Answers, assert_stored};
use astromech_e2e::cluster::{Cluster, NODES};
use astromech_e2e::corpus::corpus;
use astromech_e2e::items::{Expected, Item, article, image};
use astromech_e2e::kafka::{KafkaClient, PARTITIONS};
use astromech_e2e::paths::message;
use astromech_e2e::random::Random;
use astromech_e2e::tally::Tally;
use astromech_e2e::transactions::Transactions;
use astromech_e2e::world::scratch;
use astromech_e2e::{Daemon, DaemonConfig, Record, Sent, Topics, World, bundle, world};
use astromech_schemas::ImageSource;

const DAEMONS: usize = 3;
const ITEMS: usize = 120;
/// Of the chunks that are produced, every fifth is a transaction, of which every fourth is aborted.
const TRANSACTION_EVERY: usize = 5;
const ABORTED_EVERY: usize = 4;
/// Records produced at a time, and the most that may lie unanswered: what is produced follows what the machine can do.
const CHUNK: usize = 12;
const UNANSWERED_MAX: u64 = 600;
const SESSION: Duration = Duration::from_secs(6);
/// Of the short form.
const SHORT_EVENTS: usize = 14;
const SHORT_SEED: u64 = 20_261_126;
/// To the last answer, after the last fault.
const SETTLE_DEADLINE: Duration = Duration::from_mins(4);
/// For a new leader of a partition to show all that was acknowledged.
const ELECTION_MAX: Duration = Duration::from_secs(30);

/// One fault of the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    KillDaemon(usize),
    KillBroker(usize),
    KillQdrant,
    PauseDaemon(usize),
    PauseBroker(usize),
    PauseQdrant,
    /// Frozen past its session: its partitions move, then it wakes.
    Zombie(usize),
    /// A graceful stop and a start: two rebalances.
    Restart(usize),
}

impl Event {
    /// The first eight of a schedule hold each kind once, so that the short form has them all.
    fn draw(at: usize, random: &mut Random) -> (Self, Duration) {
        let kind = if at < 8 { at } else { [0, 0, 0, 0, 1, 1, 2, 2, 2, 3, 4, 5, 6, 7][random.below(14)] };
        let (daemon, node) = (random.below(DAEMONS), random.below(NODES));
        let event = match kind {
            0 => Self::KillDaemon(daemon),
            1 => Self::KillBroker(node),
            2 => Self::KillQdrant,
            3 => Self::PauseDaemon(daemon),
            4 => Self::PauseBroker(node),
            5 => Self::PauseQdrant,
            6 => Self::Zombie(daemon),
            _ => Self::Restart(daemon),
        };
        (event, Duration::from_millis(300 + random.below(1200) as u64))
    }
}

/// How often each kind of fault happened.
#[derive(Debug, Default)]
struct Counts {
    daemon_kills: usize,
    broker_kills: usize,
    qdrant_kills: usize,
    pauses: usize,
    zombies: usize,
    restarts: usize,
}

impl Counts {
    const fn kills(&self) -> usize {
        self.daemon_kills + self.broker_kills + self.qdrant_kills
    }
}

/// What is tortured.
struct Rack<'w> {
    world: &'w World,
    cluster: &'w Cluster,
    config: DaemonConfig,
    daemons: Vec<Daemon>,
    /// The frozen daemon, and when it wakes.
    frozen: Option<(usize, Instant)>,
    /// The broker that comes back: one at a time may be away.
    returning: Option<JoinHandle<()>>,
    counts: Counts,
    peak_rss: u64,
}

impl Rack<'_> {
    fn suffer(&mut self, event: Event) {
        match event {
            Event::KillDaemon(at) => {
                self.counts.daemon_kills += 1;
                self.replace(at, Daemon::kill);
            }
            Event::KillBroker(node) => {
                self.counts.broker_kills += 1;
                self.wait_brokers();
                self.cluster.kill(node);
                self.returning = Some(self.cluster.start_again(node));
            }
            Event::KillQdrant => {
                self.counts.qdrant_kills += 1;
                self.world.qdrant.kill();
                self.world.qdrant.start_again();
            }
            Event::PauseDaemon(at) if self.frozen.is_none_or(|(frozen, _)| frozen != at) => {
                self.counts.pauses += 1;
                self.daemons[at].suspend();
                std::thread::sleep(SESSION / 4);
                self.daemons[at].resume();
            }
            Event::PauseBroker(node) => {
                self.counts.pauses += 1;
                self.wait_brokers();
                self.cluster.freeze(node, true);
                std::thread::sleep(SESSION / 2); // longer than the broker's own session
                self.cluster.freeze(node, false);
            }
            Event::PauseQdrant => {
                self.counts.pauses += 1;
                self.world.qdrant.freeze(true);
                std::thread::sleep(SESSION / 2); // about the writer's own timeout
                self.world.qdrant.freeze(false);
            }
            Event::Zombie(at) if self.frozen.is_none() => {
                self.counts.zombies += 1;
                self.daemons[at].suspend();
                self.frozen = Some((at, Instant::now() + SESSION * 2));
            }
            // One daemon sleeps already.
            Event::PauseDaemon(_) | Event::Zombie(_) => {}
            Event::Restart(at) => {
                self.wake(at);
                self.counts.restarts += 1;
                self.replace(at, |daemon| {
                    // A broker or Qdrant may be down meanwhile: that it ends matters, not how.
                    daemon.terminate();
                });
            }
        }
    }

    /// Ends one daemon by `end` and starts its successor.
    fn replace(&mut self, at: usize, end: impl FnOnce(Daemon)) {
        self.frozen = self.frozen.filter(|(frozen, _)| *frozen != at);
        self.peak_rss = self.peak_rss.max(self.daemons[at].rss_peak_bytes());
        end(self.daemons.remove(at));
        self.daemons.insert(at, Daemon::spawn(&self.config));
    }

    fn wait_brokers(&mut self) {
        if let Some(returning) = self.returning.take() {
            returning.join().expect("the broker comes back");
        }
    }

    fn wake(&mut self, at: usize) {
        if self.frozen.is_some_and(|(frozen, _)| frozen == at) {
            self.daemons[at].resume();
            self.frozen = None;
        }
    }

    /// Wakes the zombie when its time has come; no daemon may have ended by itself.
    fn look(&mut self) {
        if let Some((at, until)) = self.frozen
            && Instant::now() >= until
        {
            self.wake(at);
        }
        self.daemons.iter_mut().for_each(Daemon::expect_alive);
    }
}

/// The stream of changes, and the model that they lead to.
struct Writer<'w> {
    client: &'w KafkaClient,
    transactions: Transactions,
    topics: &'w Topics,
    random: Random,
    items: Vec<Written>,
    expected: Expected,
    sent: Vec<Sent>,
    chunks: usize,
    counts: Streamed,
}

/// An item, and what was sent of it last.
struct Written {
    item: Item,
    newest: u64,
    /// Partition of the newest version.
    partition: i32,
}

/// What the writer sent.
#[derive(Debug, Default)]
struct Streamed {
    deletes: usize,
    /// Versions below one that was sent before.
    old: usize,
    /// Records of the version before in its partition, with another body.
    ties: usize,
    committed: usize,
    aborted: usize,
}

/// What a record leads to.
struct Effect {
    item: Item,
    version: u64,
    deletes: bool,
}

impl Writer<'_> {
    fn step(&mut self) {
        self.chunks += 1;
        let (records, effects): (Vec<Record>, Vec<Effect>) = (0..CHUNK).map(|_| self.change()).unzip();
        let sent = if self.chunks.is_multiple_of(TRANSACTION_EVERY) {
            let commits = !self.chunks.is_multiple_of(TRANSACTION_EVERY * ABORTED_EVERY);
            let sent = self.transactions.send(&self.topics.changes, records, commits);
            *(if sent.is_some() { &mut self.counts.committed } else { &mut self.counts.aborted }) += 1;
            sent.unwrap_or_default()
        } else {
            self.client.produce(&self.topics.changes, records)
        };
        // What was aborted leads to nothing.
        for (sent, effect) in sent.iter().zip(effects) {
            if effect.deletes {
                self.expected.delete_at(&effect.item, effect.version, sent.offset);
            } else {
                self.expected.upsert_at(&effect.item, sent.offset);
            }
        }
        self.sent.extend(sent);
    }

    /// A random upsert or delete of a random item: every fifth below a version that was sent already, every eighth of the version before
    /// once more, in its partition and with another body (a tie, which the later offset wins), the others in a random partition.
    fn change(&mut self) -> (Record, Effect) {
        let random = &mut self.random;
        let Written { item, newest, partition } = &mut self.items[random.below(ITEMS)];
        let is_old = *newest > 2 && random.below(5) == 0;
        let ties = !is_old && *newest > 0 && random.below(8) == 0;
        // Even versions are sent in their order, odd ones only late: no version is sent in two partitions.
        let version = if is_old { *newest - 1 } else { *newest + if ties { 0 } else { 2 } };
        let drawn = random.below(PARTITIONS as usize) as i32;
        let to = if ties { *partition } else { drawn };
        if !is_old {
            (*newest, *partition) = (version, to);
        }
        self.counts.old += usize::from(is_old);
        self.counts.ties += usize::from(ties);
        // What an odd version is, is decided by the version: it may be sent again.
        let deletes = if is_old { version % 3 == 0 } else { random.below(6) == 0 };
        let words = if ties {
            format!("{} 第{version}版 重{}", item.title, self.chunks)
        } else {
            format!("{} 第{version}版", item.title)
        };
        let changed = item.at_version(version, &words);
        let record = if deletes { item.delete(version) } else { changed.record() };
        self.counts.deletes += usize::from(deletes);
        (Record { partition: Some(to), ..record }, Effect { item: changed, version, deletes })
    }

    fn stream(&mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let answered = self.client.count(&self.topics.results);
            if (self.sent.len() as u64).saturating_sub(answered) < UNANSWERED_MAX {
                self.step();
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Ends the writer with the test, whether it fails or not.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn items() -> Vec<Written> {
    let entries = corpus().entries.iter().cycle().enumerate().take(ITEMS);
    let one = |(i, entry): (usize, &astromech_e2e::corpus::Entry)| {
        let mut entry = entry.clone();
        entry.id = format!("{}-{i}", entry.id);
        // Every sixth is a picture: the others cost the machine less, so more changes are under way when a fault comes.
        let item = if i % 6 == 0 { image(&entry, 0, ImageSource::from_bytes(entry.bytes())) } else { article(&entry, 0, None) };
        Written { item, newest: 0, partition: 0 }
    };
    entries.map(one).collect()
}

fn torture(seed: u64, mut more: impl FnMut(usize, &Counts) -> bool) -> (Counts, Tally) {
    let world = world();
    let cluster = Cluster::start(&scratch("cluster"));
    let client = KafkaClient::new(&cluster.bootstrap);
    let topics = client.replicated_topics("torture", NODES as i32);
    let mut config = DaemonConfig::new(&world, &topics);
    config.brokers.clone_from(&cluster.bootstrap);
    config.session_timeout_ms = SESSION.as_millis() as u32;
    let daemons = (0..DAEMONS).map(|_| Daemon::spawn(&config)).collect();
    let mut rack = Rack {
        world: &world,
        cluster: &cluster,
        config,
        daemons,
        frozen: None,
        returning: None,
        counts: Counts::default(),
        peak_rss: 0,
    };
    rack.daemons.iter_mut().for_each(Daemon::wait_ready);

    let random = Random(seed ^ 0x5eed);
    let items = items();
    let mut writer = Writer {
        client: &client,
        transactions: Transactions::new(&cluster.bootstrap),
        topics: &topics,
        random,
        items,
        expected: Expected::default(),
        sent: Vec::new(),
        chunks: 0,
        counts: Streamed::default(),
    };
    let (began, stop) = (Instant::now(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        scope.spawn(|| writer.stream(&stop));
        let (mut schedule, mut at) = (Random(seed), 0);
        while more(at, &rack.counts) {
            let (event, pace) = Event::draw(at, &mut schedule);
            std::thread::sleep(pace);
            rack.suffer(event);
            rack.look();
            at += 1;
        }
    });
    let faults = began.elapsed();
    if let Some((at, _)) = rack.frozen {
        rack.wake(at);
    }
    rack.wait_brokers();
    let group = rack.config.group.clone();
    client.wait_lag_0(&topics.changes, &group, SETTLE_DEADLINE, || rack.look());
    rack.peak_rss = rack.daemons.iter().map(Daemon::rss_peak_bytes).fold(rack.peak_rss, u64::max);

    let answers = read_answers(&client, &topics, &writer.sent);
    let (snapshot, manifest) = (world.points.snapshot(), bundle::manifest());
    let tally = Tally::of(&snapshot, &writer.expected, &manifest);
    message(&format!(
        "torture seed {seed}: {} kills, {:?}; {} records ({:?}), {} answered twice, {} dead letters; \
         {tally:?}; peak RSS {} MiB a daemon; {:.0} s of faults, {:.0} s in all",
        rack.counts.kills(),
        rack.counts,
        writer.sent.len(),
        writer.counts,
        answers.repeats(),
        answers.dead_letters.len(),
        rack.peak_rss >> 20,
        faults.as_secs_f64(),
        began.elapsed().as_secs_f64(),
    ));
    answers.assert_nothing_lost(&writer.sent);
    answers.assert_no_dead_letters();
    assert!(tally.is_clean(), "seed {seed}: {tally:?}");
    assert_stored(&snapshot, &writer.expected, &manifest);
    (std::mem::take(&mut rack.counts), tally)
}

/// What the daemons said when the lag was 0. What is missing then stays missing, even if it comes later: whether it does is said, because a
/// broker that was just elected may show an older end of a topic for a moment.
fn read_answers(client: &KafkaClient, topics: &Topics, sent: &[Sent]) -> Answers {
    let answers = Answers::read(client, topics);
    let missing = answers.missing(sent);
    if !missing.is_empty() {
        std::thread::sleep(ELECTION_MAX);
        let later = Answers::read(client, topics).missing(sent);
        message(&format!("no answer to {missing:?} at lag 0; {} s later none to {later:?}", ELECTION_MAX.as_secs()));
    }
    answers
}

/// The long form where `TORTURE_MINUTES` is set: as long, and until it has its kills.
#[test]
fn promises_1_2_3_4_hold_under_a_seeded_torture_of_brokers_qdrant_and_daemons() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("TORTURE_SEED").unwrap_or(SHORT_SEED);
    let Some(minutes) = number("TORTURE_MINUTES") else {
        let (counts, _) = torture(seed, |at, _| at < SHORT_EVENTS);
        assert!(counts.kills() >= 3 && counts.zombies >= 1, "every kind of fault came: {counts:?}");
        return;
    };
    let kills = number("TORTURE_KILLS").unwrap_or(100) as usize;
    let until = Instant::now() + Duration::from_secs(minutes * 60);
    torture(seed, |_, counts| Instant::now() < until || counts.kills() < kills);
}

#[test]
fn a_seed_repeats_its_schedule() {
    let schedule = |seed| {
        let mut random = Random(seed);
        (0..200).map(|at| Event::draw(at, &mut random)).collect::<Vec<_>>()
    };
    assert_eq!(schedule(7), schedule(7));
    assert_ne!(schedule(7), schedule(8));
}
