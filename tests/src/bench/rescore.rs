//! Re-scoring: encode once and score many, callers side by side, and indexing beside them.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use astromech_e2e::corpus::{Entry, corpus};
use astromech_e2e::items::{Item, image};
use astromech_e2e::world::{World, scratch};
use astromech_e2e::{Daemon, DaemonConfig, Topics, world};
use astromech_schemas::ImageSource;
use astromech_towers::{ImageLimits, decode_and_squash};
use serde_json::{Value, json};

use crate::stream::{Times, applied, ask, index};
use crate::table::{Table, rate};
use crate::{ITEMS_MAX, Setting, number_of};

const CALLERS: [usize; 3] = [1, 4, 16];
/// How long callers ask.
const ASKING: Duration = Duration::from_secs(8);

/// What is asked. A large model needs less at a time, and longer; the environment says how much.
struct Load {
    /// Candidates of a request, `ASTROMECH_BENCH_CANDIDATES`.
    candidates: usize,
    /// Sets of candidates that share none, `ASTROMECH_BENCH_SETS`. The feature cache must hold the states of all.
    sets: usize,
    /// Deadline of a request, milliseconds, `ASTROMECH_BENCH_DEADLINE_MS`.
    deadline_ms: usize,
    /// Pictures indexed beside the requests, `ASTROMECH_BENCH_IMAGES`.
    beside: usize,
    /// Most callers at once, `ASTROMECH_BENCH_CALLERS`: each waits for those before it.
    callers: usize,
    /// Side that pictures are scaled up to and written as PNG, `ASTROMECH_BENCH_PICTURE_PX`; 0 takes the corpus's as they are.
    picture_px: usize,
}

impl Load {
    fn from_env() -> Result<Self, String> {
        Ok(Self {
            candidates: number_of("ASTROMECH_BENCH_CANDIDATES", 100, 1..=10_000)?,
            sets: number_of("ASTROMECH_BENCH_SETS", 6, 1..=100)?,
            // The harness's HTTP client gives up after 30 s.
            deadline_ms: number_of("ASTROMECH_BENCH_DEADLINE_MS", 10_000, 1..=25_000)?,
            beside: number_of("ASTROMECH_BENCH_IMAGES", 600, 32..=ITEMS_MAX)?,
            callers: number_of("ASTROMECH_BENCH_CALLERS", 16, 1..=16)?,
            picture_px: number_of("ASTROMECH_BENCH_PICTURE_PX", 0, 0..=4096)?,
        })
    }

    /// The daemon's limits, so that they let such requests through.
    fn tables(&self) -> String {
        format!(
            "timeout_ms = {}\n[log]\nlevel = \"warn\"\n[rescore]\ncandidates_max = {}\ndeadline_ms_max = {}\n",
            // Of the table `http`, which the text goes on. A request ends after 0.9 of it in any case.
            self.deadline_ms * 10 / 9 + 1000,
            self.candidates.max(200),
            self.deadline_ms.max(10_000),
        )
    }

    /// A request about `context` with the set's items as candidates.
    fn request(&self, items: &[Item], set: usize, context: &str) -> Value {
        let candidates: Vec<Value> = items[set * self.candidates..(set + 1) * self.candidates]
            .iter()
            .map(|item| json!({"item": {"kind": "image", "id": item.id}}))
            .collect();
        json!({
            "mode": "illustrations", "context": {"text": context}, "candidates": candidates, "deadline_ms": self.deadline_ms, "k": 10
        })
    }

    fn time(&self, daemon: &Daemon, body: &Value) -> Duration {
        let began = Instant::now();
        let (status, answer) = daemon.post("/v1/rescore", body);
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["scored"], self.candidates, "{answer}");
        began.elapsed()
    }
}

/// Pictures to index, and the folder that those which are scaled lie in.
struct Pictures {
    px: u32,
    folder: PathBuf,
}

impl Pictures {
    fn items(&self, count: usize, version: u64) -> Result<Vec<Item>, String> {
        let corpus = corpus();
        let one = |i: usize| {
            let mut entry = corpus.entries[i % corpus.entries.len()].clone();
            if self.px > 0 {
                self.scale(&mut entry, i)?;
            }
            entry.id = format!("{}-{i}", entry.id);
            let source = ImageSource::from_url(format!("file://{}", entry.picture.display()));
            Ok(image(&entry, version, source))
        };
        (0..count).map(one).collect()
    }

