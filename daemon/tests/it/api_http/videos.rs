//! Videos over HTTP: one hit with its nearest frame, that frame's picture, and its score.

use astromech::index::{ChangeBody, FramePoint};
use astromech::media::ContentHash;
use astromech_schemas::Kind;
use astromech_schemas::http::SearchResponse;
use astromech_schemas::rescore::RescoreResponse;
use serde_json::{Value, json};

use super::support::*;

/// Pictures of the demo set.
const FRAMES: [&str; 3] = ["emoji-004fc9e022", "emoji-3896dd86ac", "emoji-e5ea1ab3aa"];
const QUERY: &str = "保龄球";
/// How far scores of one pair may lie apart: int8 graphs, whose values depend a little on their batch mates.
const SAME: f32 = 0.03;

/// Indexes a video whose frames stand ten seconds apart.
async fn put_video(server: &Server, id: &str, version: u64, pictures: &[&str]) {
    let mut frames = Vec::new();
    for (number, from) in pictures.iter().enumerate() {
        let bytes = picture(from);
        std::fs::write(server.root().join(format!("{from}.jpg")), &bytes).unwrap();
        let image = server.towers.embed_image(server.towers.prepare_image(&bytes).unwrap()).await.unwrap().embedding;
        let payload =
            json!({"image_url": format!("file:{from}.jpg"), "image_sha256": ContentHash::of(&bytes).to_hex(), "tags": [id]});
        frames.push(FramePoint { image, time_ms: number as u64 * 10_000, payload: payload.as_object().unwrap().clone() });
    }
    let text = server.towers.embed_text(server.towers.prepare_text(id)).await.unwrap().embedding;
    let payload = json!({"title": id, "tags": [id], "link": "https://host.test/v"}).as_object().unwrap().clone();
    server.apply(Kind::Video, id, version, ChangeBody::Video { text: Some(text), frames, payload }).await;
}

async fn search(server: &Server, body: &Value) -> SearchResponse {
    let response = server.post("/v1/search", body).await;
    assert_eq!(response.status(), 200);
    response.json().await.unwrap()
}

async fn rescore(server: &Server, body: &Value) -> RescoreResponse {
    let response = server.post("/v1/rescore", body).await;
    assert_eq!(response.status(), 200);
    response.json().await.unwrap()
}

/// Which frame is nearest to the query, as the towers see it, and its cosine.
async fn nearest(server: &Server) -> (u32, f32) {
    let query = server.towers.embed_text(server.towers.prepare_text(QUERY)).await.unwrap().embedding;
    let mut best = (0, f32::MIN);
    for (number, from) in (0..).zip(FRAMES) {
        let image = server.towers.embed_image(server.towers.prepare_image(&picture(from)).unwrap()).await.unwrap().embedding;
        let cosine = query.iter().zip(&image).map(|(a, b)| a * b).sum();
        if cosine > best.1 {
            best = (number, cosine);
        }
    }
    best
}

#[tokio::test(flavor = "multi_thread")]
async fn a_video_is_one_hit_with_its_nearest_frame_and_shows_that_picture() {
    let server = Server::start().await;
    put_video(&server, "v/1", 1, &FRAMES).await;
    put_video(&server, "w", 1, &FRAMES[..1]).await;
    let (number, cosine) = nearest(&server).await;
    let found = search(&server, &json!({"text": QUERY, "kinds": ["video"]})).await;
    assert_eq!(found.hits.keys().collect::<Vec<_>>(), [&Kind::Video]);
    let hits = &found.hits[&Kind::Video];
    assert_eq!(hits.len(), 2, "each video once: {hits:?}");
    let hit = hits.iter().find(|hit| hit.id == "v/1").unwrap();
    let frame = hit.frame.unwrap();
    assert_eq!((frame.number, frame.time_ms), (number, u64::from(number) * 10_000));
    assert!((hit.score - cosine).abs() < SAME, "{} is not {cosine}", hit.score);
    assert_eq!((hit.title.as_deref(), hit.link.as_deref()), (Some("v/1"), Some("https://host.test/v")));
    let shown = hit.image_url.as_deref().unwrap();
    assert_eq!(shown, format!("/v1/media/video/v%2F1?frame={number}"));
    let response = server.get(shown).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.bytes().await.unwrap(), picture(FRAMES[number as usize]));
    assert_eq!(
        server.get("/v1/media/video/v%2F1").await.bytes().await.unwrap(),
        picture(FRAMES[0]),
        "the first where none is named"
    );
    expect_problem(server.get("/v1/media/video/v%2F1?frame=3").await, 404, "not-found", &["no such frame"]).await;
    let found = search(&server, &json!({"text": QUERY, "tags": ["w"]})).await;
    assert_eq!(found.hits[&Kind::Video].iter().map(|hit| hit.id.as_str()).collect::<Vec<_>>(), ["w"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_video_is_scored_by_its_nearest_frame_and_says_which() {
    let server = Server::start().await;
    put_video(&server, "v", 1, &FRAMES).await;
    let (number, _) = nearest(&server).await;
    let image = json!({"image": base64(&picture(FRAMES[number as usize]))});
    let item = json!({"item": {"kind": "video", "id": "v"}});
    let missing = json!({"item": {"kind": "video", "id": "missing"}});
    let said = rescore(&server, &json!({"context": {"text": QUERY}, "candidates": [item, image, missing]})).await;
    assert_eq!((said.scored, said.problems.len()), (2, 1), "{said:?}");
    let of = |index| said.results.iter().find(|result| result.index == index).unwrap();
    let (video, picture) = (of(0), of(1));
    assert_eq!(video.frame.map(|frame| (frame.number, frame.time_ms)), Some((number, u64::from(number) * 10_000)));
    assert!((video.scores.score - picture.scores.score).abs() < SAME, "{video:?} {picture:?}");
    assert!(picture.frame.is_none());
    // For a picture a video is its text, and as a context too.
    let context = json!({"item": {"kind": "video", "id": "v"}});
    let said = rescore(&server, &json!({"context": context, "candidates": [image]})).await;
    assert_eq!(said.scored, 1, "{said:?}");
    let said = rescore(&server, &json!({"context": image, "candidates": [item]})).await;
    assert_eq!((said.scored, said.results[0].frame), (1, None), "{said:?}");
    // The second stage of a search scores the same frame.
    let found = search(&server, &json!({"text": QUERY, "kinds": ["video"], "rescore": 10})).await;
    let hit = &found.hits[&Kind::Video][0];
    let scores = hit.rescore.as_ref().and_then(|rescore| rescore.scores).unwrap();
    assert!((scores.score - video.scores.score).abs() < SAME && hit.frame == video.frame, "{hit:?}");
}
