//! Re-scoring over HTTP: scores, cache, two-stage search.

use std::sync::Arc;

use astromech::api::Limits;
use astromech::cli::{Indexing, index_file};
use astromech::index::ChangeBody;
use astromech::media::ContentHash;
use astromech_schemas::http::SearchResponse;
use astromech_schemas::rescore::{ProblemKind, RescoreResponse, Rescored, Side};
use astromech_schemas::{Kind, point_id};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::support::{Server, base64, own_towers, picture};

/// Pictures of the demo set.
const PICTURES: [&str; 2] = ["emoji-3896dd86ac", "emoji-e5ea1ab3aa"];
/// How far scores of one pair may lie apart: states in 16 bits, and int8 graphs whose values depend a little on their batch mates.
const SAME: f32 = 0.03;

/// A server whose towers nobody shares.
async fn alone(settings: &str) -> Server {
    Server::start_configured(own_towers(), Limits::default(), settings).await
}

fn inline(id: &str) -> Value {
    json!({"image": base64(&picture(id))})
}

async fn rescore(server: &Server, body: &Value) -> RescoreResponse {
    let response = server.post("/v1/rescore", body).await;
    let (status, text) = (response.status(), response.text().await.unwrap());
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// Results in the order of the request.
fn in_order(response: &RescoreResponse) -> Vec<&Rescored> {
    let mut results: Vec<_> = response.results.iter().collect();
    results.sort_by_key(|result| result.index);
    results
}

fn near(a: f32, b: f32, tolerance: f32) -> bool {
    (a - b).abs() <= tolerance
}

#[tokio::test(flavor = "multi_thread")]
async fn scores_are_those_of_the_cross_tower_and_the_official_blend() {
    let server = alone("").await;
    let towers = &server.towers;
    let words = "保龄球";
    for id in PICTURES {
        let found = rescore(&server, &json!({"context": {"text": words}, "candidates": [inline(id)]})).await;
        let text = towers.embed_text_states(towers.prepare_text(words)).await.unwrap();
        let image = towers.embed_image_states(towers.prepare_image(&picture(id)).unwrap()).await.unwrap();
        let cosine: f32 = image.embedding.iter().zip(&text.embedding).map(|(a, b)| a * b).sum();
        let pairs = towers.match_pairs(vec![Arc::clone(&image.states)], vec![Arc::clone(&text.states)], vec![(0, 0)]);
        let direct = pairs.await.unwrap()[0];
        let scores = found.results[0].scores;
        // The text comes from the cache the second time, in 16 bits.
        assert!(near(scores.itm_text, direct.itm_text, SAME) && near(scores.itm_image, direct.itm_image, SAME), "{scores:?}");
        assert!(near(scores.itc, cosine, 1e-4), "{scores:?} {cosine}");
        assert!(near(scores.itm, f32::midpoint(scores.itm_text, scores.itm_image), 1e-6), "{scores:?}");
        assert!(near(scores.score, scores.itm + scores.itc, 1e-6), "{scores:?}");
        assert_eq!(&found.fingerprint, towers.fingerprint());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_is_read_in_every_form_of_base64_that_records_are_read_in() {
    let server = alone("").await;
    let plain = base64(&picture(PICTURES[0]));
    let lines: Vec<&str> = plain.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let forms = [
        plain.clone(),
        plain.trim_end_matches('=').to_owned(),
        plain.replace('+', "-").replace('/', "_"),
        lines.join("\r\n"),
        format!("data:image/png;base64,{plain}"),
        format!("data:image/png;base64,{}", plain.replace('+', "%2B").replace('=', "%3D")),
    ];
    let candidates: Vec<Value> = forms.iter().map(|form| json!({"image": form})).collect();
    let found = rescore(&server, &json!({"context": {"text": "保龄球"}, "candidates": candidates})).await;
    assert_eq!((found.scored as usize, found.problems.len()), (forms.len(), 0), "{:?}", found.problems);
    assert!(found.results.iter().all(|result| near(result.scores.itc, found.results[0].scores.itc, 1e-6)), "{found:?}");
    for (image, says) in [("%%", "image: invalid base64"), ("data:image/svg+xml,%3Csvg", "image: a data URL that is not base64")]
    {
        let found = rescore(&server, &json!({"context": {"text": "保龄球"}, "candidates": [{"image": image}]})).await;
        let problem = &found.problems[0];
        assert!(problem.kind == ProblemKind::InvalidImage && problem.detail.starts_with(says), "{problem:?}");
    }
    // The context's own picture too.
    for form in &forms {
        let body = json!({"context": {"image": form}, "candidates": [{"text": "保龄球"}]});
        assert!(near(rescore(&server, &body).await.results[0].scores.itc, found.results[0].scores.itc, 1e-3));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_rank_and_k_are_kept_to() {
    let server = Server::start().await;
    let candidates: Vec<Value> = PICTURES.iter().map(|id| inline(id)).collect();
    let body = |weights: Value| json!({"context": {"text": "保龄球"}, "candidates": candidates, "weights": weights});
    let found = rescore(&server, &body(json!({"itm": 0.0, "itc": 2.0}))).await;
    for result in &found.results {
        assert!(near(result.scores.score, 2.0 * result.scores.itc, 1e-6));
    }
    let turned = rescore(&server, &body(json!({"itm": 0.0, "itc": -2.0}))).await;
    let order = |found: &RescoreResponse| found.results.iter().map(|r| (r.rank, r.index)).collect::<Vec<_>>();
    let (first, second) = (order(&found), order(&turned));
    assert_eq!((first[0].0, first[1].0), (1, 2));
    assert_eq!((first[0].1, first[1].1), (second[1].1, second[0].1));
    let mut one = body(Value::Null);
    one["k"] = json!(1);
    let found = rescore(&server, &one).await;
    assert_eq!((found.results.len(), found.scored), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_call_takes_every_state_from_the_cache_and_scores_the_same() {
    for (states, tolerance) in [("f16", SAME), ("f32", SAME)] {
        let server = alone(&format!("[rescore.cache]\nstates = \"{states}\"\n")).await;
        let body = json!({"context": {"text": "口红"}, "candidates": PICTURES.map(inline)});
        let first = rescore(&server, &body).await;
        assert_eq!((first.cache.hits, first.cache.misses), (0, 3), "{states}");
        let second = rescore(&server, &body).await;
        assert_eq!((second.cache.hits, second.cache.misses), (3, 0), "{states}");
        for (a, b) in in_order(&first).into_iter().zip(in_order(&second)) {
            assert!(near(a.scores.itm, b.scores.itm, tolerance), "{states}: {a:?} {b:?}");
            assert!(near(a.scores.itc, b.scores.itc, 1e-6), "{states}: {a:?} {b:?}");
        }
        let metrics = server.metrics.encode();
        for line in [
            r#"astromech_rescore_cache_hits_total{side="image",tier="memory"} 2"#,
            r#"astromech_rescore_cache_misses_total{side="text",tier="memory"} 1"#,
            "astromech_rescore_cache_items 3",
            r#"astromech_rescore_candidates_total{outcome="scored"} 4"#,
        ] {
            assert!(metrics.lines().any(|l| l == line), "no `{line}` in\n{metrics}");
        }
    }
}

/// Indexes an image item whose file is `id`'s picture at this moment.
async fn put_image(server: &Server, version: u64, id: &str, from: &str, with_hash: bool) {
    let bytes = picture(from);
    std::fs::write(server.root().join(format!("{id}.jpg")), &bytes).unwrap();
    let image = server.towers.embed_image(server.towers.prepare_image(&bytes).unwrap()).await.unwrap().embedding;
    let mut payload = json!({"title": id, "image_url": format!("file:{id}.jpg")});
    if with_hash {
        payload["image_sha256"] = json!(ContentHash::of(&bytes).to_hex());
    }
    let Value::Object(payload) = payload else { panic!("an object") };
    server.apply(Kind::Image, id, version, ChangeBody::Upsert { text: None, image: Some(image), payload }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_a_candidate_comes_from_disk_without_fetching_and_encoding() {
    let disk = tempfile::tempdir().unwrap();
    let settings = format!("[rescore.cache]\ndisk_path = {}\ndisk_bytes_max = 67108864\n", json!(disk.path()));
    let body = json!({"context": {"text": "保龄球"}, "candidates": [{"item": {"kind": "image", "id": "a"}}]});
    let mut scores = Vec::new();
    for restarted in [false, true] {
        let server = alone(&settings).await;
        put_image(&server, 1, "a", PICTURES[0], true).await;
        if restarted {
            std::fs::remove_file(server.root().join("a.jpg")).unwrap();
        }
        let found = rescore(&server, &body).await;
        let expected = if restarted { (2, 0) } else { (0, 2) };
        assert_eq!((found.scored, (found.cache.hits, found.cache.misses)), (1, expected), "{:?}", found.problems);
        scores.push(found.results[0].scores);
        let lines = if restarted { ["hits", "hits"] } else { ["misses", "misses"] };
        let metrics = server.metrics.encode();
        for (look, side) in lines.into_iter().zip(["image", "text"]) {
            let line = format!("astromech_rescore_cache_{look}_total{{side=\"{side}\",tier=\"disk\"}} ");
            let seen = metrics.lines().find(|l| l.starts_with(&line)).unwrap();
            assert_ne!(seen, format!("{line}0"), "{metrics}");
        }
        server.rescorer.as_ref().unwrap().close().await;
        server.stop.cancel();
        server.served.await.unwrap();
        drop(server.rescorer);
    }
    assert!(near(scores[0].score, scores[1].score, SAME), "{scores:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_item_never_serves_an_old_state() {
    let server = alone("").await;
    let item = |id: &str| json!({"context": {"text": "保龄球"}, "candidates": [{"item": {"kind": "image", "id": id}}]});
    for (id, with_hash) in [("hashed", true), ("unhashed", false)] {
        for (version, from) in [(1, PICTURES[0]), (2, PICTURES[1])] {
            put_image(&server, version, id, from, with_hash).await;
            // The second call takes what the first kept.
            for _ in 0..2 {
                let found = rescore(&server, &item(id)).await;
                let expected = rescore(&server, &json!({"context": {"text": "保龄球"}, "candidates": [inline(from)]})).await;
                let (found, expected) = (found.results[0].scores, expected.results[0].scores);
                assert!(near(found.itc, expected.itc, 1e-5), "{id} {version}: {found:?} {expected:?}");
            }
        }
    }
    let of = |from: &'static str| json!({"context": {"text": "保龄球"}, "candidates": [inline(from)]});
    let (old, new) = (rescore(&server, &of(PICTURES[0])).await, rescore(&server, &of(PICTURES[1])).await);
    assert!(!near(old.results[0].scores.itc, new.results[0].scores.itc, 1e-3), "the pictures are told apart");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_that_the_cache_holds_is_scored_without_its_file() {
    let server = alone("").await;
    put_image(&server, 1, "a", PICTURES[0], true).await;
    let body = json!({"context": {"text": "保龄球"}, "candidates": [{"item": {"kind": "image", "id": "a"}}]});
    rescore(&server, &body).await;
    std::fs::remove_file(server.root().join("a.jpg")).unwrap();
    let found = rescore(&server, &body).await;
    assert_eq!((found.scored, found.cache.hits), (1, 2));
    put_image(&server, 2, "a", PICTURES[1], true).await;
    std::fs::remove_file(server.root().join("a.jpg")).unwrap();
    let found = rescore(&server, &body).await;
    assert_eq!(found.problems[0].kind, ProblemKind::UrlNotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_is_scored_against_texts_and_items_by_their_text() {
    let server = Server::start().await;
    server.put(Kind::Article, "a1", Some("周末去打保龄球"), None, json!({"title": "周末去打保龄球"})).await;
    let body = json!({
        "context": {"image": base64(&picture(PICTURES[1]))},
        "candidates": [{"text": "保龄球"}, {"item": {"kind": "article", "id": "a1"}}, inline(PICTURES[0])],
    });
    let found = rescore(&server, &body).await;
    assert_eq!(found.scored, 2);
    assert_eq!((found.problems[0].index, found.problems[0].kind), (2, ProblemKind::UnsupportedPair));
    // The other way round, a picture against a text, is the same pair.
    let other = rescore(&server, &json!({"context": {"text": "保龄球"}, "candidates": [inline(PICTURES[1])]})).await;
    let (a, b) = (in_order(&found)[0].scores, other.results[0].scores);
    assert!(near(a.itm_text, b.itm_text, SAME) && near(a.itc, b.itc, 0.01), "{a:?} {b:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn advertisements_are_scored_by_both_pairs_with_prior_and_bid() {
    let server = Server::start().await;
    std::fs::write(server.root().join("cover.jpg"), picture(PICTURES[1])).unwrap();
    let cover = picture(PICTURES[1]);
    let payload = json!({"title": "周末去打保龄球", "image_url": "file:cover.jpg"});
    server.put(Kind::Article, "a1", Some("周末去打保龄球"), Some(&cover), payload).await;
    let ad = |extra: Value| {
        let mut ad = json!({"image": base64(&picture(PICTURES[0])), "text": "口红新色上市"});
        ad.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        ad
    };
    let candidates =
        [ad(json!({})), ad(json!({"prior": 0.5})), ad(json!({"bid": 2.0})), ad(json!({"prior": 0.0})), json!({"text": "口红"})];
    let context = json!({"item": {"kind": "article", "id": "a1"}});
    let found = rescore(&server, &json!({"context": context, "mode": "ads", "candidates": candidates})).await;
    assert_eq!(found.context_problem, None);
    let results = in_order(&found);
    assert_eq!(results.iter().map(|r| r.index).collect::<Vec<_>>(), [0, 1, 2, 4]);
    let plain = results[0];
    assert_eq!(plain.pairs.iter().map(|pair| pair.candidate).collect::<Vec<_>>(), [Side::Image, Side::Text]);
    let mean = f32::midpoint(plain.pairs[0].itc, plain.pairs[1].itc);
    assert!(near(plain.scores.itc, mean, 1e-6), "{plain:?}");
    let ln2 = 2.0_f32.ln();
    assert!(near(results[1].scores.score - results[1].scores.itm - results[1].scores.itc, -0.1 * ln2, 1e-5), "{results:?}");
    assert!(near(results[2].scores.score - results[2].scores.itm - results[2].scores.itc, 0.1 * ln2, 1e-5), "{results:?}");
    assert!(results[3].pairs.is_empty(), "one pair: the article's picture and the text");
    assert_eq!((found.problems[0].index, found.problems[0].kind), (3, ProblemKind::InvalidCandidate));
    assert!(found.problems[0].detail.contains("prior"), "{:?}", found.problems);
    // Without its cover the article is its text alone, and the answer says so.
    std::fs::remove_file(server.root().join("cover.jpg")).unwrap();
    let other = alone("").await;
    let payload = json!({"title": "周末去打保龄球", "image_url": "file:cover.jpg"});
    other.put(Kind::Article, "a1", Some("周末去打保龄球"), Some(&cover), payload).await;
    let found = rescore(&other, &json!({"context": context, "mode": "ads", "candidates": [ad(json!({}))]})).await;
    assert_eq!(found.context_problem.unwrap().kind, ProblemKind::UrlNotFound);
    assert!(found.results[0].pairs.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_with_rescore_carries_both_ranks_and_is_ordered_by_the_blend() {
    let server = alone("").await;
    for id in PICTURES {
        put_image(&server, 1, id, id, true).await;
    }
    let Value::Object(gone) = json!({"title": "gone", "image_url": "file:gone.jpg"}) else { panic!("an object") };
    let vector = server.towers.embed_image(server.towers.prepare_image(&picture(PICTURES[0])).unwrap()).await.unwrap().embedding;
    server.apply(Kind::Image, "gone", 1, ChangeBody::Upsert { text: None, image: Some(vector), payload: gone }).await;
    server.put(Kind::Article, "a1", Some("周末去打保龄球"), None, json!({"title": "周末去打保龄球"})).await;

    let found: SearchResponse = server.post("/v1/search", &json!({"text": "保龄球", "rescore": 10})).await.json().await.unwrap();
    assert!(found.rescore_ms.is_some());
    let images = &found.hits[&Kind::Image];
    let mut dual: Vec<u32> = images.iter().map(|hit| hit.rescore.as_ref().unwrap().dual_rank).collect();
    let by_cosine = |hits: &[astromech_schemas::http::Hit]| hits.iter().map(|hit| hit.score).collect::<Vec<_>>();
    let mut sorted: Vec<_> = dual.iter().copied().zip(by_cosine(images)).collect();
    sorted.sort_by_key(|(rank, _)| *rank);
    assert!(sorted.is_sorted_by(|(_, a), (_, b)| a >= b), "the dual rank is the order of cosine: {sorted:?}");
    dual.sort_unstable();
    assert_eq!(dual, [1, 2, 3]);
    let scores: Vec<_> = images.iter().map(|hit| hit.rescore.as_ref().unwrap().scores).collect();
    assert!(scores[0].unwrap().score >= scores[1].unwrap().score && scores[2].is_none(), "{scores:?}");
    let last = images[2].rescore.as_ref().unwrap().problem.as_ref().unwrap();
    assert_eq!((images[2].id.as_str(), last.kind), ("gone", ProblemKind::UrlNotFound));
    assert!(found.hits[&Kind::Article][0].rescore.is_none(), "a text and a text are no pair");

    // A picture's articles are; a first stage that recalls more than it shows lets a later hit come forward.
    let body = json!({"image": base64(&picture(PICTURES[1])), "rescore": 5, "limit": 1});
    let found: SearchResponse = server.post("/v1/search", &body).await.json().await.unwrap();
    assert!(found.hits[&Kind::Article][0].rescore.as_ref().unwrap().scores.is_some());
    assert!(found.hits[&Kind::Image][0].rescore.is_none());
    let found: SearchResponse =
        server.post("/v1/search", &json!({"text": "保龄球", "rescore": 3, "limit": 1})).await.json().await.unwrap();
    assert_eq!(found.hits[&Kind::Image].len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn indexing_fills_the_cache_and_names_each_picture_by_its_content() {
    let server = alone("[rescore.cache]\nwarm = true\n").await;
    std::fs::write(server.root().join("a.jpg"), picture(PICTURES[0])).unwrap();
    let messages = [
        json!({"kind": "image", "id": "file", "image": {"url": "file:a.jpg"}}),
        json!({"kind": "image", "id": "inside", "image": {"bytes": base64(&picture(PICTURES[1]))}}),
        json!({"kind": "article", "id": "a1", "title": "周末去打保龄球", "body": "  和朋友一起。"}),
    ];
    let file = server.folder.path().join("messages.jsonl");
    std::fs::write(&file, messages.map(|message| message.to_string()).join("\n")).unwrap();
    let cache = Arc::clone(server.rescorer.as_ref().unwrap().cache());
    let indexing = Indexing {
        config: &server.config,
        towers: &server.towers,
        index: &server.index,
        metrics: &server.metrics,
        warm: Some(Arc::clone(&cache)),
    };
    let report = index_file(indexing, &file, None, CancellationToken::new()).await.unwrap();
    assert_eq!((report.applied, report.bad), (3, 0), "{report:?}");
    assert_eq!(cache.items(), 3);
    let stored = server.index.retrieve(Kind::Image, &[point_id(Kind::Image, "file")]).await.unwrap();
    assert_eq!(stored[0].payload["image_sha256"], json!(ContentHash::of(&picture(PICTURES[0])).to_hex()));
    // Neither the file nor the record's picture is needed any more.
    std::fs::remove_file(server.root().join("a.jpg")).unwrap();
    let item = |kind: &str, id: &str| json!({"item": {"kind": kind, "id": id}});
    let body = json!({"context": item("article", "a1"), "candidates": [item("image", "file"), item("image", "inside")]});
    let found = rescore(&server, &body).await;
    assert_eq!((found.scored, found.cache.hits, found.cache.misses), (2, 3, 0), "{:?}", found.problems);
}
