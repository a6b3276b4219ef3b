//! Limits of the server itself: requests under way, time, connections, and how it ends.

use std::time::Duration;

use astromech::api::Limits;
use astromech::config::HttpConfig;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::support::{Server, expect_problem};

/// Longest wait for a condition before the test fails.
const DEADLINE: Duration = Duration::from_secs(20);
const BODY: &str = r#"{"text": "汽车"}"#;

/// A request whose body is not sent yet: it stays under way until [`finish`].
async fn hold(server: &Server) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = format!(
        "POST /v1/search HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        BODY.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// Sends the body and reads the whole answer.
async fn finish(mut stream: TcpStream) -> String {
    stream.write_all(BODY.as_bytes()).await.unwrap();
    read(stream).await
}

async fn read(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await;
    ended.expect("the connection ends within the deadline").unwrap();
    String::from_utf8(answer).unwrap()
}

/// Waits until the server counts `requests` under way.
async fn wait_in_flight(server: &Server, requests: usize) {
    let line = format!("astromech_http_in_flight {requests}");
    let wait = async {
        while !server.metrics.encode().lines().any(|l| l == line) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("never `{line}`"));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_over_the_limit_are_refused_at_once_and_health_is_still_answered() {
    let limits = Limits {
        http: HttpConfig { requests_in_flight_max: 1, timeout: DEADLINE, read_timeout: DEADLINE, ..HttpConfig::default() },
        ..Limits::default()
    };
    let server = Server::start_with(limits).await;
    let held = hold(&server).await;
    wait_in_flight(&server, 1).await;
    let refused = server.post("/v1/search", &json!({"text": "汽车"})).await;
    assert_eq!(refused.headers()["retry-after"], "1");
    expect_problem(refused, 503, "overloaded", &["http.requests_in_flight_max = 1", "fix: try again"]).await;
    for path in ["/healthz", "/metrics", "/"] {
        assert_eq!(server.get(path).await.status(), 200, "{path}");
    }
    let answer = finish(held).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    wait_in_flight(&server, 0).await;
    assert_eq!(server.post("/v1/search", &json!({"text": "汽车"})).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_gives_its_place_back() {
    let limits = Limits {
        http: HttpConfig {
            requests_in_flight_max: 1,
            timeout: DEADLINE * 2,
            read_timeout: DEADLINE * 2,
            ..HttpConfig::default()
        },
        ..Limits::default()
    };
    let server = Server::start_with(limits).await;
    let held = hold(&server).await;
    wait_in_flight(&server, 1).await;
    drop(held);
    wait_in_flight(&server, 0).await;
    assert_eq!(server.post("/v1/search", &json!({"text": "汽车"})).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_ends_in_a_time_out() {
    let server = Server::start_with(Limits {
        http: HttpConfig { timeout: Duration::from_millis(200), ..HttpConfig::default() },
        ..Limits::default()
    })
    .await;
    let answer = read(hold(&server).await).await;
    assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
    assert!(answer.contains("http.timeout_ms = 200 ms"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_is_closed() {
    let server = Server::start_with(Limits { idle_timeout: Duration::from_millis(100), ..Limits::default() }).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /healthz HTT").await.unwrap();
    let mut rest = Vec::new();
    // Closed in order or reset: both free the connection.
    let _ = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut rest)).await.expect("closed within the deadline");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_over_the_limit_take_the_place_of_idle_ones_and_probes_have_places_of_their_own() {
    let limits = Limits {
        http: HttpConfig { timeout: DEADLINE, read_timeout: DEADLINE, ..HttpConfig::default() },
        connections_max: 4,
        ..Limits::default()
    };
    let server = Server::start_with(limits).await;
    // Silent ones, and some that began to write a request and stopped: ten times the limit.
    let mut idle = Vec::new();
    for number in 0..40 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        if number % 2 == 0 {
            stream.write_all(b"GET /healthz HT").await.unwrap();
        }
        idle.push(stream);
        let answered = tokio::time::timeout(DEADLINE, get_alone(&server, "/healthz")).await;
        assert!(answered.expect("a probe is answered within the deadline").starts_with("HTTP/1.1 200"));
    }
    // A connection in the midst of a request is left alone, however many come.
    let mut held = Vec::new();
    for requests in 1..=4 {
        held.push(hold(&server).await);
        wait_in_flight(&server, requests).await;
    }
    for path in ["/healthz", "/metrics", "/readyz/search"] {
        let answer = get_alone(&server, path).await;
        assert!(!answer.contains("overloaded") && answer.contains("connection: close"), "{path}: {answer}");
    }
    let refused = get_alone(&server, "/v1/info").await;
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("urn:astromech:problem:overloaded"), "{refused}");
    for stream in held {
        assert!(finish(stream).await.starts_with("HTTP/1.1 200"));
    }
    assert!(get_alone(&server, "/v1/info").await.starts_with("HTTP/1.1 200"), "there is a place again");
}

/// A request over a connection of its own.
async fn get_alone(server: &Server, path: &str) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
    read(stream).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_requests_under_way_finish_and_takes_no_new_ones() {
    let server = Server::start_with(Limits {
        http: HttpConfig { timeout: DEADLINE, read_timeout: DEADLINE, ..HttpConfig::default() },
        ..Limits::default()
    })
    .await;
    let held = hold(&server).await;
    wait_in_flight(&server, 1).await;
    server.stop.cancel();
    let refused = async {
        while TcpStream::connect(server.address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, refused).await.expect("the port is closed within the deadline");
    let answer = finish(held).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    tokio::time::timeout(DEADLINE, server.served).await.expect("the server ends within the deadline").unwrap();
}
