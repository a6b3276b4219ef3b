//! A corpus folder out of shards.

use std::collections::HashSet;
use std::path::Path;

use astromech_trainer::corpus::{RecordFilter, read_records, read_retrieval_task};
use astromech_trainer::zero::{FaultKind, FolderOptions, FolderStats, RecordStream, StreamSettings, write_folder};

use crate::synthetic;

/// The drawn corpus as one shard: a picture that is none, a text that is none, a record that comes twice.
fn write_shard(folder: &Path) {
    synthetic::write_corpus(folder);
    std::fs::write(folder.join("images/0-0-0.png"), b"<html>").unwrap();
    let text = std::fs::read_to_string(folder.join("train.jsonl")).unwrap();
    let twice = text.lines().nth(5).unwrap();
    std::fs::write(folder.join("shard.jsonl"), format!("{text}{twice}\n{{\"image\":\"images/1-1-1.png\",\"query\":\"\"}}\n"))
        .unwrap();
}

fn made(shards: &Path, out: &Path, held_out: usize) -> (FolderStats, u64) {
    let settings = StreamSettings {
        shards: vec![shards.join("shard.jsonl").display().to_string()],
        shuffle_records: 1,
        fault_fraction_max: 1.0,
        ..StreamSettings::default()
    };
    let mut stream = RecordStream::open(settings, 0).unwrap();
    let options = FolderOptions { out: out.to_path_buf(), held_out, licence: "MIT".into(), domain: "pairs".into() };
    let stats = write_folder(&mut stream, &options).unwrap();
    assert_eq!(stream.ledger.counts().get(&FaultKind::EmptyText), Some(&1));
    (stats, stream.ledger.counts()[&FaultKind::BadPicture])
}

#[test]
fn no_picture_is_on_both_sides_and_faults_are_counted_and_left_out() {
    let folder = tempfile::tempdir().unwrap();
    write_shard(folder.path());
    let out = folder.path().join("corpus");
    let (stats, broken) = made(folder.path(), &out, 8);
    assert_eq!((stats.train + stats.val, broken), (32, 1));
    let read = |split: &str| {
        let filter = RecordFilter { splits: vec![split.into()], licences: vec!["MIT".into()], domains: vec!["pairs".into()] };
        read_records(&out, &filter).unwrap()
    };
    let (train, val) = (read("train"), read("val"));
    let pictures = |records: &[astromech_trainer::corpus::Record]| {
        records.iter().map(|record| record.image.clone()).collect::<HashSet<String>>()
    };
    assert_eq!(pictures(&val).len(), 8);
    assert!(pictures(&val).is_disjoint(&pictures(&train)));
    assert_eq!((train.len(), val.len()), (stats.train as usize, stats.val as usize));
    for name in ["val.pairs.long", "val.pairs.short"] {
        let task = read_retrieval_task(&out, name).unwrap();
        assert!(task.queries.iter().flat_map(|query| &query.images).all(|id| val.iter().any(|record| record.id == *id)));
    }
    // The same records are held out whatever else was read before.
    let again = folder.path().join("again");
    made(folder.path(), &again, 8);
    assert_eq!(std::fs::read(out.join("val.jsonl")).unwrap(), std::fs::read(again.join("val.jsonl")).unwrap());
}

#[test]
fn none_or_all_may_be_held_out() {
    let folder = tempfile::tempdir().unwrap();
    write_shard(folder.path());
    let (none, _) = made(folder.path(), &folder.path().join("none"), 0);
    assert_eq!((none.train, none.val, none.tasks.len()), (32, 0, 0));
    let (all, _) = made(folder.path(), &folder.path().join("all"), 1_000);
    assert_eq!((all.train, all.val, all.tasks.len()), (0, 32, 2));
}
