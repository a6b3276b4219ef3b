//! Late interaction, held by both engines: an item's tokens as one multivector, compared by Qdrant's max_sim.

use astromech_index::{Change, ChangeBody, Index, IndexError, Query, SearchFilter, Space, VECTOR_IMAGE, VECTOR_TEXT};
use astromech_schemas::{Kind, Similarity};
use astromech_towers::similarity;
use qdrant_client::qdrant::{OptimizersConfigDiffBuilder, QuantizationType, ScalarQuantizationBuilder, UpdateCollectionBuilder};

use crate::support::*;

const IMAGE_TOKENS: u32 = 10;
const TEXT_TOKENS: u32 = 7;

fn late() -> Space {
    Space { similarity: Similarity::LateInteraction { image_tokens: IMAGE_TOKENS, text_tokens: TEXT_TOKENS }, ..space('a') }
}

/// So many unit vectors one after another.
fn tokens(random: &mut Random, count: usize) -> Vec<f32> {
    (0..count).flat_map(|_| random.unit_vector(DIM)).collect()
}

fn item(id: &str, version: u64, text: Option<Vec<f32>>, image: Option<Vec<f32>>) -> Change {
    change(Kind::Image, id, version, ChangeBody::Upsert { text, image, payload: serde_json::Map::new() })
}

async fn hits(index: &dyn Index, vector_name: &'static str, vector: Vec<f32>, limit: u32) -> Vec<(String, f32)> {
    let query = Query { kind: Kind::Image, vector_name, vector, limit, filter: SearchFilter::default() };
    let found = index.search(&query).await.unwrap();
    found.into_iter().map(|hit| (hit.payload["id"].as_str().unwrap().to_owned(), hit.score)).collect()
}

on_both_engines!(
    scores_and_ranking_are_those_of_brute_force,
    a_newer_version_replaces_every_token_and_a_delete_leaves_none,
    promise_3_nothing_mixed_a_collection_of_the_other_form_is_refused,
    promise_6_nothing_unbounded_more_tokens_than_the_bundle_has_are_refused,
);

/// So many items, each of another number of tokens.
fn items(random: &mut Random, count: usize) -> Vec<Change> {
    let one = |number: usize| {
        let text = tokens(random, 1 + number % TEXT_TOKENS as usize);
        let image = tokens(random, 1 + number % IMAGE_TOKENS as usize);
        item(&format!("n{number}"), 1, Some(text), Some(image))
    };
    (0..count).map(one).collect()
}

/// Ids and scores of all items by brute force, best first.
fn brute_force(items: &[Change], vector_name: &str, query: &[f32]) -> Vec<(String, f32)> {
    let score = |change: &Change| {
        let ChangeBody::Upsert { text, image, .. } = &change.body else { panic!("an upsert") };
        let stored = if vector_name == VECTOR_TEXT { text } else { image };
        (change.id.clone(), similarity(query, stored.as_ref().unwrap(), DIM as usize))
    };
    let mut scored: Vec<_> = items.iter().map(score).collect();
    scored.sort_by(|a, b| b.1.total_cmp(&a.1));
    scored
}

async fn scores_and_ranking_are_those_of_brute_force(engine: Engine) {
    let index = engine.try_open(&late()).await.unwrap();
    let mut random = Random(5);
    let items = items(&mut random, 60);
    index.apply(&items).await.unwrap();
    for (vector_name, asked) in [(VECTOR_IMAGE, 1), (VECTOR_IMAGE, 5), (VECTOR_TEXT, IMAGE_TOKENS as usize)] {
        let query = tokens(&mut random, asked);
        let expected = brute_force(&items, vector_name, &query);
        let found = hits(&*index, vector_name, query, 10).await;
        assert_eq!(found.len(), 10);
        for ((id, score), (expected_id, expected_score)) in found.iter().zip(&expected) {
            assert!((score - expected_score).abs() < 1e-5, "{vector_name} {id}: {score}, expected {expected_score}");
            assert_eq!(id, expected_id, "{found:?}");
            assert!((-1.0..=1.0).contains(score));
        }
    }
}

