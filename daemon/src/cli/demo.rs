//! `astromech demo`: indexes the demo set once, shows example queries with their hits, and serves the search page.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use astromech_schemas::http::SearchRequest;
use astromech_schemas::{Kind, RecordLimits, decode_item, point_id};
use astromech_towers::Towers;
use clap::Args;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::failure::{EXIT_FAILED, EXIT_OK};
use super::hits::{fit, name};
use super::index::{Indexing, index_file};
use super::metrics::{IndexMetrics, every_metric};
use super::signals::stop_on_signals;
use super::{ConfigArg, output};
use crate::api::{self, Access, AppState, Limits, MediaRoots, Tls};
use crate::assemble::{open_disk, open_index, start_rescorer, start_towers, vitals_of, warm_cache};
use crate::config::Config;
use crate::failure::{Usage, hinted};
use crate::generation::{Live, Serving};
use crate::index::{Index, IndexWriter};
use crate::rescore::Rescorer;
use crate::search::Searcher;
use crate::vitals::{Condition, Vitals};

/// Queries that are printed and that the page proposes.
const EXAMPLES: [&str; 8] =
    ["红色的汽车", "下雨的云", "生日蛋糕", "骑自行车的女人", "微笑的猫", "热带水果", "中国的旗帜", "圣诞礼物"];
/// Name of the set's file in a folder of `media.file_roots`.
const SET_FILE: &str = "messages.jsonl";
/// Ids that are looked up at once.
const LOOKUP_MAX: usize = 256;
/// Pictures printed for each example.
const PICTURES_PRINTED: u32 = 4;

#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    #[command(flatten)]
    pub(super) config: ConfigArg,
    /// The set: a file of messages, one JSON object a line; messages.jsonl in a folder of media.file_roots where absent.
    #[arg(long, value_name = "FILE")]
    set: Option<PathBuf>,
    /// End after the examples, without serving the page.
    #[arg(long)]
    once: bool,
}

/// Runs the command; returns the exit code.
///
/// # Errors
/// Something did not start, the set can't be read, or the index did not answer.
pub(super) async fn run(config: Config, args: DemoArgs) -> Result<u8> {
    let set = find_set(&config, args.set)?;
    let stop = CancellationToken::new();
    stop_on_signals(stop.clone()).context("no signal handler")?;
    // First, so that a port in use is told before the work and not after it.
    let listener = if args.once { None } else { Some(bind(config.http.listen).await?) };
    let vitals = vitals_of(&config, every_metric(), &[Condition::Bundle, Condition::Index]);
    let metrics = &vitals.metrics;
    let towers = start_towers(&config, metrics, config.rescore.enabled).await?;
    let index = open_index(&config, &towers).await;
    let index = index.with_context(|| {
        hinted("the index was not opened", "stop the other demo, or remove the folder of index.embedded.path")
    })?;
    let readable = Arc::clone(&index) as Arc<dyn Index>;
    let rescorer = start_rescorer(&config, &towers, &readable, open_disk(&config, metrics).await, metrics)?;
    let demo = Demo { config, towers, index, rescorer, vitals };
    let ended = demo.run(&set, listener, stop).await;
    if let Some(rescorer) = &demo.rescorer {
        rescorer.close().await;
    }
    demo.index.close().await.context("the index was not closed cleanly")?;
    ended
}

fn find_set(config: &Config, given: Option<PathBuf>) -> Result<PathBuf> {
    let candidates =
        given.map_or_else(|| config.media.file_roots.iter().map(|root| root.join(SET_FILE)).collect(), |set| vec![set]);
    let looked: Vec<String> = candidates.iter().map(|path| path.display().to_string()).collect();
    candidates.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        let problem =
            format!("no demo set: {} is no file", if looked.is_empty() { SET_FILE.to_owned() } else { looked.join(", ") });
        Usage { problem, hint: "use configs/demo.toml, or name a file of messages with --set".to_owned() }.into()
    })
}

async fn bind(address: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener
        .with_context(|| hinted(format!("{address} can't be listened on"), "choose another with ASTROMECH_LISTEN=127.0.0.1:PORT"))
}

struct Demo {
    config: Config,
    towers: Towers,
    index: Arc<dyn IndexWriter>,
    rescorer: Option<Arc<Rescorer>>,
    vitals: Vitals,
}

impl Demo {
    async fn run(&self, set: &Path, listener: Option<TcpListener>, stop: CancellationToken) -> Result<u8> {
        self.index_set(set, stop.clone()).await?;
        let found = self.print_examples().await?;
        if let Some(listener) = listener.filter(|_| !stop.is_cancelled()) {
            self.serve(listener, stop).await?;
        }
        Ok(if found { EXIT_OK } else { EXIT_FAILED })
    }

