//! Search is ready when search works, and alive whoever is connected: without Kafka, with more idle connections than there are places, and
//! while the daemon leaves.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use astromech_e2e::daemon::run_to_end;
use astromech_e2e::kafka::Topics;
use astromech_e2e::world::scratch;
use astromech_e2e::{Daemon, DaemonConfig, wait_until, world};
use serde_json::{Value, json};

use crate::scenario::Scenario;

/// For a daemon to notice something.
const NOTICE_DEADLINE: Duration = Duration::from_mins(1);
/// More than the daemon has places for.
const IDLE: usize = 1100;
/// A probe's usual patience.
const PROBE_MAX: Duration = Duration::from_secs(1);
const GRACE_MS: u32 = 3000;

fn statuses(daemon: &Daemon) -> [u16; 3] {
    ["/readyz", "/readyz/search", "/healthz"].map(|path| daemon.get(path).0)
}

fn search(daemon: &Daemon) -> u16 {
    daemon.post("/v1/search", &json!({"text": "红色的汽车"})).0
}

fn age(daemon: &Daemon) -> f64 {
    daemon.metric("astromech_kafka_answer_age_seconds", &[])
}

#[test]
fn search_is_ready_without_kafka_with_1_100_idle_connections_and_until_the_grace_is_over() {
    let topics = Topics { changes: "c".into(), results: "r".into(), dead_letters: "d".into() };
    // Nobody listens there.
    let mut config = DaemonConfig::at("http://127.0.0.1:1", "127.0.0.1:1", &topics);
    config.embedded = Some(scratch("readiness").join("index"));
    config.drain_grace_ms = GRACE_MS;
    // Of an index that is not there only the brokers can tell that nobody has read into it: it is not made without them.
    let (file, items) = (scratch("readiness").join("astromech.toml"), scratch("readiness").join("items.jsonl"));
    std::fs::write(&file, config.to_toml(1)).expect("the configuration is written");
    std::fs::write(&items, "{\"kind\":\"article\",\"id\":\"a\",\"version\":1,\"title\":\"标题\",\"body\":\"\"}\n")
        .expect("a file is written");
    let (status, said) = run_to_end(&["index", "--config", &file.to_string_lossy(), &items.to_string_lossy()]);
    assert!(status.success(), "{said}");
    let mut daemon = Daemon::spawn(&config);
    wait_until("search is ready", NOTICE_DEADLINE, || {
        daemon.expect_alive();
        let (status, body) = daemon.get_when_up("/readyz/search")?;
        if status == 200 { Ok(()) } else { Err(body) }
    });
    assert_eq!((statuses(&daemon), search(&daemon)), ([503, 200, 200], 200));
    let (_, body) = daemon.get("/readyz");
    let missing: Value = serde_json::from_str(&body).expect("JSON");
    assert!(missing["missing"]["kafka"].is_string() && missing["missing"]["index"].is_null(), "{body}");
    let young = age(&daemon);
    wait_until("the age of the last answer grows", NOTICE_DEADLINE, || {
        let old = age(&daemon);
        if old > young + 1.0 { Ok(()) } else { Err(format!("{young} s, then {old} s")) }
    });

    let address = daemon.url("").trim_start_matches("http://").to_owned();
    let mut idle = Vec::new();
    for _ in 0..IDLE {
        idle.push(TcpStream::connect(&address).expect("a connection is made"));
    }
    let began = Instant::now();
    assert_eq!(statuses(&daemon), [503, 200, 200]);
    assert!(began.elapsed() < PROBE_MAX * 3, "three probes took {:?}", began.elapsed());
    assert_eq!(search(&daemon), 200);
    drop(idle);

    let began = Instant::now();
    daemon.ask_to_stop();
    wait_until("readiness falls first", NOTICE_DEADLINE, || {
        let (status, body) = daemon.get_when_up("/readyz/search")?;
        if status == 503 && body.contains("running") { Ok(()) } else { Err(body) }
    });
    assert_eq!((statuses(&daemon), search(&daemon)), ([503, 503, 200], 200), "new requests are still served");
    assert!(began.elapsed() < Duration::from_millis(u64::from(GRACE_MS)), "the grace was over before the test looked");
    assert!(daemon.wait_exit(NOTICE_DEADLINE).success());
    assert!(began.elapsed() >= Duration::from_millis(u64::from(GRACE_MS)), "it left after {:?}", began.elapsed());
    assert!(!daemon.log().contains('\u{1b}'), "no colours where nobody looks: {}", daemon.log());
}

#[test]
fn search_stays_ready_when_the_broker_goes_away_and_the_age_of_its_last_answer_tells() {
    let world = world();
    let mut scenario = Scenario::new(&world, "readiness-outage");
    scenario.config.embedded = Some(scratch("readiness-outage").join("index"));
    let mut daemon = Daemon::start(&scenario.config);
    wait_until("the broker answers all the time", NOTICE_DEADLINE, || {
        let age = age(&daemon);
        if age < 3.0 { Ok(()) } else { Err(format!("{age} s")) }
    });
    let consumed = r#"astromech_records_consumed_total{topic=""#.to_owned() + &scenario.topics.changes;
    let told = daemon.get("/metrics").1;
    assert!(told.lines().any(|line| line.starts_with(&consumed) && line.ends_with(" 0")), "{told}");
    world.kafka.stop();
    wait_until("/readyz says that Kafka is gone, and search is ready all the time", NOTICE_DEADLINE, || {
        daemon.expect_alive();
        assert_eq!((daemon.get("/readyz/search").0, search(&daemon)), (200, 200));
        let (status, body) = daemon.get("/readyz/kafka");
        let age = age(&daemon);
        if status == 503 && age > 5.0 { Ok(()) } else { Err(format!("{status}: {body}; {age} s")) }
    });
    world.kafka.start_again();
    wait_until("all is ready again", NOTICE_DEADLINE, || {
        assert_eq!(daemon.get("/readyz/search").0, 200);
        let (status, body) = daemon.get("/readyz");
        let age = age(&daemon);
        if status == 200 && age < 3.0 { Ok(()) } else { Err(format!("{body}; {age} s")) }
    });
}
