//! Whole training runs on a small drawn corpus.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use astromech_trainer::checkpoint::{MODEL_FILE, STATE_FILE, load_model, read_state};
use astromech_trainer::corpus::CorpusError;
use astromech_trainer::stop::StopFlag;
use astromech_trainer::train::{TrainConfig, TrainError, train};

use crate::{one_run_at_a_time, synthetic};

/// Longest wait for a child process to reach a state.
const DEADLINE: Duration = Duration::from_mins(2);

#[test]
fn a_resumed_run_gives_the_same_losses_and_weights_to_the_last_bit() {
    let _guard = one_run_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    synthetic::write_corpus(folder.path());
    let at = |name: &str| folder.path().join(name);
    let stop = StopFlag::new();
    // The cross encoders start within the first part, with a rate of their own.
    let cross = ["loss.itm_start_step=3", "optim.cross={ lr_scale = 0.5, warmup_steps = 4 }"];
    let whole = train(&synthetic::config(folder.path(), &at("whole"), &cross), false, &stop).unwrap();
    assert!(whole.finished);
    assert_eq!(whole.losses.len(), 12);
    let parts = synthetic::config(folder.path(), &at("parts"), &["run.part_steps=5", cross[0], cross[1]]);
    let first = train(&parts, false, &stop).unwrap();
    assert!(!first.finished);
    let second = train(&parts, true, &stop).unwrap();
    let third = train(&parts, true, &stop).unwrap();
    assert!(third.finished);
    let joined: Vec<f64> = [first.losses, second.losses, third.losses].concat();
    assert_eq!(joined, whole.losses);
    let numel = load_model(&at("whole").join(MODEL_FILE)).unwrap().params.numel();
    let state = |name: &str| read_state(&at(name).join(STATE_FILE), numel).unwrap();
    let (a, b) = (state("whole"), state("parts"));
    assert!(a.params.equal(&b.params) && a.ema.equal(&b.ema) && a.m.equal(&b.m) && a.v.equal(&b.v));
    assert_eq!(third.recall, whole.recall);
}

#[test]
fn training_learns_the_drawn_corpus() {
    let _guard = one_run_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    synthetic::write_corpus(folder.path());
    for precision in ["f32", "bf16"] {
        let out = folder.path().join(precision);
        let overrides = ["optim.steps=300", "loss.itm_every=8", "loss.dropout=0.0", &format!("run.precision={precision}")];
        let outcome = train(&synthetic::config(folder.path(), &out, &overrides), false, &StopFlag::new()).unwrap();
        let recall = &outcome.recall[0];
        assert_eq!((recall.queries, recall.gallery), (16, 32));
        assert!(recall.text_to_image[0] > 0.8, "{precision}: {recall:?}");
        assert!(recall.image_to_text[0] > 0.8, "{precision}: {recall:?}");
        assert!(out.join("curves.svg").exists());
    }
}

/// Numbers of a field, by step.
fn logged(out: &Path, field: &str) -> Vec<f64> {
    let text = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    let rows = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    rows.filter_map(|row| row[field].as_f64()).collect()
}

#[test]
fn each_head_of_the_single_tower_leaves_ln_2() {
    let _guard = one_run_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    synthetic::write_corpus(folder.path());
    let out = folder.path().join("run");
    let overrides = ["optim.steps=400", "loss.itm_every=1", "loss.itm_pairs_max=48", "loss.dropout=0.0", "loss.fgr_uniform=0.5"];
    train(&synthetic::config(folder.path(), &out, &overrides), false, &StopFlag::new()).unwrap();
    for head in ["text", "image"] {
        let losses = logged(&out, &format!("fgr_{head}"));
        let last = losses[losses.len() - 50..].iter().sum::<f64>() / 50.0;
        assert!((losses[0] - std::f64::consts::LN_2).abs() < 0.2, "{head}: it starts at chance, {}", losses[0]);
        assert!(last < 0.35, "{head}: {last} after 400 steps");
        for direction in ["text_to_image", "image_to_text"] {
            let auc = logged(&out, &format!("itm_{head}_auc_{direction}"));
            let last = auc[auc.len() - 50..].iter().sum::<f64>() / 50.0;
            assert!(last > 0.9, "{head}, {direction}: AUC {last}");
        }
    }
}

#[test]
fn a_checkpoint_of_another_seed_or_size_is_not_resumed() {
    let _guard = one_run_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    synthetic::write_corpus(folder.path());
    let out = folder.path().join("run");
    let stop = StopFlag::new();
    train(&synthetic::config(folder.path(), &out, &["run.part_steps=1"]), false, &stop).unwrap();
    let other = synthetic::config(folder.path(), &out, &["run.seed=8"]);
    assert!(matches!(train(&other, true, &stop), Err(TrainError::Seed { found: 7, expected: 8, .. })));
    let other = synthetic::config(folder.path(), &out, &["model.embed=16"]);
    let error = train(&other, true, &stop).unwrap_err().to_string();
    assert!(error.contains("resume with the configuration it was trained with"), "{error}");
}

#[test]
fn a_broken_picture_is_named_with_its_record() {
    let _guard = one_run_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    synthetic::write_corpus(folder.path());
    std::fs::write(folder.path().join("images/1-2-0.png"), b"<html>").unwrap();
    let config = synthetic::config(folder.path(), &folder.path().join("run"), &[]);
    let error = train(&config, false, &StopFlag::new()).unwrap_err();
    assert!(matches!(&error, TrainError::Corpus(CorpusError::Picture { id, .. }) if id == "1-2-0"), "{error}");
}