    /// Indexes the set unless the index holds all of it.
    async fn index_set(&self, set: &Path, stop: CancellationToken) -> Result<()> {
        let ids = read_ids(set, &self.config.record).with_context(|| format!("{} can't be read", set.display()))?;
        let total: usize = ids.values().map(Vec::len).sum();
        let held = self.count_held(&ids).await.context("the index did not answer")?;
        if held == total {
            output::note(&format!("the index holds all {total} items of the demo set"));
            return Ok(());
        }
        output::note(&format!("indexing the demo set: {total} items"));
        let indexing = Indexing {
            config: &self.config,
            towers: &self.towers,
            index: &self.index,
            metrics: &self.vitals.metrics,
            warm: warm_cache(&self.config, self.rescorer.as_ref()),
        };
        let report = index_file(indexing, set, None, stop).await?;
        for (line, problem) in &report.listed {
            output::note(&format!("{}:{line}: {problem}", set.display()));
        }
        if report.interrupted {
            bail!("interrupted; the next start goes on");
        }
        if report.applied == 0 {
            bail!(hinted(format!("nothing of {} was indexed", set.display()), "see the lines above"));
        }
        let seconds = report.took.as_secs_f64();
        output::note(&format!(
            "{} items indexed in {seconds:.1} s, {:.0} a second",
            report.applied,
            report.applied as f64 / seconds.max(0.001)
        ));
        Ok(())
    }

    async fn count_held(&self, ids: &BTreeMap<Kind, Vec<Uuid>>) -> Result<usize, crate::index::IndexError> {
        let mut held = 0;
        for (kind, ids) in ids {
            for chunk in ids.chunks(LOOKUP_MAX) {
                held += self.index.retrieve(*kind, chunk).await?.len();
            }
        }
        Ok(held)
    }

    /// One line a query: its best pictures and its best article. Returns whether every query found something.
    async fn print_examples(&self) -> Result<bool> {
        const QUERY: usize = 16;
        const PICTURES: usize = 66;
        const ARTICLE: usize = 32;
        let searcher = Searcher::new(&self.towers, Arc::clone(&self.index) as Arc<dyn Index>, None);
        let mut found = true;
        let head = [("查询 query", QUERY), ("图片 pictures (cosine)", PICTURES), ("文章 article (cosine)", ARTICLE)];
        output::data("");
        output::data(head.map(|(title, columns)| fit(title, columns)).join("  ").trim_end());
        output::data(&"─".repeat(QUERY + PICTURES + ARTICLE + 4));
        for query in EXAMPLES {
            let request =
                SearchRequest { text: Some(query.to_owned()), limit: Some(PICTURES_PRINTED), ..SearchRequest::default() };
            let response = searcher.search(request.try_into()?).await?;
            let words = |kind: Kind, most: usize| -> String {
                let hits = response.hits.get(&kind).map(Vec::as_slice).unwrap_or_default();
                let words = hits.iter().take(most).map(|hit| format!("{} {:.2}", fit(name(hit), 18).trim_end(), hit.score));
                words.collect::<Vec<_>>().join(" · ")
            };
            let (pictures, article) = (words(Kind::Image, PICTURES_PRINTED as usize), words(Kind::Article, 1));
            found &= !pictures.is_empty();
            let line = [fit(query, QUERY), fit(&pictures, PICTURES), fit(&article, ARTICLE)].join("  ");
            output::data(line.trim_end());
        }
        output::data("");
        Ok(found)
    }

    async fn serve(&self, listener: TcpListener, stop: CancellationToken) -> Result<()> {
        let Vitals { metrics, readiness, .. } = &self.vitals;
        readiness.set_ready(Condition::Bundle);
        readiness.set_ready(Condition::Index);
        let index_metrics = metrics.of::<IndexMetrics>();
        for (kind, points) in self.index.counts().await.context("the index did not answer")? {
            index_metrics.set_points(kind, points);
        }
        let address = listener.local_addr().context("the listener has no address")?;
        let state = AppState {
            live: Arc::new(Live::new(Serving::new(self.towers.clone(), Arc::clone(&self.index), self.rescorer.clone()))).into(),
            generations: None,
            vitals: self.vitals.clone(),
            media: MediaRoots::of(&self.config),
            limits: Limits::of(&self.config),
            access: Access::of(&self.config),
            tls: Tls::of(&self.config).context("no HTTPS")?,
            examples: EXAMPLES.map(str::to_owned).into(),
        };
        let shown = if address.ip().is_unspecified() { SocketAddr::from(([127, 0, 0, 1], address.port())) } else { address };
        let url = format!("{}://{shown}/", if self.config.http.tls.is_some() { "https" } else { "http" });
        output::data(&format!("search page: {url}   (Ctrl-C ends)"));
        open_browser(&url);
        api::serve(listener, Arc::new(state), stop).await.context("http ended")
    }
}

/// Point ids of the set's items by kind. A line that is no message is left to the indexing, which reports it.
fn read_ids(set: &Path, limits: &RecordLimits) -> std::io::Result<BTreeMap<Kind, Vec<Uuid>>> {
    let mut ids: BTreeMap<Kind, Vec<Uuid>> = BTreeMap::new();
    for line in std::fs::read(set)?.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
        if let Ok(item) = decode_item(line, None, limits)
            && let Some(id) = &item.common().id
        {
            ids.entry(item.kind()).or_default().push(point_id(item.kind(), id));
        }
    }
    Ok(ids)
}

/// Opens the page where a person sits at a desktop: never without a display, in CI, or with the output in a pipe.
fn open_browser(url: &str) {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if !(set("DISPLAY") || set("WAYLAND_DISPLAY")) || set("CI") || !std::io::stdout().is_terminal() {
        return;
    }
    let opener = tokio::process::Command::new("xdg-open")
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    if let Err(error) = opener {
        tracing::debug!(%error, "no browser was opened");
    }
}
