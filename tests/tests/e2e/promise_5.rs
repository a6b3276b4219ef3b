//! Transient is not poison: Qdrant, the broker or a picture host goes away and comes back; no dead letters, and all is applied.

use std::time::Duration;

use astromech_e2e::checks::assert_stored;
use astromech_e2e::items::{Expected, article, image};
use astromech_e2e::paths::message;
use astromech_e2e::slow_proxy::SlowProxy;
use astromech_e2e::world::scratch;
use astromech_e2e::{Daemon, bundle, wait_until, world};
use astromech_schemas::ImageSource;
use serde_json::json;

use crate::scenario::Scenario;

const ITEMS: usize = 1500;
const SLOW_ITEMS: usize = 200;
const EARLY_ITEMS: usize = 20;
/// For the daemon to notice that a server is gone.
const NOTICE_DEADLINE: Duration = Duration::from_mins(1);

/// How long a server stays away beyond the daemon's notice of it: `OUTAGE_S` seconds, none in the daily run.
fn outage() {
    let seconds = std::env::var("OUTAGE_S").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    std::thread::sleep(Duration::from_secs(seconds));
}

/// What a daemon may take while it waits: queues are bounded, so an outage costs no more than a busy day.
const RSS_MAX_BYTES: u64 = 1_610_612_736;

fn assert_rss(daemon: &Daemon, what: &str) {
    let peak = daemon.rss_peak_bytes();
    message(&format!("{what}: peak RSS {} MiB", peak >> 20));
    assert!(peak <= RSS_MAX_BYTES, "{what}: {peak} bytes, at most {RSS_MAX_BYTES}");
}

fn wait_not_ready(daemon: &mut Daemon, word: &str) {
    wait_until(&format!("/readyz says that {word} is gone"), NOTICE_DEADLINE, || {
        daemon.expect_alive();
        let (status, body) = daemon.get("/readyz");
        if status == 503 && body.to_lowercase().contains(word) { Ok(()) } else { Err(format!("{status}: {body}")) }
    });
}

#[test]
fn promise_5_qdrant_down_in_the_middle_is_waited_for() {
    let world = world();
    let scenario = Scenario::slow(&world, "qdrant-down");
    let items = scenario.items(ITEMS, 1);
    let sent = scenario.produce(&items);
    let mut daemon = Daemon::start(&scenario.config);
    scenario.wait_results(60, || daemon.expect_alive());
    world.qdrant.kill();
    wait_not_ready(&mut daemon, "index");
    assert_eq!(daemon.get("/healthz").0, 200, "a daemon that waits is alive");
    let stuck = scenario.results();
    assert!(stuck < ITEMS as u64, "Qdrant went away in the middle");
    outage();
    world.qdrant.start_again();
    scenario.wait_done(&mut daemon);
    daemon.wait_ready();
    let answers = scenario.answers();
    answers.assert_nothing_lost(&sent);
    answers.assert_no_dead_letters();
    assert_stored(&scenario.snapshot(), &Expected::of(&items), &bundle::manifest());
    assert_rss(&daemon, "Qdrant down");
    message(&format!("Qdrant was down from result {stuck} on; retries: {}", daemon.metric("astromech_retries_total", &[])));
}

#[test]
fn promise_5_qdrant_away_at_the_start_is_waited_for_while_health_and_readiness_are_answered() {
    let world = world();
    let scenario = Scenario::new(&world, "qdrant-away");
    let items = scenario.items(EARLY_ITEMS, 1);
    let sent = scenario.produce(&items);
    world.qdrant.kill();
    let mut daemon = Daemon::spawn(&scenario.config);
    wait_until("the daemon says that it starts, and what is missing", NOTICE_DEADLINE, || {
        daemon.expect_alive();
        let body = daemon.get_when_up("/readyz")?;
        if body.0 == 503 && body.1.contains("connect") { Ok(()) } else { Err(format!("{body:?}")) }
    });
    assert_eq!(daemon.get("/healthz").0, 200, "a daemon that waits is alive");
    assert!(daemon.get("/metrics").1.contains("astromech_"), "and is measured");
    let (status, refused) = daemon.post("/v1/search", &json!({"text": "猫"}));
    assert_eq!((status, &refused["type"]), (503, &json!("urn:astromech:problem:starting")), "{refused}");
    assert!(refused["detail"].as_str().expect("a detail").contains("index: "), "{refused}");
    assert_eq!(daemon.get("/v1/info").0, 503);

    world.qdrant.start_again();
    daemon.wait_ready();
    scenario.wait_done(&mut daemon);
    assert_eq!(daemon.post("/v1/search", &json!({"text": "猫"})).0, 200);
    let answers = scenario.answers();
    answers.assert_nothing_lost(&sent);
    answers.assert_no_dead_letters();

    // Nobody waits for one that is told to stop.
    world.qdrant.kill();
    let waiting = Daemon::spawn(&scenario.config);
    wait_until("the daemon answers", NOTICE_DEADLINE, || waiting.get_when_up("/healthz"));
    assert!(waiting.terminate().success());
    world.qdrant.start_again();
}

