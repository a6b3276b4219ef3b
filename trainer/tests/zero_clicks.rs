//! The click-log pipeline from rows to shards. A process of its own, since the
//! pipeline bounds the memory of its whole process.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use astromech_trainer::zero::clicks::{ClickConfig, NearDuplicates, STATS_FILE, Stats, run};
use astromech_trainer::zero::{FaultKind, RecordStream, StreamSettings};

/// A row of the log.
fn row(query: &str, image: &str, text: &str, impressions: u64, clicks: u64) -> String {
    serde_json::json!({
        "query": query, "image": image, "title": text, "content": "", "url": "u", "impressions": impressions, "clicks": clicks,
    })
    .to_string()
}

/// A picture of stripes and blocks that follow from `seed`; `brighter` changes every pixel a little.
fn picture(path: &Path, seed: u32, brighter: u8) {
    let cell = |x: u32, y: u32| {
        let start = seed.wrapping_mul(0x9E37_79B9) ^ (x + 1).wrapping_mul(0x85EB_CA6B) ^ (y + 1).wrapping_mul(0xC2B2_AE35);
        let mixed = (start ^ start >> 15).wrapping_mul(0x2C1B_3C6D);
        let mixed = (mixed ^ mixed >> 12).wrapping_mul(0x297A_2D39);
        (mixed ^ mixed >> 15) & 0x7F
    };
    let drawn = image::RgbImage::from_fn(64, 64, |x, y| image::Rgb([cell(x / 8, y / 8) as u8 + 40 + brighter; 3]));
    drawn.save(path).unwrap();
}

fn config(log: &Path) -> ClickConfig {
    ClickConfig { impressions: vec![log.display().to_string()], ..ClickConfig::default() }
}

/// Runs the pipeline over rows; answers the statistics and the records by id.
fn records(
    folder: &Path,
    rows: &[String],
    change: impl FnOnce(&mut ClickConfig),
) -> (Stats, BTreeMap<String, serde_json::Value>) {
    std::fs::create_dir_all(folder.join("log")).unwrap();
    std::fs::write(folder.join("log/log.jsonl"), rows.join("\n") + "\n").unwrap();
    let mut config = config(&folder.join("log/log.jsonl"));
    change(&mut config);
    let out = tempfile::tempdir().unwrap();
    let stats = run(&config, out.path()).unwrap();
    let mut records = BTreeMap::new();
    for name in &stats.shards {
        for line in std::fs::read_to_string(out.path().join(name)).unwrap().lines() {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(records.insert(record["id"].as_str().unwrap().to_owned(), record).is_none());
        }
    }
    assert_eq!(records.len() as u64, stats.records);
    assert!(out.path().join(STATS_FILE).exists() && !out.path().join(".spill").exists());
    (stats, records)
}

fn removed(stats: &Stats, step: &str) -> BTreeMap<&'static str, u64> {
    stats.steps.iter().find(|own| own.step == step).unwrap().removed.clone()
}

fn images(records: &BTreeMap<String, serde_json::Value>) -> BTreeSet<&str> {
    records.values().map(|record| record["image"].as_str().unwrap()).collect()
}

#[test]
fn rows_are_summed_filtered_ranked_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let url = |name: &str| format!("https://x.example/{name}");
    let rows = [
        row("猫", &url("a"), "", 60, 30),
        row("猫", &url("a"), "一只猫", 40, 20),
        row("猫", &url("b"), "", 100, 20),
        row("猫", &url("c"), "", 100, 10),
        row("猫", &url("seldom"), "", 3, 3),
        row("猫", &url("low"), "", 1000, 1),
        row("狗", &url("b"), "", 100, 60),
        "{\"query\":\"x\"}".to_owned(),
        row("", &url("a"), "", 1, 1),
        row("车", &url("a"), "", 1, 2),
    ];
    let (stats, records) = records(folder.path(), &rows, |config| config.images_per_query = 2);
    assert_eq!(removed(&stats, "read"), BTreeMap::from([("bad_row", 1), ("empty_text", 1), ("wrong_column", 1)]));
    assert_eq!(stats.faults[&FaultKind::BadRow], 1);
    assert_eq!(removed(&stats, "sum_pairs")["rows_of_one_pair"], 1);
    assert_eq!(removed(&stats, "filter"), BTreeMap::from([("impressions_min", 1), ("score_min", 1)]));
    // c is third of its query; b is kept for the query that it is better for.
    assert_eq!(removed(&stats, "rank")["images_per_query"], 1);
    assert_eq!(removed(&stats, "same_picture")["queries_per_image"], 1);
    assert_eq!(images(&records), BTreeSet::from(["https://x.example/a", "https://x.example/b"]));
    let of = |image: &str| records.values().find(|record| record["image"] == url(image).as_str()).unwrap();
    assert_eq!((of("a")["title"].as_str(), of("a")["clicks"].as_u64()), (Some("一只猫"), Some(50)));
    assert_eq!(of("b")["query"], "狗");
}

