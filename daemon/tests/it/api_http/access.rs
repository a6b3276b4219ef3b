//! API keys, and how often a caller may ask.

use astromech::api::Limits;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::{Server, expect_problem, towers};

const READ: &str = "0123456789abcdef-of-the-editor";
const WRITE: &str = "0123456789abcdef-of-the-operator";

/// A server with a key of each role, and `settings`. The folder holds the keys.
async fn with_keys(settings: &str) -> (Server, TempDir) {
    let keys = tempfile::tempdir().unwrap();
    let [read, write] = [("read", READ), ("write", WRITE)].map(|(name, key)| {
        let path = keys.path().join(name);
        std::fs::write(&path, format!("{key}\n")).unwrap();
        path.display().to_string()
    });
    let settings =
        format!("{settings}\n[http.auth.read_keys]\n\"editor\" = '{read}'\n[http.auth.write_keys]\n\"operator\" = '{write}'\n");
    (Server::start_configured(towers(), Limits::default(), &settings).await, keys)
}

async fn search(server: &Server, header: Option<(&str, &str)>) -> reqwest::Response {
    let request = server.client.post(server.url("/v1/search")).json(&json!({"text": "汽车"}));
    let request = header.into_iter().fold(request, |request, (name, value)| request.header(name, value));
    request.send().await.unwrap()
}

fn limited(requests_per_s: f64, burst_s: f64) -> String {
    format!("[http.rate]\nrequests_per_s = {requests_per_s:.3}\nburst_s = {burst_s:.1}\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn with_keys_only_their_holders_are_answered_and_a_refusal_never_repeats_a_key() {
    let (server, _keys) = with_keys("").await;
    assert!(!format!("{:?}", server.config).contains("0123456789abcdef"), "no dump of the configuration shows a key");
    let bearer = format!("Bearer {WRITE}");
    for header in [("x-api-key", READ), ("authorization", &bearer)] {
        assert_eq!(search(&server, Some(header)).await.status(), 200, "a writer may read");
    }
    let wrong = format!("{READ}x");
    for header in [None, Some(("x-api-key", wrong.as_str())), Some(("authorization", "Bearer ")), Some(("authorization", READ))] {
        let refused = search(&server, header).await;
        assert_eq!(refused.headers()["www-authenticate"], "Bearer realm=\"astromech\"");
        let problem = expect_problem(refused, 401, "unauthorized", &["fix: send `authorization: Bearer KEY`"]).await;
        assert!(!problem.to_string().contains("0123456789abcdef"), "{problem}");
    }
    for path in ["/v1/info", "/v1/media/image/a"] {
        expect_problem(server.get(path).await, 401, "unauthorized", &[]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_and_the_page_are_open_and_metrics_where_they_are_to_be() {
    const OPEN: [&str; 5] = ["/", "/favicon.svg", "/openapi.json", "/healthz", "/readyz"];
    let status = async |server: &Server, path: &str| server.get(path).await.status().as_u16();
    let (server, _keys) = with_keys("").await;
    for path in OPEN.iter().chain(&["/metrics"]) {
        assert_ne!(status(&server, path).await, 401, "{path}");
    }
    let (server, _keys) = with_keys("[http.auth]\nmetrics_open = false\n").await;
    for path in OPEN {
        assert_ne!(status(&server, path).await, 401, "{path}");
    }
    expect_problem(server.get("/metrics").await, 401, "unauthorized", &[]).await;
    let metrics = server.client.get(server.url("/metrics")).header("x-api-key", READ).send().await.unwrap();
    assert_eq!(metrics.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_over_its_rate_is_told_when_to_come_back_and_no_other_is() {
    let (server, _keys) = with_keys(&limited(0.01, 200.0)).await;
    let status = async |key: &str| search(&server, Some(("x-api-key", key))).await.status().as_u16();
    assert_eq!([status(READ).await, status(READ).await], [200, 200]);
    let refused = search(&server, Some(("x-api-key", READ))).await;
    let seconds: u32 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=100).contains(&seconds), "{seconds}");
    expect_problem(refused, 429, "too-many-requests", &["http.rate.requests_per_s = 0.01", "fix: "]).await;
    assert_eq!(status(WRITE).await, 200, "another key has a bucket of its own");
    // Guesses count against the address that they come from.
    assert_eq!([status("guess-one").await, status("guess-two").await, status("guess-three").await], [401, 401, 429]);
    assert_eq!(status(WRITE).await, 200, "and not against a key from the same address");
    for path in ["/healthz", "/metrics", "/"] {
        assert_eq!(server.get(path).await.status(), 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_keys_the_rate_is_each_peers() {
    let towers = towers();
    let server = Server::start_configured(towers, Limits::default(), &limited(0.01, 0.0)).await;
    assert_eq!(search(&server, None).await.status(), 200);
    expect_problem(search(&server, None).await, 429, "too-many-requests", &[]).await;
    let metrics: String = server.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains(r#"astromech_http_requests_total{route="/v1/search",status="429"} 1"#), "{metrics}");
    let ready: Value = server.get("/readyz").await.json().await.unwrap();
    assert_eq!(ready["ready"], json!(false));
}
