//! gzip, both ways.

use std::io::Read as _;

use serde_json::{Value, json};

use super::support::{Server, expect_problem, gzip};

async fn send(server: &Server, encoding: &str, body: Vec<u8>) -> reqwest::Response {
    let request = server.client.post(server.url("/v1/embed")).header("content-type", "application/json");
    request.header("content-encoding", encoding).body(body).send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_packed_for_who_accepts_it_and_is_the_same() {
    let server = Server::start().await;
    let get = |accept: &'static str| {
        let request = server.client.get(server.url("/openapi.json")).header("accept-encoding", accept);
        async { request.send().await.unwrap() }
    };
    let packed = get("gzip").await;
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    assert!(packed.headers()["vary"].to_str().unwrap().contains("accept-encoding"));
    let bytes = packed.bytes().await.unwrap();
    let mut unpacked = String::new();
    flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut unpacked).unwrap();
    for other in ["", "br", "gzip;q=0"] {
        let plain = get(other).await;
        assert!(!plain.headers().contains_key("content-encoding"), "{other}");
        assert_eq!(plain.text().await.unwrap(), unpacked, "{other}");
    }
    let short = server.client.get(server.url("/healthz")).header("accept-encoding", "gzip").send().await.unwrap();
    assert!(!short.headers().contains_key("content-encoding"), "a short answer gains nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packed_body_is_read_as_it_was() {
    let server = Server::start().await;
    let body = json!({"texts": ["汽车"]});
    let plain: Value = server.post("/v1/embed", &body).await.json().await.unwrap();
    for encoding in ["gzip", "GZIP"] {
        let packed = send(&server, encoding, gzip(body.to_string().as_bytes())).await;
        assert_eq!(packed.status(), 200);
        assert_eq!(packed.json::<Value>().await.unwrap()["dim"], plain["dim"]);
    }
    assert_eq!(send(&server, "identity", body.to_string().into_bytes()).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_not_as_it_says_is_told_so() {
    let server = Server::start().await;
    let body = json!({"texts": ["汽车"]}).to_string().into_bytes();
    let packed = gzip(&body);
    for broken in [&packed[..packed.len() - 9], &body[..]] {
        let answer = send(&server, "gzip", broken.to_vec()).await;
        expect_problem(answer, 400, "invalid-request", &["content-encoding"]).await;
    }
    for encoding in ["br", "gzip, gzip", "deflate"] {
        let answer = send(&server, encoding, packed.clone()).await;
        assert_eq!(answer.headers()["accept-encoding"], "gzip");
        expect_problem(answer, 415, "unsupported-encoding", &["only gzip"]).await;
    }
}
