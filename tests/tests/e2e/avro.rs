//! Topics in Avro, with a real schema registry: what JSON records become, these become too.

use std::time::Duration;

use astromech_e2e::checks::assert_stored;
use astromech_e2e::items::{Expected, Item, inline_images};
use astromech_e2e::schema_registry::{SchemaRegistry, Writer, schema_file};
use astromech_e2e::world::scratch;
use astromech_e2e::{Daemon, Record, bundle, wait_until, world};
use astromech_schemas::Kind;
use serde_json::{Value, json};

use crate::poison::{Bad, assert_buried, bad};
use crate::scenario::{STREAM_DEADLINE, Scenario};

const GOOD: usize = 24;
/// From an item's version to the one of its delete.
const DELETED_AT: u64 = 5;

/// The daemon's topic is in Avro, with the schemas of `registry`.
fn read_avro(scenario: &mut Scenario, registry: &SchemaRegistry) {
    "format = \"avro\"\n".clone_into(&mut scenario.config.topic_keys);
    scenario.config.extra = format!("[kafka.schema_registry]\nurl = \"{}\"\ntimeout_ms = 1000\n", registry.url);
}

/// The article's schema with one more field, which has a default as the registry asks of a compatible one.
fn evolved() -> Value {
    let mut schema = schema_file("article");
    let fields = schema["fields"].as_array_mut().expect("a record's fields");
    fields.insert(1, json!({"name": "mood", "type": "string", "default": "calm"}));
    schema
}

fn in_avro(item: &Item, writer: &Writer) -> Record {
    Record { value: Some(writer.value(&item.message)), ..item.record() }
}

/// Everything that no writer with a registered schema sends.
fn damaged(whole: &[u8], json: Vec<u8>) -> Vec<Bad> {
    let unknown = [&[0, 0x7f, 0xff, 0xff, 0xff], &whole[5..]].concat();
    vec![
        bad("unknown id", "unknown_schema", unknown),
        bad("truncated", "invalid_record", &whole[..whole.len() - 3]),
        bad("trailing bytes", "invalid_record", [whole, &[0]].concat()),
        bad("JSON", "invalid_record", json),
        bad("no id", "invalid_record", &whole[..3]),
        bad("empty", "invalid_record", ""),
    ]
}

#[test]
fn articles_and_pictures_in_avro_become_points_and_each_damaged_record_one_byte_identical_dead_letter() {
    let world = world();
    let mut scenario = Scenario::new(&world, "avro");
    let registry = SchemaRegistry::start(&scratch("registry"));
    read_avro(&mut scenario, &registry);
    let image = registry.register("image-value", &schema_file("image"));
    let (first, second) =
        (registry.register("article-value", &schema_file("article")), registry.register("article-value", &evolved()));
    assert_ne!(first.id, second.id);
    let good = scenario.items(GOOD, 1);
    let article = good.iter().position(|item| item.kind == Kind::Article).expect("an article");
    let writer = |i: usize, item: &Item| match item.kind {
        Kind::Article if i % 4 == 1 => &second,
        Kind::Article => &first,
        _ => &image,
    };
    let mut records: Vec<_> = good.iter().enumerate().map(|(i, item)| in_avro(item, writer(i, item))).collect();
    let bad = damaged(records[article].value.as_deref().expect("a value"), good[article].record().value.expect("a value"));
    for (i, bad) in bad.iter().enumerate() {
        records.insert(4 * i + 2, bad.record.clone());
    }
    records.push(good[0].delete(DELETED_AT));
    let sent = world.client.produce(&scenario.topics.changes, records);
    let mut daemon = Daemon::start(&scenario.config);
    scenario.wait_done(&mut daemon);

    let mut expected = Expected::of(&good);
    expected.delete(&good[0], DELETED_AT);
    let details = assert_buried(&scenario, &daemon, &bad, &expected, &sent);
    assert!(details["JSON"].contains("starts with `{`: JSON sent to a topic whose format is avro"), "{details:?}");
    assert!(details["truncated"].contains("cut off"), "{details:?}");
    assert!(details["trailing bytes"].contains("1 bytes behind the datum"), "{details:?}");
    assert!(details["unknown id"].contains("schema id 2147483647"), "{details:?}");
}

#[test]
fn promise_5_a_registry_that_does_not_answer_is_waited_for_and_no_record_is_lost_or_buried() {
    let world = world();
    let mut scenario = Scenario::new(&world, "avro-down");
    let registry = SchemaRegistry::start(&scratch("registry"));
    read_avro(&mut scenario, &registry);
    let image = registry.register("image-value", &schema_file("image"));
    let article = registry.register("article-value", &schema_file("article"));
    let mixed = scenario.items(GOOD, 1);
    let articles: Vec<_> = mixed.into_iter().filter(|item| item.kind == Kind::Article).collect();
    let images = inline_images(scenario.corpus, 4, 1);
    let (seen, later) = articles.split_at(4);

    let mut daemon = Daemon::start(&scenario.config);
    let send = |items: &[Item], writer: &Writer| {
        world.client.produce(&scenario.topics.changes, items.iter().map(|item| in_avro(item, writer)).collect())
    };
    let mut sent = send(seen, &article);
    scenario.wait_results(seen.len() as u64, || daemon.expect_alive());

    registry.freeze(true);
    sent.extend(send(&images, &image));
    sent.extend(send(later, &article));
    // Records whose schema is known go on; those of the new one wait and ask again.
    scenario.wait_results(articles.len() as u64, || daemon.expect_alive());
    wait_until("the registry is asked again", Duration::from_mins(1), || {
        daemon.expect_alive();
        let retries = daemon.metric("astromech_retries_total", &["stage=\"decode\""]);
        if retries >= 3.0 { Ok(()) } else { Err(format!("{retries} times")) }
    });
    assert_eq!(scenario.results(), articles.len() as u64);
    assert_eq!(world.client.count(&scenario.topics.dead_letters), 0);
    assert!(daemon.log().contains("the schema of a record can't be had now"), "the log says so");

    registry.freeze(false);
    scenario.wait_done(&mut daemon);
    let answers = scenario.answers();
    answers.assert_nothing_lost(&sent);
    answers.assert_no_dead_letters();
    assert_stored(&scenario.snapshot(), &Expected::of(articles.iter().chain(&images)), &bundle::manifest());
    wait_until("everything is applied", STREAM_DEADLINE, || {
        let results = scenario.results();
        if results == sent.len() as u64 { Ok(()) } else { Err(format!("{results} results")) }
    });
}
