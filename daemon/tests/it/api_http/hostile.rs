//! Clients that send what nobody should. Each gets its own clear answer, and the next client is answered as ever.

use std::time::Duration;

use astromech::api::Limits;
use astromech::config::HttpConfig;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::support::{Server, base64, expect_problem, gzip, picture};

/// Longest wait for a condition before the test fails.
const DEADLINE: Duration = Duration::from_secs(20);
const GIB: usize = 1 << 30;
const MIB: usize = 1 << 20;
/// The pace of a client that is slow on purpose.
const DRIBBLE: Duration = Duration::from_millis(20);

/// Asserts that the server answers a good request.
async fn expect_alive(server: &Server) {
    assert_eq!(server.get("/healthz").await.status(), 200);
    let answer = server.post("/v1/search", &json!({"text": "汽车"})).await;
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
}

/// Sends `head`, then `chunk` after `chunk` while the server takes them, `most` at most; returns what it answers. A client that reads
/// while it writes, as HTTP asks.
async fn pour(server: &Server, head: &str, chunk: Vec<u8>, most: usize) -> String {
    let (mut read, mut write) = TcpStream::connect(server.address).await.unwrap().into_split();
    let head = head.to_owned().into_bytes();
    let pouring = tokio::spawn(async move {
        write.write_all(&head).await.unwrap();
        for _ in 0..most {
            if write.write_all(&chunk).await.is_err() {
                return;
            }
        }
    });
    let answer = read_all(&mut read).await;
    pouring.abort();
    answer
}

/// Sends `head`, then a byte at a time until the server has had enough; returns what it answers.
async fn dribble(server: &Server, head: &str, byte: u8) -> String {
    let (mut read, mut write) = TcpStream::connect(server.address).await.unwrap().into_split();
    write.write_all(head.as_bytes()).await.unwrap();
    let dribbling = tokio::spawn(async move {
        let mut pace = tokio::time::interval(DRIBBLE);
        while write.write_all(&[byte]).await.is_ok() {
            pace.tick().await;
        }
    });
    let answer = read_all(&mut read).await;
    dribbling.abort();
    answer
}

/// Reads until the server closes; a reset after the answer is no fault.
async fn read_all(read: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(DEADLINE, read.read_to_end(&mut answer)).await.expect("closed within the deadline");
    String::from_utf8(answer).unwrap()
}

fn head(more: &str) -> String {
    format!("POST /v1/search HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n{more}\r\n\r\n")
}

