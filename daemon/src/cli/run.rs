//! `astromech run`: the daemon.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use astromech_towers::Towers;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::metrics::{IndexMetrics, every_metric};
use super::signals::{Interrupted, stop_on_signals};
use crate::api::{self, Access, AppState, HttpMetrics, Limits, MediaRoots, Tls};
use crate::assemble::{open_disk, open_index, space, start_rescorer, start_towers, vitals_of};
use crate::clock::unix_ms;
use crate::config::{Config, KafkaConfig};
use crate::failure::{Usage, hinted};
use crate::generation::{self, Ingest, Live, Reading, Serving, StartParts, Started};
use crate::index::{Index, IndexError, IndexWriter};
use crate::pipeline::{AvroCodec, KafkaOutlet};
use crate::rescore_topic::{self, RescoreTopicParts};
use crate::source::{self, Drained, SourceDeps};
use crate::telemetry::Traces;
use crate::vitals::{Awaited, Condition, Meter, Metrics, Queue, QueueMetrics, Unanswered, Vitals};

/// How often the index is asked for its health and its number of points.
const INDEX_CHECK: Duration = Duration::from_secs(10);
/// How often the towers' queues are looked at.
const QUEUE_CHECK: Duration = Duration::from_secs(1);
/// How often tombstones are removed.
const PURGE_EVERY: Duration = Duration::from_hours(1);
/// The same, where they are not kept that long.
const PURGE_EVERY_MIN: Duration = Duration::from_secs(1);
/// Longest wait at the end for what ends by itself once its input has ended.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs until a signal or a cause to stop.
///
/// # Errors
/// Something did not start, or the daemon had to stop by itself.
pub async fn run(config: Config) -> Result<()> {
    let metrics = every_metric();
    let traces = Traces::init(&config.log, config.telemetry.as_ref(), &metrics).context("no log")?;
    let ended = run_with(config, metrics).await;
    traces.end().await;
    ended
}

async fn run_with(config: Config, metrics: Arc<Metrics>) -> Result<()> {
    let Some(kafka) = config.kafka.clone() else {
        let hint = "add [kafka] and [[kafka.topics]]; `astromech index FILE` and `astromech search` need none".to_owned();
        return Err(Usage { problem: "the configuration has no [kafka]".to_owned(), hint }.into());
    };
    let stop = CancellationToken::new();
    let interrupted = stop_on_signals(stop.clone()).context("no signal handler")?;
    let tls = Tls::of(&config).context("no HTTPS")?;
    let listener = bind(&config).await?;
    let vitals = vitals_of(&config, metrics, &conditions(&config, &kafka));
    vitals.readiness.set_ready(Condition::Running);
    let avro = AvroCodec::new(&kafka, Arc::clone(&vitals.readiness))?;
    let (generations, asked) = config.rollout.as_ref().map(|_| generation::generations()).unzip();
    // Health and readiness are answered from here on, the rest once there is something to answer with.
    let state = Arc::new(AppState {
        live: OnceLock::new(),
        generations: generations.clone(),
        vitals: vitals.clone(),
        media: MediaRoots::of(&config),
        limits: Limits::of(&config),
        access: Access::of(&config),
        tls,
        examples: Vec::new(),
    });
    let leaving = AbortOnDropHandle::new(tokio::spawn(leave(stop.clone(), interrupted, vitals.clone(), config.http.drain_grace)));
    let served = CancellationToken::new();
    let server = tokio::spawn(serve(listener, Arc::clone(&state), served.clone(), stop.clone()));
    let _registry = avro.clone().map(|avro| AbortOnDropHandle::new(tokio::spawn(avro.watch())));

    let opened = open(&config, &Patience { vitals: &vitals, stop: &stop }).await;
    let Ok(Some((serving, started))) = opened else {
        served.cancel();
        let served = end_server(server).await;
        opened?;
        info!("stopped before the index answered");
        return served;
    };
    let live = Arc::new(Live::new(serving));
    let _ = state.live.set(Arc::clone(&live));
    let watchers = [
        AbortOnDropHandle::new(tokio::spawn(watch_index(Arc::clone(&live), vitals.clone()))),
        AbortOnDropHandle::new(tokio::spawn(watch_queues(Arc::clone(&live), vitals.metrics.of()))),
    ];

    let purger = config.index.tombstone_retention.map(|retention| {
        AbortOnDropHandle::new(tokio::spawn(purge_tombstones(Arc::clone(&live), vitals.metrics.of(), retention)))
    });

    let rolling = started.zip(generations).zip(asked);
    let reading = Reader { config: Arc::new(config), kafka, live: Arc::clone(&live), vitals, avro };
    let (servings, ended) = reading.run(rolling, stop.clone()).await;
    // Reading ends by the stop, or stops the rest; where it did not begin there is nobody to wait for.
    if stop.is_cancelled() {
        let _ = leaving.await;
    }
    drop((watchers, purger));
    served.cancel();
    let served = end_server(server).await;
    for serving in servings {
        serving.index.close().await.context("an index was not closed cleanly")?;
        if let Some(rescorer) = &serving.rescorer {
            rescorer.close().await;
        }
    }
    let Drained { unfinished } = ended?;
    served?;
    info!(unfinished, "stopped; what is finished is committed");
    Ok(())
}

