//! The harness itself: what it says about topics, points and hosts must be so, or no other test means anything.

use std::process::Command;

use astromech_e2e::http_server::PictureHost;
use astromech_e2e::kafka::Progress;
use astromech_e2e::paths::repository;
use astromech_e2e::{Record, block_on, world};
use qdrant_client::qdrant::{CreateCollectionBuilder, Distance, VectorParamsBuilder};

#[test]
fn the_harness_reads_back_what_it_produced_null_and_empty_values_and_headers_included() {
    let world = world();
    let topics = world.client.topics("harness");
    let record = |i: u8| Record {
        key: (!i.is_multiple_of(3)).then(|| vec![i]),
        value: match i % 4 {
            0 => None,
            1 => Some(Vec::new()),
            _ => Some(vec![i; 1000]),
        },
        headers: if i.is_multiple_of(2) { vec![("a".to_owned(), vec![0, 255]), ("a".to_owned(), vec![i])] } else { Vec::new() },
        partition: Some(i32::from(i % 4)),
    };
    let mut sent = world.client.produce(&topics.changes, (0..100).map(record).collect());
    sent.sort_by_key(|sent| (sent.partition, sent.offset));
    for sent in &mut sent {
        sent.record.partition = None;
    }
    assert_eq!(world.client.read_all(&topics.changes), sent);
    assert_eq!(world.client.count(&topics.changes), 100);
    assert!(world.client.read_all(&topics.results).is_empty());
    let progress = world.client.progress(&topics.changes, "nobody").expect("the broker answers");
    assert!(progress.values().all(|p| *p == Progress { committed: 0, high: 25 }), "{progress:?}");
}

#[test]
fn the_servers_keep_their_data_and_ports_over_a_stop_and_the_world_starts_empty() {
    let vectors = VectorParamsBuilder::new(4, Distance::Cosine);
    let topics = {
        let world = world();
        let topics = world.client.topics("harness");
        world.client.produce(&topics.changes, vec![Record { value: Some(vec![1]), ..Record::default() }]);
        block_on(world.points.client().create_collection(CreateCollectionBuilder::new("kept").vectors_config(vectors)))
            .expect("made");
        world.qdrant.stop();
        world.kafka.stop();
        world.qdrant.start_again();
        world.kafka.start_again();
        assert_eq!(world.client.count(&topics.changes), 1);
        assert!(world.points.collection("kept").is_empty());
        world.qdrant.kill();
        topics
    };
    let world = world();
    assert_eq!(world.client.count(&topics.changes), 1);
    let left = block_on(world.points.client().list_collections()).expect("the server answers").collections;
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_picture_host_answers_refuses_and_answers_again_on_its_port() {
    let mut host = PictureHost::start();
    let url = host.serve("/a.jpg", vec![1, 2, 3]);
    let missing = host.url("/b.jpg");
    let get = |url: &str| {
        block_on(async {
            let response = reqwest::get(url).await.ok()?;
            Some((response.status().as_u16(), response.bytes().await.ok()?.to_vec()))
        })
    };
    assert_eq!(get(&url), Some((200, vec![1, 2, 3])));
    assert_eq!(get(&missing).map(|(status, _)| status), Some(404));
    host.down();
    assert_eq!(get(&url), None);
    host.up();
    assert_eq!(get(&url), Some((200, vec![1, 2, 3])));
    assert_eq!(host.requests(), 3);
}

#[test]
fn every_mutation_still_fits_the_code_whose_guard_it_takes_away() {
    let folder = repository().join("tests/mutations");
    let patches = std::fs::read_dir(&folder).expect("the folder is there").filter_map(Result::ok).map(|entry| entry.path());
    let patches: Vec<_> = patches.filter(|path| path.extension().is_some_and(|end| end == "patch")).collect();
    assert!(patches.len() >= 8, "one a promise: {patches:?}");
    for patch in patches {
        let check = Command::new("git").args(["apply", "--check"]).arg(&patch).current_dir(repository()).output();
        let check = check.unwrap_or_else(|e| panic!("git: {e}"));
        let said = String::from_utf8_lossy(&check.stderr);
        assert!(check.status.success(), "{} no longer fits; fix: make it anew\n{said}", patch.display());
    }
}
