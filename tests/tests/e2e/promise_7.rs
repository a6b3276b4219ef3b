//! The old model serves until the new one is ready: a refreshed bundle is made live beside steady writes and queries, and given up again.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use astromech_e2e::bundle::{self, Published};
use astromech_e2e::checks::assert_stored;
use astromech_e2e::daemon::run_to_end;
use astromech_e2e::items::{Expected, Item};
use astromech_e2e::wait::block_on;
use astromech_e2e::{Daemon, paths, refresh, wait_until, world, world::scratch};
use astromech_registry::{Signer, generate_key};
use astromech_schemas::Manifest;
use astromech_schemas::manifest::hex;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::scenario::Scenario;

/// For a generation of some hundred records on two busy cores.
pub const ROLL_DEADLINE: Duration = Duration::from_mins(3);
/// Time between two queries, and between two writes.
const QUERY_EVERY: Duration = Duration::from_millis(50);
/// Items that are there before the roll.
const ITEMS: usize = 160;

pub fn generations(daemon: &Daemon) -> Value {
    let (status, body) = daemon.get("/v1/generations");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).expect("JSON")
}

pub fn live(daemon: &Daemon) -> String {
    let known = generations(daemon);
    let live = known["generations"].as_array().and_then(|all| all.iter().find(|one| one["state"] == "live").cloned());
    live.map(|live| live["fingerprint"].as_str().unwrap_or_default().to_owned()).unwrap_or_default()
}

pub fn wait_live(daemon: &mut Daemon, wanted: &Manifest) {
    wait_until(&format!("generation {} is live", wanted.fingerprint.short()), ROLL_DEADLINE, || {
        daemon.expect_alive();
        if live(daemon) == wanted.fingerprint.as_str() { Ok(()) } else { Err(generations(daemon).to_string()) }
    });
}

/// Queries all the time; each must be answered, by one of the vector spaces, and never by one that was left.
struct Asking<'d> {
    daemon: &'d Daemon,
    stop: &'d AtomicBool,
}

impl Asking<'_> {
    /// The vector spaces that answered, in the order of their first answers, and how many answers there were.
    fn run(&self) -> (Vec<String>, usize) {
        let (mut spaces, mut answers): (Vec<String>, usize) = (Vec::new(), 0);
        while !self.stop.load(Ordering::Acquire) {
            let asked = Instant::now();
            let (status, body) = self.daemon.post("/v1/search", &json!({"text": "红色的汽车", "limit": 5}));
            assert_eq!(status, 200, "query {answers}: {body}");
            let space = body["fingerprint"].as_str().expect("an answer names its space");
            if spaces.last().is_none_or(|last| last != space) {
                spaces.push(space.to_owned());
            }
            let hits: usize =
                body["hits"].as_object().into_iter().flatten().map(|(_, hits)| hits.as_array().map_or(0, Vec::len)).sum();
            assert!(hits > 0, "query {answers} found nothing in {space}: {body}");
            answers += 1;
            // The pace of a user, not a wait for something.
            std::thread::sleep(QUERY_EVERY.saturating_sub(asked.elapsed()));
        }
        (spaces, answers)
    }
}

/// Writes all the time: new versions of old items, deletes, new items.
fn writing(scenario: &Scenario<'_>, items: &[Item], fresh: &[Item], first_version: u64, stop: &AtomicBool) -> Expected {
    let mut expected = Expected::of(items);
    let mut version = first_version;
    while !stop.load(Ordering::Acquire) {
        version += 1;
        let item = &items[version as usize % items.len()];
        let record = if version.is_multiple_of(5) {
            expected.delete(item, version);
            item.delete(version)
        } else {
            let source = if version.is_multiple_of(7) { &fresh[version as usize % fresh.len()] } else { item };
            let item = source.at_version(version, &format!("{} 第{version}版", source.title));
            expected.upsert(&item);
            item.record()
        };
        scenario.world.client.produce(&scenario.topics.changes, vec![record]);
        std::thread::sleep(QUERY_EVERY);
    }
    expected
}

/// Lets those who ask and write end, also where an assertion failed: the scope waits for them.
struct StopAtTheEnd<'s>(&'s AtomicBool);

