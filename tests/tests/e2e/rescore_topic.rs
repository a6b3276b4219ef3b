//! Re-scoring requests out of a topic: the answers of HTTP, each request at least once.

use std::collections::{BTreeMap, BTreeSet};

use astromech_e2e::checks::header;
use astromech_e2e::corpus::corpus;
use astromech_e2e::kafka::Record;
use astromech_e2e::{Daemon, Sent, Topics, wait_until, world};
use astromech_schemas::Kind;
use astromech_schemas::rescore_topic::{HEADER_CORRELATION_ID, HEADER_REPLY_TO, HEADER_REQUEST, HEADER_STATUS};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::{Value, json};

use crate::scenario::{STREAM_DEADLINE, Scenario};

const ITEMS: usize = 40;
const CANDIDATES: usize = 8;
/// Requests of the test that kills the daemon.
const MANY: usize = 120;
/// int8 scores depend a little on what else is in a batch (daemon/towers/src/golden.rs says why).
const SCORE_TOLERANCE: f64 = 0.05;

/// A daemon with a request topic (`changes`), a reply topic (`results`) and a topic that requests may name (`dead_letters`).
pub fn with_topics(mut scenario: Scenario<'_>) -> (Scenario<'_>, Topics) {
    let topics = scenario.world.client.topics("rescore");
    scenario.config.extra = format!(
        "[rescore]\ndeadline_ms = 10000\ndeadline_ms_max = 120000\n[rescore.topics]\nrequest = {:?}\nreply = {:?}\nreply_to = [{:?}]\n",
        topics.changes, topics.results, topics.dead_letters
    );
    (scenario, topics)
}