#[test]
fn sigterm_saves_and_exits_0() {
    let folder = tempfile::tempdir().unwrap();
    synthetic::write_corpus(folder.path());
    let (path, out) = (folder.path().join("train.toml"), folder.path().join("run"));
    std::fs::write(&path, synthetic::config_text(folder.path(), &out)).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_trainer"))
        .args(["train", "--set", "optim.steps=1000000", "--config"])
        .arg(&path)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    // The first line of metrics shows that steps are being made.
    while std::fs::metadata(out.join("metrics.jsonl")).map_or(0, |file| file.len()) == 0 {
        assert!(begun.elapsed() < DEADLINE && child.try_wait().unwrap().is_none(), "it made no step");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    assert!(child.wait().unwrap().success());
    let numel = load_model(&out.join(MODEL_FILE)).unwrap().params.numel();
    assert!(read_state(&out.join(STATE_FILE), numel).unwrap().progress.step > 0);
}

#[test]
fn kill_9_while_checkpoints_are_written_leaves_a_loadable_one_that_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    synthetic::write_corpus(folder.path());
    let (path, out) = (folder.path().join("train.toml"), folder.path().join("run"));
    std::fs::write(&path, synthetic::config_text(folder.path(), &out)).unwrap();
    let state = || {
        let numel = load_model(&out.join(MODEL_FILE)).unwrap().params.numel();
        read_state(&out.join(STATE_FILE), numel).unwrap().progress.step
    };
    let mut before = 0;
    for kill in 0..6u32 {
        // A checkpoint after every step: it is being written most of the time.
        let mut command = Command::new(env!("CARGO_BIN_EXE_trainer"));
        command.args(["train", "--set", "optim.steps=1000000", "--set", "run.save_every_seconds=0", "--config"]).arg(&path);
        if kill > 0 {
            command.arg("--resume");
        }
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        // Some steps further on, at another place of the file each time.
        let modified = || std::fs::metadata(out.join(STATE_FILE)).and_then(|file| file.modified()).ok();
        for _ in 0..2 + kill {
            let old = modified();
            while modified() == old {
                assert!(begun.elapsed() < DEADLINE && child.try_wait().unwrap().is_none(), "it wrote no checkpoint");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        std::thread::sleep(Duration::from_micros(u64::from(kill) * 700));
        child.kill().unwrap();
        child.wait().unwrap();
        let after = state();
        assert!(after > before, "from step {before} to {after}");
        before = after;
    }
}

/// Every term of the objective at once (docs/R2D2.md §2.6).
const WHOLE: [&str; 9] = [
    "model.mlm_head=true",
    "loss.momentum=true",
    "loss.queue_slots=48",
    "loss.queue_decay=0.99",
    "loss.tgd_alpha=0.4",
    "loss.mlm_weight=0.5",
    "loss.fgd_weight=0.5",
    "loss.dropout=0.0",
    "optim.muon_lr_scale=20.0",
];

#[test]
fn the_whole_objective_resumes_to_the_last_bit() {
    let _guard = one_run_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    synthetic::write_corpus(folder.path());
    let at = |name: &str| folder.path().join(name);
    let stop = StopFlag::new();
    let whole = train(&synthetic::config(folder.path(), &at("whole"), &WHOLE), false, &stop).unwrap();
    let parts: Vec<&str> = WHOLE.into_iter().chain(["run.part_steps=7"]).collect();
    let parts = synthetic::config(folder.path(), &at("parts"), &parts);
    let first = train(&parts, false, &stop).unwrap();
    let second = train(&parts, true, &stop).unwrap();
    assert!(second.finished);
    assert_eq!([first.losses, second.losses].concat(), whole.losses);
}

#[test]
fn the_whole_objective_learns_the_drawn_corpus_and_logs_every_term() {
    let _guard = one_run_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    synthetic::write_corpus(folder.path());
    let out = folder.path().join("run");
    // Lines of the log and steps with the cross encoders never fall together here.
    let overrides: Vec<&str> =
        WHOLE.into_iter().chain(["optim.steps=200", "loss.itm_every=2", "run.log_every_steps=2"]).collect();
    let outcome = train(&synthetic::config(folder.path(), &out, &overrides), false, &StopFlag::new()).unwrap();
    assert!(outcome.recall[0].text_to_image[0] > 0.8, "{:?}", outcome.recall);
    let metrics = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    let rows: Vec<serde_json::Value> = metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for term in ["gcpr", "fgr", "mlm", "fgd"] {
        let values: Vec<f64> = rows.iter().filter_map(|row| row[term].as_f64()).collect();
        assert!(values.len() >= 90 && values.iter().all(|value| value.is_finite()), "{term}: {values:?}");
    }
}

#[test]
fn terms_that_need_another_are_refused_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.toml");
    std::fs::write(&path, synthetic::config_text(folder.path(), &folder.path().join("run"))).unwrap();
    for (given, field) in [
        (
            "loss.tgd_alpha=0.4",
            "loss.tgd_alpha: it is 0.4 and must be 0 without loss.momentum = true; fix: write 0, or loss.momentum = true",
        ),
        (
            "loss.mlm_weight=1.0",
            "loss.mlm_weight: it is 1 and must be 0 without model.mlm_head = true; fix: write 0, or model.mlm_head = true",
        ),
        (
            "loss.fgd_weight=1.0",
            "loss.fgd_weight: it is 1 and must be 0 without loss.momentum = true and loss.mlm_weight above 0; fix: write 0, or give both",
        ),
    ] {
        let error = TrainConfig::read(&path, &[given.to_owned()]).unwrap_err().to_string();
        assert_eq!(error, format!("{}: 1 error\n  --set: {field}", path.display()));
    }
    let both = ["loss.token_wise=true".to_owned(), "loss.queue_slots=8".to_owned()];
    assert!(TrainConfig::read(&path, &both).unwrap_err().to_string().contains("loss.token_wise"));
}