impl Drop for StopAtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

pub fn wait_refused(daemon: &mut Daemon, manifest: &Manifest, reason: &str) {
    wait_until(&format!("{} is refused because of {reason}", manifest.fingerprint.short()), ROLL_DEADLINE, || {
        daemon.expect_alive();
        let known = generations(daemon);
        let mut refused = known["refused"].as_array().into_iter().flatten();
        let found = refused.find(|one| one["fingerprint"] == manifest.fingerprint.as_str());
        match found.and_then(|one| one["reason"].as_str()) {
            Some(found) if found.contains(reason) => Ok(()),
            _ => Err(known.to_string()),
        }
    });
}

pub fn wait_group_done(scenario: &Scenario<'_>, manifest: &Manifest, daemon: &mut Daemon) {
    let group = format!("{}-{}", scenario.config.group, manifest.fingerprint.short());
    scenario.world.client.wait_lag_0(&scenario.topics.changes, &group, ROLL_DEADLINE, || daemon.expect_alive());
}

#[test]
fn promise_7_a_new_model_goes_live_beside_writes_and_queries_and_back_again_and_nothing_is_lost_or_mixed() {
    let world = world();
    let old = bundle::manifest();
    let mut scenario = Scenario::new(&world, "rollout");
    let published = Published::new();
    scenario.config.extra = published.rollout("");
    let items = scenario.items(ITEMS, 1);
    let fresh: Vec<Item> = scenario.items(ITEMS + 40, 1).split_off(ITEMS);
    scenario.produce(&items);
    let mut daemon = Daemon::start(&scenario.config);
    wait_group_done(&scenario, &old, &mut daemon);
    assert_eq!(live(&daemon), old.fingerprint.as_str());

    let stop = AtomicBool::new(false);
    let asking = Asking { daemon: &daemon, stop: &stop };
    let (new, expected, (spaces, answers)) = std::thread::scope(|threads| {
        let stops = StopAtTheEnd(&stop);
        let asked = threads.spawn(|| asking.run());
        let written = threads.spawn(|| writing(&scenario, &items, &fresh, 1, &stop));
        let new = refresh(&scenario, &published);
        wait_until("the new generation is live", ROLL_DEADLINE, || {
            if asked.is_finished() || written.is_finished() {
                stop.store(true, Ordering::Release);
                return Ok(());
            }
            if live(&daemon) == new.fingerprint.as_str() { Ok(()) } else { Err(generations(&daemon).to_string()) }
        });
        // Writes after the cut-over, which the old generation must have too.
        let seen = scenario.results();
        scenario.wait_results(seen + 20, || ());
        let (status, said) = run_to_end(&["generations", "rollback", "--url", &daemon.url("")]);
        assert!(status.success() && said.contains(old.fingerprint.as_str()), "{said}");
        assert_eq!(live_of_aliases(&scenario), old.fingerprint.as_str(), "the aliases are back");
        let seen = scenario.results();
        scenario.wait_results(seen + 20, || ());
        drop(stops);
        (new, written.join().expect("writing"), asked.join().expect("asking"))
    });
    let order = [&old, &new, &old].map(|manifest| manifest.fingerprint.as_str().to_owned());
    assert_eq!(spaces, order, "{answers} answers: each generation answered in its time and no other");

    // Both hold every write and every delete, those made while the other was live too.
    wait_group_done(&scenario, &old, &mut daemon);
    wait_group_done(&scenario, &new, &mut daemon);
    assert_stored(&scenario.snapshot(), &expected, &old);
    let (status, said) = run_to_end(&["generations", "promote", new.fingerprint.short(), "--url", &daemon.url("")]);
    assert!(status.success(), "{said}");
    wait_live(&mut daemon, &new);
    assert_stored(&scenario.snapshot(), &expected, &new);
    let (status, said) = run_to_end(&["generations", "drop", old.fingerprint.short(), "--url", &daemon.url("")]);
    assert!(status.success(), "{said}");
    let collections = block_on(world.points.client().list_collections()).expect("the server answers").collections;
    assert!(collections.iter().all(|one| one.name.ends_with(new.fingerprint.short())), "{collections:?}");
    assert!(daemon.terminate().success());
}

