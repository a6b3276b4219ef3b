//! The five published tasks and a corpus's own, measured on a bundle through the towers.

use std::fmt::Write as _;
use std::path::Path;

use astromech_towers::{Bundle, Towers, TowersConfig, init_runtime};
use astromech_trainer::checkpoint::MODEL_FILE;
use astromech_trainer::corpus::{PairSource, PublishedSet, PublishedSource};
use astromech_trainer::evaluate::{EvaluateError, EvaluateOptions, Report, TaskItems, evaluate, evaluate_matching};
use astromech_trainer::stop::StopFlag;
use astromech_trainer::train::{Recall, TrainConfig, train};

use crate::{one_run_at_a_time, release_support, synthetic};

/// Records of the drawn corpus: id, text.
fn records(corpus: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(corpus.join("train.jsonl")).unwrap();
    let field = |row: &serde_json::Value, name: &str| row[name].as_str().unwrap().to_owned();
    let parse = |line: &str| {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        (field(&row, "id"), field(&row, "title"))
    };
    text.lines().map(parse).collect()
}

/// The drawn corpus in the formats of Zero: two texts for every second picture, one label of each kind for the matching sets.
fn write_published(corpus: &Path, data: &Path) {
    let images = data.join("IQR_IQM_ICR_ICM_images");
    let flickr = data.join("flickr30k_images");
    for folder in [images.clone(), flickr.clone(), data.join("ICM/val"), data.join("val"), data.join("test"), data.join("train")]
    {
        std::fs::create_dir_all(folder).unwrap();
    }
    let (mut retrieval, mut matching, mut lines) = (String::new(), String::new(), String::new());
    let records = records(corpus);
    for (index, (id, text)) in records.iter().enumerate() {
        let picture = image::open(corpus.join(format!("images/{id}.png"))).unwrap();
        picture.save(images.join(format!("{id}.bmp"))).unwrap();
        picture.save_with_format(flickr.join(format!("{id}.jpg")), image::ImageFormat::Png).unwrap();
        let path = format!("image/deep/{id}.bmp");
        for _ in 0..=usize::from(index.is_multiple_of(2)) {
            retrieval += &(serde_json::json!({ "text": text, "image_path": path }).to_string() + "\n");
        }
        let other = &records[(index + 7) % records.len()].1;
        for (text, label) in [(text, 1), (other, 0)] {
            matching += &(serde_json::json!({ "text": text, "image_path": path, "label": label }).to_string() + "\n");
        }
        writeln!(lines, "{id}#0\t{text}\n{id}#1\t {text}").unwrap();
    }
    std::fs::write(data.join("ICM/val/long_itm_val.json"), &matching).unwrap();
    std::fs::write(data.join("val/short_itm_val.json"), &matching).unwrap();
    std::fs::write(data.join("val/long_itr_val.json"), &retrieval).unwrap();
    std::fs::write(data.join("val/short_itr_val.json"), &retrieval).unwrap();
    std::fs::write(data.join("test/flickr30k_cna_test.txt"), &lines).unwrap();
    std::fs::write(data.join("train/flickr30k_cna_train.txt"), lines + "x#0\t一\n").unwrap();
}

fn source(data: &Path, set: PublishedSet) -> PublishedSource {
    let split = set.split_default().to_owned();
    PublishedSource { set, folder: data.to_path_buf(), split, images: None, skip_missing: false }
}

fn pairs_of(source: &PublishedSource) -> PairSource {
    PairSource { path: source.file(), corpus: None, images: Some(source.images()), skip_missing: source.skip_missing }
}

