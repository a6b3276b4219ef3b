//! What the daemon tells of its work: traces at a collector, log lines with the coordinates of their record, metrics as documented, and
//! warnings that do not flood a log while something is down.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use astromech_e2e::bundle::Published;
use astromech_e2e::checks::header;
use astromech_e2e::collector::{Collector, Span, value_of};
use astromech_e2e::items::{article, image};
use astromech_e2e::paths::{message, repository};
use astromech_e2e::{Daemon, Record, Sent, block_on, wait_until, world};
use astromech_schemas::ImageSource;
use serde_json::{Value, json};

use crate::rescore_topic::{request, wait_replies, with_topics};
use crate::scenario::{STREAM_DEADLINE, Scenario};

const TRACES: [&str; 4] = [
    "0af7651916cd43dd8448eb211c80319c",
    "4bf92f3577b34da6a3ce929d0e0e4736",
    "00000000000000000000000000001234",
    "a3ce929d0e0e47364bf92f3577b34da6",
];
const PARENT: &str = "00f067aa0ba902b7";
/// OTLP's numbers of kinds of spans.
const SERVER: i32 = 2;
const CONSUMER: i32 = 5;
/// For a part to be noticed as down and a second warning to be due.
const NOTICE_DEADLINE: Duration = Duration::from_mins(1);
/// Spans that may wait for a collector, those that are being sent included.
const SPANS_MAX: f64 = 4096.0 + 512.0;
/// What is said of reads that fail.
const READING: &str = "reading failed; it goes on when the brokers answer";
/// Warnings of one kind in the time of such a test, at most: at once, then after 1, 2, 4, 8, 16 and 32 s.
const SAID_MAX: usize = 7;

fn telemetry(endpoint: &str) -> String {
    format!("[telemetry]\notlp_endpoint = {endpoint:?}\n[log]\nformat = \"json\"\n")
}

fn traced(mut record: Record, trace: &str, flags: &str) -> Record {
    record.headers.push(("traceparent".to_owned(), format!("00-{trace}-{PARENT}-{flags}").into_bytes()));
    record
}

/// Lines of a log in JSON. What librdkafka or a panic writes past it is none.
fn lines(daemon: &Daemon) -> Vec<Value> {
    daemon.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The spans inside `record`, by their beginning, each within it.
fn stages<'a>(spans: &'a [Span], record: &Span) -> Vec<&'a Span> {
    let inside: Vec<_> = spans.iter().filter(|span| span.parent_id == record.span_id).collect();
    for span in &inside {
        let within = record.time.0 <= span.time.0 && span.time.0 <= span.time.1 && span.time.1 <= record.time.1;
        assert!(within && span.trace_id == record.trace_id, "{span:?}\n{record:?}");
    }
    inside
}

fn names<'a>(stages: &[&'a Span]) -> Vec<&'a str> {
    stages.iter().map(|span| span.name.as_str()).collect()
}

/// The span of the record at the place of `sent`.
fn span_of<'a>(spans: &'a [Span], topic: &str, sent: &Sent) -> Option<&'a Span> {
    let (partition, offset) = (sent.partition.to_string(), sent.offset.to_string());
    let coordinates = [("topic", topic), ("partition", &partition), ("offset", &offset)];
    let mut found = spans
        .iter()
        .filter(|span| span.name == "record" && coordinates.iter().all(|(name, value)| span.attribute(name) == Some(value)));
    let first = found.next();
    assert_eq!(found.count(), 0, "a record has one span");
    first
}

fn search(daemon: &Daemon, trace: &str) {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client is made");
    let request = client.post(daemon.url("/v1/search")).json(&json!({"text": "红色的汽车"}));
    let answer = block_on(request.header("traceparent", format!("00-{trace}-{PARENT}-01")).send()).expect("the daemon answers");
    assert_eq!(answer.status().as_u16(), 200);
}

/// A traced picture, a traced article that nobody records, an article without a trace, and a traced record that is poison.
fn produce_four(scenario: &Scenario<'_>) -> Vec<Sent> {
    let entries = &scenario.corpus.entries;
    let picture = ImageSource::from_url(scenario.host.serve("/traced.jpg", entries[0].bytes()));
    let poison = Record { key: Some("毒 1".as_bytes().to_vec()), value: Some(b"hello".to_vec()), ..Record::default() };
    let records = vec![
        traced(image(&entries[0], 1, picture).record(), TRACES[0], "01"),
        traced(article(&entries[1], 1, None).record(), TRACES[1], "00"),
        article(&entries[2], 1, None).record(),
        traced(poison, TRACES[2], "01"),
    ];
    scenario.world.client.produce(&scenario.topics.changes, records)
}

