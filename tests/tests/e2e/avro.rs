//! Topics in Avro, with a real schema registry: what JSON records become, these become too.

use std::time::Duration;

use astromech_e2e::checks::{Answers, assert_stored, cosine};
use astromech_e2e::daemon::run_to_end;
use astromech_e2e::items::{Expected, Item, inline_images};
use astromech_e2e::schema_registry::{SchemaRegistry, Writer, schema_file};
use astromech_e2e::world::scratch;
use astromech_e2e::{Daemon, Record, bundle, wait_until, world};
use astromech_schemas::{Kind, point_id};
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

    assert_eq!(daemon.get("/readyz").0, 200);

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
    let (status, missing) = daemon.get("/readyz");
    assert!(status == 503 && missing.contains("schema_registry"), "a record waits for it: {status} {missing}");

    registry.freeze(false);
    scenario.wait_done(&mut daemon);
    daemon.wait_ready();
    let answers = scenario.answers();
    answers.assert_nothing_lost(&sent);
    answers.assert_no_dead_letters();
    assert_stored(&scenario.snapshot(), &Expected::of(articles.iter().chain(&images)), &bundle::manifest());
    wait_until("everything is applied", STREAM_DEADLINE, || {
        let results = scenario.results();
        if results == sent.len() as u64 { Ok(()) } else { Err(format!("{results} results")) }
    });
}

/// Results are in Avro too, with more `keys` of `[kafka.results]`.
fn write_avro(scenario: &mut Scenario, registry: &SchemaRegistry, keys: &str) {
    let registry = format!("[kafka.schema_registry]\nurl = \"{}\"\ntimeout_ms = 1000\n", registry.url);
    scenario.config.extra = format!("{registry}[kafka.results]\nformat = \"avro\"\n{keys}");
}

fn answers(scenario: &Scenario, registry: &SchemaRegistry) -> Answers {
    let read = |value: &[u8]| {
        let message = registry.read(value);
        serde_json::from_value(message.clone()).unwrap_or_else(|e| panic!("{e}: {message}"))
    };
    Answers::read_as(&scenario.world.client, &scenario.topics, read)
}

/// Exit code and output of `astromech plan`.
fn plan(scenario: &Scenario) -> (Option<i32>, String) {
    let file = scratch("plan").join("astromech.toml");
    std::fs::write(&file, scenario.config.to_toml(1)).expect("the configuration is written");
    let (status, said) = run_to_end(&["plan", "--config", &file.to_string_lossy()]);
    (status.code(), said)
}

#[test]
fn results_in_avro_are_read_by_others_under_the_subject_of_each_strategy_and_lose_nothing() {
    let world = world();
    let registry = SchemaRegistry::start(&scratch("registry"));
    let name = "astromech.v1.result.Result";
    let mut subjects = Vec::new();
    // Each its own versions: what the index has already it does not write again, and a vector of another batch is a little different.
    for (strategy, version) in [("topic_name", 10), ("record_name", 20), ("topic_record_name", 30)] {
        let mut scenario = Scenario::new(&world, strategy);
        let keys = format!("embeddings = true\nneighbours = 2\nsubject_name_strategy = \"{strategy}\"\n");
        write_avro(&mut scenario, &registry, &keys);
        let topic = &scenario.topics.results;
        subjects.push(match strategy {
            "topic_name" => format!("{topic}-value"),
            "record_name" => name.to_owned(),
            _ => format!("{topic}-{name}"),
        });
        let (code, planned) = plan(&scenario);
        let subject = subjects.last().expect("one was pushed");
        assert!(
            code == Some(10) && planned.contains(&format!("subject {subject}: the schema of results is registered")),
            "{planned}"
        );

        let items = scenario.items(GOOD, version);
        let mut daemon = Daemon::start(&scenario.config);
        let mut sent = scenario.produce(&items);
        sent.extend(world.client.produce(&scenario.topics.changes, vec![items[0].delete(version + DELETED_AT)]));
        scenario.wait_done(&mut daemon);
        let answers = answers(&scenario, &registry);
        answers.assert_nothing_lost(&sent);
        answers.assert_no_dead_letters();
        let snapshot = scenario.snapshot();
        for result in answers.results.values().flatten().filter(|result| result.id != items[0].id) {
            let point = &snapshot[&result.kind][&point_id(result.kind, &result.id)];
            assert!(!result.embeddings.is_empty(), "{result:?}");
            for (vector, embedding) in &result.embeddings {
                assert!(cosine(embedding, &point.vectors[vector]) > 0.999, "{vector} of {}", result.id);
            }
        }
        let (_, planned) = plan(&scenario);
        assert!(planned.contains(&format!("subject {subject}: has the schema of results, as id")), "{planned}");
        assert!(daemon.terminate().success());
    }
    let registered = registry.subjects();
    let registered: Vec<&str> = registered.as_array().expect("subjects").iter().filter_map(|subject| subject.as_str()).collect();
    assert_eq!(registered.len(), subjects.len(), "{registered:?}");
    assert!(subjects.iter().all(|subject| registered.contains(&subject.as_str())), "{registered:?}");
}

#[test]
fn promise_5_results_wait_for_their_schema_and_a_plan_and_readiness_say_what_is_missing() {
    let world = world();
    let mut scenario = Scenario::new(&world, "avro-results");
    let registry = SchemaRegistry::start(&scratch("registry"));
    write_avro(&mut scenario, &registry, "auto_register_schemas = false\n");
    let (code, planned) = plan(&scenario);
    assert!(code == Some(2) && planned.contains("register schemas/avro/result.avsc"), "{planned}");

    let sent = scenario.produce(&scenario.items(GOOD, 1));
    let mut daemon = Daemon::spawn(&scenario.config);
    wait_until("readiness and the log say what is missing", Duration::from_mins(1), || {
        daemon.expect_alive();
        let (status, missing) = daemon.get_when_up("/readyz")?;
        let said = daemon.log().contains("publishing failed; trying again");
        let named = missing.contains("does not have our schema") && missing.contains("auto_register_schemas");
        if status == 503 && named && said { Ok(()) } else { Err(format!("{status} {missing}, in the log: {said}")) }
    });
    assert_eq!(scenario.results(), 0);
    assert_eq!(registry.subjects().as_array().map(Vec::len), Some(0), "nothing is registered");

    registry.register(&format!("{}-value", scenario.topics.results), &schema_file("result"));
    daemon.wait_ready();
    scenario.wait_done(&mut daemon);
    let answers = answers(&scenario, &registry);
    answers.assert_nothing_lost(&sent);
    answers.assert_no_dead_letters();
    assert!(daemon.terminate().success());

    registry.freeze(true);
    let (code, said) = plan(&scenario);
    assert!(code == Some(1) && said.contains("the schema registry was not looked at"), "{said}");
    registry.freeze(false);
}