/// The job of a data scientist: collects from the topics of the running daemon, trains, passes its gate and publishes.
fn refresh(scenario: &Scenario<'_>, published: &Published) -> Manifest {
    let folder = scratch("refresh");
    let others = scenario.world.client.topics("refresh");
    refresh::write_training(&folder);
    let job = refresh::Job {
        brokers: &scenario.world.kafka.bootstrap,
        items: &scenario.topics.changes,
        clicks: &others.changes,
        announcements: &others.results,
        registry: &published.folder.to_string_lossy(),
        registry_keys: "",
        lease_seconds: 60,
        collect: &format!("file_roots = [\"{}\"]\nreject_share_max = 0.5\n", scenario.corpus.root.display()),
    };
    job.write(&folder, "");
    let done = Command::new(paths::trainer_binary()).args(["refresh", "--config", "refresh.toml"]).current_dir(&folder).output();
    let done = done.expect("the trainer starts");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let release = block_on(published.registry.current()).expect("a registry").expect("the job has published");
    let manifest = published.folder.join("bundles").join(release.fingerprint.as_str()).join("manifest.json");
    Manifest::from_json(&std::fs::read(manifest).expect("published")).expect("published")
}

/// The space that readers of the aliases find.
pub fn live_of_aliases(scenario: &Scenario<'_>) -> String {
    let points = scenario.snapshot();
    let spaces: std::collections::BTreeSet<_> =
        points.values().flat_map(|points| points.values()).map(|point| point.text("fingerprint").to_owned()).collect();
    assert_eq!(spaces.len(), 1, "one space behind the aliases: {spaces:?}");
    spaces.into_iter().next().unwrap_or_default()
}

#[test]
fn promise_7_a_kill_at_any_point_of_a_roll_loses_nothing() {
    let world = world();
    let (old, (new_path, new)) = (bundle::manifest(), bundle::other(8));
    let mut scenario = Scenario::new(&world, "rollout-kill");
    let published = Published::new();
    // So slow that every kill comes in the middle.
    scenario.config.extra = published.rollout("records_per_second_max = 60");
    let items = scenario.items(ITEMS, 1);
    scenario.produce(&items);
    let mut daemon = Daemon::start(&scenario.config);
    wait_group_done(&scenario, &old, &mut daemon);
    published.publish(&new_path);
    let filled = |daemon: &Daemon, share: f64| {
        let known = generations(daemon);
        let lag = known["generations"].as_array().and_then(|all| all.iter().find_map(|one| one["lag_records"].as_u64()));
        lag.is_some_and(|lag| lag as f64 <= (1.0 - share) * ITEMS as f64)
    };
    for share in [0.0, 0.2, 0.5, 0.8] {
        wait_until(&format!("{share} of the new generation is filled"), ROLL_DEADLINE, || {
            if filled(&daemon, share) || live(&daemon) == new.fingerprint.as_str() {
                Ok(())
            } else {
                Err(generations(&daemon).to_string())
            }
        });
        daemon.kill();
        daemon = Daemon::start(&scenario.config);
        let answers = live(&daemon);
        assert!([&old, &new].iter().any(|one| one.fingerprint.as_str() == answers) || answers.is_empty(), "{answers}");
    }
    wait_live(&mut daemon, &new);
    // Killed while it is live: it comes back live, from its own copy of the bundle, though the configuration names the old one.
    daemon.kill();
    let mut daemon = Daemon::start(&scenario.config);
    wait_live(&mut daemon, &new);
    wait_group_done(&scenario, &new, &mut daemon);
    assert_stored(&scenario.snapshot(), &Expected::of(&items), &new);
    assert!(daemon.terminate().success());
}

