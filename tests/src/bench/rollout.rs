//! Live traffic while a new generation is filled, against without it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use astromech_e2e::bundle::{self, Published};
use astromech_e2e::corpus::corpus;
use astromech_e2e::items::{Item, image};
use astromech_e2e::{Daemon, DaemonConfig, World, wait_until, world};
use astromech_schemas::ImageSource;
use serde_json::json;

use crate::Setting;
use crate::stream::{Times, applied, ask, index};
use crate::table::{Table, rate};

/// Records that the new generation has to read.
const BACKLOG: usize = 5000;
/// Live records of one measurement.
const LIVE: usize = 3000;
const DEADLINE: Duration = Duration::from_mins(3);

fn pictures(count: usize, version: u64) -> Vec<Item> {
    let corpus = corpus();
    let one = |i: usize| {
        let mut entry = corpus.entries[i % corpus.entries.len()].clone();
        entry.id = format!("{}-{i}", entry.id);
        image(&entry, version, ImageSource::from_bytes(entry.bytes()))
    };
    (0..count).map(one).collect()
}

/// Live images a second, and the times of searches beside them.
fn live(world: &World, daemon: &Daemon, topics: &astromech_e2e::Topics, version: u64) -> (f64, Times) {
    let stop = AtomicBool::new(false);
    let texts: Vec<&str> = corpus().entries.iter().map(|entry| entry.title.as_str()).collect();
    let question = |turn: usize| ("/v1/search", json!({"text": texts[turn % texts.len()], "limit": 10}));
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask(daemon, 1, Duration::from_millis(50), &question, &stop));
        let per_second = index(world, topics, &pictures(LIVE, version), || applied(daemon));
        stop.store(true, Ordering::Release);
        (per_second, asking.join().expect("a caller"))
    })
}

pub(crate) fn run(_: &Setting) -> Result<String, String> {
    let world = world();
    let topics = world.client.topics("bench-rollout");
    let (path, manifest) = bundle::other(1);
    let published = Published::new();
    let mut config = DaemonConfig::new(&world, &topics);
    config.extra = format!("[log]\nlevel = \"warn\"\n{}", published.rollout("records_per_second_max = 5"));
    let daemon = Daemon::start(&config);
    index(&world, &topics, &pictures(BACKLOG, 1), || applied(&daemon));

    let mut table = Table::new(
        "Live traffic while a new generation is filled",
        &["what", "images/s indexed", "of alone", "search p50 / p99, ms", "records filled meanwhile"],
    );
    let (before, times) = live(&world, &daemon, &topics, 2);
    table.row(vec!["alone, before".to_owned(), rate(before), String::new(), times.cell(), String::new()]);
    published.publish(&path);
    let lag = || daemon.metric("astromech_generation_lag_records", &[manifest.fingerprint.as_str()]);
    wait_until("the new generation is being filled", DEADLINE, || if lag() > 0.0 { Ok(()) } else { Err("not yet".to_owned()) });
    let behind = lag();
    let (filling, times) = live(&world, &daemon, &topics, 3);
    let filled = behind + LIVE as f64 - lag();
    if lag() <= 0.0 {
        return Err("the new generation was filled before the measurement ended: raise BACKLOG".to_owned());
    }
    let (status, answer) = daemon.post(&format!("/v1/generations/{}/drop", manifest.fingerprint), &json!({}));
    if status != 200 && status != 202 {
        return Err(format!("the new generation was not dropped: {status} {answer}"));
    }
    wait_until("it is dropped", DEADLINE, || if lag() > 0.0 { Err("not yet".to_owned()) } else { Ok(()) });
    let (after, times_after) = live(&world, &daemon, &topics, 4);
    table.row(vec![
        "while it is filled".to_owned(),
        rate(filling),
        format!("{:.2}", filling / f64::midpoint(before, after)),
        times.cell(),
        format!("{filled:.0}"),
    ]);
    table.row(vec!["alone, after it was dropped".to_owned(), rate(after), String::new(), times_after.cell(), String::new()]);
    Ok(table.to_markdown())
}
