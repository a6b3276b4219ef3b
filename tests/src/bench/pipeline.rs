//! The daemon end to end (Kafka in, Qdrant applied, result out) against bare loops over the same graphs.

use std::time::{Duration, Instant};

use astromech_e2e::corpus::{Corpus, corpus};
use astromech_e2e::items::{Item, article, image};
use astromech_e2e::{Daemon, DaemonConfig, Record, World, paths, wait_until, world};
use astromech_schemas::ImageSource;
use astromech_towers::graph::{ImageGraph, TextGraph};
use astromech_towers::{ImageLimits, PreparedImage, decode_and_squash};

use crate::table::{Table, rate};
use crate::{ITEMS_MAX, Setting, number_of, text_length};

/// Items of a run; `ASTROMECH_BENCH_IMAGES` and `ASTROMECH_BENCH_TEXTS` change them (a large model needs fewer).
const IMAGES: usize = 3000;
const TEXTS: usize = 6000;
/// Share of the results that come before the clock starts: queues fill, caches warm.
const WARM_UP: f64 = 0.1;
const DEADLINE: Duration = Duration::from_mins(10);

/// What a run of the daemon gave.
struct Run {
    per_second: f64,
    cpu_share: f64,
    rss_peak_mib: u64,
}

/// What the bare loops gave, items a second.
#[derive(Clone, Copy)]
struct Bare {
    /// ONNX Runtime alone, over inputs made beforehand.
    graph: f64,
    /// Inputs made (decoded, tokenised) batch by batch in the same loop, on as many threads.
    whole: f64,
}

pub(crate) fn run(setting: &Setting) -> Result<String, String> {
    let world = world();
    let corpus = corpus();
    let head = [
        "items",
        "batch",
        "bare graph, items/s",
        "bare loop with decoding, items/s",
        "daemon end to end, items/s",
        "of the bare graph",
        "of the bare loop with decoding",
        "daemon's cores",
        "RSS peak, MiB",
    ];
    let mut table = Table::new("End to end: Kafka in to Qdrant applied and result out", &head);
    let images = images(corpus, number_of("ASTROMECH_BENCH_IMAGES", IMAGES, 32..=ITEMS_MAX)?);
    let pictures: Vec<_> = (0..images.len()).map(|i| corpus.entries[i % corpus.entries.len()].bytes()).collect();
    let batch = setting.config.image.batch_max;
    // Before and after the daemon, so that a machine that slows down shows in both.
    let before = bare_images(setting, &pictures, batch)?;
    let daemon = daemon(&world, "bench-images", &images);
    let after = bare_images(setting, &pictures, batch)?;
    table.row(cells("images, inline JPEG", batch, before, after, &daemon));

    let texts = texts(corpus, number_of("ASTROMECH_BENCH_TEXTS", TEXTS, 32..=ITEMS_MAX)?);
    let batch = setting.config.text.batch_max;
    let before = bare_texts(setting, &texts, batch)?;
    let daemon = self::daemon(&world, "bench-texts", &texts);
    let after = bare_texts(setting, &texts, batch)?;
    table.row(cells("articles, text only", batch, before, after, &daemon));
    Ok(table.to_markdown())
}

fn cells(name: &str, batch: usize, before: Bare, after: Bare, run: &Run) -> Vec<String> {
    let graph = f64::midpoint(before.graph, after.graph);
    let whole = f64::midpoint(before.whole, after.whole);
    vec![
        name.to_owned(),
        batch.to_string(),
        rate(graph),
        rate(whole),
        rate(run.per_second),
        format!("{:.2}", run.per_second / graph),
        format!("{:.2}", run.per_second / whole),
        format!("{:.2}", run.cpu_share),
        run.rss_peak_mib.to_string(),
    ]
}

/// Pictures without captions: one pass of the image tower each.
fn images(corpus: &Corpus, count: usize) -> Vec<Item> {
    let one = |i: usize| {
        let mut entry = corpus.entries[i % corpus.entries.len()].clone();
        entry.id = format!("{}-{i}", entry.id);
        let mut item = image(&entry, 1, ImageSource::from_bytes(entry.bytes()));
        item.message.as_object_mut().expect("a message is an object").remove("caption");
        item
    };
    (0..count).map(one).collect()
}

/// Articles without pictures: one pass of the text tower each.
fn texts(corpus: &Corpus, count: usize) -> Vec<Item> {
    let one = |i: usize| {
        let mut entry = corpus.entries[i % corpus.entries.len()].clone();
        entry.id = format!("{}-{i}", entry.id);
        article(&entry, 1, None)
    };
    (0..count).map(one).collect()
}

