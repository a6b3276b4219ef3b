//! `trainer collect` on topics with everything that topics have.

use std::path::Path;
use std::time::Duration;

use astromech_e2e::corpus::corpus;
use astromech_e2e::items::{article, image, inline_images};
use astromech_e2e::world::scratch;
use astromech_e2e::{Record, Topics, wait_until};
use astromech_schemas::ImageSource;
use serde_json::Value;

use crate::{JOB_DEADLINE, Trainer, broker, click, json_file};

/// Pictures that stay as they are.
const PLAIN: usize = 40;

fn raw(key: &str, value: &str) -> Record {
    Record { key: Some(key.as_bytes().to_vec()), value: Some(value.as_bytes().to_vec()), ..Record::default() }
}

/// Fills the topics; what becomes of each record is asserted below.
fn fill(topics: &Topics) {
    let (_, client) = broker();
    let corpus = corpus();
    let entry = |at: usize| &corpus.entries[at];
    let inline = |at: usize| image(entry(at), 1, ImageSource::from_bytes(entry(at).bytes()));
    let plain = inline_images(corpus, PLAIN, 1);
    let mut records: Vec<Record> = plain.iter().map(astromech_e2e::items::Item::record).collect();
    // A picture by file:, under the root.
    let at_file = |at: usize| ImageSource::from_url(format!("file://{}", entry(at).picture.display()));
    records.push(article(entry(40), 1, Some(at_file(40))).record());
    // No picture.
    records.push(article(entry(41), 1, None).record());
    // Versions out of order: 3 stands.
    let turned = inline(42);
    records.extend([3, 1, 2].map(|version| turned.at_version(version, &format!("第{version}版本")).record()));
    // Deleted later, and deleted before an older version arrives.
    let (gone, late) = (inline(43), inline(44));
    records.extend([gone.record(), gone.delete(2), late.delete(9), late.at_version(8, "迟到的标题").record()]);
    // The same picture under another id.
    let mut twin = inline(0);
    twin.message["id"] = "twin".into();
    "twin".clone_into(&mut twin.id);
    records.push(twin.record());
    // Refused, each for its reason.
    let broken = image(entry(45), 1, ImageSource::from_bytes(entry(45).bytes()[..60].to_vec()));
    records.push(broken.record());
    records.push(image(entry(46), 1, ImageSource::from_url("file:///etc/hostname")).record());
    records.push(image(entry(47), 1, ImageSource::from_url("https://example.com/a.jpg")).record());
    records.push(raw("x", "{\"kind\":"));
    client.produce(&topics.changes, records);
    let id = |at: usize| plain[at].id.clone();
    client.produce(
        &topics.results,
        vec![
            click("人们搜的词", &id(1), 60, 30),
            click("人们搜的词", &id(1), 40, 20),
            click("没人点的词", &id(2), 1000, 1),
            click("已删的词", &gone.id, 100, 90),
            raw("q", r#"{"query":"a","kind":"image","id":"b","impressions":1,"clicks":2}"#),
        ],
    );
}

/// The drawn pictures of the corpus look alike to a hash: no near-duplicates are dropped here.
fn write_config(folder: &Path) {
    let text = "[kafka]\nbrokers = \"\"\n[collect]\nitems = []\n[collect.filter]\nhamming_max = 0\ntext_similarity_min = 1.1\n";
    std::fs::write(folder.join("collect.toml"), text).expect("a file in the test's folder");
}

fn arguments<'a>(topics: &'a Topics, out: &'a str, root: &'a str) -> Vec<&'a str> {
    let brokers = &broker().0.bootstrap;
    let mut arguments = vec!["collect", "--config", "collect.toml", "--brokers", brokers];
    arguments.extend(["--items", &topics.changes, "--clicks", &topics.results]);
    arguments.extend(["--file-root", root, "--property", "fetch.wait.max.ms=50", "--held-out", "4", "--out", out]);
    arguments
}

/// All shards of a snapshot, as text: pictures in it are no text, the records' JSON is.
fn shards(snapshot: &Path, pattern: &str) -> String {
    let manifest = json_file(&snapshot.join("manifest.json"));
    let names = manifest["shards"].as_array().expect("shards").iter().map(|shard| shard["name"].as_str().expect("a name"));
    let of = |name: &str| String::from_utf8_lossy(&std::fs::read(snapshot.join(name)).expect("a listed shard")).into_owned();
    names.filter(|name| name.starts_with(pattern)).map(of).collect()
}