#[test]
fn a_record_is_one_trace_from_being_read_to_its_acknowledgement_and_its_lines_have_its_coordinates() {
    let world = world();
    let mut scenario = Scenario::new(&world, "traces");
    let collector = Collector::start();
    scenario.config.extra = telemetry(&collector.endpoint());
    let sent = produce_four(&scenario);
    let mut daemon = Daemon::start(&scenario.config);
    scenario.wait_done(&mut daemon);
    search(&daemon, TRACES[3]);
    let logged = wait_until("the dead letter is in the log", NOTICE_DEADLINE, || {
        lines(&daemon).into_iter().find(|line| line["message"] == "dead letter").ok_or_else(|| daemon.log())
    });
    wait_until("spans are counted", NOTICE_DEADLINE, || {
        let exported = daemon.metric("astromech_trace_spans_total", &["outcome=\"exported\""]);
        if exported > 0.0 { Ok(()) } else { Err("none".to_owned()) }
    });
    assert!(daemon.terminate().success(), "what is in the queue is sent before the end");

    let (spans, topic) = (collector.spans(), scenario.topics.changes.as_str());
    assert!(spans.iter().all(|span| span.service == "astromech"), "{spans:?}");
    let traced = span_of(&spans, topic, &sent[0]).expect("a trace that is recorded goes on");
    assert_eq!((traced.trace_id.as_str(), traced.parent_id.as_str(), traced.kind), (TRACES[0], PARENT, CONSUMER));
    let inside = names(&stages(&spans, traced));
    assert!(inside.starts_with(&["consume", "decode"]) && inside.ends_with(&["index", "publish", "acknowledge"]), "{inside:?}");
    let count = |stage: &str| inside.iter().filter(|name| **name == stage).count();
    assert_eq!((count("media"), count("prepare"), count("embed"), inside.len()), (1, 2, 2, 10), "{inside:?}");
    let alone = span_of(&spans, topic, &sent[2]).expect("a record without a trace gets one");
    assert_eq!(alone.parent_id, "");
    assert_eq!(names(&stages(&spans, alone)), ["consume", "decode", "prepare", "embed", "index", "publish", "acknowledge"]);
    assert!(span_of(&spans, topic, &sent[1]).is_none(), "what its sender does not record is not recorded");

    let poison = span_of(&spans, topic, &sent[3]).expect("a dead letter is in its trace");
    assert_eq!(names(&stages(&spans, poison)), ["consume", "decode", "dead_letter", "acknowledge"]);
    let (_, why) =
        stages(&spans, poison).iter().flat_map(|span| &span.events).next().expect("it is an event of its span").clone();
    assert_eq!(value_of(&why, "reason"), Some("invalid_record"));
    let expected = json!({
        "level": "WARN", "message": "dead letter", "topic": topic, "partition": sent[3].partition, "offset": sent[3].offset,
        "key": "毒 1", "trace_id": TRACES[2], "reason": "invalid_record",
    });
    for (name, value) in expected.as_object().expect("an object") {
        assert_eq!(&logged[name], value, "{name} of {logged}");
    }
    assert!(logged["detail"].is_string() && logged["timestamp"].is_string() && logged.get("otel.kind").is_none(), "{logged}");
    let asked = spans.iter().find(|span| span.trace_id == TRACES[3] && span.name == "http").expect("a request is in its trace");
    assert_eq!((asked.parent_id.as_str(), asked.kind, asked.attribute("status")), (PARENT, SERVER, Some("200")));
    assert_results_carry_on(&scenario, &sent, [Some(traced), None, Some(alone)]);
}

#[test]
fn a_re_scoring_request_of_the_topic_is_one_trace_and_its_reply_names_the_span() {
    let world = world();
    let (mut scenario, topics) = with_topics(Scenario::new(&world, "traces-rescore"));
    let collector = Collector::start();
    scenario.config.extra.push_str(&telemetry(&collector.endpoint()));
    let mut daemon = Daemon::start(&scenario.config);
    let ask = json!({"context": {"text": "红色的汽车"}, "candidates": [{"text": "蓝色的天空"}]});
    let sent = world.client.produce(&topics.changes, vec![request("c1", &ask, &[])]);
    let replies = wait_replies(&scenario, &topics.results, 1, &mut daemon);
    assert!(daemon.terminate().success());
    let spans = collector.spans();
    let asked = span_of(&spans, &topics.changes, &sent[0]).expect("the trace goes on");
    assert_eq!((asked.trace_id.as_str(), asked.parent_id.as_str(), asked.kind), (TRACES[1], PARENT, CONSUMER));
    assert_eq!(names(&stages(&spans, asked)), ["consume", "rescore", "publish", "acknowledge"]);
    assert_eq!(header(&replies[0], "traceparent"), format!("00-{}-{}-01", asked.trace_id, asked.span_id));
}