#[test]
fn promise_7_a_bundle_that_is_not_whole_or_not_right_is_refused_and_the_live_one_is_untouched() {
    let world = world();
    let old = bundle::manifest();
    let mut scenario = Scenario::new(&world, "rollout-refused");
    let published = Published::new();
    scenario.config.extra = published.rollout("verify_ms_max = 500\nrecall_min = 1.0");
    let items = scenario.items(40, 1);
    scenario.produce(&items);
    let mut daemon = Daemon::start(&scenario.config);
    wait_group_done(&scenario, &old, &mut daemon);
    let refused = |daemon: &mut Daemon, manifest: &Manifest, reason: &str| {
        wait_refused(daemon, manifest, reason);
        assert_eq!(live(daemon), old.fingerprint.as_str());
    };
    let (path, flipped) = bundle::other(9);
    published.publish_spoilt(&path, &flipped, |folder| {
        let file = folder.join("image.onnx");
        let mut bytes = std::fs::read(&file).expect("published");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&file, bytes).expect("a folder of ours");
    });
    refused(&mut daemon, &flipped, "image.onnx");

    let (path, missing) = bundle::other(10);
    published.publish_spoilt(&path, &missing, |folder| std::fs::remove_file(folder.join("text.onnx")).expect("published"));
    refused(&mut daemon, &missing, "text.onnx");

    let (path, _) = bundle::other(11);
    let wrong = with_wrong_golden_vectors(&path);
    published.publish(&path);
    refused(&mut daemon, &wrong, "golden");
    assert!(daemon.terminate().success());
}

#[test]
fn promise_7_only_what_the_right_key_signed_goes_live() {
    let world = world();
    let old = bundle::manifest();
    let mut scenario = Scenario::new(&world, "rollout-keys");
    let published = Published::new();
    let keys = scratch("keys");
    let (right, wrong) = (keys.join("right"), keys.join("wrong"));
    let (public, _) = generate_key(&right, None).expect("a new folder");
    generate_key(&wrong, None).expect("a new folder");
    let key_file = serde_json::Value::from(public.to_string_lossy()).to_string();
    scenario.config.extra = published.rollout(&format!("public_key_file = {key_file}"));
    let items = scenario.items(20, 1);
    scenario.produce(&items);
    let mut daemon = Daemon::start(&scenario.config);
    wait_group_done(&scenario, &old, &mut daemon);
    let signer = |file: &Path| Signer::from_file(file, None).expect("a key that was just made");
    for (seed, signed, reason) in [(12, None, "signed"), (13, Some(signer(&wrong)), "key")] {
        let (path, manifest) = bundle::other(seed);
        block_on(published.registry.publish(&path, signed.as_ref())).expect("a whole bundle");
        wait_refused(&mut daemon, &manifest, reason);
        assert_eq!(live(&daemon), old.fingerprint.as_str());
    }
    let (path, manifest) = bundle::other(14);
    block_on(published.registry.publish(&path, Some(&signer(&right)))).expect("a whole bundle");
    wait_live(&mut daemon, &manifest);
    assert!(daemon.terminate().success());
}

/// Changes the golden vectors of the bundle in `folder`, with sums that fit: as a machine whose provider computes something else sees it.
fn with_wrong_golden_vectors(folder: &Path) -> Manifest {
    let golden = folder.join("golden.safetensors");
    let mut bytes = std::fs::read(&golden).expect("the trainer wrote it");
    let header_bytes = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + header_bytes]).expect("the header of safetensors is JSON");
    let at = |end: usize| header["text_embedding"]["data_offsets"][end].as_u64().expect("an offset") as usize + 8 + header_bytes;
    // The sign of each number is in its last byte.
    bytes[at(0)..at(1)].iter_mut().skip(3).step_by(4).for_each(|byte| *byte ^= 0x80);
    std::fs::write(&golden, &bytes).expect("a folder of ours");
    let file = folder.join("manifest.json");
    let mut manifest = Manifest::from_json(&std::fs::read(&file).expect("the trainer wrote it")).expect("the trainer wrote it");
    let listed = manifest.files.iter_mut().find(|file| file.name == "golden.safetensors").expect("a bundle lists it");
    listed.sha256 = hex(&Sha256::digest(&bytes));
    manifest.fingerprint = Manifest::compute_fingerprint(&manifest.files);
    std::fs::write(&file, serde_json::to_vec(&manifest).expect("JSON is written")).expect("a folder of ours");
    manifest
}