#[test]
fn the_result_does_not_depend_on_the_order_of_rows_or_on_memory() {
    let folder = tempfile::tempdir().unwrap();
    let mut rows: Vec<String> = (0..3000u64)
        .map(|number| {
            let text = format!("关于第{}件事情的一段比较长的说明文字编号{}", number % 400, number % 400 * 7919);
            row(
                &format!("查询{}", number % 300),
                &format!("https://x/{}", number % 700),
                &text,
                50 + number % 90,
                5 + number % 40,
            )
        })
        .collect();
    let settings = |memory| move |config: &mut ClickConfig| (config.memory_max_mib, config.records) = (memory, 200);
    let (stats, first) = records(folder.path(), &rows, settings(2048));
    rows.reverse();
    let (_, second) = records(folder.path(), &rows, settings(512));
    assert_eq!(first, second);
    assert_eq!(stats.records, 200);
    assert_eq!(stats.strata.iter().map(|stratum| stratum.drawn).sum::<u64>(), 200);
    // Another seed draws others; a smaller sample is a part of the larger one.
    let (_, small) = records(folder.path(), &rows, |config| config.records = 20);
    assert!(small.keys().all(|id| first.contains_key(id)));
    let (_, other) = records(folder.path(), &rows, |config| (config.records, config.seed) = (200, 1));
    assert_ne!(other.keys().collect::<Vec<_>>(), first.keys().collect::<Vec<_>>());
}

#[test]
fn the_same_file_and_pictures_that_look_alike_are_kept_once() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    std::fs::create_dir_all(&log).unwrap();
    picture(&log.join("a.png"), 1, 0);
    std::fs::copy(log.join("a.png"), log.join("copy.png")).unwrap();
    picture(&log.join("bright.png"), 1, 3);
    picture(&log.join("other.png"), 2, 0);
    std::fs::write(log.join("broken.png"), "<html>").unwrap();
    let rows = [
        row("甲", "a.png", "", 100, 60),
        row("乙", "copy.png", "", 100, 50),
        row("丙", "bright.png", "", 100, 40),
        row("丁", "other.png", "", 100, 30),
        row("戊", "broken.png", "", 100, 30),
        row("己", "missing.png", "", 100, 30),
    ];
    let (stats, drop) = records(folder.path(), &rows, |_| {});
    assert_eq!(stats.pictures, BTreeMap::from([("decoded", 4), ("undecodable", 1), ("elsewhere", 0), ("missing", 1)]));
    assert_eq!(removed(&stats, "same_picture")["queries_per_image"], 1);
    assert_eq!(removed(&stats, "near_pictures"), BTreeMap::from([("near_by_look", 1), ("near_by_text", 0)]));
    assert_eq!(images(&drop), BTreeSet::from(["a.png", "other.png", "broken.png", "missing.png"]));
    assert!(drop.values().all(|record| record.get("group").is_none()));
    let (_, group) = records(folder.path(), &rows, |config| config.near_duplicates = NearDuplicates::Group);
    let groups: BTreeMap<&str, Option<u64>> = group
        .values()
        .map(|record| (record["image"].as_str().unwrap(), record.get("group").and_then(serde_json::Value::as_u64)))
        .collect();
    assert_eq!(groups.len(), 5);
    assert!(groups["a.png"].is_some() && groups["a.png"] == groups["bright.png"]);
    assert!(groups["other.png"].is_none());
    let (_, all) = records(folder.path(), &rows, |config| config.queries_per_image = 5);
    let same: Vec<_> = all.values().filter(|record| record.get("group").is_some()).collect();
    assert_eq!(same.len(), 2, "the two queries of one picture are positives of each other");
}