fn is_answer(answer: &str, status: u16, part: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(part), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_a_gigabyte_is_refused_while_it_is_still_sent() {
    let server = Server::start().await;
    let limit = "http.body_bytes_max = 20971520";
    let declared = pour(&server, &head(&format!("content-length: {GIB}")), vec![b' '; MIB], GIB / MIB).await;
    is_answer(&declared, 413, limit);
    let chunk = [format!("{MIB:x}\r\n").into_bytes(), vec![b' '; MIB], b"\r\n".to_vec()].concat();
    let chunked = pour(&server, &head("transfer-encoding: chunked"), chunk, GIB / MIB).await;
    is_answer(&chunked, 413, limit);
    expect_alive(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bomb_is_refused_when_it_has_unpacked_to_the_limit() {
    let server = Server::start().await;
    let bomb = gzip(&vec![b' '; 256 * MIB]);
    assert!(bomb.len() < 4 * MIB, "{} bytes are small", bomb.len());
    let request = server.client.post(server.url("/v1/search")).header("content-type", "application/json");
    let answer = request.header("content-encoding", "gzip").body(bomb).send().await.unwrap();
    assert_eq!(
        answer.headers()["connection"],
        "close",
        "the rest of the body is not waited for, so nobody may reuse this connection"
    );
    expect_problem(answer, 413, "body-too-large", &["http.body_bytes_max = 20971520"]).await;
    expect_alive(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_dribbles_is_cut_off_in_its_headers_and_answered_in_its_body() {
    let limits = Limits {
        http: HttpConfig { read_timeout: Duration::from_millis(300), requests_in_flight_max: 2, ..HttpConfig::default() },
        connections_max: 4,
        ..Limits::default()
    };
    let server = Server::start_with(limits).await;
    // More than there is room for at once: they hold neither connections nor places for long.
    let headers = futures::future::join_all((0..6).map(|_| dribble(&server, "GET /healthz HTTP/1.1\r\nx-slow: ", b'a'))).await;
    assert!(headers.iter().all(String::is_empty), "{headers:?}");
    let slow = head("content-length: 100000");
    for answer in futures::future::join_all((0..2).map(|_| dribble(&server, &slow, b' '))).await {
        is_answer(&answer, 408, "http.read_timeout_ms = 300 ms");
    }
    expect_alive(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_http_and_headers_without_end_are_refused() {
    let server = Server::start().await;
    is_answer(&pour(&server, "\u{16}\u{3}\u{1}\r\n\r\n", Vec::new(), 0).await, 400, "");
    let endless = pour(&server, "GET /healthz HTTP/1.1\r\nx-long: ", vec![b'a'; 64 * 1024], 64).await;
    is_answer(&endless, 431, "");
    is_answer(&pour(&server, &head("content-length: 1\r\ncontent-length: 2"), Vec::new(), 0).await, 400, "");
    expect_alive(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn json_that_is_none_or_of_another_form_is_told_where() {
    let server = Server::start().await;
    let deep = format!("{{\"text\": {}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let cases: &[(&[u8], &str)] = &[
        (b"", "an empty document"),
        (b"null", "invalid type"),
        (b"{\"text\": \"a\"} x", "trailing characters"),
        (b"{\"text\": \"a\",}", "trailing comma"),
        (b"{'text': 'a'}", "key must be a string"),
        (br#"{"text": "\ud800"}"#, "hex escape"),
        (br#"{"text": "\udc00 a"}"#, "hex escape"),
        (br#"{"text": "\ud83d\ud83d"}"#, "hex escape"),
        (b"{\"text\": \"a\", \"text\": \"b\"}", "duplicate field"),
        (b"{\"text\": \"a\", \"limit\": 1e3}", "limit: "),
        (b"{\"text\": \"a\", \"limit\": 18446744073709551616}", "limit: "),
        (b"{\"text\": \"a\", \"limit\": NaN}", "expected value"),
        (b"{\"text\": \"a\", \"kinds\": \"image\"}", "kinds: "),
        (b"{\"text\": \"a\", \"tags\": [1]}", "tags[0]: "),
        (b"\xff\xfe{\0", "UTF-16 where JSON is expected"),
        (b"\x1f\x8b\x08\0", "gzip where JSON is expected"),
        (b"{\"text\": \"\xb3\xb5\"}", "invalid UTF-8"),
        (deep.as_bytes(), "text: "),
    ];
    for (body, part) in cases {
        let request = server.client.post(server.url("/v1/search")).header("content-type", "application/json");
        let answer = request.body(body.to_vec()).send().await.unwrap();
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        assert_eq!(answer.status(), 400, "{shown}");
        let problem = expect_problem(answer, 400, "invalid-request", &["fix: "]).await;
        assert!(problem["detail"].as_str().unwrap().contains(part), "{shown}: no `{part}` in {problem}");
    }
    let marked = server.client.post(server.url("/v1/search")).header("content-type", "application/json");
    assert_eq!(marked.body("\u{feff}{\"text\": \"a\"}").send().await.unwrap().status(), 200, "a byte order mark says nothing");
    expect_alive(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_bad_re_scoring_request_has_its_answer_and_the_next_is_scored() {
    let server = Server::start().await;
    let good = json!({"image": base64(&picture("emoji-3896dd86ac"))});
    let of = |candidates: Vec<Value>| json!({"context": {"text": "口红"}, "candidates": candidates});
    let post = |body: Value| {
        let server = &server;
        async move { server.post("/v1/rescore", &body).await }
    };
    expect_problem(post(of(Vec::new())).await, 400, "invalid-request", &["candidates: there are none"]).await;
    let many = of(vec![good.clone(); 10_000]);
    let bytes = many.to_string().len();
    if bytes > Limits::default().http.body_bytes_max {
        expect_problem(post(many).await, 413, "body-too-large", &["http.body_bytes_max"]).await;
    } else {
        expect_problem(post(many).await, 422, "too-many-candidates", &["rescore.candidates_max = 200"]).await;
    }
    let unknown = json!({"item": {"kind": "image", "id": "no such item"}});
    let context = json!({"context": {"item": {"kind": "article", "id": "none"}}, "candidates": [good]});
    expect_problem(post(context).await, 404, "not-found", &["`none`"]).await;
    let all_unknown: Value = post(of(vec![unknown.clone(); 3])).await.json().await.unwrap();
    assert_eq!((&all_unknown["scored"], all_unknown["problems"].as_array().unwrap().len()), (&json!(0), 3), "{all_unknown}");
    let mut hundred = vec![good.clone(); 100];
    hundred[41] = json!({"image": base64(&picture("emoji-3896dd86ac")[..100])});
    hundred[73] = unknown;
    let mut body = of(hundred);
    body["deadline_ms"] = json!(10_000);
    let found: Value = post(body.clone()).await.json().await.unwrap();
    let problems: Vec<_> =
        found["problems"].as_array().unwrap().iter().map(|p| (p["index"].clone(), p["kind"].clone())).collect();
    let expected = [(json!(41), json!("invalid_image")), (json!(73), json!("not_found"))];
    assert_eq!((problems, &found["scored"]), (expected.to_vec(), &json!(98)));
    body["deadline_ms"] = json!(1);
    let hurried = post(body).await;
    // A machine that scores some within a millisecond answers for those.
    assert!([200, 504].contains(&hurried.status().as_u16()), "{}", hurried.text().await.unwrap());
    let found: Value = post(of(vec![good])).await.json().await.unwrap();
    assert_eq!(found["scored"], json!(1));
    expect_alive(&server).await;
}
