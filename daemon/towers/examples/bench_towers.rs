//! What the queue costs over a bare loop, and what padding, batches and threads cost: `bench_towers BUNDLE [precision]`. Wall time of
//! the whole process and its CPU time for an item, so that a busy machine shows.
#![expect(clippy::print_stdout, reason = "the figures are its result")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use astromech_schemas::manifest::Precision;
use astromech_towers::graph::{GraphOptions, ImageGraph, TextGraph};
use astromech_towers::{Bundle, PreparedImage, PreparedText, Provider, Towers, TowersConfig, init_runtime};

const MEASURE: Duration = Duration::from_millis(1_500);
const TEXTS: [&str; 6] = [
    "红色的汽车",
    "一群脚踩雪地靴的人正站在一个建筑的前面",
    "乔丹投篮",
    "iPhone 15 Pro Max 256GB 钛金属，拍照真的很好！",
    "在阳光明媚的午后，一只橘色的小猫趴在窗台上看着外面的行人，远处是连绵的青山和一条弯弯的小河，河边有几个孩子在放风筝，笑声传得很远",
    "海边日落",
];

type Failure = Box<dyn std::error::Error>;

/// CPU time of the process, from the clock ticks (1/100 s on Linux) of `/proc/self/stat`.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let ticks = |field: usize| fields.get(field).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}

/// Repeats `call`, which handles `items`, and prints a line.
fn measure(name: &str, items: usize, mut call: impl FnMut() -> Result<(), Failure>) -> Result<(), Failure> {
    call()?;
    let (begun, cpu) = (Instant::now(), cpu_time());
    let mut done = 0;
    while begun.elapsed() < MEASURE {
        call()?;
        done += items;
    }
    let (wall, cpu) = (begun.elapsed(), cpu_time().saturating_sub(cpu));
    let rate = done as f64 / wall.as_secs_f64();
    println!("{name:44} {rate:9.1} /s {:9.3} ms CPU an item", cpu.as_secs_f64() * 1000.0 / done as f64);
    Ok(())
}

fn bare(bundle: &Bundle, options: GraphOptions, pictures: &[PreparedImage], texts: &[PreparedText]) -> Result<(), Failure> {
    let threads = options.threads;
    let mut graph = ImageGraph::open(bundle, options)?;
    for batch in [1, 4, 16] {
        let pictures: Vec<_> = pictures.iter().cycle().take(batch).collect();
        measure(&format!("bare image, {threads} threads, batch {batch}"), batch, || {
            Ok(graph.run(&pictures, false).map(drop)?)
        })?;
    }
    let mut graph = TextGraph::open(bundle, options)?;
    let mut sorted: Vec<_> = texts.iter().cycle().take(64).collect();
    sorted.sort_by_key(|text| text.ids().len());
    for batch in [1, 8, 16] {
        measure(&format!("bare text, {threads} threads, batch {batch}, true length"), 64, || {
            sorted.chunks(batch).try_for_each(|texts| graph.run(texts, false).map(drop)).map_err(Failure::from)
        })?;
    }
    measure(&format!("bare text, {threads} threads, batch 16, padded to 64"), 64, || {
        sorted.chunks(16).try_for_each(|texts| graph.run_padded(texts, 64, false).map(drop)).map_err(Failure::from)
    })
}

async fn embed_all(towers: Arc<Towers>, pictures: &[PreparedImage], texts: &[PreparedText]) -> Result<(), Failure> {
    let mut tasks = tokio::task::JoinSet::new();
    for picture in pictures.iter().cloned() {
        let towers = Arc::clone(&towers);
        tasks.spawn(async move { towers.embed_image(picture).await.map(drop) });
    }
    for text in texts.iter().cloned() {
        let towers = Arc::clone(&towers);
        tasks.spawn(async move { towers.embed_text(text).await.map(drop) });
    }
    while let Some(result) = tasks.join_next().await {
        result??;
    }
    Ok(())
}

fn queued(bundle: &Bundle, config: &TowersConfig, pictures: &[PreparedImage], texts: &[PreparedText]) -> Result<(), Failure> {
    let towers = Arc::new(Towers::start(bundle, config)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build()?;
    let name = |what: &str| format!("towers {what}, {} workers of {} threads", config.workers, config.threads / config.workers);
    let pictures: Vec<_> = pictures.iter().cycle().take(128).cloned().collect();
    let texts: Vec<_> = texts.iter().cycle().take(512).cloned().collect();
    measure(&name("image"), 128, || runtime.block_on(embed_all(Arc::clone(&towers), &pictures, &[])))?;
    measure(&name("text"), 512, || runtime.block_on(embed_all(Arc::clone(&towers), &[], &texts)))?;
    measure(&name("both"), 256, || runtime.block_on(embed_all(Arc::clone(&towers), &pictures, &texts[..128])))
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let path = arguments.first().ok_or("usage: bench_towers BUNDLE [f32|int8|fp16]")?;
    init_runtime(None)?;
    let bundle = Bundle::open(path)?;
    let precision = match arguments.get(1).map(String::as_str) {
        Some("f32") => Some(Precision::F32),
        Some("int8") => Some(Precision::Int8),
        Some("fp16") => Some(Precision::Fp16),
        _ => None,
    };
    let size = bundle.manifest.image.size;
    let shade = |seed: u32| (0..size * size * 3).map(|at| (at.wrapping_mul(0x9e37_79b1 ^ seed) >> 24) as u8).collect();
    let pictures: Vec<_> = (0..16).filter_map(|seed| PreparedImage::from_rgb(size, shade(seed))).collect();
    let tokenizer = bundle.tokenizer()?;
    let texts: Vec<_> = TEXTS.iter().map(|text| tokenizer.prepare(text)).collect();
    let config = TowersConfig { precision, load_cross: false, ..TowersConfig::default() };
    let precision = GraphOptions::new(&bundle, &config)?.precision;
    for threads in [1, 2] {
        bare(&bundle, GraphOptions { provider: Provider::Cpu, precision, threads }, &pictures, &texts)?;
    }
    for (workers, threads) in [(1, 1), (1, 2), (2, 2)] {
        queued(&bundle, &TowersConfig { workers, threads, ..config.clone() }, &pictures, &texts)?;
    }
    Ok(())
}