fn assert_counts(manifest: &Value) {
    let counts = &manifest["counts"];
    for (name, expected) in [
        ("deleted", 2),
        ("without_picture", 1),
        ("items", PLAIN as u64 + 7),
        ("superseded", 4),
        ("deletes", 2),
        ("clicks", 4),
        ("clicks_without_item", 0),
    ] {
        assert_eq!(counts[name], expected, "{name}: {manifest:#}");
    }
    let rejects = serde_json::json!({
        "invalid_click": 1, "invalid_image": 1, "invalid_record": 1, "url_forbidden": 1, "url_not_fetched": 1,
    });
    assert_eq!(manifest["rejects"], rejects);
    assert_eq!(manifest["topics"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_snapshot_has_the_newest_versions_without_what_was_deleted_and_names_what_it_refused() {
    let (folder, root) = (scratch("collect"), corpus().root.display().to_string());
    let topics = broker().1.topics("collect");
    write_config(&folder);
    fill(&topics);
    let (code, _, said) = Trainer::run(&folder, &arguments(&topics, "snapshot", &root));
    assert_eq!(code, 0, "{said}");
    let snapshot = folder.join("snapshot");
    let manifest = json_file(&snapshot.join("manifest.json"));
    assert_counts(&manifest);
    assert!(!folder.join(".snapshot.collecting").exists());
    let all = shards(&snapshot, "");
    assert!(all.contains("第3版本") && !all.contains("第1版本") && !all.contains("第2版本"));
    assert!(all.contains("人们搜的词") && all.contains(r#""impressions":100,"clicks":50"#));
    for absent in ["没人点的词", "已删的词", "迟到的标题", corpus().entries[43].title.as_str()] {
        let as_title = format!("\"title\":\"{absent}\"");
        assert!(!all.contains(&as_title) && !all.contains(&format!("\"query\":\"{absent}\"")), "{absent}");
    }
    assert_eq!(manifest["records"]["held_out"], 4);
    let rejects = std::fs::read_to_string(snapshot.join("rejects.jsonl")).expect("rejects.jsonl");
    assert_eq!(rejects.lines().count(), 5, "{rejects}");
    assert!(rejects.contains(&topics.changes) && rejects.contains("\"offset\""), "{rejects}");
    // Training and `trainer corpus` read it.
    let corpus_of = ["corpus", "--shards", "snapshot/held-out-*.tar", "--out", "fresh", "--held-out", "99", "--licence", "MIT"];
    let (code, _, said) = Trainer::run(&folder, &corpus_of);
    assert_eq!(code, 0, "{said}");
    let val = std::fs::read_to_string(folder.join("fresh/val.jsonl")).expect("val.jsonl");
    assert_eq!(val.lines().count(), 4);
    // The same command again changes nothing; another configuration is refused.
    let before = std::fs::read(snapshot.join("manifest.json")).expect("a manifest");
    assert_eq!(Trainer::run(&folder, &arguments(&topics, "snapshot", &root)).0, 0);
    assert_eq!(std::fs::read(snapshot.join("manifest.json")).expect("a manifest"), before);
    let mut other = arguments(&topics, "snapshot", &root);
    other.extend(["--to", "2020-01-01T00:00:00Z"]);
    let (code, _, said) = Trainer::run(&folder, &other);
    assert!(code == 1 && said.contains("another configuration"), "{said}");
    // Where it ended, the next begins.
    broker().1.produce(
        &topics.changes,
        vec![image(&corpus().entries[48], 1, ImageSource::from_bytes(corpus().entries[48].bytes())).record()],
    );
    let mut next = arguments(&topics, "next", &root);
    next.extend(["--from", "snapshot/manifest.json"]);
    let (code, _, said) = Trainer::run(&folder, &next);
    assert_eq!(code, 0, "{said}");
    let manifest = json_file(&folder.join("next/manifest.json"));
    assert_eq!((&manifest["counts"]["records"], &manifest["counts"]["items"]), (&1.into(), &1.into()), "{manifest:#}");
}

#[test]
fn a_snapshot_that_was_killed_three_times_is_the_same_to_the_last_byte() {
    let (folder, root) = (scratch("collect-killed"), corpus().root.display().to_string());
    let topics = broker().1.topics("collect-killed");
    write_config(&folder);
    for _ in 0..4 {
        fill(&topics);
    }
    let (code, _, said) = Trainer::run(&folder, &arguments(&topics, "whole", &root));
    assert_eq!(code, 0, "{said}");
    let work = folder.join(".parts.collecting");
    let mut killed = 0;
    let entries = |folder: &Path| std::fs::read_dir(folder).map_or(0, Iterator::count);
    // A file that is there, or a folder of so many entries. The last ones are made within milliseconds of each other.
    for (part, least) in [("plan.json", 0), ("pictures", 1), ("pictures", 12), ("log.jsonl", 0), ("filtered", 0), ("snapshot", 0)]
    {
        if folder.join("parts").exists() {
            break;
        }
        let mut trainer = Trainer::start(&folder, &arguments(&topics, "parts", &root));
        let seen = wait_until(part, JOB_DEADLINE, || {
            // Looked for every millisecond: a part may be whole and gone within one pause of the wait.
            for _ in 0..50 {
                let at = work.join(part);
                let there = at.exists() && (least == 0 || entries(&at) >= least);
                if there || !trainer.is_running() {
                    return Ok(there);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            Err("not there".to_owned())
        });
        trainer.kill();
        killed += usize::from(seen && !folder.join("parts").exists());
    }
    assert!(killed >= 3, "only {killed} kills were in the middle");
    // What came meanwhile is beyond the window.
    broker().1.produce(&topics.changes, vec![raw("y", "{}")]);
    let (code, _, said) = Trainer::run(&folder, &arguments(&topics, "parts", &root));
    assert_eq!(code, 0, "{said}");
    let read = |name: &str| std::fs::read(folder.join(name)).expect("a file of the snapshot");
    assert_eq!(read("parts/manifest.json"), read("whole/manifest.json"));
    let manifest = json_file(&folder.join("whole/manifest.json"));
    for shard in manifest["shards"].as_array().expect("shards") {
        let name = shard["name"].as_str().expect("a name");
        assert!(read(&format!("parts/{name}")) == read(&format!("whole/{name}")), "{name}");
    }
    assert_eq!(read("parts/rejects.jsonl"), read("whole/rejects.jsonl"));
}
