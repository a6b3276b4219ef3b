//! Searching and embedding.

use astromech_schemas::Kind;
use astromech_schemas::http::{EmbedResponse, SearchResponse};
use serde_json::json;

use super::support::{Server, base64, expect_problem, picture};

/// Two pictures of the demo set.
const LIPS: &str = "emoji-3896dd86ac";
const BOWLING: &str = "emoji-e5ea1ab3aa";

async fn filled() -> Server {
    let server = Server::start().await;
    for (id, caption) in [(LIPS, "唇印"), (BOWLING, "保龄球")] {
        let payload =
            json!({"title": caption, "image_url": format!("file:{id}.jpg"), "tags": ["emoji"], "attributes": {"licence": "MIT"}});
        server.put(Kind::Image, id, Some(caption), Some(&picture(id)), payload).await;
    }
    for (id, title) in [("a1", "周末一起去打保龄球"), ("a2", "口红怎么选颜色")] {
        server
            .put(Kind::Article, id, Some(title), None, json!({"title": title, "body": "正文", "link": "https://example.com/"}))
            .await;
    }
    server
}

/// Cosine of one item's vectors from two batches: in int8 a vector depends a little on its batch mates (towers/src/golden.rs says why); that
/// of two items is far below.
const SAME: f32 = 0.998;

#[tokio::test(flavor = "multi_thread")]
async fn a_text_finds_articles_by_their_text_and_pictures_by_their_picture() {
    let server = filled().await;
    let response = server.post("/v1/search", &json!({"text": "口红怎么选颜色"})).await;
    let found: SearchResponse = response.json().await.unwrap();
    assert_eq!(&found.fingerprint, server.towers.fingerprint());
    let best = &found.hits[&Kind::Article][0];
    assert_eq!((best.id.as_str(), best.version), ("a2", 1));
    assert!(best.score > SAME, "{}", best.score);
    assert_eq!(best.body.as_deref(), Some("正文"));
    assert_eq!(best.link.as_deref(), Some("https://example.com/"));
    assert_eq!(found.hits[&Kind::Image].len(), 2);
    assert!(found.hits[&Kind::Ad].is_empty());
    let hit = found.hits[&Kind::Image].iter().find(|hit| hit.id == LIPS).unwrap();
    assert_eq!(hit.image_url.as_deref(), Some(format!("/v1/media/image/{LIPS}").as_str()));
    assert_eq!((hit.tags.len(), hit.attributes["licence"].as_str()), (1, "MIT"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_finds_itself_first_and_articles_too() {
    let server = filled().await;
    for id in [LIPS, BOWLING] {
        let response = server.post("/v1/search", &json!({"image": base64(&picture(id))})).await;
        let found: SearchResponse = response.json().await.unwrap();
        let best = &found.hits[&Kind::Image][0];
        assert_eq!(best.id, id);
        assert!(best.score > SAME, "{}", best.score);
        assert_eq!(found.hits[&Kind::Article].len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kinds_and_limit_are_kept_to() {
    let server = filled().await;
    let response = server.post("/v1/search", &json!({"text": "球", "kinds": ["image", "image"], "limit": 1})).await;
    let found: SearchResponse = response.json().await.unwrap();
    assert_eq!(found.hits.keys().collect::<Vec<_>>(), [&Kind::Image]);
    assert_eq!(found.hits[&Kind::Image].len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn embeddings_are_those_that_the_index_holds_in_the_order_of_the_request() {
    let server = Server::start().await;
    let texts = ["红色的汽车", "蓝色的海"];
    let images = [LIPS, BOWLING].map(|id| base64(&picture(id)));
    let response = server.post("/v1/embed", &json!({"texts": texts, "images": images})).await;
    let answer: EmbedResponse = response.json().await.unwrap();
    assert_eq!(answer.dim as usize, answer.texts[0].len());
    for (text, vector) in texts.iter().zip(&answer.texts) {
        let alone = server.towers.embed_text(server.towers.prepare_text(text)).await.unwrap().embedding;
        assert!(cosine(&alone, vector) > SAME, "{text}");
    }
    for (id, vector) in [LIPS, BOWLING].iter().zip(&answer.images) {
        let alone = server.towers.embed_image(server.towers.prepare_image(&picture(id)).unwrap()).await.unwrap().embedding;
        assert!(cosine(&alone, vector) > SAME, "{id}");
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_keeps_to_its_filter() {
    let server = filled().await;
    let response = server.post("/v1/search", &json!({"text": "球", "tags": ["emoji"]})).await;
    let found: SearchResponse = response.json().await.unwrap();
    assert_eq!((found.hits[&Kind::Image].len(), found.hits[&Kind::Article].len()), (2, 0));
    let response =
        server.post("/v1/search", &json!({"text": "球", "tags": ["emoji"], "languages": ["zh"], "time_ms_from": 0})).await;
    let found: SearchResponse = response.json().await.unwrap();
    assert!(found.hits[&Kind::Image].is_empty(), "what names no language or time is not found by one");
    let many = vec!["a"; 33];
    let answer = server.post("/v1/search", &json!({"text": "球", "tags": many})).await;
    expect_problem(answer, 400, "invalid-request", &["tags: 33 words", "filter_words_max = 32"]).await;
}
