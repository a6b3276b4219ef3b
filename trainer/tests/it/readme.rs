//! Every command of trainer/README.md's "Train your own", run as it stands there, at tiny size: the files that it names are small ones here.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use crate::init_support::{Weights, put, write_container};
use crate::{one_run_at_a_time, synthetic};
use astromech_trainer::model::{ModelConfig, R2d2};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

/// Commands of the section's blocks that begin with `trainer`, lines joined.
fn commands() -> Vec<String> {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let section = readme.split("\n## ").find(|section| section.starts_with("Train your own\n")).unwrap();
    let blocks = section.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap());
    let joined: String = blocks.collect::<String>().replace("\\\n", " ");
    joined.lines().filter(|line| line.starts_with("trainer ")).map(str::to_owned).collect()
}

/// Parquet of the drawn corpus: columns image, query, content.
fn write_parquet(path: &Path, rows: &[[String; 3]]) {
    let schema = "message m { required binary image (UTF8); required binary query (UTF8); required binary content (UTF8); }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let file = std::fs::File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(WriterProperties::builder().build())).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for column in 0..3 {
        let values: Vec<ByteArray> = rows.iter().map(|row| ByteArray::from(row[column].as_str())).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
}

/// The drawn corpus in the places and under the names that the section uses.
fn lay_out(folder: &Path) {
    let _guard = one_run_at_a_time();
    let at = |name: &str| folder.join(name);
    let drawn = at("drawn");
    synthetic::write_corpus(&drawn);
    std::fs::rename(drawn.join("images"), at("pictures")).unwrap();
    for made in ["configs/models", "configs/demo/bundle", "zero/train", "zero/val"] {
        std::fs::create_dir_all(at(made)).unwrap();
    }
    std::fs::copy(drawn.join("vocab.txt"), at("configs/demo/bundle/vocab.txt")).unwrap();
    let rows: Vec<serde_json::Value> = std::fs::read_to_string(drawn.join("train.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let field = |row: &serde_json::Value, name: &str| row[name].as_str().unwrap().to_owned();
    let picture = |row: &serde_json::Value| format!("{}.png", field(row, "id"));
    let pairs: Vec<[String; 3]> = rows.iter().map(|row| [picture(row), field(row, "query"), field(row, "content")]).collect();
    write_parquet(&at("pairs.parquet"), &pairs);
    let (mut log, mut published) = ("query\timage\timpressions\tclicks\n".to_owned(), String::new());
    for row in &rows {
        writeln!(log, "{}\t{}\t1000\t200", field(row, "query"), picture(row)).unwrap();
        let row = serde_json::json!({ "text": field(row, "query"), "image_path": format!("image/deep/{}", picture(row)) });
        writeln!(published, "{row}").unwrap();
    }
    std::fs::write(at("log.tsv"), log).unwrap();
    std::fs::write(at("zero/train/long_itr_train.json"), &published).unwrap();
    std::fs::write(at("zero/val/long_itr_val.json"), &published).unwrap();
    std::fs::create_dir(at("zero/IQR_IQM_ICR_ICM_images")).unwrap();
    for entry in std::fs::read_dir(at("pictures")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, at("zero/IQR_IQM_ICR_ICM_images").join(path.file_name().unwrap())).unwrap();
    }
    write_configs(folder);
}

/// Configurations under the shipped names, of a tiny model and few steps; the sections are those of the shipped ones.
fn write_configs(folder: &Path) {
    let text = synthetic::config_text(&folder.join("drawn"), &folder.join("runs/unused")).replace("batch = 16", "batch = 8");
    let at = |name: &str| folder.join("configs").join(name);
    std::fs::write(at("train-demo.toml"), &text).unwrap();
    // The comparison's budget is given in seconds on the command line; a few updates are enough here.
    std::fs::write(at("train-compare.toml"), text.replace("tasks = [\"train.shape.long\"]", "tasks = []")).unwrap();
    let set = "[data]\nset = \"icr\"\nskip_missing = true\nsplits = [\"train\"]";
    let finetune = text.replace("[data]", set).replace("tasks = [\"train.shape.long\"]", "tasks = []");
    std::fs::write(at("finetune-retrieval.toml"), finetune.replace("[optim]", "[optim]\nfreeze = [\"visual_encoder.\"]"))
        .unwrap();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    for name in ["compare.toml", "ablate.toml"] {
        std::fs::copy(shipped.join(name), at(name)).unwrap();
    }
    let model = text.split("[model]").nth(1).unwrap().split("[data]").next().unwrap().replace("[model.", "[");
    std::fs::write(at("models/base.toml"), &model).unwrap();
    let mut weights = Weights::new();
    for (name, shape) in R2d2::keys(&toml::from_str::<ModelConfig>(&model).unwrap()).unwrap() {
        put(&mut weights, name, &shape);
    }
    write_container(&folder.join("r2d2_pretrain_250m.pth"), &weights, true);
}

/// Words of a shell line: quotes hold blanks together, `#` after a blank begins a comment.
fn words(line: &str) -> Vec<String> {
    let line = line.split(" #").next().unwrap();
    let (mut words, mut quoted) = (vec![String::new()], false);
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            _ => words.last_mut().unwrap().push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn every_command_of_the_readme_section_on_training_runs() {
    let folder = tempfile::tempdir().unwrap();
    lay_out(folder.path());
    let commands = commands();
    assert!(commands.len() >= 13, "{commands:#?}");
    for command in &commands {
        // Minutes of training are seconds here, and 500 of 32 pictures can't be held out.
        let command = command.replace("--seconds 300", "--seconds 1").replace("--held-out 500", "--held-out 12");
        let done =
            Command::new(env!("CARGO_BIN_EXE_trainer")).args(&words(&command)[1..]).current_dir(folder.path()).output().unwrap();
        assert!(done.status.success(), "{command}\n{}", String::from_utf8_lossy(&done.stderr));
    }
    for made in [
        "batch.png",
        "runs/mine/curves.svg",
        "bundles/mine/manifest.json",
        "results.svg",
        "results/compare/table.md",
        "results/ablate/figure.svg",
        "runs/student/model.safetensors",
        "runs/icr/model.safetensors",
        "zero-of-log/STATS.json",
    ] {
        assert!(folder.path().join(made).exists(), "{made}");
    }
    let card = std::fs::read_to_string(folder.path().join("bundles/mine/MODEL_CARD.md")).unwrap();
    assert!(card.contains("val.pairs.long"), "{card}");
}