fn bare_images(setting: &Setting, pictures: &[Vec<u8>], batch: usize) -> Result<Bare, String> {
    let mut graph = ImageGraph::open(&setting.bundle, setting.options).map_err(|e| e.to_string())?;
    let size = setting.bundle.manifest.image.size;
    let limits = ImageLimits::default();
    let threads = setting.options.threads;
    let decode = |bytes: &Vec<u8>| decode_and_squash(bytes, size, &limits).map_err(|e| e.to_string());
    // As a plain program does it: a batch is decoded on all threads, then run on all threads.
    let decode_batch = |batch: &[Vec<u8>]| -> Result<Vec<PreparedImage>, String> {
        std::thread::scope(|scope| {
            let share = batch.len().div_ceil(threads).max(1);
            let workers: Vec<_> = batch
                .chunks(share)
                .map(|share| scope.spawn(move || share.iter().map(decode).collect::<Result<Vec<_>, _>>()))
                .collect();
            let decoded = workers.into_iter().map(|worker| worker.join().expect("decoding does not panic"));
            Ok(decoded.collect::<Result<Vec<_>, String>>()?.concat())
        })
    };
    let mut run =
        |images: &[PreparedImage]| graph.run(&images.iter().collect::<Vec<_>>(), false).map(drop).map_err(|e| e.to_string());
    let prepared = decode_batch(pictures)?;
    run(&prepared[..batch.min(prepared.len())])?;
    let began = Instant::now();
    for images in prepared.chunks(batch) {
        run(images)?;
    }
    let graph_alone = pictures.len() as f64 / began.elapsed().as_secs_f64();
    let began = Instant::now();
    for pictures in pictures.chunks(batch) {
        run(&decode_batch(pictures)?)?;
    }
    Ok(Bare { graph: graph_alone, whole: pictures.len() as f64 / began.elapsed().as_secs_f64() })
}

fn bare_texts(setting: &Setting, items: &[Item], batch: usize) -> Result<Bare, String> {
    let mut graph = TextGraph::open(&setting.bundle, setting.options).map_err(|e| e.to_string())?;
    let text = |item: &Item| {
        format!("{}。{}", item.message["title"].as_str().unwrap_or_default(), item.message["body"].as_str().unwrap_or_default())
    };
    let texts: Vec<_> = items.iter().map(text).collect();
    let prepared = text_length::prepare(setting, &texts);
    // In the order of arrival, each batch padded to its longest: what a plain program does.
    let order: Vec<_> = prepared.iter().collect();
    text_length::pass(&mut graph, &order[..batch.min(order.len())], batch, None)?;
    let graph_alone = text_length::pass(&mut graph, &order, batch, None)?;
    let began = Instant::now();
    let again = text_length::prepare(setting, &texts);
    text_length::pass(&mut graph, &again.iter().collect::<Vec<_>>(), batch, None)?;
    Ok(Bare { graph: graph_alone, whole: texts.len() as f64 / began.elapsed().as_secs_f64() })
}

/// TOML to try other limits than the defaults.
fn setting_of(variable: &str) -> String {
    std::env::var(variable).unwrap_or_default()
}

/// All of `items` wait in the topic when the daemon starts; the rate is that of the results' own times after the warm-up.
fn daemon(world: &World, name: &str, items: &[Item]) -> Run {
    let topics = world.client.topics(name);
    world.client.produce(&topics.changes, items.iter().map(Item::record).collect::<Vec<Record>>());
    let mut config = DaemonConfig::new(world, &topics);
    // The daemon's own limits, unless others are tried.
    config.extra = format!("[log]\nlevel = \"warn\"\n{}", setting_of("ASTROMECH_BENCH_TABLES"));
    config.index_keys = setting_of("ASTROMECH_BENCH_INDEX");
    let mut daemon = Daemon::start(&config);
    let (began, used) = (Instant::now(), daemon.cpu_time());
    wait_until("all results", DEADLINE, || {
        daemon.expect_alive();
        let results = world.client.count(&topics.results);
        // The harness looks rarely: it shares the cores.
        std::thread::sleep(Duration::from_millis(300));
        if results >= items.len() as u64 { Ok(()) } else { Err(format!("{results} results")) }
    });
    let cpu_share = daemon.cpu_time().saturating_sub(used).as_secs_f64() / began.elapsed().as_secs_f64();
    let rss_peak_mib = daemon.rss_peak_bytes() >> 20;
    daemon.terminate();
    let mut times = world.client.times(&topics.results);
    times.sort_unstable();
    let skipped = (times.len() as f64 * WARM_UP) as usize;
    let seconds = (times[times.len() - 1] - times[skipped]) as f64 / 1000.0;
    let per_second = (times.len() - 1 - skipped) as f64 / seconds;
    paths::message(&format!("{name}: {} results, {per_second:.1} a second", times.len()));
    Run { per_second, cpu_share, rss_peak_mib }
}
