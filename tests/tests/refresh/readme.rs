//! Every command of trainer/README.md's "Refresh models on a schedule", as it stands there, with the shipped configuration at tiny size.

use std::path::Path;
use std::process::Command;

use astromech_e2e::bundle;
use astromech_e2e::corpus::corpus;
use astromech_e2e::items::{Item, inline_images};
use astromech_e2e::paths::repository;
use astromech_e2e::servers::S3Server;
use astromech_e2e::world::scratch;
use serde_json::Value;

use crate::job::Setting;
use crate::{Trainer, broker};

/// Thresholds over a handful of pictures; latency is a matter of whatever else this machine does.
const GATE: &str = "[[set]]\nname = \"newest\"\ncorpus = \"held-out\"\nnewest = { splits = [\"val\"], records_max = 16 }\n\
                    [quality]\nrecall_drop_max = 0.1\n[speed]\nsize_ratio_max = 1.25\nsamples = 4\n";

/// Commands of the section's blocks that begin with `trainer`.
fn commands() -> Vec<String> {
    let readme = std::fs::read_to_string(repository().join("trainer/README.md")).expect("trainer/README.md");
    let section = readme.split("\n## ").find(|section| section.starts_with("Refresh models on a schedule\n"));
    let section = section.expect("the section is there");
    let blocks = section.split("```sh\n").skip(1).filter_map(|block| block.split("```").next());
    let joined: String = blocks.collect::<String>().replace("\\\n", " ");
    joined.lines().filter(|line| line.starts_with("trainer ")).map(str::to_owned).collect()
}

#[test]
fn every_command_of_the_readme_section_on_refreshing_runs() {
    let setting = Setting::new("refresh-readme");
    let items = inline_images(corpus(), 60, 1);
    broker().1.produce(&setting.topics.changes, items.iter().map(Item::record).collect());
    // The section's names are the test's own here; sizes are tiny.
    let here = |text: &str| {
        text.replace("localhost:9092", &broker().0.bootstrap)
            .replace("astromech.changes", &setting.topics.changes)
            .replace("astromech.clicks", &setting.topics.results)
            .replace("astromech.models", &setting.topics.dead_letters)
    };
    let shipped = std::fs::read_to_string(repository().join("configs/refresh.toml")).expect("configs/refresh.toml");
    let tiny = here(&shipped)
        .replace("configs/train-demo.toml", "train.toml")
        .replace("new_records_min = 1000", "new_records_min = 1")
        .replace("records_min = 1000", "records_min = 20")
        .replace("# precisions = [\"f32\", \"int8\"]", "precisions = [\"f32\"]");
    std::fs::create_dir_all(setting.folder.join("configs")).expect("a new folder");
    std::fs::write(setting.folder.join("configs/refresh.toml"), tiny).expect("a file in the test's folder");
    let storage = S3Server::start(&scratch("s3"));
    storage.bucket("models");
    let keys = [("AWS_ACCESS_KEY_ID", storage.access_key.as_str()), ("AWS_SECRET_ACCESS_KEY", storage.secret_key.as_str())];
    let commands = commands();
    assert!(commands.len() >= 8, "{commands:#?}");
    for command in &commands {
        if command.starts_with("trainer gate") {
            bundles_to_gate(&setting.folder);
        }
        let command = here(command.split(" #").next().unwrap_or_default())
            .replace("https://s3.internal:9000", &format!("{} --allow-http", storage.endpoint))
            .replace(
                "kafka:9092 --announce-topic models",
                &format!("{} --announce-topic {}", broker().0.bootstrap, setting.topics.dead_letters),
            );
        let words: Vec<&str> = command.split_whitespace().skip(1).collect();
        let (code, lines, said) = Trainer::run_with(&setting.folder, &words, &keys);
        assert_eq!(code, 0, "{command}\n{said}\n{lines:?}");
    }
    assert!(setting.folder.join("registry/current.json").is_file());
    assert!(storage.data.join("models/live/current.json").is_file());
}

/// What the job published, as the bundles and the thresholds that the section's own steps name.
fn bundles_to_gate(folder: &Path) {
    let current = std::fs::read_to_string(folder.join("registry/current.json")).expect("the job has published");
    let current: Value = serde_json::from_str(&current).expect("JSON");
    let published = folder.join("registry/bundles").join(current["fingerprint"].as_str().expect("a fingerprint"));
    std::fs::create_dir_all(folder.join("bundles")).expect("a new folder");
    for name in ["new", "mine"] {
        let copied = Command::new("cp").arg("-r").arg(&published).arg(folder.join("bundles").join(name)).status();
        assert!(copied.expect("cp starts").success());
    }
    bundle::write_samples(&folder.join("held-out"));
    std::fs::write(folder.join("configs/gate.toml"), GATE).expect("a file in the test's folder");
}

#[test]
fn every_key_of_the_shipped_configuration_is_known_also_those_that_are_commented_out() {
    let shipped = std::fs::read_to_string(repository().join("configs/refresh.toml")).expect("configs/refresh.toml");
    let setting = Setting::new("refresh-keys");
    // `# key = value` and `# [section]` stand for themselves; other comments are words.
    let is_key = |rest: &str| {
        let name = rest.split(" = ").next().unwrap_or_default().trim_matches('"');
        let plain = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || "_.1234567890".contains(c));
        (rest.contains(" = ") && plain(name)) || (rest.starts_with('[') && plain(rest.trim_matches(['[', ']'])))
    };
    let line = |line: &str| line.strip_prefix("# ").filter(|rest| is_key(rest)).unwrap_or(line).to_owned();
    let all: Vec<String> = shipped.lines().map(line).collect();
    let text =
        all.join("\n").replace("configs/train-demo.toml", "train.toml").replace("configs/train-student.toml", "train.toml");
    assert!(text.contains("\nsign_key = ") && text.contains("\n[distil]\n") && text.contains("\n\"sasl.password\" = "), "{text}");
    std::fs::write(setting.folder.join("all.toml"), text).expect("a file in the test's folder");
    let (code, lines, said) = Trainer::run(&setting.folder, &["refresh", "--config", "all.toml", "--check"]);
    assert_eq!(code, 0, "{said}\n{lines:?}");
}