/// What must hold before this daemon is ready.
fn conditions(config: &Config, kafka: &KafkaConfig) -> Vec<Condition> {
    let mut conditions = vec![Condition::Running, Condition::Bundle, Condition::Index, Condition::Kafka, Condition::Publish];
    conditions.extend(config.rescore.topics.as_ref().map(|_| Condition::RescoreTopic));
    conditions.extend(kafka.used_schema_registry().map(|_| Condition::SchemaRegistry));
    conditions
}

async fn bind(config: &Config) -> Result<TcpListener> {
    let address = config.http.listen;
    let listener = TcpListener::bind(address).await;
    let listener =
        listener.with_context(|| hinted(format!("{address} can't be listened on"), "set http.listen to a free address"))?;
    info!(address = %listener.local_addr().unwrap_or(address), "http listens");
    Ok(listener)
}

/// Trying as often as it takes (promise 5).
struct Patience<'a> {
    vitals: &'a Vitals,
    stop: &'a CancellationToken,
}

impl Patience<'_> {
    /// Attempts at something of the index; `None` where the stop came first.
    async fn until_open<T, F: Future<Output = Result<T, IndexError>>>(&self, attempt: impl Fn() -> F) -> Result<Option<T>> {
        let warn =
            |error: &IndexError, wait: Duration| warn!(problem = error.text(), ?wait, "the index is not open; trying again");
        let index = Awaited::new(IndexError::is_transient, &warn).missing(Condition::Index, IndexError::text);
        match self.vitals.until_it_answers(index, self.stop.cancelled(), attempt).await {
            Ok(opened) => Ok(Some(opened)),
            Err(Unanswered::Ended(())) => Ok(None),
            Err(Unanswered::Failed(error)) => {
                let hint = "point bundle.path and the index at the same vector space; see the fingerprints above";
                Err(anyhow::Error::new(error).context(hinted("the index was not opened", hint)))
            }
        }
    }
}

/// Towers and index of the live generation, which with rollouts the index names; `None` where the stop came first.
async fn open(config: &Config, patience: &Patience<'_>) -> Result<Option<(Serving, Option<Started>)>> {
    let Vitals { metrics, readiness, .. } = patience.vitals;
    let started = match &config.rollout {
        None => None,
        Some(rollout) => match patience.until_open(|| Started::find(config, rollout)).await? {
            None => return Ok(None),
            found => found,
        },
    };
    let config = started.as_ref().map_or(config, |started| &started.config);
    let counted = started.as_ref().map_or_else(|| Arc::clone(metrics), |started| started.metrics(metrics));
    let towers = start_towers(config, &counted, config.rescore.enabled).await?;
    readiness.set_ready(Condition::Bundle);
    let Some(writer) = patience.until_open(|| open_unless_lost(config, &towers, metrics)).await? else { return Ok(None) };
    if let Some(started) = &started
        && patience.until_open(|| started.claim(&towers)).await?.is_none()
    {
        return Ok(None);
    }
    readiness.set_ready(Condition::Index);
    let index = Arc::clone(&writer) as Arc<dyn Index>;
    let rescorer = start_rescorer(config, &towers, &index, open_disk(config, metrics).await, metrics)?;
    Ok(Some((Serving::new(towers, writer, rescorer), started)))
}

