//! Composed scenes: what is held out, what twins share, and that what is written and streamed is read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use astromech_towers::{Towers, TowersConfig, init_runtime};
use astromech_trainer::corpus::{BatchSource, SwapTask};
use astromech_trainer::evaluate::{ALL_KINDS, TaskItems, evaluate_swaps};
use astromech_trainer::scenes::{Fold, FolderPlan, SceneStream, ScenesConfig, Stock, StockSettings, write_scenes};
use astromech_trainer::stop::StopFlag;
use astromech_trainer::train::{TrainConfig, batch_source, train};

use crate::{one_run_at_a_time, synthetic, tasks_evaluate};

/// Names of concepts, a character each, none of which is in a template.
const NAMES: &str = "猫狗马牛羊猪鸡鸭鹅鱼虾蟹龟蛇鼠兔虎狮狼熊鹿象猴鹰蜂蝶蚁蛙桃梨枣瓜豆米麦茶酒车船床门灯伞帽鞋琴鼓钟";
const DESIGNERS: [&str; 4] = ["one", "two", "three", "kept"];
const SPLITS: [&str; 4] = ["val", "test", "test_templates", "test_designer"];
/// Pairs of scenes looked at where a claim is about all of training.
const PAIRS: u64 = 4_000;
const PLAN: FolderPlan = FolderPlan { seed: 5, scenes: 28, swaps: 12 };

/// A corpus of grey shapes on white paper: every designer draws every concept.
fn write_objects(folder: &Path) {
    std::fs::create_dir_all(folder.join("images")).unwrap();
    let (mut rows, side) = (String::new(), 32u32);
    for (number, name) in NAMES.chars().enumerate() {
        for (designer, vendor) in DESIGNERS.iter().enumerate() {
            let id = format!("{number}-{vendor}");
            let (width, height) = (6 + number as u32 % 8, 5 + number as u32 / 8);
            let picture = image::RgbImage::from_fn(side, side, |x, y| {
                let inside = x.abs_diff(16) < width && y.abs_diff(16) < height;
                let shade = 130 + 20 * designer as u8 + 20 * u8::from((x + y) % 5 == 0);
                image::Rgb(if inside { [shade; 3] } else { [255; 3] })
            });
            picture.save(folder.join(format!("images/{id}.png"))).unwrap();
            let row = serde_json::json!({
                "id": id, "image": format!("images/{id}.png"), "title": name, "query": name, "content": name, "concept": name,
                "domain": "shape", "vendor": vendor, "licence": "MIT", "split": "train",
            });
            rows.push_str(&row.to_string());
            rows.push('\n');
        }
    }
    std::fs::write(folder.join("train.jsonl"), rows).unwrap();
}

fn settings(corpus: &Path) -> StockSettings {
    StockSettings {
        corpus: corpus.to_path_buf(),
        splits: vec!["train".into()],
        licences: vec!["MIT".into()],
        domains: Vec::new(),
        names: NAMES.chars().map(String::from).collect(),
        designers_min: 3,
        concepts_max: 0,
        held_out: "kept".into(),
        held_out_split: None,
    }
}

fn stock(corpus: &Path) -> Arc<Stock> {
    Arc::new(Stock::load(&settings(corpus), 32).unwrap())
}

fn stream(stock: &Arc<Stock>, twins: f64, seed: u64) -> SceneStream {
    SceneStream::new(Arc::clone(stock), &ScenesConfig::default().kinds, twins, seed).unwrap()
}

fn rows(path: &Path) -> Vec<serde_json::Value> {
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn task(out: &Path, split: &str, kind: &str) -> Vec<serde_json::Value> {
    rows(&out.join(format!("tasks/{split}.scenes.{kind}.jsonl")))
}

/// Concepts that a caption names.
fn named(caption: &str) -> BTreeSet<char> {
    caption.chars().filter(|&one| NAMES.contains(one)).collect()
}

/// A caption without its concepts and the words that vary: its template.
fn template(caption: &str) -> String {
    let mut text: String = caption.chars().map(|one| if NAMES.contains(one) { '某' } else { one }).collect();
    for (words, stands_for) in [
        (&["红色", "黄色", "绿色", "蓝色", "紫色"][..], "色"),
        (&["左", "右", "上", "下"], "向"),
        (&["边", "侧", "面", "方"], "位"),
        (&["大", "小"], "度"),
        (&["两", "一"], "数"),
    ] {
        for word in words {
            text = text.replace(word, stands_for);
        }
    }
    text.replace("色的某", "某")
}

fn sorted(text: &str) -> Vec<char> {
    let mut all: Vec<char> = text.chars().collect();
    all.sort_unstable();
    all
}

/// Name and content of every file below a folder.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            all.extend(files(&path).into_iter().map(|(below, bytes)| (format!("{name}/{below}"), bytes)));
        } else {
            all.insert(name, std::fs::read(&path).unwrap());
        }
    }
    all
}

