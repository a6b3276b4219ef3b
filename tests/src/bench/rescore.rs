//! Re-scoring: encode once and score many, callers side by side, and indexing beside them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use astromech_e2e::corpus::corpus;
use astromech_e2e::items::{Item, image};
use astromech_e2e::{Daemon, DaemonConfig, world};
use astromech_schemas::ImageSource;
use serde_json::{Value, json};

use crate::Setting;
use crate::stream::{Times, applied, ask, index};
use crate::table::{Table, rate};

/// Candidates of a request.
const CANDIDATES: usize = 100;
/// Sets of candidates that share none.
const SETS: usize = 6;
const CALLERS: [usize; 3] = [1, 4, 16];
/// How long callers ask.
const ASKING: Duration = Duration::from_secs(8);

fn pictures(count: usize, version: u64) -> Vec<Item> {
    let corpus = corpus();
    let one = |i: usize| {
        let mut entry = corpus.entries[i % corpus.entries.len()].clone();
        entry.id = format!("{}-{i}", entry.id);
        image(&entry, version, ImageSource::from_url(format!("file://{}", entry.picture.display())))
    };
    (0..count).map(one).collect()
}

/// A request about `context` with the set's items as candidates.
fn request(items: &[Item], set: usize, context: &str) -> Value {
    let candidates: Vec<Value> = items[set * CANDIDATES..(set + 1) * CANDIDATES]
        .iter()
        .map(|item| json!({"item": {"kind": "image", "id": item.id}}))
        .collect();
    json!({"mode": "illustrations", "context": {"text": context}, "candidates": candidates, "deadline_ms": 10_000, "k": 10})
}

fn time(daemon: &Daemon, body: &Value) -> Duration {
    let began = Instant::now();
    let (status, answer) = daemon.post("/v1/rescore", body);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["scored"], CANDIDATES, "{answer}");
    began.elapsed()
}

#[expect(clippy::unnecessary_wraps, reason = "every part of the bench has this form")]
pub(crate) fn run(_: &Setting) -> Result<String, String> {
    let world = world();
    let topics = world.client.topics("bench-rescore");
    let mut config = DaemonConfig::new(&world, &topics);
    config.file_roots = vec![corpus().root.clone()];
    "[log]\nlevel = \"warn\"\n".clone_into(&mut config.extra);
    let items = pictures(CANDIDATES * SETS, 1);
    let daemon = Daemon::start(&config);
    index(&world, &topics, &items, || applied(&daemon));

    let context = |i: usize| corpus().entries[i % corpus().entries.len()].title.clone();
    let mut table = Table::new(format!("Re-scoring {CANDIDATES} pictures for a text"), &["what", "p50 / p99, ms", "of uncached"]);
    let uncached = Times::of((0..SETS).map(|set| time(&daemon, &request(&items, set, &context(set)))).collect());
    // The same candidates for other texts: only the text is new.
    let cached = (0..SETS * 4).map(|i| time(&daemon, &request(&items, i % SETS, &context(SETS + i)))).collect();
    let cached = Times::of(cached);
    table.row(vec!["uncached, 1 caller".to_owned(), uncached.cell(), "1.00".to_owned()]);
    for callers in CALLERS {
        let stop = AtomicBool::new(false);
        let times = std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(ASKING);
                stop.store(true, Ordering::Release);
            });
            ask(&daemon, callers, Duration::ZERO, &|turn| ("/v1/rescore", request(&items, turn % SETS, &context(turn))), &stop)
        });
        let share = if callers == 1 { format!("{:.2}", cached.ms(0.5) / uncached.ms(0.5)) } else { String::new() };
        table.row(vec![format!("cached, {callers} callers"), times.cell(), share]);
    }

    let mut beside =
        Table::new("Indexing and re-scoring beside each other", &["what", "images/s indexed", "re-scoring p50 / p99, ms"]);
    let more = pictures(600, 2);
    let alone = index(&world, &topics, &more, || applied(&daemon));
    beside.row(vec!["indexing alone".to_owned(), rate(alone), String::new()]);
    let stop = AtomicBool::new(false);
    let (times, both) = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            ask(
                &daemon,
                1,
                Duration::from_millis(50),
                &|turn| ("/v1/rescore", request(&items, turn % SETS, &context(turn))),
                &stop,
            )
        });
        let both = index(&world, &topics, &pictures(600, 3), || applied(&daemon));
        stop.store(true, Ordering::Release);
        (asking.join().expect("a caller"), both)
    });
    beside.row(vec!["with one caller that re-scores, 50 ms between requests".to_owned(), rate(both), times.cell()]);
    Ok(format!("{}\n{}", table.to_markdown(), beside.to_markdown()))
}