/// Opens the index, but makes none anew where the group has read into one that is gone.
async fn open_unless_lost(config: &Config, towers: &Towers, metrics: &Metrics) -> Result<Arc<dyn IndexWriter>, IndexError> {
    if let Some(kafka) = &config.kafka {
        let kafka = generation::kafka_of(config, kafka, towers.fingerprint());
        let refused = generation::refused(config, &kafka, &space(towers), false).await?;
        metrics.of::<IndexMetrics>().set_lost(refused.is_some());
        if let Some(problem) = refused {
            return Err(IndexError::Transient(problem.into()));
        }
    }
    open_index(config, towers).await
}

/// Everything that reads from Kafka.
struct Reader {
    config: Arc<Config>,
    kafka: KafkaConfig,
    live: Arc<Live>,
    vitals: Vitals,
    avro: Option<Arc<AvroCodec>>,
}

type Rolling = ((Started, generation::Generations), generation::CommandReceiver);

impl Reader {
    /// Runs the generations, and the topic of re-scoring requests beside them, to their end. Whichever ends first stops the other.
    async fn run(self, rolling: Option<Rolling>, stop: CancellationToken) -> (Vec<Arc<Serving>>, Result<Drained>) {
        let begun = Instant::now();
        let (changes, answering) = match self.start(rolling, &stop) {
            Ok(started) => started,
            Err(error) => return (vec![self.live.serving()], Err(error)),
        };
        let stopping = |stop: &CancellationToken| stop.clone().drop_guard();
        let changes = async {
            let _stops = stopping(&stop);
            match changes {
                Changes::One(reading) => (vec![self.live.serving()], reading.end().await),
                Changes::Rolling(rolling) => rolling.run().await,
            }
        };
        let requests = async {
            let Some(answering) = answering else { return Ok(Drained { unfinished: 0 }) };
            let _stops = stopping(&stop);
            answering.end().await.context("answering re-scoring requests failed")
        };
        let ((servings, drained), answered) = tokio::join!(changes, requests);
        info!(ran = ?begun.elapsed(), "reading ended");
        let ended = || -> Result<Drained> {
            if let Some(cause) = self.vitals.halt.cause() {
                bail!(cause.clone());
            }
            Ok(Drained { unfinished: drained?.unfinished + answered?.unfinished })
        };
        (servings, ended())
    }

    fn start(&self, rolling: Option<Rolling>, stop: &CancellationToken) -> Result<(Changes, Option<Reading>)> {
        let outlet = Arc::new(KafkaOutlet::new(&self.kafka, self.avro.clone()).context("the producer did not start")?);
        self.vitals.readiness.set_ready(Condition::Publish);
        let answering = self.start_rescore_topic(&outlet, stop)?;
        let changes = match rolling {
            None => {
                let ingest = Ingest {
                    config: &self.config,
                    kafka: self.kafka.clone(),
                    serving: self.live.serving(),
                    outlet,
                    vitals: self.vitals.clone(),
                    throttle: None,
                };
                Changes::One(ingest.start(stop.clone())?)
            }
            Some(((started, generations), asked)) => {
                let http = self.vitals.metrics.of::<HttpMetrics>();
                let parts = StartParts {
                    config: Arc::clone(&self.config),
                    kafka: self.kafka.clone(),
                    outlet,
                    vitals: self.vitals.clone(),
                    live: Arc::clone(&self.live),
                    requests: Arc::new(move || http.in_flight()),
                    stop: stop.clone(),
                };
                Changes::Rolling(started.roll(parts, generations, asked)?)
            }
        };
        Ok((changes, answering))
    }

