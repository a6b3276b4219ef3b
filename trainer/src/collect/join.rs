//! The newest version of each item, with its clicks: what the click-log pipeline is given.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use astromech_schemas::record::TieBreaker;
use rayon::prelude::*;
use serde_json::json;

use super::config::CollectConfig;
use super::error::CollectError;
use super::manifest::{Counts, REJECTS_FILE};
use super::pictures::{PictureRef, PictureStore, Refusal};
use super::plan::Plan;
use super::spool::{Body, Line, Texts, spool_path};
use crate::files::file_error;
use crate::zero::clicks::process_mib;
use crate::zero::clicks::spill::{Grouping, MIB, Parts, TABLE_PART, items, parts_for};

/// Least memory for tables, MiB.
const TABLES_MIN_MIB: u64 = 48;
/// Pictures looked at at a time, on all threads.
const CHUNK: usize = 256;
/// Refused records that are named; all are counted.
const NAMED_MAX: u64 = 10_000;
/// What an entry takes in memory beside its texts.
const ENTRY_BYTES: usize = 160;
/// Picks the files that lines go to.
const SEED: u64 = 0x51;

/// What the items came to.
pub(super) struct Joined {
    pub counts: Counts,
    pub rejects: BTreeMap<String, u64>,
    /// Rows of the log of clicks, `query, image, impressions, clicks, title, content, url`.
    pub rows: u64,
    pub log: PathBuf,
    /// Folder that its pictures are relative to.
    pub pictures: PathBuf,
}

/// An item's newest version so far; no texts where it is a delete.
struct Change {
    order: (u64, Option<TieBreaker>),
    place: (u32, i64),
    item: Option<(Texts, Option<PictureRef>)>,
}

#[derive(Default)]
struct Group {
    newest: Option<Change>,
    /// Impressions and clicks by query.
    clicks: BTreeMap<String, (u64, u64)>,
    superseded: u64,
}

impl Group {
    /// Takes a line in; answers how many bytes the group grew.
    fn take(&mut self, line: Line) -> i64 {
        let place = (line.source, line.offset);
        let change = match line.body {
            Body::Upsert { version, tie, texts, picture, .. } => {
                Change { order: (version, tie), place, item: Some((texts, picture)) }
            }
            Body::Delete { version, tie, .. } => Change { order: (version, tie), place, item: None },
            Body::Click { query, impressions, clicks, .. } => {
                let bytes = if self.clicks.contains_key(&query) { 0 } else { query.len() + ENTRY_BYTES };
                let sum = self.clicks.entry(query).or_default();
                *sum = (sum.0.saturating_add(impressions), sum.1.saturating_add(clicks));
                return bytes as i64;
            }
            Body::Reject { .. } => return 0,
        };
        // As the index has it: a higher version wins, of equal ones the later record. A spool without `tie` is in the order of its records.
        let wins = self.newest.as_ref().is_none_or(|old| (change.order, change.place) > (old.order, old.place));
        self.superseded += u64::from(self.newest.is_some());
        if !wins {
            return 0;
        }
        let before = self.newest.as_ref().map_or(0, Change::bytes);
        let grown = change.bytes() - before;
        self.newest = Some(change);
        grown
    }
}

impl Change {
    fn bytes(&self) -> i64 {
        let texts = self.item.as_ref().map_or(0, |(texts, _)| texts.title.len() + texts.content.len() + texts.link.len());
        (texts + ENTRY_BYTES) as i64
    }
}

/// An item that goes into the log.
struct Pending {
    place: (u32, i64),
    texts: Texts,
    picture: PictureRef,
    clicks: BTreeMap<String, (u64, u64)>,
}

