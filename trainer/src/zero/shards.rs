//! Shard files: finding and opening them.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::bufread::MultiGzDecoder;

use super::columns::{Lookup, Row};
use super::fault::{Place, ShardFault, ZeroError};
use super::lines::Lines;
use super::parquet::ParquetRows;
use super::synthetic::SyntheticLines;
use super::tar::TarRows;

/// Bytes read from a text shard at a time.
const READ_BYTES: usize = 256 * 1024;

/// How a shard is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    JsonLines { gzip: bool },
    Tsv { gzip: bool },
    Tar,
    Parquet,
    Synthetic { index: u64, records: u64 },
}

/// One shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// The file; a made-up name for a synthetic shard.
    pub path: Arc<Path>,
    layout: Layout,
}

/// Rows of any shard.
pub type Rows = Box<dyn Iterator<Item = Result<Row, ShardFault>> + Send>;

impl Shard {
    fn of(path: PathBuf) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let (stem, gzip) = name.strip_suffix(".gz").map_or((name.as_str(), false), |stem| (stem, true));
        let layout = match stem.rsplit_once('.')?.1 {
            "jsonl" | "ndjson" => Layout::JsonLines { gzip },
            "tsv" => Layout::Tsv { gzip },
            "tar" if !gzip => Layout::Tar,
            "parquet" if !gzip => Layout::Parquet,
            _ => return None,
        };
        Some(Self { path: Arc::from(path), layout })
    }

    /// Opens it. `tsv_columns` names the columns of TSV files without a header.
    ///
    /// # Errors
    /// The fault: it cannot be opened.
    pub fn open(&self, lookup: &Arc<Lookup>, tsv_columns: Option<&[String]>) -> Result<Rows, ShardFault> {
        let fail = |error: std::io::Error| ShardFault::read(&self.path, Place::Shard, &error);
        let text = |gzip: bool| -> Result<Box<dyn BufRead + Send>, ShardFault> {
            let file = BufReader::with_capacity(READ_BYTES, File::open(&self.path).map_err(fail)?);
            Ok(if gzip { Box::new(BufReader::with_capacity(READ_BYTES, MultiGzDecoder::new(file))) } else { Box::new(file) })
        };
        Ok(match self.layout {
            Layout::JsonLines { gzip } => Box::new(Lines::json(&self.path, text(gzip)?, lookup)),
            Layout::Tsv { gzip } => Box::new(Lines::tsv(&self.path, text(gzip)?, lookup, tsv_columns)),
            Layout::Tar => Box::new(TarRows::open(&self.path, lookup).map_err(fail)?),
            Layout::Parquet => Box::new(ParquetRows::open(&self.path, lookup)?),
            Layout::Synthetic { index, records } => {
                let lines = BufReader::with_capacity(READ_BYTES, SyntheticLines::new(index, records));
                Box::new(Lines::json(&self.path, Box::new(lines), lookup))
            }
        })
    }
}

/// Shards of made-up records, `per_shard` each, without files.
pub fn synthetic_shards(records: u64, per_shard: u64) -> Vec<Shard> {
    let shard = |index: u64| Shard {
        path: Arc::from(PathBuf::from(format!("synthetic-{index:06}.jsonl"))),
        layout: Layout::Synthetic { index, records: per_shard.min(records - index * per_shard) },
    };
    (0..records.div_ceil(per_shard.max(1))).map(shard).collect()
}

/// Finds shards by files, folders (their shards, not those of folders inside) and patterns with `*` and `?` in the file's name; sorted
/// by name, each once. A Parquet file beside a tar of the same name is img2dataset's table of it and left out.
///
/// # Errors
/// Nothing is found, or a folder cannot be read.
pub fn list_shards(patterns: &[String]) -> Result<Vec<Shard>, ZeroError> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for pattern in patterns {
        let fail = |message: String| ZeroError::NoShards { pattern: pattern.clone(), message };
        let path = Path::new(pattern);
        if path.is_file() {
            let shard = Shard::of(path.to_path_buf()).ok_or_else(|| fail("its ending is not known".to_owned()))?;
            paths.push(shard.path.to_path_buf());
            continue;
        }
        let (folder, name) = if path.is_dir() {
            (path.to_path_buf(), "*".to_owned())
        } else {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
            (parent.to_path_buf(), path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default())
        };
        let before = paths.len();
        for entry in std::fs::read_dir(&folder).map_err(|error| fail(format!("{}: {error}", folder.display())))? {
            let entry = entry.map_err(|error| fail(format!("{}: {error}", folder.display())))?;
            let fits = matches(name.as_bytes(), entry.file_name().to_string_lossy().as_bytes());
            if fits && entry.path().is_file() && Shard::of(entry.path()).is_some() {
                paths.push(entry.path());
            }
        }
        if paths.len() == before {
            return Err(fail("no shard is there".to_owned()));
        }
    }
    paths.sort();
    paths.dedup();
    let table_of_tar =
        |path: &PathBuf| path.extension().is_some_and(|ending| ending == "parquet") && path.with_extension("tar").is_file();
    let (tables, paths): (Vec<PathBuf>, Vec<PathBuf>) = paths.into_iter().partition(table_of_tar);
    if let Some(first) = tables.first() {
        tracing::info!(files = tables.len(), "left out as tables of the tar files beside them, {} first", first.display());
    }
    if paths.is_empty() {
        return Err(ZeroError::NoShards { pattern: patterns.join(" "), message: "no shard is named".to_owned() });
    }
    Ok(paths.into_iter().filter_map(Shard::of).collect())
}

/// `*` stands for any bytes, `?` for one.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => matches(rest, name) || name.split_first().is_some_and(|(_, left)| matches(pattern, left)),
        (Some((b'?', rest)), Some((_, left))) => matches(rest, left),
        (Some((a, rest)), Some((b, left))) if a == b => matches(rest, left),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_names() {
        assert!(matches(b"*.tar", b"000000.tar") && matches(b"*", b"a") && matches(b"0000?.tar", b"00001.tar"));
        assert!(!matches(b"*.tar", b"a.tar.gz") && !matches(b"a?", b"a"));
    }

    #[test]
    fn the_table_beside_a_tar_is_no_shard() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["00000.tar", "00000.parquet", "00000_stats.json", "00001.parquet", "a.jsonl.gz"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let shards = list_shards(&[folder.path().display().to_string()]).unwrap();
        let names: Vec<_> = shards.iter().map(|shard| shard.path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["00000.tar", "00001.parquet", "a.jsonl.gz"]);
        let error = list_shards(&[folder.path().join("*.tsv").display().to_string()]).unwrap_err().to_string();
        assert!(error.contains("no shard is there") && error.contains("*.tsv"), "{error}");
    }
}