    /// The topic of re-scoring requests, where one is configured: a source and a consumer group of its own.
    fn start_rescore_topic(&self, outlet: &Arc<KafkaOutlet>, stop: &CancellationToken) -> Result<Option<Reading>> {
        let Some(topics) = self.config.rescore.topics.as_ref().filter(|_| self.config.rescore.enabled) else { return Ok(None) };
        let limits = &self.config.pipeline;
        let parts = RescoreTopicParts { live: Arc::clone(&self.live), outlet: Arc::clone(outlet), vitals: self.vitals.clone() };
        let (intake, pipeline) = rescore_topic::start(topics, limits.bytes_in_flight_max, parts);
        let deps = SourceDeps { intake, vitals: self.vitals.clone(), condition: Condition::RescoreTopic, stop: stop.clone() };
        let source = source::start(&topics.source(&self.kafka), deps).context("reading re-scoring requests did not start")?;
        Ok(Some(Reading { source, pipeline }))
    }
}

/// What keeps the index in step: one generation, or as many as the roller runs.
enum Changes {
    One(Reading),
    Rolling(generation::Rolling),
}

/// Serves until `served` is cancelled. A server that fails stops the daemon: without health and metrics nobody would see how it does.
async fn serve(
    listener: TcpListener,
    state: Arc<AppState>,
    served: CancellationToken,
    stop: CancellationToken,
) -> Result<(), api::ApiError> {
    let result = api::serve(listener, state, served).await;
    if let Err(error) = &result {
        tracing::error!(%error, "http failed; stopping");
        stop.cancel();
    }
    result
}

async fn end_server(server: JoinHandle<Result<(), api::ApiError>>) -> Result<()> {
    let Ok(served) = tokio::time::timeout(END_TIMEOUT, server).await else {
        warn!("http requests were cut off");
        return Ok(());
    };
    Ok(served.context("http failed")??)
}

/// Once the daemon is asked to stop: says so in readiness first, then waits until those who send requests have had the time to notice.
async fn leave(stop: CancellationToken, interrupted: Interrupted, vitals: Vitals, grace: Duration) {
    stop.cancelled().await;
    vitals.readiness.set_missing(Condition::Running, "stopping");
    if !interrupted.is_so() {
        tokio::time::sleep(grace).await;
    }
}

/// Keeps readiness and the number of points up to date.
async fn watch_index(live: Arc<Live>, vitals: Vitals) {
    let (metrics, readiness) = (vitals.metrics.of::<IndexMetrics>(), vitals.readiness);
    let mut ticks = tokio::time::interval(INDEX_CHECK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match live.serving().index.counts().await {
            Ok(counts) => {
                readiness.set_ready(Condition::Index);
                metrics.set_lost(false);
                for (kind, points) in counts {
                    metrics.set_points(kind, points);
                }
            }
            Err(error) => {
                // What does not pass by itself: collections or the file went away under the daemon.
                metrics.set_lost(!error.is_transient());
                readiness.set_missing(Condition::Index, error.to_string());
            }
        }
    }
}

/// Removes the tombstones that are older than `retention`, of whatever generation is live, at the start and from time to time.
async fn purge_tombstones(live: Arc<Live>, metrics: Meter<IndexMetrics>, retention: Duration) {
    let mut ticks = tokio::time::interval(retention.clamp(PURGE_EVERY_MIN, PURGE_EVERY));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let before_ms = unix_ms().saturating_sub(retention.as_millis() as u64);
        match live.serving().index.purge(before_ms).await {
            Ok(0) => {}
            Ok(tombstones) => {
                metrics.tombstones_purged(tombstones);
                info!(tombstones, ?retention, "tombstones were removed");
            }
            Err(error) => warn!(%error, "tombstones were not removed; the next try comes by itself"),
        }
    }
}

/// Keeps the depths of the towers' queues up to date.
async fn watch_queues(live: Arc<Live>, queues: Meter<QueueMetrics>) {
    let mut ticks = tokio::time::interval(QUEUE_CHECK);
    loop {
        ticks.tick().await;
        let depths = live.serving().towers.queue_depths();
        queues.set_depth(Queue::Image, depths.image);
        queues.set_depth(Queue::Text, depths.text);
        queues.set_depth(Queue::Cross, depths.cross);
    }
}
