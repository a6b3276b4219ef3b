//! Fine-tuning for retrieval and for matching on the drawn corpus.

use std::path::Path;

use astromech_trainer::checkpoint::{LoadedModel, MODEL_FILE, STATE_FILE, load_model, read_state};
use astromech_trainer::stop::StopFlag;
use astromech_trainer::train::{ScheduleKind, TrainConfig, train, train_matching};

use crate::{one_run_at_a_time, synthetic};

/// Pairs of every drawn picture: its own text as often as texts of other concepts, which differ in training and validation.
fn write_pairs(folder: &Path) {
    let records = std::fs::read_to_string(folder.join("train.jsonl")).unwrap();
    let records: Vec<serde_json::Value> = records.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (name, distances) in [("fit", [2, 6, 14, 20]), ("held", [4, 10, 16, 28])] {
        let mut rows = String::new();
        for (index, record) in records.iter().enumerate() {
            for distance in distances {
                let other = &records[(index + distance) % records.len()];
                let label = |label: i32, text: &serde_json::Value| {
                    serde_json::json!({ "image": record["id"], "text": text, "label": label }).to_string() + "\n"
                };
                rows += &(label(1, &record["title"]) + &label(0, &other["title"]));
            }
        }
        std::fs::write(folder.join(format!("tasks/train.{name}.match.jsonl")), rows).unwrap();
    }
}

fn matching_config(folder: &Path, out: &Path, overrides: &[String]) -> TrainConfig {
    let at = |name: &str| folder.join(format!("tasks/train.{name}.match.jsonl")).display().to_string();
    let path = folder.join("matching.toml");
    let section = format!("[matching]\ntrain = [{:?}]\nvalid = [{:?}]\nmicro_batch = 12\n", at("fit"), at("held"));
    std::fs::write(&path, synthetic::config_text(folder, out) + &section).unwrap();
    TrainConfig::read(&path, overrides).unwrap()
}

fn value(loaded: &LoadedModel, name: &str) -> tch::Tensor {
    loaded.params.value(name).unwrap()
}

#[test]
fn matching_fine_tuning_learns_unseen_pairs_while_the_image_tower_stays_to_the_last_bit() {
    let _guard = one_run_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    synthetic::write_corpus(folder.path());
    write_pairs(folder.path());
    let (first, out) = (folder.path().join("first"), folder.path().join("matching"));
    // Towers that can tell the pictures apart; their cross encoders have seen nothing.
    let start = ["optim.steps=300", "loss.itm_every=0", "loss.dropout=0.0"];
    train(&synthetic::config(folder.path(), &first, &start), false, &StopFlag::new()).unwrap();
    let init = first.join(MODEL_FILE);
    let overrides = [
        format!("run.init={}", init.display()),
        "optim.freeze=[\"visual_encoder.\"]".to_owned(),
        "optim.epochs=20".to_owned(),
        "optim.lr=2e-3".to_owned(),
        "loss.dropout=0.0".to_owned(),
    ];
    let config = matching_config(folder.path(), &out, &overrides);
    let outcome = train_matching(&config, config.matching.as_ref().unwrap(), false, &StopFlag::new()).unwrap();
    assert!(outcome.run.finished);
    // 256 pairs in batches of 16: twenty epochs are 320 steps.
    assert_eq!(outcome.run.steps, 320);
    assert!(outcome.run.losses.iter().all(|loss| (0.3132..1.3133).contains(loss)));
    let held = &outcome.figures[0];
    assert_eq!(held.task, "train.held.match");
    assert!(held.figures.auc > 0.9, "{held:?}");
    let (before, after) = (load_model(&init).unwrap(), load_model(&out.join(MODEL_FILE)).unwrap());
    let state = read_state(&out.join(STATE_FILE), after.params.numel()).unwrap();
    let (mut frozen, mut moved) = (0, 0);
    for named in before.params.named() {
        let equal = value(&before, &named.name).equal(&value(&after, &named.name));
        if named.name.starts_with("visual_encoder.") {
            let masters = after.params.view(&state.params, named);
            assert!(equal && masters.equal(&value(&before, &named.name)), "{}", named.name);
            frozen += 1;
        } else {
            moved += usize::from(!equal);
        }
    }
    assert!(frozen > 30 && moved > 30, "{frozen} frozen, {moved} moved");
    assert!(out.join("curves.svg").exists());
}

