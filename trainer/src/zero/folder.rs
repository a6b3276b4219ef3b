//! A corpus folder out of shards: what a small set is trained from, and what any set is validated on.
//!
//! Records are held out by their picture: the hash of its bytes (or its near-duplicates' group) decides, so that no picture is on both
//! sides, and the same records are held out whatever their order.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use astromech_schemas::manifest::hex;
use astromech_towers::{ImageLimits, decode_and_squash};
use serde::Serialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{FaultKind, RecordStream, ZeroError, ZeroRecord};
use crate::files::file_error;

/// Side that pictures are decoded at, only to know that they can be.
const PROBE_PX: u32 = 16;
/// Hexadecimal digits of a picture's hash in its name.
const NAME_DIGITS: usize = 20;

/// What is made of the shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderOptions {
    /// A new or empty folder.
    pub out: PathBuf,
    /// Pictures held out as the split `val`; the rest is `train`.
    pub held_out: usize,
    /// Licence of the pictures, as it is written into each record.
    pub licence: String,
    /// Name of the source family, as in the names of tasks.
    pub domain: String,
}

/// What was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FolderStats {
    /// Records of `train.jsonl`.
    pub train: u64,
    /// Records of `val.jsonl`.
    pub val: u64,
    /// Names of the retrieval tasks over `val`.
    pub tasks: Vec<String>,
}

/// A record with its picture's name.
struct Kept {
    record: ZeroRecord,
    image: String,
    concept: String,
}

/// Reads one epoch of a stream into a corpus folder: `train.jsonl`, `val.jsonl`, `images/`, and the tasks `val.<domain>.long` and
/// `.short`. Records of one picture, or of one group, are of one concept. What is faulty is counted in the stream's ledger.
///
/// # Errors
/// The folder holds something, a file can't be written, or the stream breaks off.
pub fn write_folder(stream: &mut RecordStream, options: &FolderOptions) -> Result<FolderStats, ZeroError> {
    let out = &options.out;
    std::fs::create_dir_all(out.join("images")).map_err(file_error(out))?;
    let mut train = open(&out.join("train.jsonl"))?;
    // The concepts with the smallest hashes so far.
    let mut held: BTreeMap<String, Vec<Kept>> = BTreeMap::new();
    let mut stats = FolderStats::default();
    while let Some((concept, kept)) = options.next(stream)? {
        held.entry(concept).or_default().push(kept);
        if held.len() > options.held_out
            && let Some((_, pushed_out)) = held.pop_last()
        {
            for kept in &pushed_out {
                options.write(&mut train, kept, "train")?;
            }
            stats.train += pushed_out.len() as u64;
        }
    }
    train.flush().map_err(file_error(out))?;
    options.hold_out(held.into_values().flatten().collect(), &mut stats)?;
    Ok(stats)
}

fn open(path: &Path) -> Result<BufWriter<File>, ZeroError> {
    let file = File::create_new(path).map_err(file_error(path))?;
    Ok(BufWriter::new(file))
}

/// Query, title and content; an empty one is replaced by the next best.
fn texts(record: &ZeroRecord) -> [&str; 3] {
    let all = [record.query.as_str(), record.title.as_str(), record.content.as_str()];
    [[0, 1, 2], [1, 0, 2], [2, 1, 0]].map(|order| order.into_iter().map(|at| all[at]).find(|text| !text.is_empty()).unwrap_or(""))
}

impl FolderOptions {
    /// Writes the split `val` and its tasks. An id that comes twice gets a number, since tasks name pictures by it.
    fn hold_out(&self, held: Vec<Kept>, stats: &mut FolderStats) -> Result<(), ZeroError> {
        let mut val = open(&self.out.join("val.jsonl"))?;
        let mut tasks = [("long", BTreeMap::<String, Vec<String>>::new()), ("short", BTreeMap::new())];
        let mut seen: HashMap<String, u64> = HashMap::new();
        for mut kept in held {
            let times = seen.entry(kept.record.id.clone()).or_insert(0);
            *times += 1;
            if *times > 1 {
                kept.record.id = format!("{}#{times}", kept.record.id);
            }
            self.write(&mut val, &kept, "val")?;
            stats.val += 1;
            let [query, _, content] = texts(&kept.record);
            for ((_, task), text) in tasks.iter_mut().zip([content, query]) {
                task.entry(text.to_owned()).or_default().push(kept.record.id.clone());
            }
        }
        val.flush().map_err(file_error(&self.out))?;
        let folder = self.out.join("tasks");
        std::fs::create_dir_all(&folder).map_err(file_error(&folder))?;
        for (name, task) in tasks.into_iter().filter(|(_, task)| !task.is_empty()) {
            let name = format!("val.{}.{name}", self.domain);
            let path = folder.join(format!("{name}.jsonl"));
            let mut file = open(&path)?;
            for (text, images) in task {
                writeln!(file, "{}", json!({ "text": text, "images": images })).map_err(file_error(&path))?;
            }
            file.flush().map_err(file_error(&path))?;
            stats.tasks.push(name);
        }
        Ok(())
    }

    /// The next good record of the first epoch, its picture written; and the concept it is of.
    fn next(&self, stream: &mut RecordStream) -> Result<Option<(String, Kept)>, ZeroError> {
        loop {
            let drawn = stream.draw()?;
            if stream.epoch() > 0 {
                return Ok(None);
            }
            let record = drawn.record;
            let bytes = match record.picture() {
                Ok(bytes) => bytes,
                Err(fault) => {
                    stream.fault(&fault)?;
                    continue;
                }
            };
            if let Err(error) = decode_and_squash(&bytes, PROBE_PX, &ImageLimits::default()) {
                let fault = record.fault(FaultKind::BadPicture, error.to_string());
                stream.fault(&fault)?;
                continue;
            }
            let hash = hex(&Sha256::digest(&bytes));
            let ending = image::guess_format(&bytes).ok().and_then(|format| format.extensions_str().first().copied());
            let image = format!("images/{}.{}", &hash[..NAME_DIGITS], ending.unwrap_or("img"));
            let path = self.out.join(&image);
            if !path.exists() {
                std::fs::write(&path, &bytes).map_err(file_error(&path))?;
            }
            let concept = record.group.map_or(hash, |group| hex(&Sha256::digest(group.to_le_bytes())));
            let concept_name = concept[..NAME_DIGITS].to_owned();
            drop(bytes);
            // Pictures are on the disk now; those that came inside the row leave the memory.
            let record = ZeroRecord { image: super::ImageSource::None, ..record };
            return Ok(Some((concept, Kept { record, image, concept: concept_name })));
        }
    }

    fn write(&self, file: &mut BufWriter<File>, kept: &Kept, split: &str) -> Result<(), ZeroError> {
        let [query, title, content] = texts(&kept.record);
        let row = json!({
            "id": kept.record.id, "image": kept.image, "title": title, "query": query, "content": content, "concept": kept.concept,
            "domain": self.domain, "url": kept.record.url, "licence": self.licence, "split": split,
        });
        Ok(writeln!(file, "{row}").map_err(file_error(&self.out))?)
    }
}