#[test]
fn scenes_follow_from_the_seed_to_the_last_byte() {
    let folder = tempfile::tempdir().unwrap();
    write_objects(folder.path());
    let write = |name: &str, plan: FolderPlan| {
        let out = folder.path().join(name);
        write_scenes(&stock(folder.path()), &out, plan).unwrap();
        files(&out)
    };
    let first = write("first", PLAN);
    assert_eq!(first, write("second", PLAN));
    assert_ne!(first, write("third", FolderPlan { seed: 6, ..PLAN }));
    // 28 scenes of retrieval and 12 pairs of 9 kinds in each of 4 splits; records and three tasks each.
    assert_eq!(first.len(), 4 * (28 + 2 * 12 * 9) + 4 * 4);
    let error = write_scenes(&stock(folder.path()), &folder.path().join("first"), PLAN).unwrap_err().to_string();
    assert!(error.ends_with("first is not empty; give a new folder"), "{error}");
    let (one, other) = (stream(&stock(folder.path()), 0.6, 3), stream(&stock(folder.path()), 0.6, 3));
    assert!((0..200).all(|pair| one.painted(pair) == other.painted(pair)));
    assert!((0..200).any(|pair| one.painted(pair) != stream(&stock(folder.path()), 0.6, 4).painted(pair)));
}

#[test]
fn twins_have_the_same_words_and_things_bound_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    write_objects(folder.path());
    let out = folder.path().join("scenes");
    write_scenes(&stock(folder.path()), &out, PLAN).unwrap();
    let mut kinds = BTreeSet::new();
    for split in SPLITS {
        let records: HashMap<String, serde_json::Value> = rows(&out.join(format!("{split}.jsonl")))
            .into_iter()
            .map(|row| (row["id"].as_str().unwrap().to_owned(), row))
            .collect();
        for row in task(&out, split, "swap") {
            let kind = row["kind"].as_str().unwrap().to_owned();
            let [one, other] = [0, 1].map(|index| row["texts"][index].as_str().unwrap());
            let ids = [0, 1].map(|index| row["images"][index].as_str().unwrap());
            assert_ne!(one, other);
            assert_eq!(named(one), named(other));
            if !matches!(kind.as_str(), "place" | "unnamed") {
                assert_eq!(sorted(one), sorted(other), "{kind}: {one} {other}");
            }
            let pictures = ids.map(|id| image::open(out.join(format!("images/{id}.png"))).unwrap().to_rgb8());
            assert_ne!(pictures[0], pictures[1], "{kind}: {one}");
            let sources = ids.map(|id| {
                let all = records[id]["sources"].as_array().unwrap();
                all.iter().map(|source| source["id"].as_str().unwrap()).collect::<Vec<_>>()
            });
            let distinct = sources.clone().map(BTreeSet::from_iter);
            assert_eq!(distinct[0], distinct[1], "{kind}");
            assert_eq!(sources[0].len(), sources[1].len());
            // Grey things have no colour of their own, and grounds little: full colours are there where a kind is about them, only there.
            let coloured = pictures
                .each_ref()
                .map(|picture| picture.pixels().any(|p| p.0.iter().max().unwrap() - p.0.iter().min().unwrap() > 75));
            assert_eq!(coloured, [matches!(kind.as_str(), "colour" | "colour_swapped" | "place_swapped"); 2], "{kind}");
            kinds.insert(kind);
        }
    }
    assert_eq!(kinds.len(), 9);
}