#[test]
fn texts_that_are_nearly_the_same_are_kept_once_and_short_ones_all() {
    let folder = tempfile::tempdir().unwrap();
    let long = "一只棕色的小狗在绿色的草地上奔跑追逐一个红色的皮球，天气晴朗，阳光明媚，孩子们在旁边笑着看它";
    let url = |name: &str| format!("https://x/{name}");
    let rows = [
        row("狗", &url("worse"), &format!("{long}。"), 100, 40),
        row("小狗", &url("better"), &format!("{long}！！"), 100, 60),
        row(
            "城市",
            &url("far"),
            "城市夜景高楼大厦灯火辉煌车水马龙的街道上人来人往热闹非凡霓虹灯闪烁不停直到深夜才安静下来",
            100,
            40,
        ),
        row("短一", &url("short1"), "图片", 100, 40),
        row("短二", &url("short2"), "图片", 100, 40),
    ];
    let (stats, kept) = records(folder.path(), &rows, |_| {});
    assert_eq!(removed(&stats, "near_pictures")["near_by_text"], 1);
    let names: BTreeSet<String> = ["better", "far", "short1", "short2"].map(url).into();
    assert_eq!(images(&kept), names.iter().map(String::as_str).collect());
    let (stats, _) = records(folder.path(), &rows, |config| config.text_similarity_min = 2.0);
    assert_eq!(stats.records, 5);
}

#[test]
fn the_records_stream_and_a_tsv_log_is_read_by_the_command() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = "query\timage\timage_hash\ttitle\timpressions\tclicks\n".to_owned();
    for number in 0..57 {
        picture(&folder.path().join(format!("{number}.png")), 100 + number, 0);
        writeln!(text, "查询{number}\t{number}.png\t\t标题{number}\t100\t{}", 20 + number % 50).unwrap();
    }
    let log = folder.path().join("log.tsv");
    std::fs::write(&log, text).unwrap();
    let out = folder.path().join("out");
    let trainer = |config: &str| {
        let path = folder.path().join("clicks.toml");
        std::fs::write(&path, config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_trainer"));
        command.args(["clicks", "--shard-records", "10", "--impressions"]).arg(&log).arg("--out").arg(&out);
        command.arg("--config").arg(&path).output().unwrap()
    };
    let output = trainer("hamming_max = 0\nimpressions_min = 5\n");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let stats: serde_json::Value = serde_json::from_slice(&std::fs::read(out.join(STATS_FILE)).unwrap()).unwrap();
    assert_eq!(stats["records"], 57);
    assert_eq!(stats["shards"].as_array().unwrap().len(), 6);
    assert_eq!(stats["settings"]["impressions_min"], 5);
    let settings = StreamSettings {
        shards: vec![out.join("zero-*.jsonl").display().to_string()],
        image_root: Some(folder.path().to_path_buf()),
        ..StreamSettings::default()
    };
    let mut stream = RecordStream::open(settings, 0).unwrap();
    let queries: BTreeSet<String> = (0..57)
        .map(|_| {
            let record = stream.draw().unwrap().record;
            assert!(!record.picture().unwrap().is_empty());
            record.query
        })
        .collect();
    assert_eq!((queries.len(), stream.ledger.total()), (57, 0));
    // The folder is not empty now, and a setting that is unknown is refused.
    let output = trainer("");
    assert!(String::from_utf8_lossy(&output.stderr).contains("a new or empty folder"));
    let output = trainer("hamming = 3\n");
    assert!(String::from_utf8_lossy(&output.stderr).contains("hamming"));
}

#[test]
fn too_many_faulty_rows_stop_the_pipeline() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log.jsonl");
    std::fs::write(&log, format!("{}\n{}", row("猫", "https://x/a", "", 10, 5), "{}\n".repeat(50))).unwrap();
    let config = ClickConfig { faults_max: 10, ..config(&log) };
    let out = folder.path().join("out");
    let small = ClickConfig { memory_max_mib: 16, ..config.clone() };
    assert!(run(&small, &out).unwrap_err().to_string().contains("16 MiB are left of memory_max_mib"));
    let error = run(&config, &out).unwrap_err().to_string();
    assert!(error.contains("faults_max = 10") && error.contains("log.jsonl") && error.contains("wrong_column 11"), "{error}");
    assert!(!out.join(STATS_FILE).exists() && !out.join(".spill").exists());
}