#[test]
fn retrieval_sets_have_each_picture_once_and_one_right_picture_a_text() {
    let folder = tempfile::tempdir().unwrap();
    let (corpus, data) = (folder.path().join("corpus"), folder.path().join("zero"));
    synthetic::write_corpus(&corpus);
    write_published(&corpus, &data);
    for (set, texts) in [(PublishedSet::Icr, 48), (PublishedSet::Iqr, 48), (PublishedSet::Flickr30kCna, 64)] {
        let items = TaskItems::published(&source(&data, set)).unwrap();
        assert_eq!((items.texts.len(), items.pictures.len()), (texts, 32), "{set:?}");
        assert!(items.right.iter().all(|right| right.len() == 1));
        assert_eq!((&items.right[0], &items.right[1], &items.right[2]), (&vec![0], &vec![0], &vec![1]));
        assert_eq!(items.texts[0], "红色在左上");
        assert!(items.pictures.iter().all(|picture| picture.path.is_file()));
    }
    let train = PublishedSource { split: "train".into(), ..source(&data, PublishedSet::Flickr30kCna) };
    let read = train.read().unwrap();
    assert_eq!(
        (read.rows.len(), read.skipped.as_slice()),
        (64, &["line 65: a caption shorter than 3 characters".to_owned()][..])
    );
    let (images, records) = train.records().unwrap();
    assert_eq!((images.file_name().unwrap().to_str().unwrap(), records.len()), ("flickr30k_images", 64));
    assert_eq!((&records[0].concept, &records[0].image), (&records[1].concept, &records[1].image));
    assert_ne!(records[0].id, records[1].id);
}

#[test]
fn matching_sets_are_read_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    let (corpus, data) = (folder.path().join("corpus"), folder.path().join("zero"));
    synthetic::write_corpus(&corpus);
    write_published(&corpus, &data);
    let own = |rows: &str, name: &str| std::fs::write(corpus.join("tasks").join(name), rows).unwrap();
    own(
        "{\"image\":\"0-0-0\",\"text\":\"红色在左上\",\"label\":1}\n{\"image\":\"0-0-0\",\"text\":\"绿\",\"label\":0}\n",
        "train.shape.match.jsonl",
    );
    let pairs = PairSource::corpus_task(&corpus, "train.shape.match").read().unwrap();
    assert_eq!((pairs.name.as_str(), pairs.pairs.len(), pairs.pictures.len()), ("train.shape.match", 2, 1));
    assert_eq!(pairs.pictures[0].concept.as_deref(), Some("红左上"));
    assert!(pairs.pairs[0].label && !pairs.pairs[1].label);
    for set in [PublishedSet::Icm, PublishedSet::Iqm] {
        let pairs = pairs_of(&source(&data, set)).read().unwrap();
        assert_eq!((pairs.pairs.len(), pairs.pictures.len()), (64, 32));
        assert_eq!(pairs.pairs.iter().filter(|pair| pair.label).count(), 32);
    }
    let path = folder.path().join("pairs.tsv");
    std::fs::write(&path, "images/0-0-0.png\t红\t1\n\nimages/0-0-1.png\t绿\t0\n").unwrap();
    let tabs = PairSource { path, corpus: None, images: Some(corpus), skip_missing: false };
    let pairs = tabs.read().unwrap();
    assert_eq!((pairs.pairs.len(), pairs.pairs[1].text.as_str(), pairs.pairs[1].label), (2, "绿", false));
}

