//! Training fed from a stream.

use std::path::Path;

use astromech_trainer::checkpoint::{MODEL_FILE, STATE_FILE, load_model, read_state};
use astromech_trainer::corpus::{Batch, Loader};
use astromech_trainer::stop::StopFlag;
use astromech_trainer::train::{TrainConfig, batch_source, train};
use astromech_trainer::zero::POSITIONS_FILE;

use crate::{one_run_at_a_time, synthetic};

/// The drawn corpus as four shards; one picture is broken.
fn write_shards(folder: &Path) {
    synthetic::write_corpus(folder);
    std::fs::write(folder.join("images/1-2-0.png"), b"<html>").unwrap();
    let text = std::fs::read_to_string(folder.join("train.jsonl")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    for (index, part) in lines.chunks(8).enumerate() {
        std::fs::write(folder.join(format!("shard-{index}.jsonl")), part.join("\n") + "\n").unwrap();
    }
}

fn config(folder: &Path, out: &Path, overrides: &[&str]) -> TrainConfig {
    let shards = format!("data.stream.shards=[\"{}\"]", folder.join("shard-*.jsonl").display());
    let own = ["data.source=stream", "data.batch=8", "data.stream.shuffle_records=10", "eval.tasks=[]", &shards];
    synthetic::config(folder, out, &[&own, overrides].concat())
}

#[test]
fn a_streaming_run_resumed_in_the_middle_of_an_epoch_repeats_to_the_last_bit() {
    let _guard = one_run_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    write_shards(folder.path());
    let at = |name: &str| folder.path().join(name);
    let stop = StopFlag::new();
    let whole = train(&config(folder.path(), &at("whole"), &[]), false, &stop).unwrap();
    assert!(whole.finished);
    let parts = config(folder.path(), &at("parts"), &["run.part_steps=5"]);
    let first = train(&parts, false, &stop).unwrap();
    let second = train(&parts, true, &stop).unwrap();
    let third = train(&parts, true, &stop).unwrap();
    assert!(third.finished);
    assert_eq!([first.losses, second.losses, third.losses].concat(), whole.losses);
    let numel = load_model(&at("whole").join(MODEL_FILE)).unwrap().params.numel();
    let state = |name: &str| read_state(&at(name).join(STATE_FILE), numel).unwrap();
    let (a, b) = (state("whole"), state("parts"));
    assert!(a.params.equal(&b.params) && a.ema.equal(&b.ema) && a.m.equal(&b.m) && a.v.equal(&b.v));
    // Without its positions a run cannot go on, and says so.
    std::fs::remove_file(at("parts").join(POSITIONS_FILE)).unwrap();
    let more = config(folder.path(), &at("parts"), &["optim.steps=20"]);
    assert!(train(&more, true, &stop).unwrap_err().to_string().contains(POSITIONS_FILE));
}

fn batches(config: &TrainConfig, count: usize) -> Vec<Batch> {
    let loader = Loader::start(batch_source(config).unwrap(), 0, config.run.data_threads).unwrap();
    (0..count).map(|_| loader.next_batch().unwrap().unwrap()).collect()
}

#[test]
fn batches_do_not_depend_on_the_number_of_threads_and_no_two_records_are_positives_by_accident() {
    let folder = tempfile::tempdir().unwrap();
    write_shards(folder.path());
    let with = |threads: &str| batches(&config(folder.path(), &folder.path().join("run"), &[threads]), 9);
    let (one, four) = (with("run.data_threads=1"), with("run.data_threads=4"));
    for (a, b) in one.iter().zip(&four) {
        assert_eq!((&a.pixels, &a.ids, &a.concepts, &a.position), (&b.pixels, &b.ids, &b.concepts, &b.position));
        let mut concepts = a.concepts.clone();
        concepts.sort_unstable();
        concepts.dedup();
        assert_eq!(concepts.len(), a.size);
    }
    // Nine batches of eight are more than two epochs of 31 good records: the broken one was met in each.
    let last = one.last().unwrap().position.as_ref().unwrap();
    assert_eq!((last.epoch, last.faults.values().sum::<u64>()), (2, 2));
}

#[test]
fn records_of_a_group_are_positives_of_each_other() {
    let folder = tempfile::tempdir().unwrap();
    synthetic::write_corpus(folder.path());
    let text = std::fs::read_to_string(folder.path().join("train.jsonl")).unwrap();
    let grouped: Vec<String> =
        text.lines().enumerate().map(|(index, line)| format!("{},\"group\":{}}}", &line[..line.len() - 1], index / 4)).collect();
    std::fs::write(folder.path().join("shard-0.jsonl"), grouped.join("\n")).unwrap();
    let batch = batches(&config(folder.path(), &folder.path().join("run"), &["data.batch=32"]), 1).remove(0);
    let mut concepts = batch.concepts.clone();
    concepts.sort_unstable();
    concepts.dedup();
    assert_eq!((batch.size, concepts.len()), (32, 8));
}

#[test]
fn unreadable_pictures_beyond_the_limit_stop_the_run_and_name_the_shard() {
    let _guard = one_run_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    write_shards(folder.path());
    let out = folder.path().join("run");
    let few = config(folder.path(), &out, &["data.stream.faults_max=1", "optim.steps=100"]);
    let error = train(&few, false, &StopFlag::new()).unwrap_err().to_string();
    assert!(error.contains("faults_max = 1") && error.contains("bad_picture 2") && error.contains("shard-1.jsonl"), "{error}");
}

#[test]
fn a_stream_without_shards_or_with_tasks_but_no_corpus_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    write_shards(folder.path());
    let path = folder.path().join("train.toml");
    std::fs::write(&path, synthetic::config_text(folder.path(), &folder.path().join("run"))).unwrap();
    let read = |overrides: &[&str]| {
        let overrides: Vec<String> = overrides.iter().map(|given| (*given).to_owned()).collect();
        TrainConfig::read(&path, &overrides).unwrap_err().to_string()
    };
    assert!(read(&["data.source=stream"]).contains("data.stream.shards"));
    assert!(read(&["data.source=stream", "data.stream.shards=[\"x\"]", "data.corpus=\"\""]).contains("data.corpus"));
    assert!(read(&["data.corpus=\"\""]).contains("data.corpus"));
    // A filter that a stream does not have must not be thought to hold.
    assert!(read(&["data.source=stream", "data.stream.shards=[\"x\"]", "data.licences=[\"MIT\"]"]).contains("data.licences"));
}