/// Each result names the span that made it, so that whoever reads it goes on with the trace.
fn assert_results_carry_on(scenario: &Scenario<'_>, sent: &[Sent], spans: [Option<&Span>; 3]) {
    let results = scenario.world.client.read_all(&scenario.topics.results);
    for (record, span) in sent.iter().zip(spans) {
        let result = results.iter().find(|result| result.record.key == record.record.key).expect("each has its result");
        let parent = header(result, "traceparent");
        match span {
            Some(span) => assert_eq!(parent, format!("00-{}-{}-01", span.trace_id, span.span_id)),
            None => assert!(parent.starts_with(&format!("00-{}-", TRACES[1])) && parent.ends_with("-00"), "{parent}"),
        }
    }
}

/// Sends everything through while spans go to `endpoint`, where nobody takes them; returns how many ended and how many failed.
fn work_without_collector(endpoint: &str, items: usize) -> (f64, f64) {
    let world = world();
    let mut scenario = Scenario::new(&world, "no-collector");
    scenario.config.extra = telemetry(endpoint);
    let sent = scenario.produce(&scenario.items(items, 1));
    let mut daemon = Daemon::start(&scenario.config);
    scenario.wait_done(&mut daemon);
    let answers = scenario.answers();
    answers.assert_nothing_lost(&sent);
    answers.assert_no_dead_letters();
    let spans =
        |daemon: &Daemon, outcome: &str| daemon.metric("astromech_trace_spans_total", &[&format!("outcome=\"{outcome}\"")]);
    wait_until("lost spans are counted", NOTICE_DEADLINE, || {
        if spans(&daemon, "failed") > 0.0 { Ok(()) } else { Err(format!("none of {}", spans(&daemon, "ended"))) }
    });
    assert!(spans(&daemon, "exported") < 0.5, "nobody takes them");
    let counted = (spans(&daemon, "ended"), spans(&daemon, "failed"));
    let said = lines(&daemon).iter().filter(|line| line.to_string().contains("spans were not taken")).count();
    assert!((1..=SAID_MAX).contains(&said), "{said}");
    assert!(daemon.terminate().success());
    counted
}

#[test]
fn a_collector_that_is_down_or_silent_keeps_nothing_waiting_and_is_warned_of_now_and_then() {
    let nobody = std::net::TcpListener::bind(("127.0.0.1", 0)).and_then(|socket| socket.local_addr()).expect("a free port");
    let (ended, failed) = work_without_collector(&format!("http://{nobody}"), 200);
    assert!(ended >= failed, "{ended} {failed}");
    // It accepts connections and never says a word.
    let silent = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let address = silent.local_addr().expect("a bound socket has an address");
    let (ended, failed) = work_without_collector(&format!("http://{address}"), 800);
    assert!(ended - failed > SPANS_MAX, "{ended} ended and {failed} failed: more than may wait, so some were dropped");
}

/// Warnings so far, by what they are about, each with how many it stands for besides itself.
fn warnings(daemon: &Daemon) -> BTreeMap<String, Vec<u64>> {
    let mut warnings: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for line in lines(daemon).iter().filter(|line| line["level"] == "WARN") {
        let about = line["facility"].as_str().or_else(|| line["message"].as_str()).unwrap_or_default();
        warnings.entry(about.to_owned()).or_default().push(line["repeated"].as_u64().unwrap_or_default());
    }
    warnings
}

#[test]
fn while_a_server_is_down_its_warnings_come_now_and_then_with_how_many_were_held_back() {
    let world = world();
    let mut scenario = Scenario::slow(&world, "quiet");
    scenario.config.extra.push_str("retry_backoff_ms_max = 200\n[log]\nformat = \"json\"\n");
    let items = scenario.items(400, 1);
    let mut daemon = Daemon::start(&scenario.config);
    let held_back = |daemon: &mut Daemon, about: &[&str]| {
        wait_until(&format!("a warning of {about:?} tells how many were held back"), NOTICE_DEADLINE, || {
            daemon.expect_alive();
            let warnings = warnings(daemon);
            let told = about.iter().filter_map(|about| warnings.get(*about)).flatten().any(|repeated| *repeated > 1);
            if told { Ok(()) } else { Err(format!("{warnings:?}")) }
        });
    };
    world.qdrant.kill();
    scenario.produce(&items[..200]);
    held_back(&mut daemon, &["the index does not answer; trying again"]);
    world.qdrant.start_again();
    scenario.wait_done(&mut daemon);
    world.kafka.stop();
    held_back(&mut daemon, &["FAIL", "kafka", READING]);
    world.kafka.start_again();
    scenario.produce(&items[200..]);
    scenario.wait_done(&mut daemon);
    let warnings = warnings(&daemon);
    message(&format!("warnings and what each stands for besides itself: {warnings:?}"));
    // librdkafka's errors have several codes, each told apart.
    let most = |about: &str| if ["kafka", READING].contains(&about) { 4 * SAID_MAX } else { SAID_MAX };
    assert!(warnings.iter().all(|(about, said)| said.len() <= most(about)), "{warnings:?}");
}

