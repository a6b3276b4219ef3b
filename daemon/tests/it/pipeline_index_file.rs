//! `astromech index` on the demo bundle and the embedded engine: good lines are indexed, bad ones are listed with their numbers.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use flate2::Compression;
use flate2::write::GzEncoder;
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
    let wrong = json!({"delete": {"kind": "image", "id": "x", "version": -1}}).to_string();
    for (name, lines, code, says) in [
        ("items", lines.join("\n"), 0, "3 indexed, 0 bad"),
        ("deletes", [delete(id, 9), delete("never-there", 2), wrong].join("\n"), 1, "2 indexed, 1 bad"),
        ("again", lines.join("\n"), 0, "2 indexed, 0 bad, 1 older than what the index holds"),
    ] {
        let file = dir.path().join(name);
        std::fs::write(&file, lines).unwrap();
        let output = astromech(&index, &["index", file.to_str().unwrap()]);
        let (data, notes) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.code() == Some(code) && data.starts_with(says), "{name}: {data}{notes}");
        assert!(code == 0 || notes.contains(":3: invalid_version: delete.version: -1 is not a version"), "{notes}");
    }
    let found = astromech(&index, &["search", gone["caption"].as_str().unwrap(), "--json"]);
    let found: serde_json::Value = serde_json::from_slice(&found.stdout).unwrap_or_else(|e| panic!("{e}: {found:?}"));
    let ids: Vec<&str> = found["hits"]["image"].as_array().unwrap().iter().filter_map(|hit| hit["id"].as_str()).collect();
    assert!(ids.len() == 2 && !ids.contains(&id), "{ids:?}");
}

/// Articles without pictures, one a line.
fn articles(count: usize) -> Vec<String> {
    let article = |n: usize| json!({"kind": "article", "id": format!("a{n}"), "title": format!("标题{n}"), "body": "正文"});
    (0..count).map(|n| article(n).to_string()).collect()
}

fn gzip(text: &str) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(text.as_bytes()).unwrap();
    gzip.finish().unwrap()
}

/// Indexes a file of that name and content, says what was said, and checks the exit code.
fn index(dir: &Path, name: &str, bytes: &[u8], code: i32) -> String {
    let file = dir.join(name);
    std::fs::write(&file, bytes).unwrap();
    let output = astromech(&dir.join("index"), &["index", file.to_str().unwrap()]);
    let said = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{name}: {said}");
    said
}

#[test]
fn a_file_is_read_as_exports_are_written_with_marks_packed_and_with_either_ends_of_lines() {
    assert_parts();
    let lines = articles(4);
    let plain = lines.join("\n");
    let marked = lines.iter().map(|line| format!("\u{feff}{line}\r\n")).collect::<Vec<_>>().concat();
    let delete = |n| format!("\u{feff}{{\"delete\": {{\"kind\": \"article\", \"id\": \"none{n}\", \"version\": 3.0}}}}\r\n");
    for (name, bytes) in [
        ("bom.jsonl", format!("\u{feff}{plain}\n").into_bytes()),
        ("bom-in-the-middle.jsonl", marked.clone().into_bytes()),
        ("crlf.jsonl", lines.join("\r\n\r\n").into_bytes()),
        ("packed.jsonl.gz", gzip(&plain)),
        ("packed-by-its-bytes.jsonl", gzip(&marked)),
        ("members.gz", lines.iter().flat_map(|line| gzip(&format!("{line}\n"))).collect()),
        ("deletes.jsonl", [&delete(0), &delete(1), &delete(2), &lines[0]].map(String::as_bytes).concat()),
    ] {
        // An index of its own: a line without a version has its number.
        let dir = tempfile::tempdir().unwrap();
        let said = index(dir.path(), name, &bytes, 0);
        assert!(said.contains("4 indexed, 0 bad"), "{name}: {said}");
    }
}

#[test]
fn a_line_that_is_too_long_and_a_cut_off_gzip_are_named_and_the_rest_is_read() {
    assert_parts();
    let dir = tempfile::tempdir().unwrap();
    let lines = articles(3);
    let long = format!("{{\"kind\":\"article\",\"title\":\"{}\"}}", "x".repeat(65 << 20));
    let list = format!("[{}]", " ".repeat(65 << 20));
    let text = [&lines[0], &long, &lines[1], &list, &lines[2]].map(String::as_str).join("\n");
    for (name, bytes) in [("long.jsonl", text.clone().into_bytes()), ("long.jsonl.gz", gzip(&text))] {
        let said = index(dir.path(), name, &bytes, 1);
        assert!(said.contains("3 indexed, 2 bad"), "{name}: {said}");
        for says in
            [":2: invalid_record: .: the line has more than 67108864 bytes; fix: ", ":4: invalid_record: .: ", "jq -c '.[]'"]
        {
            assert!(said.contains(says), "{name}: {said}");
        }
    }

    let mut packed = gzip(&lines.join("\n"));
    let cut = packed.len() - 12;
    let said = index(dir.path(), "cut.gz", &packed[..cut], 1);
    assert!(said.contains("the gzip file is cut off here") && said.contains("1 bad"), "{said}");
    // The first member is whole, the second's sum is wrong.
    let mut two = gzip(&format!("{}\n", lines[0]));
    let sum = packed.len() - 8;
    packed[sum] ^= 1;
    two.extend(&packed);
    let said = index(dir.path(), "damaged.gz", &two, 1);
    assert!(said.contains("the gzip file is damaged here") && said.contains("fix: bring the whole file"), "{said}");

    // A great file is read up to the cut.
    let many: String =
        (0..400).map(|n| json!({"delete": {"kind": "ad", "id": format!("{n}"), "version": 1}}).to_string() + "\n").collect();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::none());
    gzip.write_all(many.as_bytes()).unwrap();
    gzip.flush().unwrap();
    let said = index(dir.path(), "cut-at-a-line.gz", gzip.get_ref(), 1);
    assert!(said.contains("400 indexed, 1 bad") && said.contains(":401: invalid_record: .: the gzip file is cut off"), "{said}");
}

#[test]
fn a_file_that_is_no_json_lines_is_refused_with_what_it_is_and_nothing_is_indexed() {
    assert_parts();
    let dir = tempfile::tempdir().unwrap();
    let items: Vec<serde_json::Value> = articles(2).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    for (name, bytes, says) in [
        ("list.json", serde_json::to_vec_pretty(&items).unwrap(), "is one JSON list over several lines"),
        ("packed-list.gz", gzip(&serde_json::to_string_pretty(&items).unwrap()), "jq -c '.[]'"),
        ("pretty.json", serde_json::to_vec_pretty(&items[0]).unwrap(), "pretty-printed"),
        ("utf-16.jsonl", utf16(&format!("\u{feff}{}", articles(1)[0])), "iconv -f UTF-16 -t UTF-8"),
        ("utf-16-without-a-mark.jsonl", utf16(&articles(1)[0]), "is UTF-16, not JSON Lines"),
        ("table.parquet", b"PAR1\x15\x04".to_vec(), "is Parquet, not JSON Lines"),
        ("packed.zst", vec![0x28, 0xb5, 0x2f, 0xfd, 4, 0], "is Zstandard, not JSON Lines"),
    ] {
        let said = index(dir.path(), name, &bytes, 2);
        assert!(said.contains(name) && said.contains(says) && said.contains("hint: "), "{name}: {said}");
    }
    // On one line it is one bad line.
    let said = index(dir.path(), "line.json", &serde_json::to_vec(&items).unwrap(), 1);
    assert!(said.contains("0 indexed, 1 bad") && said.contains(":1: invalid_record: .: a list where a JSON object"), "{said}");
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