#[test]
fn what_is_held_out_never_occurs_in_training() {
    let folder = tempfile::tempdir().unwrap();
    write_objects(folder.path());
    let stock = stock(folder.path());
    let out = folder.path().join("scenes");
    write_scenes(&stock, &out, PLAN).unwrap();
    let fold = |caption: &str| {
        let names: Vec<String> = named(caption).into_iter().map(String::from).collect();
        match names.as_slice() {
            [one] => vec![Fold::of(one, one)],
            [one, other] => vec![Fold::of(one, other)],
            [a, b, c] => vec![Fold::of(a, b), Fold::of(a, c), Fold::of(b, c)],
            other => unreachable!("{caption} names {other:?}"),
        }
    };
    // Scenes that name one of two objects are of the fold of both, which a caption does not tell.
    let unnamed: BTreeSet<String> = SPLITS
        .iter()
        .flat_map(|split| task(&out, split, "swap"))
        .filter(|row| row["kind"] == "unnamed")
        .flat_map(|row| [0, 1].map(|index| row["images"][index].as_str().unwrap().to_owned()))
        .collect();
    let mut seen = BTreeSet::new();
    for seed in [1, 2] {
        let kinds = astromech_trainer::scenes::KindWeights { unnamed: 0.0, ..ScenesConfig::default().kinds };
        let stream = SceneStream::new(Arc::clone(&stock), &kinds, 0.5, seed).unwrap();
        for scene in (0..PAIRS / 2).flat_map(|pair| stream.painted(pair)).map(|(scene, _)| scene) {
            assert!(fold(&scene.caption).iter().all(|fold| *fold == Fold::Train), "{}", scene.caption);
            seen.insert(template(&scene.caption));
        }
    }
    for (split, wanted) in SPLITS.into_iter().zip([Fold::Val, Fold::Test, Fold::Test, Fold::Test]) {
        for row in rows(&out.join(format!("{split}.jsonl"))) {
            let caption = row["query"].as_str().unwrap();
            if !unnamed.contains(row["id"].as_str().unwrap()) {
                assert!(fold(caption).contains(&wanted), "{split}: {caption}");
            }
            assert_eq!(seen.contains(&template(caption)), split != "test_templates", "{split}: {caption}");
            let sources = row["sources"].as_array().unwrap();
            assert!(sources.iter().all(|source| (source["designer"] == "kept") == (split == "test_designer")), "{split}");
        }
    }
}

#[test]
fn no_two_groups_of_a_retrieval_task_share_a_pair_of_concepts() {
    let folder = tempfile::tempdir().unwrap();
    write_objects(folder.path());
    let out = folder.path().join("scenes");
    write_scenes(&stock(folder.path()), &out, PLAN).unwrap();
    for split in SPLITS {
        let rows = task(&out, split, "long");
        assert_eq!(rows.len(), PLAN.scenes);
        let mut met = BTreeSet::new();
        for twins in rows.chunks_exact(2) {
            let [one, other] = [0, 1].map(|index| named(twins[index]["text"].as_str().unwrap()));
            assert_eq!(one, other);
            let names: Vec<char> = one.into_iter().collect();
            for (at, a) in names.iter().enumerate() {
                assert!(names[at + 1..].iter().all(|b| met.insert((*a, *b))), "{split}: {names:?}");
            }
        }
    }
    let error =
        write_scenes(&stock(folder.path()), &folder.path().join("more"), FolderPlan { scenes: 5_000, ..PLAN }).unwrap_err();
    assert!(error.to_string().contains("ask for fewer"), "{error}");
}

/// Overrides by which a run on the drawn corpus has scenes of the objects.
fn overrides(objects: &Path, share: f64) -> Vec<String> {
    let names: Vec<String> = NAMES.chars().map(|name| format!("\"{name}\"")).collect();
    let given = format!(
        "data.scenes={{ share = {share}, corpus = \"{}\", licences = [\"MIT\"], domains = [], names = [{}], held_out_designer = \"kept\" }}",
        objects.display(),
        names.join(", ")
    );
    vec![given]
}

fn config(folder: &Path, out: &str, share: f64, more: &[&str]) -> TrainConfig {
    let all = overrides(&folder.join("objects"), share);
    let all: Vec<&str> = all.iter().map(String::as_str).chain(more.iter().copied()).collect();
    synthetic::config(folder, &folder.join(out), &all)
}

fn lay_out(folder: &Path) {
    synthetic::write_corpus(folder);
    write_objects(&folder.join("objects"));
}

