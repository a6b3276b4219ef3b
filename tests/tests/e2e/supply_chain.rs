//! What the build is made of, as SECURITY.md says it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use astromech_e2e::paths::repository;

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Files with the extension below `folder`.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let entries = entries.map(|entry| entry.expect("a folder is read").path());
    let below = |path: PathBuf| match path.extension() {
        _ if path.is_dir() => files(&path, extension),
        Some(is) if is == extension => vec![path],
        _ => Vec::new(),
    };
    entries.flat_map(below).collect()
}

fn sources() -> Vec<PathBuf> {
    ["schemas", "daemon", "trainer", "tests"].iter().flat_map(|part| files(&repository().join(part), "rs")).collect()
}

#[test]
fn no_crate_of_ours_has_unsafe_code() {
    let manifest = read(&repository().join("Cargo.toml"));
    assert!(manifest.contains("unsafe_code = \"forbid\""), "the lint of the workspace");
    let members = manifest.split_once("members = [").and_then(|(_, rest)| rest.split_once(']')).expect("a list of members").0;
    let members: Vec<_> = members.split('"').skip(1).step_by(2).collect();
    assert_eq!(members.len(), 12, "{members:?}");
    for member in members {
        let folder = repository().join(member);
        assert!(read(&folder.join("Cargo.toml")).contains("[lints]\nworkspace = true"), "{member} has the workspace's lints");
        assert!(read(&folder.join("src/lib.rs")).contains("\n#![forbid(unsafe_code)]\n"), "{member}");
    }
    let keyword = ["unsafe", " "].concat();
    for file in sources() {
        let code = read(&file);
        let mut lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        assert!(
            !lines.any(|line| line.contains(&format!("{keyword}{{")) || line.contains(&format!("{keyword}fn"))),
            "{}",
            file.display()
        );
    }
}

#[test]
fn every_package_of_the_lock_file_is_of_crates_io_with_its_checksum() {
    let lock = read(&repository().join("Cargo.lock"));
    let (mut ours, mut others) = (0, 0);
    for package in lock.split("[[package]]").skip(1) {
        if package.contains("\nsource = ") {
            assert!(package.contains("\nsource = \"registry+https://github.com/rust-lang/crates.io-index\"\n"), "{package}");
            assert!(package.contains("\nchecksum = \""), "{package}");
            others += 1;
        } else {
            ours += 1;
        }
    }
    assert_eq!(ours, 12, "the members of the workspace");
    assert!(others > 400, "{others}");
}

#[test]
fn every_test_that_the_threat_model_names_is_there() {
    let text = read(&repository().join("SECURITY.md"));
    let tests: BTreeSet<String> = sources().iter().flat_map(|file| names_of_tests(&read(file))).collect();
    let rows =
        text.lines().filter(|line| line.starts_with("| ")).filter_map(|line| line.trim_end_matches(" |").rsplit_once(" | "));
    let named: Vec<&str> =
        rows.flat_map(|(_, last)| last.split('`').skip(1).step_by(2)).filter(|word| word.contains('_')).collect();
    assert!(named.len() > 30, "{named:?}");
    let missing: Vec<_> = named.iter().filter(|name| !tests.contains(**name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Words that stand behind `fn`, and cases of a contract's macro, each on a line of its own.
fn names_of_tests(code: &str) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>();
    let name = |line: &str| {
        let line = line.trim_start();
        let line = line.strip_prefix("pub ").unwrap_or(line);
        line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ").map(word)
    };
    code.lines().filter_map(name).collect()
}