#[test]
fn promise_5_the_broker_down_in_the_middle_is_waited_for() {
    let world = world();
    let scenario = Scenario::slow(&world, "broker-down");
    let items = scenario.items(ITEMS, 1);
    let sent = scenario.produce(&items);
    let mut daemon = Daemon::start(&scenario.config);
    scenario.wait_results(60, || daemon.expect_alive());
    world.kafka.stop();
    outage();
    daemon.expect_alive();
    world.kafka.start_again();
    assert!(scenario.results() < ITEMS as u64, "the broker went away in the middle");
    scenario.wait_done(&mut daemon);
    let answers = scenario.answers();
    answers.assert_nothing_lost(&sent);
    answers.assert_no_dead_letters();
    assert_stored(&scenario.snapshot(), &Expected::of(&items), &bundle::manifest());
}

#[test]
fn promise_5_a_qdrant_that_answers_200_ms_late_is_waited_for_in_bounded_memory() {
    let world = world();
    let mut scenario = Scenario::slow(&world, "qdrant-slow");
    let target = scenario.config.qdrant_url.trim_start_matches("http://").to_owned();
    let proxy = SlowProxy::start(&target, Duration::from_millis(200));
    scenario.config.qdrant_url = format!("http://{}", proxy.address());
    let items = scenario.items(SLOW_ITEMS, 1);
    let sent = scenario.produce(&items);
    let mut daemon = Daemon::start(&scenario.config);
    scenario.wait_done(&mut daemon);
    let answers = scenario.answers();
    answers.assert_nothing_lost(&sent);
    answers.assert_no_dead_letters();
    assert_eq!(daemon.get("/readyz").0, 200, "slow is not gone");
    assert_stored(&scenario.snapshot(), &Expected::of(&items), &bundle::manifest());
    assert_rss(&daemon, "a slow Qdrant");
}

/// Preloaded, it sets the wall clock of a process; the monotonic one stays as it is, as when somebody sets a machine's clock.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

#[test]
fn promise_5_a_wall_clock_that_jumps_by_days_loses_repeats_and_buries_nothing_and_costs_no_partition() {
    assert!(std::fs::exists(FAKETIME).unwrap_or_default(), "{FAKETIME} is missing; fix: deploy/local/install.sh faketime");
    let world = world();
    let mut scenario = Scenario::slow(&world, "clock");
    let clock = scratch("clock").join("offset");
    // At once: libfaketime reads the file at every look at the clock, and an empty one would be a jump of its own.
    let set = |offset: &str| {
        let next = clock.with_extension("next");
        std::fs::write(&next, offset).and_then(|()| std::fs::rename(&next, &clock)).expect("the clock is set");
    };
    set("+0d");
    scenario.config.env = vec![
        ("LD_PRELOAD".to_owned(), FAKETIME.to_owned()),
        ("FAKETIME_TIMESTAMP_FILE".to_owned(), clock.to_string_lossy().into_owned()),
        ("FAKETIME_NO_CACHE".to_owned(), "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC".to_owned(), "1".to_owned()),
    ];
    let mut daemon = Daemon::start(&scenario.config);
    let items = scenario.items(ITEMS / 2, 1);
    let parts: Vec<_> = items.chunks(ITEMS / 6).collect();
    let mut sent = scenario.produce(parts[0]);
    // In the middle of each part's work comes the next jump.
    scenario.wait_results((parts[0].len() / 2) as u64, || daemon.expect_alive());
    set("-5d");
    sent.extend(scenario.produce(parts[1]));
    scenario.wait_results((parts[0].len() + parts[1].len() / 2) as u64, || daemon.expect_alive());

    // Brokers take no record that is more than an hour ahead of them: results wait, and the daemon says why.
    set("+3d");
    sent.extend(scenario.produce(parts[2]));
    wait_not_ready(&mut daemon, "machine's clock");
    assert_eq!(daemon.get("/healthz").0, 200);
    let ahead = scenario.results();
    assert!(ahead < items.len() as u64, "{ahead} results");
    set("+0d");
    scenario.wait_done(&mut daemon);
    daemon.wait_ready();
    let answers = scenario.answers();
    answers.assert_nothing_lost(&sent);
    answers.assert_no_dead_letters();
    assert_eq!(answers.repeats(), 0, "no partition was given away meanwhile");
    assert_stored(&scenario.snapshot(), &Expected::of(&items), &bundle::manifest());
    assert!(daemon.terminate().success());
}

#[test]
fn promise_5_a_picture_host_down_is_waited_for_and_is_no_dead_letter() {
    let world = world();
    let mut scenario = Scenario::new(&world, "host-down");
    let mut items = Vec::new();
    for (i, entry) in scenario.corpus.entries.iter().take(40).enumerate() {
        let url = scenario.host.serve(&format!("/{i}.jpg"), entry.bytes());
        items.push(image(entry, 1, ImageSource::from_url(url)));
        items.push(article(entry, 1, None));
    }
    scenario.host.down();
    let sent = scenario.produce(&items);
    let mut daemon = Daemon::start(&scenario.config);
    wait_until("the daemon tries again", NOTICE_DEADLINE, || {
        daemon.expect_alive();
        let retries = daemon.metric("astromech_retries_total", &["stage=\"media\""]);
        if retries >= 5.0 { Ok(()) } else { Err(format!("{retries} retries")) }
    });
    scenario.answers().assert_no_dead_letters();
    scenario.host.up();
    scenario.wait_done(&mut daemon);
    let answers = scenario.answers();
    answers.assert_nothing_lost(&sent);
    answers.assert_no_dead_letters();
    assert_stored(&scenario.snapshot(), &Expected::of(&items), &bundle::manifest());
}
