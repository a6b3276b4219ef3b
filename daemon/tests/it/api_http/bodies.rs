//! What a client can do wrong, and what it is told.

use astromech::api::Limits;
use astromech::config::HttpConfig;
use serde_json::{Value, json};

use super::support::{Server, base64, expect_problem, picture};

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_request_is_told_its_field_its_limit_and_the_fix() {
    let server = Server::start().await;
    let long = "长".repeat(70_000);
    let many: Vec<&str> = vec!["字"; 65];
    let cases: &[(&str, Value, &[&str])] = &[
        ("/v1/search", json!({}), &[".: neither text nor image", "fix: send exactly one"]),
        ("/v1/search", json!({"text": "a", "image": "AA=="}), &[".: both text and image"]),
        ("/v1/search", json!({"text": "  "}), &["text: the text is empty"]),
        ("/v1/search", json!({"text": long}), &["text: 70000 characters", "text_chars_max = 65536"]),
        ("/v1/search", json!({"text": "a", "limit": 0}), &["limit: 0 is outside 1 to 100"]),
        ("/v1/search", json!({"text": "a", "limit": 101}), &["limit: 101 is outside 1 to 100"]),
        ("/v1/search", json!({"text": "a", "limit": -1}), &["limit: "]),
        ("/v1/search", json!({"text": 7}), &["text: invalid type"]),
        ("/v1/search", json!({"text": "a", "kinds": ["image", "song"]}), &["kinds[1]: unknown variant `song`"]),
        ("/v1/search", json!({"txt": "a"}), &["unknown field `txt`"]),
        ("/v1/search", json!({"image": "%%"}), &["image: invalid base64"]),
        ("/v1/search", json!([]), &["fix: "]),
        ("/v1/embed", json!({}), &["neither texts nor images"]),
        ("/v1/embed", json!({"texts": many}), &["texts: 65 are over", "embed_inputs_max = 64"]),
        ("/v1/embed", json!({"texts": ["a", ""]}), &["texts[1]: the text is empty"]),
    ];
    for (path, body, parts) in cases {
        expect_problem(server.post(path, body).await, 400, "invalid-request", parts).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_no_json_or_no_utf8_is_told_so() {
    let server = Server::start().await;
    let post = |kind: &'static str, body: &'static [u8]| {
        server.client.post(server.url("/v1/search")).header("content-type", kind).body(body).send()
    };
    expect_problem(post("text/plain", b"{}").await.unwrap(), 415, "unsupported-media-type", &["application/json"]).await;
    expect_problem(post("application/json", b"{\"text\": ").await.unwrap(), 400, "invalid-request", &["EOF"]).await;
    expect_problem(
        post("application/json", b"{\"text\": \"\xff\"}").await.unwrap(),
        400,
        "invalid-request",
        &["invalid UTF-8 at byte 10"],
    )
    .await;
    let answer = post("Application/JSON; charset=utf-8", "{\"text\": \"车\"}".as_bytes()).await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_that_can_not_be_read_is_told_apart_from_one_that_is_too_large() {
    let server = Server::start().await;
    let whole = picture("emoji-3896dd86ac");
    let of = |bytes: &[u8]| json!({"image": base64(bytes)});
    for bytes in [&b"<!doctype html><p>no picture</p>"[..], b"", &whole[..40]] {
        expect_problem(
            server.post("/v1/search", &of(bytes)).await,
            422,
            "invalid-image",
            &["image: ", "fix: send a complete JPEG"],
        )
        .await;
    }
    let huge = png_header(60_000, 60_000);
    expect_problem(server.post("/v1/search", &of(&huge)).await, 413, "image-too-large", &["60000 x 60000"]).await;
    let body = json!({"texts": ["车"], "images": [base64(&whole), base64(b"no picture")]});
    expect_problem(server.post("/v1/embed", &body).await, 422, "invalid-image", &["images[1]: "]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_its_limit_is_refused_declared_or_streamed() {
    let server =
        Server::start_with(Limits { http: HttpConfig { body_bytes_max: 1000, ..HttpConfig::default() }, ..Limits::default() })
            .await;
    let body = json!({"text": "长".repeat(500)});
    let parts = &["http.body_bytes_max = 1000", "fix: send less"];
    expect_problem(server.post("/v1/search", &body).await, 413, "body-too-large", parts).await;
    let chunks: Vec<Result<String, std::io::Error>> = vec![Ok(body.to_string())];
    let streamed = reqwest::Body::wrap_stream(futures::stream::iter(chunks));
    let request = server.client.post(server.url("/v1/search")).header("content-type", "application/json").body(streamed);
    expect_problem(request.send().await.unwrap(), 413, "body-too-large", parts).await;
}

/// A PNG file that declares a size and holds no pixel.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
    header.extend([8, 2, 0, 0, 0]);
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    for (name, data) in [(b"IHDR", &header[..]), (b"IDAT", b"\x78\x9c\x03\0\0\0\0\x01"), (b"IEND", b"")] {
        let chunk = [&name[..], data].concat();
        file.extend((data.len() as u32).to_be_bytes());
        file.extend(&chunk);
        file.extend(crc32(&chunk).to_be_bytes());
    }
    file
}

/// CRC-32 as in PNG's Annex D.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_number_is_one_however_it_is_written() {
    let server = Server::start().await;
    let bodies = [
        json!({"text": "车", "limit": 5.0, "time_ms_from": -209.0, "time_ms_to": 1.0e12}),
        json!({"text": "车", "limit": null, "rescore": null}),
    ];
    for body in bodies {
        assert_eq!(server.post("/v1/search", &body).await.status(), 200, "{body}");
    }
    let refused = server.post("/v1/search", &json!({"text": "车", "limit": 5.5})).await;
    expect_problem(refused, 400, "invalid-request", &["limit: ", "whole number"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_is_as_long_as_its_characters_whatever_they_take() {
    let server = Server::start().await;
    for text in ["长".repeat(65_536), "a".repeat(65_536)] {
        assert_eq!(server.post("/v1/search", &json!({"text": text})).await.status(), 200);
    }
    let refused = server.post("/v1/search", &json!({"text": "a".repeat(65_537)})).await;
    expect_problem(refused, 400, "invalid-request", &["text: 65537 characters"]).await;
}
