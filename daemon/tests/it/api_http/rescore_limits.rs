//! What a client can do wrong in re-scoring, and how it ends in time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use astromech::api::Limits;
use astromech::config::HttpConfig;
use astromech::rescore::RescoreError;
use astromech_schemas::rescore::{Candidate, ProblemKind, RescoreContext, RescoreRequest, RescoreResponse};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::support::{Server, base64, expect_problem, picture, towers};

const PICTURE: &str = "emoji-3896dd86ac";
/// Longest wait for a condition before the test fails.
const DEADLINE: Duration = Duration::from_secs(20);

fn inline() -> Value {
    json!({"image": base64(&picture(PICTURE))})
}

fn of(candidates: &[Value]) -> Value {
    json!({"context": {"text": "口红"}, "candidates": candidates})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_request_is_told_its_field_its_limit_and_the_fix() {
    let server = Server::start().await;
    let long = "长".repeat(70_000);
    let cases: &[(Value, &[&str])] = &[
        (of(&[]), &["candidates: there are none", "fix: send at least one"]),
        (json!({"context": {}, "candidates": [inline()]}), &["context: neither text, image nor item"]),
        (
            json!({"context": {"text": "a", "item": {"kind": "image", "id": "a"}}, "candidates": [inline()]}),
            &["context: more than one"],
        ),
        (
            json!({"context": {"text": long}, "candidates": [inline()]}),
            &["context.text: 70000 characters", "text_chars_max = 65536"],
        ),
        (json!({"context": {"text": "a"}, "candidates": [{"txt": "a"}]}), &["candidates[0]", "unknown field `txt`"]),
        (json!({"context": {"text": "a"}, "candidates": [inline()], "deadline_ms": 0}), &["deadline_ms: 0 is outside 1 to"]),
        (
            json!({"context": {"text": "a"}, "candidates": [inline()], "deadline_ms": 10_001}),
            &["rescore.deadline_ms_max = 10000 ms"],
        ),
        (json!({"context": {"text": "a"}, "candidates": [inline()], "k": 0}), &["k: 0 results"]),
        (
            json!({"context": {"text": "a"}, "candidates": [inline()], "weights": {"itc": 1e30}}),
            &["weights.itc: outside -1000 to 1000"],
        ),
        (json!({"context": {"text": "a"}, "candidates": [inline()], "weights": {"bid": -1000.1}}), &["weights.bid: "]),
        (
            json!({"context": {"image": base64(b"x")}, "candidates": [inline()], "mode": "illustrations"}),
            &["context.image: illustrations"],
        ),
        (json!({"context": {"text": "a"}, "candidates": [inline()], "mode": "x"}), &["mode: unknown variant `x`"]),
    ];
    for (body, parts) in cases {
        expect_problem(server.post("/v1/rescore", body).await, 400, "invalid-request", parts).await;
    }
    for rescore in [0, 101] {
        let answer = server.post("/v1/search", &json!({"text": "a", "rescore": rescore})).await;
        expect_problem(answer, 400, "invalid-request", &[&format!("rescore: {rescore} is outside 1 to 100")]).await;
    }
    let context = json!({"context": {"item": {"kind": "article", "id": "none"}}, "candidates": [inline()]});
    expect_problem(server.post("/v1/rescore", &context).await, 404, "not-found", &["the index holds no article `none`"]).await;
    let context = json!({"context": {"image": base64(b"no picture")}, "candidates": [{"text": "a"}]});
    expect_problem(server.post("/v1/rescore", &context).await, 422, "invalid-context", &["context: image"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn candidates_over_the_limit_are_told_the_limit() {
    let server = Server::start().await;
    for many in [201, 10_000] {
        let candidates = vec![json!({"text": "a"}); many];
        let parts = [format!("candidates: {many}"), "rescore.candidates_max = 200".to_owned()];
        let answer = server.post("/v1/rescore", &of(&candidates)).await;
        expect_problem(answer, 422, "too-many-candidates", &parts.each_ref().map(String::as_str)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_candidate_is_its_own_problem_and_no_others() {
    let server = Server::start().await;
    let mut candidates = vec![inline(); 20];
    candidates[3] = json!({"image": "%%"});
    candidates[7] = json!({"image": base64(&picture(PICTURE)[..200])});
    candidates[9] = json!({"item": {"kind": "image", "id": "none"}});
    candidates[11] = json!({"text": "only a text"});
    candidates[12] = json!({"url": "file:a.jpg"});
    candidates[13] = json!({"url": "https://not.allowed.test/a.jpg"});
    candidates[15] = json!({});
    let response = server.post("/v1/rescore", &of(&candidates)).await;
    assert_eq!(response.status(), 200);
    let found: RescoreResponse = response.json().await.unwrap();
    let problems: Vec<_> = found.problems.iter().map(|problem| (problem.index, problem.kind)).collect();
    let expected = [
        (3, ProblemKind::InvalidImage),
        (7, ProblemKind::InvalidImage),
        (9, ProblemKind::NotFound),
        (11, ProblemKind::UnsupportedPair),
        (12, ProblemKind::UrlForbidden),
        (13, ProblemKind::UrlForbidden),
        (15, ProblemKind::InvalidCandidate),
    ];
    assert_eq!(problems, expected, "{:?}", found.problems);
    assert_eq!(found.scored as usize, candidates.len() - expected.len());
    assert_eq!(found.results.iter().map(|result| result.rank).collect::<Vec<_>>(), (1..=13).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_has_passed_is_its_own_answer() {
    let server = Server::start().await;
    let candidate = Candidate { image: Some(base64(&picture(PICTURE))), ..Candidate::default() };
    let context = RescoreContext { text: Some("口红".to_owned()), ..RescoreContext::default() };
    let request = RescoreRequest { context, candidates: vec![candidate; 100], ..RescoreRequest::default() };
    let rescorer = server.rescorer.as_ref().unwrap();
    let error = rescorer.rescore_until(request, Instant::now()).await.unwrap_err();
    assert!(matches!(error, RescoreError::Deadline { .. }), "{error}");

    let mut body = of(&vec![inline(); 100]);
    body["deadline_ms"] = json!(1);
    let response = server.post("/v1/rescore", &body).await;
    if response.status() == 200 {
        // A machine that scores some within a millisecond answers for those.
        let found: RescoreResponse = response.json().await.unwrap();
        assert!(found.scored > 0 && found.problems.iter().all(|problem| problem.kind == ProblemKind::Deadline));
        assert_eq!(found.scored as usize + found.problems.len(), 100);
    } else {
        expect_problem(response, 504, "deadline", &["nothing was scored within", "rescore.deadline_ms_max = 10000"]).await;
    }
    body["deadline_ms"] = json!(10_000);
    let found: RescoreResponse = server.post("/v1/rescore", &body).await.json().await.unwrap();
    assert_eq!(found.scored, 100, "{:?}", found.problems);
}

/// A server that fetches from `host`, which accepts connections and never answers.
async fn with_silent_host(limits: Limits, settings: &str) -> (Server, TcpListener, String) {
    let host = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/a.jpg", host.local_addr().unwrap());
    let settings = format!("[media]\nhttp_hosts = [\"127.0.0.1:*\"]\nallow_private_networks = true\n{settings}");
    (Server::start_configured(towers(), limits, &settings).await, host, url)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_scored_before_the_deadline_is_answered_and_the_rest_carries_it() {
    let (server, _host, url) = with_silent_host(Limits::default(), "").await;
    let mut body = of(&[inline(), json!({"url": url}), inline()]);
    body["deadline_ms"] = json!(3000);
    let found: RescoreResponse = server.post("/v1/rescore", &body).await.json().await.unwrap();
    assert_eq!(found.scored, 2, "{:?}", found.problems);
    assert_eq!(found.problems.iter().map(|p| (p.index, p.kind)).collect::<Vec<_>>(), [(1, ProblemKind::Deadline)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_scored_is_answered_before_the_time_out_of_requests() {
    let limits = Limits { http: HttpConfig { timeout: Duration::from_secs(3), ..HttpConfig::default() }, ..Limits::default() };
    let (server, _host, url) = with_silent_host(limits, "").await;
    let mut body = of(&[inline(), json!({"url": url})]);
    body["deadline_ms"] = json!(10_000);
    let found: RescoreResponse = server.post("/v1/rescore", &body).await.json().await.unwrap();
    assert_eq!((found.scored, found.problems[0].kind), (1, ProblemKind::Deadline));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_over_the_limit_are_refused_at_once_and_a_place_comes_back() {
    let (server, _host, url) = with_silent_host(Limits::default(), "[rescore]\nrequests_in_flight_max = 1\n").await;
    let rescorer = Arc::clone(server.rescorer.as_ref().unwrap());
    let held = tokio::spawn(async move {
        let candidate = Candidate { url: Some(url), ..Candidate::default() };
        let context = RescoreContext { text: Some("口红".to_owned()), ..RescoreContext::default() };
        let request = RescoreRequest { context, candidates: vec![candidate], ..RescoreRequest::default() };
        rescorer.rescore_until(request, Instant::now() + DEADLINE * 2).await
    });
    let in_flight = |requests: u32| {
        let metrics = Arc::clone(&server.metrics);
        let line = format!("astromech_rescore_in_flight {requests}");
        async move {
            let wait = async {
                while !metrics.encode().lines().any(|l| l == line) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(DEADLINE, wait).await.expect("the count is reached within the deadline");
        }
    };
    in_flight(1).await;
    for path in ["/v1/rescore", "/v1/search"] {
        let body = if path == "/v1/search" { json!({"text": "a", "rescore": 5}) } else { of(&[inline()]) };
        let refused = server.post(path, &body).await;
        assert_eq!(refused.headers()["retry-after"], "1");
        expect_problem(refused, 503, "overloaded", &["rescore.requests_in_flight_max = 1"]).await;
    }
    assert_eq!(server.post("/v1/search", &json!({"text": "a"})).await.status(), 200);
    held.abort();
    in_flight(0).await;
    assert_eq!(server.post("/v1/rescore", &of(&[inline()])).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_without_rescoring_says_how_to_switch_it_on() {
    let towers = towers();
    let server = Server::start_configured(towers, Limits::default(), "[rescore]\nenabled = false\n").await;
    let answer = server.post("/v1/rescore", &of(&[inline()])).await;
    expect_problem(answer, 501, "rescoring-off", &["rescore.enabled"]).await;
    let answer = server.post("/v1/search", &json!({"text": "a", "rescore": 5})).await;
    expect_problem(answer, 400, "invalid-request", &["rescore: this daemon does not re-score"]).await;
    let info: Value = server.get("/v1/info").await.json().await.unwrap();
    assert_eq!(info["rescore_candidates_max"], json!(0));
}
