//! A whole job as it runs in production, at tiny size: a student is distilled, signed, and published on object storage.

use astromech_e2e::corpus::corpus;
use astromech_e2e::items::{Item, inline_images};
use astromech_e2e::refresh;
use astromech_e2e::servers::S3Server;
use astromech_e2e::wait::block_on;
use astromech_e2e::world::scratch;
use astromech_registry::{Registry, RegistryOptions, Trust, generate_key};
use astromech_schemas::Fingerprint;
use serde_json::Value;

use crate::{Trainer, broker, click};

#[test]
fn a_job_distils_a_student_signs_it_and_publishes_it_on_object_storage_where_only_its_key_lets_it_be_fetched() {
    let (folder, topics) = (scratch("refresh-signed"), broker().1.topics("refresh-signed"));
    let storage = S3Server::start(&scratch("s3"));
    storage.bucket("models");
    refresh::write_training(&folder);
    refresh::write_student(&folder);
    let (public, _) = generate_key(&folder.join("right"), None).expect("a new folder");
    let (other, _) = generate_key(&folder.join("other"), None).expect("a new folder");
    for (name, secret) in [("access", &storage.access_key), ("secret", &storage.secret_key)] {
        std::fs::write(folder.join(name), secret).expect("a file in the test's folder");
    }
    let keys = format!(
        "endpoint = {:?}\nallow_http = true\naccess_key_file = \"access\"\nsecret_key_file = \"secret\"\nsign_key = \"right\"\n\
         trust_key = {public:?}\n",
        storage.endpoint
    );
    let job = refresh::Job {
        brokers: &broker().0.bootstrap,
        items: &topics.changes,
        clicks: &topics.results,
        announcements: &topics.dead_letters,
        registry: "s3://models/live",
        registry_keys: &keys,
        lease_seconds: 60,
        collect: "",
    };
    job.write(&folder, "[distil]\nconfig = \"student.toml\"\n");
    let run = || {
        let (code, lines, said) = Trainer::run(&folder, &["refresh", "--config", "refresh.toml"]);
        let line = lines.last().cloned().unwrap_or_default();
        assert_eq!((code, &line["event"]), (0, &Value::from("published")), "{said}");
        line["fingerprint"].as_str().expect("a fingerprint").to_owned()
    };
    let produce = |items: &[Item]| {
        broker().1.produce(&topics.changes, items.iter().map(Item::record).collect());
        let clicks = items.iter().step_by(3).map(|item| click(&item.title, &item.id, 100, 40)).collect();
        broker().1.produce(&topics.results, clicks);
    };
    let items = inline_images(corpus(), 80, 1);
    produce(&items[..50]);
    let first = run();
    // The second run fetches the first bundle as the live one, by the key, and starts from both of its checkpoints.
    produce(&items[50..]);
    let second = run();
    assert_ne!(first, second);

    let registry = Registry::open(&RegistryOptions {
        endpoint: Some(storage.endpoint.clone()),
        access_key: Some(storage.access_key.clone()),
        secret_key: Some(storage.secret_key.clone()),
        allow_http: true,
        ..RegistryOptions::new("s3://models/live".to_owned())
    });
    let registry = registry.expect("an address and keys");
    let release = block_on(registry.current()).expect("the storage answers").expect("the job has published");
    assert_eq!(release.fingerprint.as_str(), second);
    assert_eq!(release.parent.as_ref().map(Fingerprint::as_str), Some(first.as_str()));
    let into = scratch("fetched");
    let trust = |file: &std::path::Path| Trust::keys(&[&std::fs::read_to_string(file).expect("a key")]).expect("a key");
    let refused = block_on(registry.fetch(&release, &into, &trust(&other))).expect_err("another key");
    assert!(!refused.is_transient(), "{refused}");
    let fetched = block_on(registry.fetch(&release, &into, &trust(&public))).expect("the right key");
    assert!(fetched.join("manifest.json").is_file());
    for weights in ["safetensors", "teacher.safetensors"] {
        assert!(
            folder.join(format!("work/checkpoints/{second}.{weights}")).is_file(),
            "{weights} of the student that was published"
        );
    }
}