/// docs/LATE_INTERACTION.md recommends it.
#[tokio::test(flavor = "multi_thread")]
async fn quantised_multivectors_behind_a_graph_keep_their_scores_and_most_of_the_best() {
    let engine = Engine::qdrant().await;
    let Engine::Qdrant(turn) = &engine else { panic!("a server") };
    let index = engine.try_open(&late()).await.unwrap();
    let name = astromech_index::book::collection_name(Kind::Image, index.fingerprint());
    let int8 = ScalarQuantizationBuilder::default().r#type(QuantizationType::Int8.into()).quantile(0.99).always_ram(true);
    let small = OptimizersConfigDiffBuilder::default().indexing_threshold(16);
    let settings = UpdateCollectionBuilder::new(name.as_str()).quantization_config(int8).optimizers_config(small);
    turn.client().update_collection(settings).await.unwrap();
    let mut random = Random(8);
    let items = items(&mut random, 400);
    index.apply(&items).await.unwrap();
    turn.wait_indexed(&name).await;
    drop(index);
    let index = engine.try_open(&late()).await.expect("an operator's settings are no other form");
    let query = tokens(&mut random, 5);
    let expected = brute_force(&items, VECTOR_IMAGE, &query);
    let found = hits(&*index, VECTOR_IMAGE, query, 10).await;
    for (id, score) in &found {
        let (_, expected) = expected.iter().find(|(other, _)| other == id).unwrap();
        assert!((score - expected).abs() < 1e-5, "{id}: {score}, expected {expected}");
    }
    let best = found.iter().filter(|(id, _)| expected[..10].iter().any(|(other, _)| other == id)).count();
    assert!(best >= 8, "{best} of the best 10");
}

async fn a_newer_version_replaces_every_token_and_a_delete_leaves_none(engine: Engine) {
    let index = engine.try_open(&late()).await.unwrap();
    let mut random = Random(6);
    let (old, new, text) = (tokens(&mut random, 9), tokens(&mut random, 4), tokens(&mut random, 3));
    index.apply(&[item("a", 1, Some(text.clone()), Some(old.clone()))]).await.unwrap();
    index.apply(&[item("a", 2, None, Some(new.clone()))]).await.unwrap();
    index.apply(&[item("a", 1, Some(text.clone()), Some(old.clone()))]).await.unwrap();
    let score = hits(&*index, VECTOR_IMAGE, old.clone(), 1).await[0].1;
    assert!((score - similarity(&old, &new, DIM as usize)).abs() < 1e-5, "{score}: a token of the old version is left");
    assert!(hits(&*index, VECTOR_TEXT, text.clone(), 1).await.is_empty(), "the new version has no text");
    index.apply(&[delete("a", 3)]).await.unwrap();
    assert!(hits(&*index, VECTOR_IMAGE, new, 1).await.is_empty());
    assert_eq!(index.counts().await.unwrap()[&Kind::Image], 0);
}

async fn promise_3_nothing_mixed_a_collection_of_the_other_form_is_refused(engine: Engine) {
    for (first, second) in [(space('a'), late()), (Space { fingerprint: space('b').fingerprint, ..late() }, space('b'))] {
        let index = engine.try_open(&first).await.unwrap();
        index.close().await.unwrap();
        drop(index);
        let refused = engine.try_open(&second).await;
        // The embedded engine's folder holds one space: the next pair starts with an empty one.
        if let Engine::Embedded(folder) = &engine {
            std::fs::remove_dir_all(folder.path().join("index")).unwrap();
        } else if let Engine::Qdrant(turn) = &engine {
            turn.wipe().await;
        }
        let Err(error) = refused else { panic!("an index of another form was opened") };
        assert!(matches!(error, IndexError::Mismatch(_)), "{error}");
        let text = error.to_string();
        assert!(text.contains("one vector an item") || text.contains("LateInteraction"), "{text}");
    }
}

async fn promise_6_nothing_unbounded_more_tokens_than_the_bundle_has_are_refused(engine: Engine) {
    let index = engine.try_open(&late()).await.unwrap();
    let mut random = Random(7);
    let good = tokens(&mut random, 2);
    let many = tokens(&mut random, TEXT_TOKENS as usize + 1);
    let cut = good[..good.len() - 1].to_vec();
    for bad in [many, cut, Vec::new()] {
        let error = index.apply(&[item("bad", 1, Some(bad), None)]).await.unwrap_err();
        assert!(matches!(error, IndexError::Mismatch(_)), "{error}");
        assert!(error.to_string().contains("at most 7 tokens"), "{error}");
    }
    let vector = tokens(&mut random, IMAGE_TOKENS as usize + 1);
    let query = Query { kind: Kind::Image, vector_name: VECTOR_TEXT, vector, limit: 1, filter: SearchFilter::default() };
    assert!(matches!(index.search(&query).await.unwrap_err(), IndexError::Mismatch(_)));
    index.apply(&[item("good", 1, Some(good), None)]).await.unwrap();
}