    /// Writes the entry's picture in the size of an advertisement's, where it isn't there yet.
    fn scale(&self, entry: &mut Entry, place: usize) -> Result<(), String> {
        let path = self.folder.join(format!("{place}.png"));
        if !path.exists() {
            let failed = |error: image::ImageError| format!("{}: {error}", entry.picture.display());
            let square =
                decode_and_squash(&entry.bytes(), self.px, &ImageLimits::default()).map_err(|error| error.to_string())?;
            image::save_buffer(&path, square.pixels(), self.px, self.px, image::ExtendedColorType::Rgb8).map_err(failed)?;
        }
        entry.picture = path;
        Ok(())
    }
}

/// The text of request `i`.
fn context(i: usize) -> String {
    let entries = &corpus().entries;
    entries[i % entries.len()].title.clone()
}

pub(crate) fn run(_: &Setting) -> Result<String, String> {
    let load = Load::from_env()?;
    let sets = load.sets;
    let world = world();
    let topics = world.client.topics("bench-rescore");
    let mut config = DaemonConfig::new(&world, &topics);
    let pictures = Pictures { px: load.picture_px as u32, folder: scratch("bench-pictures") };
    config.file_roots = vec![corpus().root.clone(), pictures.folder.clone()];
    config.extra = load.tables();
    let items = pictures.items(load.candidates * sets, 1)?;
    let daemon = Daemon::start(&config);
    index(&world, &topics, &items, || applied(&daemon));

    let mut table =
        Table::new(format!("Re-scoring {} pictures for a text", load.candidates), &["what", "p50 / p99, ms", "of uncached"]);
    let uncached = Times::of((0..sets).map(|set| load.time(&daemon, &load.request(&items, set, &context(set)))).collect());
    // The same candidates for other texts: only the text is new.
    let cached = (0..sets * 4).map(|i| load.time(&daemon, &load.request(&items, i % sets, &context(sets + i)))).collect();
    let cached = Times::of(cached);
    table.row(vec!["uncached, 1 caller".to_owned(), uncached.cell(), "1.00".to_owned()]);
    for callers in CALLERS.into_iter().filter(|callers| *callers <= load.callers) {
        let stop = AtomicBool::new(false);
        let times = std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(ASKING);
                stop.store(true, Ordering::Release);
            });
            ask(
                &daemon,
                callers,
                Duration::ZERO,
                &|turn| ("/v1/rescore", load.request(&items, turn % sets, &context(turn))),
                &stop,
            )
        });
        let share = if callers == 1 { format!("{:.2}", cached.ms(0.5) / uncached.ms(0.5)) } else { String::new() };
        table.row(vec![format!("cached, {callers} callers"), times.cell(), share]);
    }

    let beside = beside(&load, &pictures, &items, &Running { world: &world, topics: &topics, daemon: &daemon })?;
    Ok(format!("{}\n{}", table.to_markdown(), beside.to_markdown()))
}

/// What the bench runs against.
struct Running<'a> {
    world: &'a World,
    topics: &'a Topics,
    daemon: &'a Daemon,
}

/// Indexing alone, then beside a caller that re-scores.
fn beside(load: &Load, pictures: &Pictures, items: &[Item], running: &Running<'_>) -> Result<Table, String> {
    let Running { world, topics, daemon } = *running;
    let mut table =
        Table::new("Indexing and re-scoring beside each other", &["what", "images/s indexed", "re-scoring p50 / p99, ms"]);
    let more = pictures.items(load.beside, 2)?;
    let alone = index(world, topics, &more, || applied(daemon));
    table.row(vec!["indexing alone".to_owned(), rate(alone), String::new()]);
    let again = pictures.items(load.beside, 3)?;
    let stop = AtomicBool::new(false);
    let (times, both) = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            ask(
                daemon,
                1,
                Duration::from_millis(50),
                &|turn| ("/v1/rescore", load.request(items, turn % load.sets, &context(turn))),
                &stop,
            )
        });
        let both = index(world, topics, &again, || applied(daemon));
        stop.store(true, Ordering::Release);
        (asking.join().expect("a caller"), both)
    });
    table.row(vec!["with one caller that re-scores, 50 ms between requests".to_owned(), rate(both), times.cell()]);
    Ok(table)
}
