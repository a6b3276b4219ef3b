//! What only the engine on a server must hold: its collections, aliases and metadata, daemons that start together, and errors.

use std::collections::{BTreeMap, HashMap};
use std::net::TcpListener;
use std::time::Duration;

use astromech_index::book::collection_name;
use astromech_index::qdrant::{QdrantIndex, QdrantOptions};
use astromech_index::{IndexError, IndexWriter as _, VECTOR_IMAGE};
use astromech_schemas::Kind;
use futures::future::join_all;
use qdrant_client::qdrant::{CreateAliasBuilder, CreateCollectionBuilder, Distance, VectorParamsBuilder, VectorsConfigBuilder};
use serde_json::json;

use crate::support::*;

async fn server() -> QdrantTurn {
    QdrantTurn::take().await
}

async fn open(turn: &QdrantTurn) -> Result<QdrantIndex, IndexError> {
    QdrantIndex::open(&QdrantOptions::new(turn.url()), &space('a')).await
}

async fn refused(turn: &QdrantTurn) -> String {
    match open(turn).await {
        Err(IndexError::Mismatch(problem)) => problem.into(),
        Err(other) => panic!("not a mismatch: {other}"),
        Ok(_) => panic!("opened"),
    }
}

async fn aliases(turn: &QdrantTurn) -> BTreeMap<String, String> {
    let answer = turn.client().list_aliases().await.unwrap();
    answer.aliases.into_iter().map(|alias| (alias.alias_name, alias.collection_name)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn daemons_that_start_together_make_one_set_of_collections() {
    let turn = server().await;
    let indexes = join_all((0..6).map(|_| open(&turn))).await;
    let indexes: Vec<QdrantIndex> = indexes.into_iter().map(Result::unwrap).collect();
    let wanted: BTreeMap<String, String> = Kind::ALL
        .into_iter()
        .map(|kind| (kind.collection().to_owned(), collection_name(kind, &space('a').fingerprint)))
        .collect();
    assert_eq!(aliases(&turn).await, wanted);
    // Two writers of the same item at once: the highest version stays.
    let rounds = (1..=20_u64).map(|version| {
        let index = &indexes[version as usize % indexes.len()];
        async move { index.apply(&[image("a", version, None, Some(version))]).await }
    });
    join_all(rounds).await.into_iter().for_each(|applied| drop(applied.unwrap()));
    assert_eq!(title(&indexes[0], "a").await, "a v20");
    assert!(search(&indexes[1], VECTOR_IMAGE, 20, 1).await[0].1 > 0.999);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_collection_has_its_metadata_vectors_and_payload_indexes() {
    let turn = server().await;
    open(&turn).await.unwrap();
    let info = turn.client().collection_info("images").await.unwrap().result.unwrap();
    let metadata: serde_json::Value = info.config.unwrap().metadata["astromech"].clone().into();
    let space = space('a');
    assert_eq!(metadata, json!({"fingerprint": space.fingerprint, "embedding_dim": DIM, "bundle": "test-a"}));
    for field in
        ["version", "version_offset", "version_source", "fingerprint", "tags", "time_ms", "language", "deleted", "vectors"]
    {
        assert!(info.payload_schema.contains_key(field), "{field} is not indexed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_start_leaves_nothing_behind() {
    let turn = server().await;
    let client = turn.client();
    client
        .create_collection(CreateCollectionBuilder::new("other").vectors_config(VectorParamsBuilder::new(4, Distance::Dot)))
        .await
        .unwrap();
    client.create_alias(CreateAliasBuilder::new("other", "images")).await.unwrap();
    let text = refused(&turn).await;
    assert!(text.contains("alias `images`") && text.contains("`other`"), "{text}");
    let collections = client.list_collections().await.unwrap().collections;
    assert_eq!(collections.len(), 1, "{collections:?}");
    assert_eq!(aliases(&turn).await, BTreeMap::from([("images".to_owned(), "other".to_owned())]), "the alias was not moved");
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_3_nothing_mixed_a_collection_of_another_form_is_refused_by_what_is_wrong() {
    let turn = server().await;
    let client = turn.client();
    let name = collection_name(Kind::Article, &space('a').fingerprint);
    let ours = |fingerprint: char| json!({"fingerprint": space(fingerprint).fingerprint, "embedding_dim": DIM, "bundle": "x"});
    let vectors = |names: &[&str], dim: u64, distance: Distance| {
        let mut config = VectorsConfigBuilder::default();
        for name in names {
            config.add_named_vector_params(*name, VectorParamsBuilder::new(dim, distance));
        }
        config
    };
    let dim = u64::from(DIM);
    for (metadata, config, says) in [
        (None, vectors(&["text", "image"], dim, Distance::Cosine), "no `astromech`"),
        (Some(ours('c')), vectors(&["text", "image"], dim, Distance::Cosine), "cccc"),
        (Some(ours('a')), vectors(&["text", "picture"], dim, Distance::Cosine), "picture"),
        (Some(ours('a')), vectors(&["text"], dim, Distance::Cosine), "[\"text\"]"),
        (Some(ours('a')), vectors(&["text", "image"], dim + 1, Distance::Cosine), "33 numbers, not 32"),
        (Some(ours('a')), vectors(&["text", "image"], dim, Distance::Euclid), "Euclid"),
    ] {
        let mut request = CreateCollectionBuilder::new(name.as_str()).vectors_config(config);
        if let Some(metadata) = metadata {
            request = request.metadata(HashMap::from([("astromech".to_owned(), metadata)]));
        }
        client.create_collection(request).await.unwrap();
        let text = refused(&turn).await;
        assert!(text.contains(says) && text.contains(&name), "{text}");
        let collections = client.list_collections().await.unwrap().collections;
        assert_eq!(collections.len(), 1, "a refused start made others: {collections:?}");
        client.delete_collection(name.as_str()).await.unwrap();
    }
    open(&turn).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_with_the_name_of_an_alias_is_named_in_the_error() {
    let turn = server().await;
    let request = CreateCollectionBuilder::new("ads").vectors_config(VectorParamsBuilder::new(4, Distance::Dot));
    turn.client().create_collection(request).await.unwrap();
    let text = refused(&turn).await;
    assert!(text.contains("collection called `ads`"), "{text}");
    let collections = turn.client().list_collections().await.unwrap().collections;
    assert_eq!(collections.len(), 1, "a refused start made others: {collections:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_5_transient_is_not_poison_a_server_that_does_not_answer_may_come_back() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let options =
        QdrantOptions { connect_timeout: Duration::from_secs(2), ..QdrantOptions::new(format!("http://127.0.0.1:{port}")) };
    let Err(error) = QdrantIndex::open(&options, &space('a')).await else { panic!("opened nothing") };
    assert!(matches!(error, IndexError::Transient(_)) && error.to_string().contains(&port.to_string()), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_is_deleted_under_the_daemon_stops_it() {
    let turn = server().await;
    let index = open(&turn).await.unwrap();
    turn.client().delete_collection(collection_name(Kind::Image, &space('a').fingerprint)).await.unwrap();
    let error = index.apply(&[image("a", 1, None, Some(1))]).await.unwrap_err();
    assert!(matches!(error, IndexError::Mismatch(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_that_is_none_is_a_mismatch_that_shows_one() {
    let Err(error) = QdrantIndex::open(&QdrantOptions::new("not a url"), &space('a')).await else { panic!("opened nothing") };
    assert!(matches!(error, IndexError::Mismatch(_)) && error.to_string().contains("http://127.0.0.1:6334"), "{error}");
}