pub fn request(correlation: &str, body: &Value, more: &[(&str, &str)]) -> Record {
    let headers =
        [(HEADER_CORRELATION_ID, correlation), ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")];
    let headers = headers.iter().chain(more).map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
    Record { key: Some(correlation.as_bytes().to_vec()), value: Some(body.to_string().into_bytes()), headers, partition: None }
}

pub fn body(sent: &Sent) -> Value {
    serde_json::from_slice(sent.record.value.as_deref().unwrap_or_default()).expect("a reply is JSON")
}

pub fn wait_replies(scenario: &Scenario<'_>, topic: &str, at_least: u64, daemon: &mut Daemon) -> Vec<Sent> {
    wait_until(&format!("{at_least} replies"), STREAM_DEADLINE, || {
        daemon.expect_alive();
        let replies = scenario.world.client.count(topic);
        if replies >= at_least { Ok(()) } else { Err(format!("{replies} replies")) }
    });
    scenario.world.client.read_all(topic)
}

/// Indexes pictures; gives requests of texts against them.
fn indexed(scenario: &Scenario<'_>, daemon: &mut Daemon, count: usize) -> Vec<Value> {
    let items = scenario.items(ITEMS, 1);
    scenario.produce(&items);
    scenario.wait_done(daemon);
    let pictures: Vec<&str> = items.iter().filter(|item| item.kind == Kind::Image).map(|item| item.id.as_str()).collect();
    assert!(pictures.len() >= CANDIDATES);
    let request = |index: usize| {
        let candidates: Vec<Value> = (0..CANDIDATES)
            .map(|place| json!({ "item": { "kind": "image", "id": pictures[(index + place) % pictures.len()] } }))
            .collect();
        json!({ "context": { "text": format!("第{index}张图：红色的汽车") }, "candidates": candidates, "deadline_ms": 60_000 })
    };
    (0..count).map(request).collect()
}

/// An answer without what differs from one run to the next, and its scores apart.
fn stable(mut answer: Value) -> (Value, BTreeMap<u64, f64>) {
    let fields = answer.as_object_mut().expect("an answer is an object");
    fields.remove("timings");
    fields.remove("cache");
    let results = fields.remove("results").expect("an answer has results");
    let scores = results.as_array().into_iter().flatten();
    let scores = scores
        .map(|result| (result["index"].as_u64().unwrap_or(u64::MAX), result["score"].as_f64().unwrap_or(f64::NAN)))
        .collect();
    (answer, scores)
}

#[test]
fn a_request_on_the_topic_is_answered_as_over_http_and_a_wrong_one_with_the_same_problem() {
    let world = world();
    let (scenario, topics) = with_topics(Scenario::new(&world, "rescore"));
    let mut daemon = Daemon::start(&scenario.config);
    let requests = indexed(&scenario, &mut daemon, 6);
    let none = json!({ "context": { "text": "猫" }, "candidates": [] });
    let unknown = json!({ "context": { "text": "猫" }, "candidates": [{ "item": { "kind": "image", "id": "nobody" } }, requests[0]["candidates"][0]] });
    let late = json!({ "context": { "text": "猫" }, "candidates": requests[0]["candidates"], "deadline_ms": 1 });
    let mut records: Vec<Record> =
        requests.iter().enumerate().map(|(index, body)| request(&format!("r{index}"), body, &[])).collect();
    records.push(request("none", &none, &[]));
    records.push(request("unknown", &unknown, &[]));
    records.push(request("late", &late, &[]));
    records.push(request("elsewhere", &requests[0], &[(HEADER_REPLY_TO, &topics.dead_letters)]));
    records.push(request("forbidden", &requests[0], &[(HEADER_REPLY_TO, "payments")]));
    records.push(Record { value: Some(b"{\"context\": ".to_vec()), ..request("broken", &json!(0), &[]) });
    // As a schema registry's JSON serialiser writes it, behind a byte order mark, with a picture as a data URL.
    // None that is indexed: the cache would then have it.
    let picture = corpus().entries.last().expect("there are some").bytes();
    let picture = format!("data:image/png;base64,{}", STANDARD_NO_PAD.encode(picture));
    let foreign = json!({ "context": { "text": "猫" }, "candidates": [{ "image": picture }] });
    let framed = [&[0, 0, 0, 0, 7][..], "\u{feff}".as_bytes(), foreign.to_string().as_bytes()].concat();
    records.push(Record { value: Some(framed), ..request("foreign", &foreign, &[]) });
    let sent = scenario.world.client.produce(&topics.changes, records);
    let replies = wait_replies(&scenario, &topics.results, sent.len() as u64 - 1, &mut daemon);
    let elsewhere = wait_replies(&scenario, &topics.dead_letters, 1, &mut daemon);
    assert_eq!(
        (header(&elsewhere[0], HEADER_CORRELATION_ID).as_str(), header(&elsewhere[0], HEADER_STATUS).as_str()),
        ("elsewhere", "200")
    );
    let of = |correlation: &str| {
        let mut found = replies.iter().filter(|reply| header(reply, HEADER_CORRELATION_ID) == correlation);
        let reply = found.next().unwrap_or_else(|| panic!("no reply to {correlation}"));
        assert!(found.next().is_none(), "an undisturbed daemon answers once");
        let trace = header(reply, "traceparent");
        assert!(trace.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && trace.ends_with("-01"), "{trace}");
        assert!(!trace.contains("00f067aa0ba902b7"), "a span of the daemon's own: {trace}");
        (header(reply, HEADER_STATUS), body(reply))
    };
    for (correlation, request) in requests
        .iter()
        .enumerate()
        .map(|(index, body)| (format!("r{index}"), body))
        .chain([("unknown".to_owned(), &unknown), ("foreign".to_owned(), &foreign)])
    {
        let (status, answer) = of(&correlation);
        assert_eq!(status, "200", "{answer}");
        let ((answer, scores), (http, http_scores)) = (stable(answer), stable(daemon.post("/v1/rescore", request).1));
        assert_eq!(answer, http);
        assert_eq!(scores.keys().collect::<Vec<_>>(), http_scores.keys().collect::<Vec<_>>());
        for (index, score) in &scores {
            assert!((score - http_scores[index]).abs() < SCORE_TOLERANCE, "{index}: {score} beside {}", http_scores[index]);
        }
    }
    for (correlation, request) in [("none", &none), ("late", &late)] {
        let ((status, answer), (http_status, http)) = (of(correlation), daemon.post("/v1/rescore", request));
        assert_eq!(status, http_status.to_string());
        assert_eq!(answer["type"], http["type"]);
    }
    let (status, problem) = of("forbidden");
    assert_eq!(status, "400");
    assert!(problem.to_string().contains("reply-to: `payments`"), "{problem}");
    assert_eq!(of("broken").0, "400");
    assert!(daemon.terminate().success());
}

#[test]
fn kill_9_while_requests_are_answered_leaves_none_without_a_reply_and_repeats_are_recognisable() {
    let world = world();
    let (scenario, topics) = with_topics(Scenario::new(&world, "rescore-kill"));
    let mut daemon = Daemon::start(&scenario.config);
    let requests = indexed(&scenario, &mut daemon, MANY);
    let records = requests.iter().enumerate().map(|(index, body)| request(&index.to_string(), body, &[])).collect();
    scenario.world.client.produce(&topics.changes, records);
    wait_replies(&scenario, &topics.results, MANY as u64 / 4, &mut daemon);
    daemon.kill();
    let mut daemon = Daemon::start(&scenario.config);
    let group = format!("{}.rescore", scenario.config.group);
    scenario.world.client.wait_lag_0(&topics.changes, &group, STREAM_DEADLINE, || daemon.expect_alive());
    let replies = scenario.world.client.read_all(&topics.results);
    let mut of: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for reply in &replies {
        assert_eq!(header(reply, HEADER_STATUS), "200", "{}", body(reply));
        of.entry(header(reply, HEADER_CORRELATION_ID)).or_default().insert(header(reply, HEADER_REQUEST));
    }
    assert_eq!(of.len(), MANY, "every request has its reply");
    assert!(of.values().all(|requests| requests.len() == 1), "a repeat names the same request: {of:?}");
    assert!(daemon.terminate().success());
}
