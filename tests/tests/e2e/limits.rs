//! The tables of docs/LIMITS.md are true: each row names a limit that a test drives to its end. `tests/limits.tsv` says which;
//! a row that is in neither list fails, and so does a test that is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use astromech_e2e::paths::{message, repository};

/// Rows whose limit no test drives to its end yet. This list only gets shorter: a new row brings its test.
const OPEN: &[&str] = &[
    "kafka.window_records_max",
    "librdkafka prefetch",
    "librdkafka producer queue",
    "largest Kafka message",
    "record.text_bytes_max",
    "record.id_bytes_max",
    "record.labels_max",
    "media.in_flight_max",
    "LIVE_BATCHES_MAX",
    "index.in_flight_max",
    "embedded engine's write queue",
    "embedded engine's reads",
    "http.timeout_ms",
    "an API key",
    "a closed connection's rest",
    "tracestate",
    "search limit",
    "embed_inputs_max",
    "kafka.results.neighbours",
    "cross tower calls of one request",
    "rescore.topics.requests_in_flight_max",
    "generations loading at once",
    "commands to the roller",
    "rollout.memory_bytes_max",
    "rollout.keep_hours",
    "search tags",
    "search rescore",
    "query text",
    "pictures decoded for requests",
    "manifest",
    "RegistryLimits::bundle_bytes_max",
    "registry: one request",
    "RegistryLimits::retry_timeout",
    "registry: wait for another move of a folder's pointer",
    "registry::ORPHAN_AGE",
    "trainer: announcement",
    "trainer: gate's records_max",
    "trainer: data.stream.shuffle_records",
    "trainer: batches made ahead",
    "trainer: corpus --held-out",
    "trainer: collect.filter.memory_max_mib",
    "trainer: prefetch of collect",
    "trainer: pictures looked at at a time",
    "trainer: text kept of an item",
    "trainer: refused records that are named",
    "trainer: collect.reject_share_max",
    "trainer: collect.held_out",
    "trainer: collect.shard_bytes",
    "trainer: collect.silence_seconds",
    "trainer: job.runs_kept",
    "astromech dlq: letters read ahead, under way",
    "spans that wait for the collector",
    "a record's key in logs and spans",
    "WRITES_BYTES_MAX",
    "READ_TIMEOUT",
    "FRAMES_AT_ONCE",
    "points filled at a time",
];

/// The first name of each row of the tables, without its back ticks.
fn rows() -> Vec<String> {
    let text = std::fs::read_to_string(repository().join("docs/LIMITS.md")).expect("docs/LIMITS.md");
    let cells = text
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| name"))
        .filter_map(|line| line.split('|').nth(1));
    cells.map(first_name).collect()
}

/// `` `a.b_max`, `c` `` and `` `a.b_max` / `c` `` are told by their first name.
fn first_name(cell: &str) -> String {
    let plain = cell.replace('`', "");
    let first = plain.split(" / ").next().unwrap_or_default();
    let first = if cell.contains("`, `") { first.split(", ").next().unwrap_or_default() } else { first };
    first.trim().to_owned()
}

fn tested() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(repository().join("tests/limits.tsv")).expect("tests/limits.tsv");
    text.lines().filter_map(|line| line.split_once('\t')).map(|(row, test)| (row.to_owned(), test.to_owned())).collect()
}

/// Names of all functions in the sources.
fn functions(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let names = text.lines().filter_map(|line| line.split_once("fn ")?.1.split(['(', '<']).next().map(str::to_owned));
            found.extend(names);
        }
    }
}

#[test]
fn every_row_of_the_table_of_limits_has_a_test_that_drives_it_to_its_end() {
    let (rows, tested) = (rows(), tested());
    assert!(rows.len() > 60, "the table was read: {} rows", rows.len());
    let open: BTreeSet<_> = OPEN.iter().map(|row| (*row).to_owned()).collect();
    let without: Vec<_> = rows.iter().filter(|row| !tested.contains_key(*row) && !open.contains(*row)).collect();
    assert!(without.is_empty(), "rows without a test; write one and name it in tests/limits.tsv: {without:#?}");
    let both: Vec<_> = open.iter().filter(|row| tested.contains_key(*row)).collect();
    assert!(both.is_empty(), "rows that have a test now: take them off the open list: {both:#?}");
    let gone: Vec<_> = tested.keys().chain(&open).filter(|row| !rows.contains(*row)).collect();
    assert!(gone.is_empty(), "limits that the table does not have: {gone:#?}");

    let mut found = BTreeSet::new();
    for folder in ["daemon", "schemas", "tests", "trainer"] {
        functions(&repository().join(folder), &mut found);
    }
    let gone: Vec<_> = tested.iter().filter(|(_, test)| !found.contains(*test)).collect();
    assert!(gone.is_empty(), "tests that are gone: {gone:#?}");
    message(&format!(
        "{} of {} limits have a test that drives them to their end; open: {open:?}",
        rows.len() - open.len(),
        rows.len()
    ));
}