#[test]
fn a_resumed_matching_run_and_one_in_parts_of_a_batch_give_the_same_losses() {
    let _guard = one_run_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    synthetic::write_corpus(folder.path());
    write_pairs(folder.path());
    let run = |name: &str, resume: bool, overrides: &[&str]| {
        let overrides: Vec<String> = overrides.iter().map(|given| (*given).to_owned()).collect();
        let config = matching_config(folder.path(), &folder.path().join(name), &overrides);
        train(&config, resume, &StopFlag::new()).unwrap()
    };
    let whole = run("whole", false, &["optim.steps=6"]);
    let first = run("parts", false, &["optim.steps=6", "run.part_steps=4"]);
    let second = run("parts", true, &["optim.steps=6", "run.part_steps=4"]);
    assert!(second.finished && !first.finished);
    assert_eq!([first.losses, second.losses].concat(), whole.losses);
    // Without dropout the micro-batches are exact but for rounding; pictures decoded anew each time are the same pictures.
    let exact = run("exact", false, &["optim.steps=6", "loss.dropout=0.0", "matching.micro_batch=0"]);
    let micro = run("micro", false, &["optim.steps=6", "loss.dropout=0.0", "matching.pictures_bytes_max=0"]);
    for (a, b) in exact.losses.iter().zip(&micro.losses) {
        assert!((a - b).abs() < 1e-4, "{a} and {b}");
    }
}

#[test]
fn frozen_parts_stay_in_contrastive_training_too_and_unknown_ones_are_named() {
    let _guard = one_run_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    synthetic::write_corpus(folder.path());
    let at = |name: &str| folder.path().join(name);
    train(&synthetic::config(folder.path(), &at("a"), &["optim.steps=2"]), false, &StopFlag::new()).unwrap();
    let init = format!("run.init={}", at("a").join(MODEL_FILE).display());
    let overrides = ["optim.epochs=3", "optim.decay_vectors=true", "optim.freeze=[\"visual_encoder.\", \"temp\"]", &init];
    let outcome = train(&synthetic::config(folder.path(), &at("b"), &overrides), false, &StopFlag::new()).unwrap();
    assert_eq!(outcome.steps, 6, "32 records in batches of 16 are two steps an epoch");
    let (before, after) = (load_model(&at("a").join(MODEL_FILE)).unwrap(), load_model(&at("b").join(MODEL_FILE)).unwrap());
    for named in before.params.named() {
        let equal = value(&before, &named.name).equal(&value(&after, &named.name));
        let frozen = named.name.starts_with("visual_encoder.") || named.name == "temp";
        // The norms of img_joint_layer and others may not move visibly, but towers and projections do.
        assert!(equal || !frozen, "{}", named.name);
        assert!(!equal || frozen || !named.name.starts_with("text_encoder.encoder"), "{}", named.name);
    }
    let unknown = synthetic::config(folder.path(), &at("c"), &["optim.freeze=[\"image_tower.\"]"]);
    let error = train(&unknown, false, &StopFlag::new()).unwrap_err().to_string();
    assert!(error.contains("optim.freeze names image_tower."), "{error}");
}

fn preset(name: &str) -> TrainConfig {
    TrainConfig::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs").join(name), &[]).unwrap()
}

#[track_caller]
fn same(found: &[f64], expected: &[f64]) {
    assert_eq!(found, expected);
}

#[test]
fn the_presets_are_the_official_recipes() {
    let retrieval = preset("finetune-retrieval.toml");
    let o = &retrieval.optim;
    assert_eq!((retrieval.data.batch, o.epochs, o.warmup_steps, retrieval.run.seed), (256, 10, 500, 42));
    assert_eq!(o.schedule, ScheduleKind::CosinePerEpoch { warmup_from: 0.1 });
    same(&[o.lr, o.lr_end, o.weight_decay, o.clip_norm, o.ema, o.betas[1]], &[1e-5, 0.0, 0.05, 0.0, 0.0, 0.999]);
    assert!(o.decay_vectors && o.no_decay.is_empty());
    assert_eq!(retrieval.loss.itm_pairs_max, 3 * 256);
    let matching = preset("finetune-matching.toml");
    let o = &matching.optim;
    assert_eq!((matching.data.batch, o.epochs, matching.run.seed), (512, 20, 2021));
    assert_eq!(o.schedule, ScheduleKind::Triangular { up_steps: 3125, low: 0.05 });
    same(&[o.lr, o.weight_decay], &[3e-6, 0.01]);
    assert_eq!(o.no_decay, ["bias"]);
    for config in [&retrieval, &matching] {
        assert_eq!(config.optim.freeze, ["visual_encoder."]);
        same(&[config.loss.dropout, config.loss.attention_dropout], &[0.1, 0.1]);
    }
}