/// A metric's type and labels.
type Shape = (String, BTreeSet<String>);

/// The table of docs/OPERATIONS.md: by name, with whether it is served only at times.
fn documented() -> BTreeMap<String, (Shape, bool)> {
    let file = repository().join("docs/OPERATIONS.md");
    let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<_> = line.strip_prefix("| `astromech_")?.split(" | ").collect();
        let [name, kind, labels, when, _] = cells[..] else { panic!("five columns: {line}") };
        let labels = labels.split(", ").filter(|label| !label.is_empty() && *label != "–");
        let labels = labels.map(|label| label.trim_matches('`').to_owned()).collect();
        Some((format!("astromech_{}", name.trim_matches('`')), ((kind.to_owned(), labels), when != "–")))
    });
    rows.collect()
}

/// What `/metrics` serves, under the names of queries.
fn served(text: &str) -> BTreeMap<String, Shape> {
    let mut served: BTreeMap<String, Shape> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            current = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
            served.insert(current.clone(), (kind.to_owned(), BTreeSet::new()));
        } else if let Some((_, labels)) = line.split_once('{').filter(|_| !line.starts_with('#')) {
            let names = labels.split("\",").filter_map(|pair| pair.split_once("=\"")).map(|(name, _)| name.to_owned());
            served.get_mut(&current).expect("a type comes first").1.extend(names.filter(|name| name != "le"));
        }
    }
    served
}

#[test]
fn every_metric_that_is_served_is_in_the_table_of_the_documentation_and_the_other_way_round() {
    let world = world();
    let mut scenario = Scenario::new(&world, "metrics");
    scenario.config.extra = Published::new().rollout("");
    let items = scenario.items(60, 1);
    scenario.produce(&items);
    let records = items.len();
    let poison = Record { key: Some(b"bad".to_vec()), value: Some(b"hello".to_vec()), ..Record::default() };
    world.client.produce(&scenario.topics.changes, vec![poison]);
    let daemon = Daemon::start(&scenario.config);
    search(&daemon, TRACES[3]);
    let ask = json!({"context": {"text": "红色的汽车"}, "candidates": [{"text": "蓝色的天空"}]});
    daemon.post("/v1/rescore", &ask);
    let table = documented();
    let all: BTreeSet<_> = table.iter().filter(|(_, (_, at_times))| !at_times).map(|(name, _)| name.clone()).collect();
    let found = wait_until("everything that is always served is served", STREAM_DEADLINE, || {
        let found = served(&daemon.get("/metrics").1);
        let missing: Vec<_> = all.iter().filter(|name| !found.contains_key(*name)).collect();
        let applied = daemon.metric("astromech_records_applied_total", &[]) as usize;
        if missing.is_empty() && applied == records { Ok(found) } else { Err(format!("{applied} applied; missing: {missing:?}")) }
    });
    for (name, shape) in &found {
        let (documented, _) = table.get(name).unwrap_or_else(|| panic!("{name} is not in docs/OPERATIONS.md: {shape:?}"));
        assert_eq!(documented, shape, "{name}: type and labels");
    }
    let count = |name: &str, labels: &[&str]| daemon.metric(name, labels);
    for stage in ["consume", "decode", "media", "prepare", "embed", "index", "publish"] {
        let label = format!("stage=\"{stage}\"");
        assert!(count("astromech_stage_seconds_count", &[&label]) > 0.0, "{stage} is timed");
    }
    assert!((count("astromech_record_seconds_count", &[]) - (records + 1) as f64).abs() < 0.5, "every record is timed");
    assert!(count("astromech_resident_memory_bytes", &[]) > 1e7 && count("astromech_partitions_assigned", &[]) > 3.5);
}

#[test]
fn alerts_and_dashboard_ask_for_metrics_that_are_documented() {
    let table = documented();
    for file in ["deploy/prometheus/alerts.yml", "deploy/grafana/dashboard.json"] {
        let text = std::fs::read_to_string(repository().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).filter(|word| word.starts_with("astromech_"));
        for word in words {
            let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end));
            let histogram = of_histogram.is_some_and(|name| table.get(name).is_some_and(|((kind, _), _)| kind == "histogram"));
            let known = table.get(word).is_some_and(|((kind, _), _)| kind != "histogram");
            assert!(histogram || known || named_only(&text, word, &table), "{file}: {word}");
        }
    }
}

/// A histogram named for a person, outside of a query.
fn named_only(text: &str, word: &str, table: &BTreeMap<String, (Shape, bool)>) -> bool {
    table.contains_key(word) && !text.lines().any(|line| line.contains("expr") && line.contains(&format!("{word}{{")))
}