#[test]
fn a_run_with_scenes_resumes_to_the_last_bit() {
    let _guard = one_run_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    lay_out(folder.path());
    let stop = StopFlag::new();
    // Beside the corpus, with tokens and patches hidden and a queue; and alone.
    let beside =
        ["model.mlm_head=true", "loss.mlm_weight=0.5", "data.patch_keep=0.75", "loss.queue_slots=24", "run.data_threads=2"];
    for (share, more) in [(0.5, &beside[..]), (1.0, &[])] {
        let at = |name: &str, more: &[&str]| config(folder.path(), &format!("{name}-{share}"), share, more);
        let whole = train(&at("whole", more), false, &stop).unwrap();
        assert_eq!(whole.losses.len(), 12);
        let parts = at("parts", &[more, &["run.part_steps=5"]].concat());
        let mut losses = Vec::new();
        for resume in [false, true, true] {
            losses.extend(train(&parts, resume, &stop).unwrap().losses);
        }
        assert_eq!(losses, whole.losses, "share {share}");
    }
}

#[test]
fn a_batch_has_its_share_of_scenes_with_concepts_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    lay_out(folder.path());
    let mut source = batch_source(&config(folder.path(), "run", 0.25, &[])).unwrap();
    source.begin(0).unwrap();
    for step in 0..3 {
        let batch = source.next(step).unwrap();
        assert_eq!((batch.size, batch.pixels.len()), (16, 16 * 3 * 32 * 32));
        let scenes: BTreeSet<i64> = batch.concepts.iter().copied().filter(|concept| *concept < 0).collect();
        assert_eq!(scenes.len(), 4, "{:?}", batch.concepts);
    }
    let error = |set: &str| {
        let all: Vec<String> = overrides(&folder.path().join("objects"), 0.5).into_iter().chain([set.to_owned()]).collect();
        TrainConfig::read(&folder.path().join("train.toml"), &all).unwrap_err().to_string()
    };
    let found = error("data.scenes.share=0.05");
    assert!(found.contains("data.scenes.share: it is 0.05 and must be at least 2 scenes of data.batch = 16; fix: "), "{found}");
    let few = config(folder.path(), "run", 0.5, &["data.scenes.concepts_max=2"]);
    let found = batch_source(&few).err().unwrap().to_string();
    assert!(found.contains("concepts_max"), "{found}");
}

#[test]
fn the_towers_and_each_head_are_measured_on_swaps_by_kind() {
    let folder = tempfile::tempdir().unwrap();
    lay_out(folder.path());
    let out = folder.path().join("scenes");
    write_scenes(&stock(&folder.path().join("objects")), &out, PLAN).unwrap();
    init_runtime(None).unwrap();
    let (bundle, _) = tasks_evaluate::bundle(folder.path(), folder.path());
    let towers = Towers::start(&bundle, &TowersConfig::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut task = SwapTask::read(&out, "val.scenes.swap").unwrap();
    assert_eq!(task.pairs.len(), 9 * PLAN.swaps);
    let report = runtime.block_on(evaluate_swaps(&towers, &task, true)).unwrap();
    let scores = ["cosine", "itm_text", "itm_image", "match", "match_cosine"];
    assert_eq!(report.rows.len(), (9 + 1) * scores.len());
    let all: Vec<(&str, usize)> =
        report.rows.iter().filter(|row| row.kind == ALL_KINDS).map(|row| (row.score.as_str(), row.pairs)).collect();
    assert_eq!(all, scores.map(|score| (score, 9 * PLAN.swaps)));
    assert!(report.rows.iter().all(|row| row.figures.group <= row.figures.text.min(row.figures.image)));
    // With the pictures of each pair exchanged, what was right in both directions is wrong.
    for pair in &mut task.pairs {
        pair.pictures.swap(0, 1);
    }
    let turned = runtime.block_on(evaluate_swaps(&towers, &task, true)).unwrap();
    for (row, turned) in report.rows.iter().zip(&turned.rows) {
        assert!(row.figures.group + turned.figures.group <= 1.0 + 1e-9, "{row:?} {turned:?}");
    }
    assert_eq!(TaskItems::load(&out, "test.scenes.long").unwrap().pictures.len(), PLAN.scenes);
    drop(towers);
    let arguments = ["--corpus", out.to_str().unwrap(), "--task", "test_designer.scenes.swap,test.scenes.long,val.scenes.match"];
    let bundle = folder.path().join("bundle");
    let done = std::process::Command::new(env!("CARGO_BIN_EXE_trainer"))
        .args(["evaluate", "--bundle", bundle.to_str().unwrap()])
        .args(arguments)
        .output()
        .unwrap();
    let table = String::from_utf8(done.stdout).unwrap();
    assert!(done.status.success() && table.contains("| test_designer.scenes.swap | relation | 12 | itm_image |"), "{table}");
}