/// Joins the spools in `work`.
pub(super) fn join(config: &CollectConfig, plan: &Plan, work: &Path) -> Result<Joined, CollectError> {
    let pictures = PictureStore::open(work, &config.file_roots)?;
    let folder = work.join("groups");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(file_error(&folder))?;
    }
    std::fs::create_dir(&folder).map_err(file_error(&folder))?;
    let free_mib = config.filter.memory_max_mib.saturating_sub(process_mib("VmRSS")).max(TABLES_MIN_MIB);
    let table_bytes = free_mib * MIB / TABLE_PART;
    let mut rejects = Rejects::create(plan, &work.join(REJECTS_FILE))?;
    let mut counts = Counts::default();
    let files = share_out(plan, work, &folder, table_bytes, &mut counts, &mut rejects)?;
    let log = work.join("log.jsonl");
    let unshown = config.unshown || config.clicks.is_none();
    let file = File::create(&log).map_err(file_error(&log))?;
    let mut writer =
        LogWriter { unshown, pictures: &pictures, log: &log, file: BufWriter::new(file), rows: 0, pending: Vec::new() };
    let key = |line: &Line| line.key().unwrap_or_default();
    let fold = |group: &mut Group, line: Line| group.take(line);
    let mut failed = None;
    let grouping = Grouping { table_bytes, key: &key, fold: &fold };
    let grouped = grouping.run(files, &mut |_, group| {
        let taken = writer.group(group, &mut counts, &mut rejects);
        taken.map_err(|error| {
            let broken = file_error(&log)(std::io::Error::other(error.to_string()));
            failed = Some(error);
            broken.into()
        })
    });
    if let Some(error) = failed {
        return Err(error);
    }
    grouped?;
    writer.flush(&mut counts, &mut rejects)?;
    let rows = writer.finish()?;
    let rejects = rejects.finish(config, &counts)?;
    Ok(Joined { counts, rejects, rows, log, pictures: work.join("pictures") })
}

/// Shares the lines of all spools out by item.
fn share_out(
    plan: &Plan,
    work: &Path,
    folder: &Path,
    table_bytes: u64,
    counts: &mut Counts,
    rejects: &mut Rejects<'_>,
) -> Result<Vec<PathBuf>, CollectError> {
    let size = |number| std::fs::metadata(spool_path(work, number)).map_or(0, |file| file.len());
    let bytes = plan.sources().map(|source| size(source.number)).sum();
    let mut parts = Parts::create(folder, "lines", parts_for(bytes, table_bytes), SEED)?;
    for source in plan.sources() {
        let path = spool_path(work, source.number);
        if !path.exists() {
            continue;
        }
        for line in items::<Line>(&path)? {
            let line = line?;
            counts.records += 1;
            match &line.body {
                Body::Upsert { .. } => counts.upserts += 1,
                Body::Delete { .. } => counts.deletes += 1,
                Body::Click { .. } => counts.clicks += 1,
                Body::Reject { reason, detail } => rejects.add((line.source, line.offset), reason, detail)?,
            }
            if let Some(key) = line.key() {
                parts.write(&key, &line)?;
            }
        }
    }
    Ok(parts.finish()?)
}

struct LogWriter<'a> {
    unshown: bool,
    pictures: &'a PictureStore,
    log: &'a Path,
    file: BufWriter<File>,
    rows: u64,
    pending: Vec<Pending>,
}

