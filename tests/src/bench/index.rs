//! The embedded index: the demo set through the whole pipeline, then searches over many points, one at a time, so on one core each.

use std::time::{Duration, Instant};

use astromech_e2e::daemon::run_to_end_with;
use astromech_e2e::paths;
use astromech_index::embedded::EmbeddedIndex;
use astromech_index::{
    Change, ChangeBody, EmbeddedOptions, Index as _, IndexWriter as _, Query, SearchFilter, Space, VECTOR_IMAGE,
};
use astromech_schemas::{Fingerprint, Kind, Similarity, point_id};
use serde_json::Map;

use crate::table::{Table, rate};
use crate::{Setting, number_of};

/// Numbers of a vector.
const DIM: usize = 256;
/// Points of one write.
const BATCH: usize = 4096;
const HITS: u32 = 10;
const SEARCHES: usize = 200;
/// Searches that are compared with a pass over the exact vectors.
const COMPARED: usize = 10;
/// Runs of the demo set, each into a new folder.
const ROUNDS: usize = 3;
/// Seed of the queries: none of them is a point's.
const QUERIES: u64 = 1 << 40;

pub(crate) fn run(_: &Setting) -> Result<String, String> {
    let mut tables = demo()?.to_markdown();
    let head = [
        "points of 256 numbers",
        "written, points/s",
        "opened, s",
        "search p50, ms",
        "p99, ms",
        "worst, ms",
        "recall of the best 10",
    ];
    let mut table = Table::new("Embedded index: searches, one at a time", &head);
    let most = number_of("ASTROMECH_BENCH_POINTS", 1_000_000, BATCH..=10_000_000)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|e| e.to_string())?;
    for points in [100_000, 1_000_000].into_iter().filter(|points| *points <= most) {
        table.row(runtime.block_on(searches(points)).map_err(|e| e.to_string())?);
    }
    tables.push('\n');
    tables.push_str(&table.to_markdown());
    Ok(tables)
}

/// `astromech index` of the demo set, as it says itself.
fn demo() -> Result<Table, String> {
    let mut table = Table::new("Embedded index: the demo set, `astromech index`", &["items", "items/s"]);
    let config = paths::repository().join("configs/demo.toml");
    let set = paths::repository().join("configs/demo/set/messages.jsonl");
    let (mut items, mut rates) = (0.0, Vec::new());
    for _ in 0..ROUNDS {
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        let env = [("ASTROMECH_DEMO_INDEX".to_owned(), folder.path().join("index").to_string_lossy().into_owned())];
        let (status, said) = run_to_end_with(&["index", "--config", &config.to_string_lossy(), &set.to_string_lossy()], &env);
        let line = said.lines().find(|line| line.contains(" indexed, ")).ok_or_else(|| format!("{status}: {said}"))?;
        let mut numbers = line.split(' ').filter_map(|word| word.parse::<f64>().ok());
        // "2000 indexed, 0 bad, 3.7 s, 540 items/s"
        items = numbers.next().unwrap_or_default();
        rates.push(rate(numbers.next_back().unwrap_or_default()));
    }
    table.row(vec![format!("{items}"), rates.join(", ")]);
    Ok(table)
}

/// A unit vector of a seed (splitmix64).
fn vector(seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0xd134_2543_de82_ef95);
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    };
    let numbers: Vec<f32> = (0..DIM).map(|_| next()).collect();
    let length = numbers.iter().map(|number| number * number).sum::<f32>().sqrt();
    numbers.into_iter().map(|number| number / length).collect()
}

async fn searches(points: usize) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let fingerprint = Fingerprint::try_from("b".repeat(64))?;
    let space = Space { fingerprint, embedding_dim: DIM as u32, similarity: Similarity::Cosine, bundle: "bench".to_owned() };
    let options = EmbeddedOptions::new(folder.path().join("index"));
    let written = write(&options, &space, points).await?;
    let began = Instant::now();
    let index = EmbeddedIndex::open(&options, &space).await?;
    let opened = began.elapsed();
    let (mut took, mut found) = (Vec::with_capacity(SEARCHES), Vec::new());
    for number in 0..SEARCHES {
        let vector = vector(QUERIES + number as u64);
        let query = Query { kind: Kind::Image, vector_name: VECTOR_IMAGE, vector, limit: HITS, filter: SearchFilter::default() };
        let began = Instant::now();
        let hits = index.search(&query).await?;
        took.push(began.elapsed());
        found.push(hits.into_iter().map(|hit| hit.point_id).collect::<Vec<_>>());
    }
    index.close().await?;
    took.sort_unstable();
    let millis = |share: f64| format!("{:.1}", took[(share * (took.len() - 1) as f64) as usize].as_secs_f64() * 1000.0);
    Ok(vec![
        points.to_string(),
        rate(points as f64 / written.as_secs_f64()),
        format!("{:.1}", opened.as_secs_f64()),
        millis(0.5),
        millis(0.99),
        millis(1.0),
        format!("{:.3}", recall(points, &found)),
    ])
}

async fn write(options: &EmbeddedOptions, space: &Space, points: usize) -> Result<Duration, Box<dyn std::error::Error>> {
    let index = EmbeddedIndex::open(options, space).await?;
    let mut written = Duration::ZERO;
    let numbers: Vec<usize> = (0..points).collect();
    for part in numbers.chunks(BATCH) {
        let changes: Vec<Change> = part.iter().map(|number| change(*number, space)).collect();
        let began = Instant::now();
        index.apply(&changes).await?;
        written += began.elapsed();
    }
    index.close().await?;
    Ok(written)
}

fn change(number: usize, space: &Space) -> Change {
    let id = number.to_string();
    let payload = Map::from_iter([("title".to_owned(), format!("点 {number}").into())]);
    let body = ChangeBody::Upsert { text: None, image: Some(vector(number as u64)), payload };
    let point_id = point_id(Kind::Image, &id);
    Change { kind: Kind::Image, id, point_id, version: 1, tie_breaker: None, fingerprint: space.fingerprint.clone(), body }
}

/// Of the best by a pass over every exact vector, the share that the searches found.
fn recall(points: usize, found: &[Vec<uuid::Uuid>]) -> f64 {
    let queries: Vec<Vec<f32>> = (0..COMPARED).map(|number| vector(QUERIES + number as u64)).collect();
    let mut best: Vec<Vec<(f64, usize)>> = vec![Vec::new(); COMPARED];
    for number in 0..points {
        let vector = vector(number as u64);
        for (query, best) in queries.iter().zip(&mut best) {
            let score: f64 = query.iter().zip(&vector).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            if best.len() < HITS as usize || best.last().is_some_and(|(worst, _)| score > *worst) {
                let place = best.partition_point(|(other, _)| *other >= score);
                best.insert(place, (score, number));
                best.truncate(HITS as usize);
            }
        }
    }
    let held = best
        .iter()
        .zip(found)
        .flat_map(|(best, found)| best.iter().map(|(_, number)| found.contains(&point_id(Kind::Image, &number.to_string()))));
    held.filter(|held| *held).count() as f64 / (COMPARED * HITS as usize) as f64
}
