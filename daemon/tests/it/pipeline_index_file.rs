//! `astromech index` on the demo bundle and the embedded engine: good lines are indexed, bad ones are listed with their numbers.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::json;

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs")
}

/// What these tests need besides the code.
fn assert_parts() {
    let manifest = configs().join("demo/bundle/manifest.json");
    assert!(manifest.is_file(), "{} is not there", manifest.display());
    assert!(std::env::var_os("ORT_DYLIB_PATH").is_some(), "ORT_DYLIB_PATH is not set; source deploy/local/env.sh");
}

fn astromech(index: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_astromech"))
        .args(&args[..1])
        .arg("--config")
        .arg(configs().join("demo.toml"))
        .args(&args[1..])
        .env("ASTROMECH_DEMO_INDEX", index)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn good_lines_are_indexed_and_bad_ones_are_listed_with_their_numbers() {
    assert_parts();
    let dir = tempfile::tempdir().unwrap();
    let messages = std::fs::read_to_string(configs().join("demo/set/messages.jsonl")).unwrap();
    let mut lines: Vec<String> = messages.lines().take(20).map(str::to_owned).collect();
    lines.insert(3, "not json".to_owned());
    lines.insert(7, json!({"kind": "image", "id": "x", "image": {"url": "file:pictures/none.jpg"}}).to_string());
    lines.insert(9, String::new());
    lines.insert(12, json!({"kind": "image", "id": "y", "image": {"bytes": "AAAA"}}).to_string());
    lines.push(json!({"kind": "image", "id": "z", "image": {"url": "http://127.0.0.1:1/a.jpg"}}).to_string());
    let (file, index) = (dir.path().join("messages.jsonl"), dir.path().join("index"));
    std::fs::write(&file, lines.join("\n")).unwrap();
    let file = file.to_str().unwrap();

    for _ in 0..2 {
        let output = astromech(&index, &["index", file]);
        let (data, notes) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(1), "{notes}");
        assert!(data.starts_with("20 indexed, 4 bad, "), "{data}{notes}");
        let bad: Vec<_> = notes.lines().filter_map(|line| line.strip_prefix(file)).collect();
        let expected = [":4: invalid_record: ", ":8: url_not_found: ", ":13: invalid_image: ", ":25: url_forbidden: "];
        assert_eq!(bad.len(), expected.len(), "{notes}");
        for (line, start) in bad.iter().zip(expected) {
            assert!(line.starts_with(start), "{line}");
        }
    }
}

#[test]
fn a_line_may_delete_an_item_and_an_older_version_does_not_bring_it_back() {
    assert_parts();
    let dir = tempfile::tempdir().unwrap();
    let messages = std::fs::read_to_string(configs().join("demo/set/messages.jsonl")).unwrap();
    let lines: Vec<&str> = messages.lines().take(3).collect();
    let gone: serde_json::Value = serde_json::from_str(lines[0]).unwrap();
    let (id, index) = (gone["id"].as_str().unwrap(), dir.path().join("index"));
    let delete = |id: &str, version: u64| json!({"delete": {"kind": gone["kind"], "id": id, "version": version}}).to_string();
    let of_kind = json!({"delete": {"kind": "cat", "id": "x", "version": 1}}).to_string();
    for (name, lines, code, says) in [
        ("items", lines.join("\n"), 0, "3 indexed, 0 bad"),
        ("deletes", [delete(id, 9), delete("never-there", 2), of_kind].join("\n"), 1, "2 indexed, 1 bad"),
        ("again", lines.join("\n"), 0, "3 indexed, 0 bad"),
    ] {
        let file = dir.path().join(name);
        std::fs::write(&file, lines).unwrap();
        let output = astromech(&index, &["index", file.to_str().unwrap()]);
        let (data, notes) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.code() == Some(code) && data.starts_with(says), "{name}: {data}{notes}");
        assert!(code == 0 || notes.contains(":3: invalid_record: "), "{notes}");
    }
    let found = astromech(&index, &["search", gone["caption"].as_str().unwrap(), "--json"]);
    let found: serde_json::Value = serde_json::from_slice(&found.stdout).unwrap_or_else(|e| panic!("{e}: {found:?}"));
    let ids: Vec<&str> = found["hits"]["image"].as_array().unwrap().iter().filter_map(|hit| hit["id"].as_str()).collect();
    assert!(ids.len() == 2 && !ids.contains(&id), "{ids:?}");
}

#[test]
fn a_missing_file_and_a_wrong_configuration_are_usage_errors_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_astromech"))
        .args(["check-config", "--config"])
        .arg(dir.path().join("none.toml"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("fix: "), "{}", text(&output.stderr));
    assert!(output.stdout.is_empty());

    let unknown = Command::new(env!("CARGO_BIN_EXE_astromech")).args(["schema", "nothing"]).output().unwrap();
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown.stderr).contains("hint: use one of article, image, ad"), "{}", text(&unknown.stderr));

    let article = Command::new(env!("CARGO_BIN_EXE_astromech")).args(["schema", "article"]).output().unwrap();
    assert_eq!(article.status.code(), Some(0));
    let schema: serde_json::Value = serde_json::from_slice(&article.stdout).unwrap();
    assert!(schema["properties"]["title"].is_object());
}