impl LogWriter<'_> {
    fn group(&mut self, group: Group, counts: &mut Counts, rejects: &mut Rejects<'_>) -> Result<(), CollectError> {
        counts.superseded += group.superseded;
        let Some(newest) = group.newest else {
            counts.clicks_without_item += group.clicks.len() as u64;
            return Ok(());
        };
        let Some((texts, picture)) = newest.item else {
            counts.deleted += 1;
            return Ok(());
        };
        counts.items += 1;
        let Some(picture) = picture else {
            counts.without_picture += 1;
            return Ok(());
        };
        self.pending.push(Pending { place: newest.place, texts, picture, clicks: group.clicks });
        if self.pending.len() >= CHUNK { self.flush(counts, rejects) } else { Ok(()) }
    }

    /// Looks at the pictures of what is pending and writes the rows.
    fn flush(&mut self, counts: &mut Counts, rejects: &mut Rejects<'_>) -> Result<(), CollectError> {
        let brought: Vec<Result<Result<String, Refusal>, CollectError>> =
            self.pending.par_iter().map(|pending| self.pictures.bring(&pending.picture)).collect();
        let pending = std::mem::take(&mut self.pending);
        for (pending, brought) in pending.into_iter().zip(brought) {
            match brought? {
                Ok(image) => self.item(&pending, &image, counts)?,
                Err((reason, detail)) => rejects.add(pending.place, reason, &detail)?,
            }
        }
        Ok(())
    }

    fn item(&mut self, pending: &Pending, image: &str, counts: &mut Counts) -> Result<(), CollectError> {
        let texts = &pending.texts;
        let own = if texts.title.is_empty() { &texts.content } else { &texts.title };
        if pending.clicks.is_empty() {
            counts.unshown += 1;
        }
        if own.is_empty() && pending.clicks.is_empty() {
            counts.without_text += 1;
            return Ok(());
        }
        let own_row = (self.unshown && !own.is_empty()).then_some((own, (0, 0)));
        let shown = pending.clicks.iter().map(|(query, &sums)| (query, sums));
        for (query, (impressions, clicks)) in shown.chain(own_row) {
            let row = json!({
                "query": query, "image": image, "impressions": impressions, "clicks": clicks,
                "title": texts.title, "content": texts.content, "url": texts.link,
            });
            writeln!(self.file, "{row}").map_err(file_error(self.log))?;
            self.rows += 1;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<u64, CollectError> {
        self.file.flush().map_err(file_error(self.log))?;
        Ok(self.rows)
    }
}

/// What was refused: all counted, the first named.
struct Rejects<'a> {
    sources: Vec<(&'a str, i32)>,
    path: PathBuf,
    file: BufWriter<File>,
    counts: BTreeMap<String, u64>,
    total: u64,
}

impl<'a> Rejects<'a> {
    fn create(plan: &'a Plan, path: &Path) -> Result<Self, CollectError> {
        let file = File::create(path).map_err(file_error(path))?;
        let sources = plan.sources().map(|source| (source.topic, source.window.partition)).collect();
        Ok(Self { sources, path: path.to_owned(), file: BufWriter::new(file), counts: BTreeMap::new(), total: 0 })
    }

    fn add(&mut self, (source, offset): (u32, i64), reason: &str, detail: &str) -> Result<(), CollectError> {
        *self.counts.entry(reason.to_owned()).or_default() += 1;
        self.total += 1;
        if self.total > NAMED_MAX {
            return Ok(());
        }
        let (topic, partition) = self.sources.get(source as usize).copied().unwrap_or_default();
        let row = json!({ "topic": topic, "partition": partition, "offset": offset, "reason": reason, "detail": detail });
        Ok(writeln!(self.file, "{row}").map_err(file_error(&self.path))?)
    }

    fn finish(mut self, config: &CollectConfig, counts: &Counts) -> Result<BTreeMap<String, u64>, CollectError> {
        self.file.flush().map_err(file_error(&self.path))?;
        if self.total as f64 > config.reject_share_max * counts.records as f64 {
            let reasons: Vec<String> = self.counts.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
            return Err(CollectError::TooManyRejects {
                rejects: self.total,
                records: counts.records,
                reasons: reasons.join(", "),
                share_max: config.reject_share_max,
                path: self.path,
            });
        }
        Ok(self.counts)
    }
}

#[cfg(test)]
mod tests {
    use astromech_schemas::Kind;

    use super::*;

    fn line(source: u32, offset: i64, version: u64, title: Option<&str>) -> Line {
        let (kind, id) = (Kind::Image, "a".to_owned());
        let tie = Some(TieBreaker::new("t", source as i32, offset as u64));
        let body = match title {
            Some(title) => {
                let texts = Texts { title: title.to_owned(), ..Texts::default() };
                Body::Upsert { kind, id, version, tie, texts, picture: None }
            }
            None => Body::Delete { kind, id, version, tie },
        };
        Line { source, offset, body }
    }

    #[test]
    fn the_newest_version_stands_whatever_the_order_and_of_equal_ones_the_later_record() {
        let lines = [line(0, 9, 3, Some("new")), line(0, 1, 1, Some("old")), line(0, 2, 3, Some("tied")), line(0, 4, 2, None)];
        for turn in 0..lines.len() {
            let mut group = Group::default();
            let mut bytes = 0;
            for at in 0..lines.len() {
                bytes += group.take(lines[(at + turn) % lines.len()].clone());
            }
            let newest = group.newest.unwrap();
            assert_eq!(newest.item.as_ref().unwrap().0.title, "new");
            assert_eq!((group.superseded, bytes), (3, newest.bytes()));
        }
        let mut group = Group::default();
        for line in [line(0, 5, 7, None), line(0, 4, 6, Some("deleted"))] {
            group.take(line);
        }
        assert!(group.newest.unwrap().item.is_none());
    }
}