#[test]
fn a_bad_row_is_named_with_its_file_line_and_field() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    std::fs::create_dir_all(data.join("val")).unwrap();
    std::fs::create_dir_all(data.join("test")).unwrap();
    std::fs::create_dir_all(data.join("IQR_IQM_ICR_ICM_images")).unwrap();
    std::fs::write(data.join("IQR_IQM_ICR_ICM_images/a.jpg"), b"x").unwrap();
    let good = r#"{"text":"甲","image_path":"image/a.jpg","label":1}"#;
    let message = |set: PublishedSet, file: &str, row: &str| {
        std::fs::write(data.join(file), format!("{good}\n{row}\n")).unwrap();
        let source = source(data, set);
        let error = if set.is_matching() { pairs_of(&source).read().unwrap_err() } else { source.read().unwrap_err() };
        error.to_string()
    };
    let (icm, icr) = ("val/long_itm_val.json", "val/long_itr_val.json");
    for (set, file, row, parts) in [
        (PublishedSet::Icm, icm, r#"{"text":"甲","image_path":"a.jpg","label":2}"#, "`label` is 2; it must be 0 or 1"),
        (PublishedSet::Icm, icm, r#"{"text":"甲","image_path":"a.jpg"}"#, "`label` is missing"),
        (PublishedSet::Icm, icm, r#"{"text":"甲","label":1}"#, "`image_path` is missing"),
        (PublishedSet::Icr, icr, r#"{"text":" ","image_path":"a.jpg"}"#, "`text` is empty"),
        (PublishedSet::Icr, icr, r#"{"text":3,"image_path":"a.jpg"}"#, "`text` is 3; it must be a text"),
        (PublishedSet::Icr, icr, r#"{"text":"甲","image_path":"b.jpg"}"#, "`image_path` names b.jpg, which is not in"),
        (PublishedSet::Icr, icr, "[1]", "the row is no JSON object"),
    ] {
        let found = message(set, file, row);
        assert!(found.contains(file) && found.contains("line 2") && found.contains(parts), "{found}");
    }
    std::fs::write(data.join("test/flickr30k_cna_test.txt"), "12 甲\n").unwrap();
    let found = source(data, PublishedSet::Flickr30kCna).read().unwrap_err().to_string();
    assert!(found.contains("line 1: there is no tab"), "{found}");
    // Asked to, it leaves out rows without a picture, and names them.
    std::fs::write(data.join(icr), format!("{good}\n{}\n", r#"{"text":"甲","image_path":"b.jpg"}"#)).unwrap();
    let read = PublishedSource { skip_missing: true, ..source(data, PublishedSet::Icr) }.read().unwrap();
    assert!(read.rows.len() == 1 && read.skipped[0].starts_with("line 2: field `image_path` names b.jpg"), "{:?}", read.skipped);
}

#[test]
fn a_published_retrieval_set_is_trained_on_and_a_matching_set_is_refused_there() {
    let _guard = one_run_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let (corpus, data) = (folder.path().join("corpus"), folder.path().join("zero"));
    synthetic::write_corpus(&corpus);
    write_published(&corpus, &data);
    let own = format!("data.corpus={}", data.display());
    let overrides = ["data.set=icr", "data.splits=[\"val\"]", "eval.tasks=[]", "optim.epochs=1", &own];
    let outcome = train(&synthetic::config(&corpus, &folder.path().join("run"), &overrides), false, &StopFlag::new()).unwrap();
    // 48 rows in batches of 16.
    assert_eq!((outcome.steps, outcome.finished), (3, true));
    let overrides: Vec<String> = vec!["data.set=icm".into()];
    let error = TrainConfig::read(&corpus.join("train.toml"), &overrides).unwrap_err().to_string();
    assert!(error.contains("--set: data.set: it is icm and must be icr, iqr or flickr30k-cna; fix: "), "{error}");
}

/// Trains a little on the drawn corpus and releases the model as a bundle.
pub fn bundle(corpus: &Path, folder: &Path) -> (Bundle, Vec<Recall>) {
    let _guard = one_run_at_a_time();
    let run = folder.join("run");
    let overrides = ["optim.steps=120", "loss.dropout=0.0", "optim.ema=0.5"];
    let outcome = train(&synthetic::config(corpus, &run, &overrides), false, &StopFlag::new()).unwrap();
    let out = folder.join("bundle");
    release_support::release_bundle(corpus, &run.join(MODEL_FILE), &out, "drawn");
    (Bundle::open(&out).unwrap(), outcome.recall)
}

#[test]
fn a_bundle_is_measured_on_every_task_and_the_command_writes_table_json_and_plot() {
    let folder = tempfile::tempdir().unwrap();
    let (corpus, data) = (folder.path().join("corpus"), folder.path().join("zero"));
    synthetic::write_corpus(&corpus);
    write_published(&corpus, &data);
    init_runtime(None).unwrap();
    let (bundle, validated) = bundle(&corpus, folder.path());
    let towers = Towers::start(&bundle, &TowersConfig::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();

    // What is measured through the towers is what training measured in its own process.
    let items = TaskItems::load(&corpus, "train.shape.long").unwrap();
    let measure = |items: &TaskItems, top_k: usize, text_to_image_only: bool| {
        runtime.block_on(evaluate(&towers, items, EvaluateOptions { top_k, text_to_image_only })).unwrap()
    };
    let whole = measure(&items, 32, false);
    for (found, expected) in whole.text_to_image.at().iter().zip(validated[0].text_to_image) {
        assert!((found - expected).abs() < 0.07, "{whole:?} {validated:?}");
    }
    // 16 texts, 32 pictures: the gallery of pictures is whole, that of texts smaller than top_k, and the report says so.
    assert_eq!(whole.notes.len(), 1);
    assert!(whole.notes[0].starts_with("it has 16 texts, fewer than top_k = 32"), "{:?}", whole.notes);
    assert!(whole.text_to_image_reranked.is_some() && whole.image_to_text_reranked.is_some());
    let alone = measure(&items, 0, true);
    assert_eq!((alone.image_to_text, alone.text_to_image_reranked), (None, None));
    assert!((alone.mean_recall() - alone.text_to_image.at().iter().sum::<f64>() / 3.0).abs() < 1e-12);
    // Re-ranking one candidate cannot change who is first.
    let one = measure(&items, 1, false);
    assert!((one.text_to_image_reranked.unwrap().r1 - one.text_to_image.r1).abs() < 1e-12);

    let pairs = pairs_of(&source(&data, PublishedSet::Icm)).read().unwrap();
    let matched = runtime.block_on(evaluate_matching(&towers, &pairs, true)).unwrap();
    assert_eq!((matched.pairs, matched.matching, matched.pictures), (64, 32, 32));
    assert!(matched.cosine.auc > 0.8, "{matched:?}");
    assert!(matched.matched.is_some());
    let mut positives = pairs.clone();
    positives.pairs.retain(|pair| pair.label);
    let error = runtime.block_on(evaluate_matching(&towers, &positives, false)).unwrap_err();
    assert!(matches!(error, EvaluateError::OneLabel { matching: 32, pairs: 32, .. }), "{error}");
    drop(towers);

    command(&corpus, &data, folder.path(), matched.cosine.auc);
}

/// The whole command, on all five sets and a task of the corpus.
fn command(corpus: &Path, data: &Path, folder: &Path, auc: f64) {
    let trainer = |arguments: &[&str]| {
        let done = std::process::Command::new(env!("CARGO_BIN_EXE_trainer")).args(arguments).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    let at = |name: &str| folder.join(name).display().to_string();
    let (json, plot, both) = (at("report.json"), at("bars.svg"), at("both.svg"));
    let arguments = ["evaluate", "--bundle", &at("bundle"), "--corpus", &corpus.display().to_string()];
    let published = ["--data", &data.display().to_string(), "--task", "icm,iqm,icr,iqr,flickr30k-cna,train.shape.long"];
    let table = trainer(&[&arguments[..], &published, &["--out", &json, "--plot", &plot]].concat());
    for part in
        ["| icr.val |", "| flickr30k-cna.test |", "dual + single tower, 64 re-ranked", "128 re-ranked", "pixel floor", "icm.val"]
    {
        assert!(table.contains(part), "{part}: {table}");
    }
    let report = Report::read(Path::new(&json)).unwrap();
    assert_eq!((report.tasks.len(), report.matching.len()), (4, 2));
    assert!((report.matching[0].cosine.auc - auc).abs() < 1e-3);
    assert!(report.metrics().contains_key("flickr30k-cna.test.r_mean_reranked"));
    assert!(std::fs::read_to_string(&plot).unwrap().contains("flickr30k-cna.test"));
    trainer(&["evaluate-plot", "--report", &json, "--report", &json, "--out", &both]);
    assert!(std::fs::metadata(&both).unwrap().len() > std::fs::metadata(&plot).unwrap().len());
}
