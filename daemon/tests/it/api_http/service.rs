//! Health, metrics, documents, headers and the page.

use std::sync::Arc;
use std::time::Instant;

use astromech::assemble::start_towers;
use astromech::vitals::{Condition, Metrics};
use serde_json::{Value, json};

use super::support::{Server, bundle_folder, config, expect_problem, towers};

#[tokio::test(flavor = "multi_thread")]
async fn readiness_lists_what_is_missing_until_nothing_is() {
    let server = Server::start().await;
    server.readiness.set_ready(Condition::Bundle);
    server.readiness.set_missing(Condition::Index, "connection refused");
    assert_eq!(server.get("/healthz").await.status(), 200);
    let answer = server.get("/readyz").await;
    assert_eq!(answer.status(), 503);
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body, json!({"ready": false, "missing": {"index": "connection refused"}}));
    server.readiness.set_ready(Condition::Index);
    let answer = server.get("/readyz").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.json::<Value>().await.unwrap(), json!({"ready": true, "missing": {}}));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_check_of_readiness_is_asked_for_by_its_name_and_search_needs_its_own_conditions_only() {
    let server =
        Server::start_configured_with(&[Condition::Running, Condition::Bundle, Condition::Index, Condition::Kafka]).await;
    for condition in [Condition::Running, Condition::Bundle, Condition::Index] {
        server.readiness.set_ready(condition);
    }
    server.readiness.set_missing(Condition::Kafka, "no broker answers");
    let status = async |path: &str| server.get(path).await.status().as_u16();
    assert_eq!(status("/readyz").await, 503);
    for (check, expected) in [("search", 200), ("running", 200), ("bundle", 200), ("index", 200), ("kafka", 503)] {
        assert_eq!(status(&format!("/readyz/{check}")).await, expected, "{check}");
    }
    let answer: Value = server.get("/readyz/kafka").await.json().await.unwrap();
    assert_eq!(answer, json!({"ready": false, "missing": {"kafka": "no broker answers"}}));
    for unknown in ["searc", "rescore_topic"] {
        let known = ["running, bundle, index, kafka, search"];
        expect_problem(server.get(&format!("/readyz/{unknown}")).await, 404, "not-found", &known).await;
    }
    for condition in [Condition::Running, Condition::Bundle, Condition::Index] {
        server.readiness.set_missing(condition, "not now");
        assert_eq!(status("/readyz/search").await, 503, "{condition}");
        server.readiness.set_ready(condition);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_or_query_that_can_not_be_read_is_a_problem_that_names_the_parameter() {
    let server = Server::start().await;
    for (path, parts) in [
        ("/v1/media/image/%ff%fe", &["id: ", "UTF-8", "fix: percent-encode"][..]),
        ("/v1/media/%ff/a", &["kind: ", "UTF-8"]),
        ("/v1/media/film/a", &["kind: ", "`film`"]),
        ("/v1/media/video/x?frame=-1", &["frame: ", "fix: see /openapi.json"]),
        ("/v1/media/video/x?frame=1e3", &["frame: "]),
        ("/v1/media/video/x?frame=4294967296", &["frame: "]),
        ("/v1/media/video/x?frame=", &["frame: "]),
        ("/v1/media/video/x?frame=1&frame=2", &["frame"]),
        ("/readyz/%ff", &["check: "]),
    ] {
        let problem = expect_problem(server.get(path).await, 400, "invalid-request", parts).await;
        assert!(problem["detail"].as_str().unwrap().contains("fix: "), "{path}: {problem}");
    }
    for path in ["/v1/generations/%ff/promote", "/v1/generations/%ff/drop"] {
        expect_problem(server.post(path, &json!({})).await, 400, "invalid-request", &["fingerprint: "]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_come_in_the_form_that_is_asked_for() {
    let server = Server::start().await;
    server.get("/healthz").await;
    let asked = async |accept: &'static str| {
        let answer = server.client.get(server.url("/metrics")).header("accept", accept).send().await.unwrap();
        let content_type = answer.headers()["content-type"].to_str().unwrap().to_owned();
        assert!(answer.headers().get_all("vary").iter().any(|vary| vary == "accept"), "a cache keeps the two apart");
        (content_type, answer.text().await.unwrap())
    };
    let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
    let (content_type, open) = asked(prometheus).await;
    assert_eq!(content_type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(open.ends_with("# EOF\n") && open.contains("# TYPE astromech_http_requests counter\n"), "{open}");
    let (content_type, text) = asked("text/plain; version=0.0.4").await;
    assert_eq!(content_type, "text/plain; version=0.0.4; charset=utf-8");
    assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "{text}");
    assert!(text.contains("# TYPE astromech_http_requests_total counter\n"), "{text}");
    assert!(text.contains("astromech_http_requests_total{route=\"/healthz\",status=\"200\"} 1\n"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_requests_by_route_and_never_by_a_path_that_a_client_made_up() {
    let server = Server::start().await;
    let at_start = server.metrics.encode();
    for line in [
        r#"astromech_http_requests_total{route="/v1/search",status="503"} 0"#,
        r#"astromech_http_requests_total{route="other",status="404"} 0"#,
        r#"astromech_http_seconds_count{route="/v1/rescore"} 0"#,
        r#"astromech_rescore_requests_total{outcome="refused"} 0"#,
    ] {
        assert!(at_start.lines().any(|l| l == line), "no `{line}` before the first request in\n{at_start}");
    }
    server.get("/healthz").await;
    server.get("/readyz/wp-login").await;
    server.get("/v1/media/image/anything").await;
    server.get("/wp-login.php").await;
    let answer = server.get("/metrics").await;
    assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
    let text = answer.text().await.unwrap();
    for line in [
        r#"astromech_http_requests_total{route="/healthz",status="200"} 1"#,
        r#"astromech_http_requests_total{route="/v1/media",status="404"} 1"#,
        r#"astromech_http_requests_total{route="other",status="404"} 1"#,
    ] {
        assert!(text.lines().any(|l| l == line), "no `{line}` in\n{text}");
    }
    assert!(!text.contains("wp-login"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_route_and_a_wrong_method_are_problems() {
    let server = Server::start().await;
    expect_problem(server.get("/v2/search").await, 404, "not-found", &["/v2/search", "fix: see /openapi.json"]).await;
    let wrong = server.get("/v1/search").await;
    assert_eq!(wrong.headers()["allow"], "POST");
    expect_problem(wrong, 405, "method-not-allowed", &["GET"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_carries_a_request_id_and_takes_over_only_a_safe_one() {
    let server = Server::start().await;
    let with = |id: &'static str| server.client.get(server.url("/healthz")).header("x-request-id", id).send();
    assert_eq!(with("trace-1.a").await.unwrap().headers()["x-request-id"], "trace-1.a");
    for unsafe_id in ["a b", "<script>", "", "0123456789012345678901234567890123456789012345678901234567890123456789"] {
        let given = with(unsafe_id).await.unwrap().headers()["x-request-id"].to_str().unwrap().to_owned();
        assert_eq!(given.len(), 36, "{given}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_is_continued_where_a_client_sends_one_and_started_where_not() {
    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-";
    let server = Server::start().await;
    let with = |parent: &str| {
        let request = server.client.get(server.url("/v1/info")).header("traceparent", parent).header("tracestate", "a=1");
        async { request.send().await.unwrap().headers().clone() }
    };
    let answered = with(&format!("{TRACE}00f067aa0ba902b7-01")).await;
    let own = answered["traceparent"].to_str().unwrap();
    assert!(own.starts_with(TRACE) && own.ends_with("-01") && !own.contains("00f067aa0ba902b7"), "{own}");
    assert_eq!(answered["tracestate"], "a=1");
    for none in ["", "00-1-2-01", &format!("{}00f067aa0ba902b7-01", TRACE.to_uppercase())] {
        let answered = with(none).await;
        let own = answered["traceparent"].to_str().unwrap();
        assert!(own.len() == 55 && own.ends_with("-00") && !own.starts_with(TRACE), "{none}: {own}");
        assert!(!answered.contains_key("tracestate"), "the state of no trace");
    }
    assert!(server.get("/nowhere").await.headers().contains_key("traceparent"), "errors too");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_towers_do_is_in_the_metrics() {
    towers();
    let metrics = Arc::new(Metrics::new());
    let mut config = config(&std::env::temp_dir(), "");
    config.bundle.path = bundle_folder();
    let towers = start_towers(&config, &metrics, false).await.unwrap();
    let live = towers.live();
    live.embed_text(live.prepare_text("汽车")).await.unwrap();
    towers.embed_text(towers.prepare_text("汽车")).await.unwrap();
    live.until(Instant::now()).embed_text(live.prepare_text("汽车")).await.unwrap_err();
    let text = metrics.encode();
    for line in [
        r#"astromech_tower_batches_total{tower="text",priority="live"} 1"#,
        r#"astromech_tower_batches_total{tower="text",priority="indexing"} 1"#,
        r#"astromech_tower_batches_total{tower="cross",priority="live"} 0"#,
        r#"astromech_tower_expired_total{tower="text"} 1"#,
        r#"astromech_tower_dropped_total{tower="text"} 0"#,
    ] {
        assert!(text.lines().any(|l| l == line), "no `{line}` in\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_allows_only_its_own_script_and_each_answer_another() {
    let server = Server::start().await;
    let mut nonces = Vec::new();
    for _ in 0..2 {
        let answer = server.get("/").await;
        let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
        assert!(policy.starts_with("default-src 'none'; script-src 'nonce-") && !policy.contains("unsafe"), "{policy}");
        let nonce = policy.split("'nonce-").nth(1).unwrap().split('\'').next().unwrap().to_owned();
        let html = answer.text().await.unwrap();
        assert_eq!(html.matches(&format!("nonce=\"{nonce}\"")).count(), 2);
        assert!(!html.contains("NONCE") && !html.contains("/*S"));
        nonces.push(nonce);
    }
    assert_ne!(nonces[0], nonces[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn info_and_the_openapi_document_tell_what_is_served() {
    let server = Server::start().await;
    let info: Value = server.get("/v1/info").await.json().await.unwrap();
    assert_eq!(info["fingerprint"], json!(server.towers.fingerprint().as_str()));
    assert_eq!(info["examples"], json!(["红色的汽车"]));
    let document: Value = server.get("/openapi.json").await.json().await.unwrap();
    assert_eq!(document, astromech::api::openapi_document());
    let required = document.pointer("/components/schemas/Info/required").unwrap();
    for field in required.as_array().unwrap() {
        assert!(!info[field.as_str().unwrap()].is_null(), "{field} is missing in {info}");
    }
}
