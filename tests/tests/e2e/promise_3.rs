//! Nothing mixed: the daemon refuses a collection or a bundle of another vector space, and leaves both alone.

use std::time::Duration;

use astromech_e2e::bundle;
use astromech_e2e::wait::block_on;
use astromech_e2e::world::scratch;
use astromech_e2e::{Daemon, wait_until, world};
use astromech_schemas::Kind;
use qdrant_client::qdrant::{CreateAliasBuilder, CreateCollectionBuilder, Distance, VectorParamsBuilder, VectorsConfigBuilder};
use serde_json::json;

use crate::scenario::Scenario;

/// For a start that fails.
const REFUSE_DEADLINE: Duration = Duration::from_mins(1);
const OTHER: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn create(scenario: &Scenario, name: &str, fingerprint: &str, dim: u64) {
    let mut vectors = VectorsConfigBuilder::default();
    for vector in ["text", "image"] {
        vectors.add_named_vector_params(vector, VectorParamsBuilder::new(dim, Distance::Cosine));
    }
    let metadata = json!({"astromech": {"fingerprint": fingerprint, "embedding_dim": dim, "bundle": "other"}});
    let metadata = metadata.as_object().expect("an object").clone();
    let metadata = metadata.into_iter().collect::<std::collections::HashMap<String, serde_json::Value>>();
    // A daemon that the test before started may have asked for a collection that the server makes only now.
    wait_until(&format!("the collection {name} is made"), REFUSE_DEADLINE, || {
        let client = scenario.world.points.client();
        let request = CreateCollectionBuilder::new(name).vectors_config(vectors.clone()).metadata(metadata.clone());
        block_on(client.create_collection(request)).map_err(|error| {
            scenario.world.points.wipe();
            error.to_string()
        })
    });
}

pub(crate) fn assert_refused(scenario: &Scenario, words: &[&str]) {
    let mut daemon = Daemon::spawn(&scenario.config);
    let status = daemon.wait_exit(REFUSE_DEADLINE);
    let log = daemon.log();
    assert!(!status.success(), "the daemon ends with {status}:\n{log}");
    for word in words {
        assert!(log.contains(word), "the log does not name `{word}`:\n{log}");
    }
}

#[test]
fn promise_3_a_collection_of_another_fingerprint_is_refused_and_left_alone() {
    let world = world();
    let scenario = Scenario::new(&world, "mixed");
    let manifest = bundle::manifest();
    let name = format!("{}-{}", Kind::Image.collection(), manifest.fingerprint.short());
    create(&scenario, &name, OTHER, manifest.embedding_dim.into());
    scenario.produce(&scenario.items(20, 1));
    assert_refused(&scenario, &[&name, &OTHER[..12]]);
    assert!(world.points.collection(&name).is_empty(), "nothing was written");
    assert_eq!(scenario.results(), 0);
}

#[test]
fn promise_3_a_collection_of_another_dimension_is_refused() {
    let world = world();
    let scenario = Scenario::new(&world, "dimension");
    let manifest = bundle::manifest();
    let name = format!("{}-{}", Kind::Article.collection(), manifest.fingerprint.short());
    create(&scenario, &name, manifest.fingerprint.as_str(), u64::from(manifest.embedding_dim) + 1);
    assert_refused(&scenario, &[&name]);
}

#[test]
fn promise_3_a_live_alias_of_another_generation_is_never_written_to() {
    let world = world();
    let scenario = Scenario::new(&world, "alias");
    let manifest = bundle::manifest();
    create(&scenario, "images-0123456789ab", OTHER, manifest.embedding_dim.into());
    let alias = CreateAliasBuilder::new("images-0123456789ab", Kind::Image.collection());
    block_on(world.points.client().create_alias(alias)).expect("an alias");
    scenario.produce(&scenario.items(20, 1));
    assert_refused(&scenario, &["images", "0123456789ab"]);
    assert!(world.points.collection("images-0123456789ab").is_empty(), "nothing was written");
}

#[test]
fn promise_3_a_bundle_with_a_changed_file_is_refused() {
    let world = world();
    let mut scenario = Scenario::new(&world, "changed");
    let copy = scratch("bundle");
    for entry in std::fs::read_dir(bundle::path()).expect("the bundle").flatten() {
        std::fs::copy(entry.path(), copy.join(entry.file_name())).expect("a copy");
    }
    let graph = bundle::manifest().files.into_iter().find(|file| file.name.starts_with("text")).expect("a text graph").name;
    let mut bytes = std::fs::read(copy.join(&graph)).expect("the graph");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(copy.join(&graph), bytes).expect("the changed graph");
    scenario.config.bundle = copy;
    assert_refused(&scenario, &[&graph, "sha-256"]);
}
