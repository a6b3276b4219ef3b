//! Real pictures with Chinese texts: the demo set of the repository, or the shared corpus where it is not there yet.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;

use crate::paths;

/// Lists of the shared corpus that are read, in this order.
const SHARED_LISTS: [&str; 3] = ["test_unseen_render.jsonl", "test_unseen_concept.jsonl", "test_unseen_both.jsonl"];

/// One picture and what is said about it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Id, unique in the corpus.
    pub id: String,
    /// The picture's file.
    pub picture: PathBuf,
    /// Short text.
    pub title: String,
    /// Long text.
    pub body: String,
}

impl Entry {
    /// The encoded picture.
    pub fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.picture).unwrap_or_else(|e| panic!("{}: {e}", self.picture.display()))
    }
}

/// The entries, and the folder that all their pictures lie under.
#[derive(Debug)]
pub struct Corpus {
    /// Folder of the pictures.
    pub root: PathBuf,
    /// Entries with pictures of different bytes.
    pub entries: Vec<Entry>,
}

/// The corpus, read once. Panics where neither source is there.
pub fn corpus() -> &'static Corpus {
    static CORPUS: LazyLock<Corpus> = LazyLock::new(|| {
        let demo = paths::repository().join("configs/demo/set");
        let mut corpus = demo_set(&demo).or_else(shared).unwrap_or_else(|| panic!("no pictures in {}", demo.display()));
        let mut seen = std::collections::HashSet::new();
        corpus.entries.retain(|entry| seen.insert(entry.bytes()));
        corpus
    });
    &CORPUS
}

/// The demo set: messages of the topics' form, each picture a `file:` address or a path relative to the list.
fn demo_set(folder: &Path) -> Option<Corpus> {
    let list = std::fs::read_dir(folder)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|e| e == "jsonl"))?;
    let lines = read_lines(&list)?;
    let mut entries: Vec<Entry> = lines.iter().filter_map(|line| demo_entry(folder, line)).collect();
    entries.sort_by(|a, b| a.id.cmp(&b.id));
    entries.dedup_by(|a, b| a.picture == b.picture);
    (!entries.is_empty()).then(|| Corpus { root: folder.to_owned(), entries })
}

fn demo_entry(folder: &Path, line: &Value) -> Option<Entry> {
    let text = |field: &str| line.get(field).and_then(Value::as_str);
    let url = line.get("image")?.get("url")?.as_str()?;
    // `pictures/NAME` is the end of every address, whatever stands before it.
    let picture = folder.join(&url[url.find("pictures/")?..]);
    let caption = text("caption")?;
    // `name：what it is`
    let title = caption.split('：').next()?;
    picture.is_file().then(|| Entry {
        id: text("id").unwrap_or(url).to_owned(),
        picture,
        title: title.to_owned(),
        body: caption.to_owned(),
    })
}

/// The shared corpus, unpacked once into the cache.
fn shared() -> Option<Corpus> {
    let archive = paths::shared()?.join("corpus/corpus.tgz");
    let target = paths::cache().join("e2e/corpus");
    if !target.join("complete").is_file() {
        std::fs::create_dir_all(&target).ok()?;
        let status = Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(&target).status().ok()?;
        assert!(status.success(), "{} could not be unpacked: {status}", archive.display());
        std::fs::write(target.join("complete"), "").ok()?;
    }
    let root = [target.join("corpus"), target].into_iter().find(|root| root.join(SHARED_LISTS[0]).is_file())?;
    let lines = SHARED_LISTS.iter().filter_map(|list| read_lines(&root.join(list))).flatten();
    let entries = lines.filter_map(|line| {
        let text = |field: &str| line.get(field).and_then(Value::as_str).map(str::to_owned);
        Some(Entry { id: text("id")?, picture: root.join(text("image")?), title: text("title")?, body: text("content")? })
    });
    Some(Corpus { entries: entries.collect(), root })
}

fn read_lines(path: &Path) -> Option<Vec<Value>> {
    let text = std::fs::read_to_string(path).ok()?;
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Some(text.lines().filter(|line| !line.trim().is_empty()).map(parse).collect())
}
