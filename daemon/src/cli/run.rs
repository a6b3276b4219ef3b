//! `astromech run`: the daemon.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use astromech_towers::Towers;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::assemble::{api_access, api_limits, api_media, open_index, start_rescorer, start_towers, warm_cache};
use super::failure::{Usage, hinted};
use super::signals::stop_on_signals;
use crate::api::{self, AppState};
use crate::config::{Config, KafkaConfig, TopicConfig, VersionSource};
use crate::door::{self, DoorParts};
use crate::index::{Index, IndexError};
use crate::media::Media;
use crate::pipeline::{self, Backoff, BackoffLimits, Halt, KafkaOutlet, PipelineParts, PoisonBreaker, TopicRules};
use crate::rescore::{Rescorer, StateCache};
use crate::source::{self, Drained, SourceDeps, SourceError};
use crate::telemetry::{Condition, Metrics, Readiness};

/// How often the index is asked for its health and its number of points.
const INDEX_CHECK: Duration = Duration::from_secs(10);
/// How often the towers' queues are looked at.
const QUEUE_CHECK: Duration = Duration::from_secs(1);
/// Longest wait at the end for what ends by itself once its input has ended.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs until a signal or a cause to stop.
///
/// # Errors
/// Something did not start, or the daemon had to stop by itself.
pub async fn run(config: Config) -> Result<()> {
    let Some(kafka) = config.kafka.clone() else {
        let hint = "add [kafka] and [[kafka.topics]]; `astromech index FILE` and `astromech search` need none".to_owned();
        return Err(Usage { problem: "the configuration has no [kafka]".to_owned(), hint }.into());
    };
    let stop = CancellationToken::new();
    stop_on_signals(stop.clone()).context("no signal handler")?;
    let listener = bind(&config).await?;
    let metrics = Arc::new(Metrics::new());
    let mut conditions = vec![Condition::Bundle, Condition::Index, Condition::Kafka];
    conditions.extend(config.rescore.topics.as_ref().map(|_| Condition::RescoreTopic));
    let readiness = Arc::new(Readiness::new(&conditions));

    let towers = start_towers(&config, &metrics, config.rescore.enabled).await?;
    readiness.set_ready(Condition::Bundle);
    let Some(index) = open_patiently(&config, &towers, &readiness, &stop).await? else {
        info!("stopped before the index answered");
        return Ok(());
    };
    let rescorer = start_rescorer(&config, &towers, &index, &metrics)?;
    let warm = warm_cache(&config, rescorer.as_ref());
    let state = Arc::new(AppState {
        towers: towers.clone(),
        index: Arc::clone(&index),
        rescorer: rescorer.clone(),
        metrics: Arc::clone(&metrics),
        readiness: Arc::clone(&readiness),
        media: api_media(&config),
        limits: api_limits(&config),
        access: api_access(&config),
        examples: Vec::new(),
    });
    let served = CancellationToken::new();
    let server = tokio::spawn(serve(listener, state, served.clone(), stop.clone()));
    let watchers = [
        tokio::spawn(watch_index(Arc::clone(&index), Arc::clone(&metrics), Arc::clone(&readiness))),
        tokio::spawn(watch_queues(towers.clone(), Arc::clone(&metrics))),
    ];

    let ingest = Ingest { config: &config, kafka: &kafka, towers, index: Arc::clone(&index), metrics, readiness, warm, rescorer };
    let ended = ingest.run(stop).await;
    watchers.iter().for_each(JoinHandle::abort);
    served.cancel();
    let served = end_server(server).await;
    index.close().await.context("the index was not closed cleanly")?;
    let Drained { unfinished } = ended?;
    served?;
    info!(unfinished, "stopped; what is finished is committed");
    Ok(())
}

async fn bind(config: &Config) -> Result<TcpListener> {
    let address = config.http.listen;
    let listener = TcpListener::bind(address).await;
    let listener =
        listener.with_context(|| hinted(format!("{address} can't be listened on"), "set http.listen to a free address"))?;
    info!(address = %listener.local_addr().unwrap_or(address), "http listens");
    Ok(listener)
}

/// Opens the index, as often as it takes (promise 5); `None` where the stop came first.
async fn open_patiently(
    config: &Config,
    towers: &Towers,
    readiness: &Readiness,
    stop: &CancellationToken,
) -> Result<Option<Arc<dyn Index>>> {
    let mut backoff = Backoff::new(BackoffLimits::from(&config.pipeline));
    loop {
        let problem = match open_index(config, towers).await {
            Ok(index) => {
                readiness.set_ready(Condition::Index);
                return Ok(Some(index));
            }
            Err(IndexError::Transient(problem)) => problem,
            Err(error) => {
                let hint = "point bundle.path and the index at the same vector space; see the fingerprints above";
                return Err(anyhow::Error::new(error).context(hinted("the index was not opened", hint)));
            }
        };
        let wait = backoff.next_wait();
        warn!(problem, ?wait, "the index does not answer; trying again");
        readiness.set_missing(Condition::Index, problem);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => return Ok(None),
        }
    }
}

/// Source and pipeline, and what they are made of.
struct Ingest<'a> {
    config: &'a Config,
    kafka: &'a KafkaConfig,
    towers: Towers,
    index: Arc<dyn Index>,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    warm: Option<Arc<StateCache>>,
    rescorer: Option<Arc<Rescorer>>,
}

impl Ingest<'_> {
    /// Runs source and pipeline, and the topic of re-scoring requests beside them, to their end.
    async fn run(self, stop: CancellationToken) -> Result<Drained> {
        let halt = Halt::default();
        let limits = &self.config.pipeline;
        let outlet = Arc::new(KafkaOutlet::new(self.kafka).context("the producer did not start")?);
        let door = self.start_door(&outlet, &halt, &stop)?;
        let parts = PipelineParts {
            towers: self.towers,
            index: self.index,
            media: Arc::new(Media::new(&self.config.media)?),
            outlet,
            metrics: Arc::clone(&self.metrics),
            readiness: Arc::clone(&self.readiness),
            halt: halt.clone(),
            rules: self.kafka.topics.iter().map(|topic| (Arc::from(topic.name.as_str()), TopicRules::from(topic))).collect(),
            poison: Some(PoisonBreaker::new(limits.poison_window, limits.poison_share_max)),
            results: self.kafka.results,
            warm: self.warm,
        };
        let (intake, pipeline) = pipeline::start(self.config, parts);
        let deps = SourceDeps {
            intake,
            metrics: self.metrics,
            readiness: self.readiness,
            condition: Condition::Kafka,
            stop: stop.clone(),
            halt: halt.token().clone(),
        };
        let started = Instant::now();
        let reading = Reading { source: source::start(self.kafka, deps).context("reading from kafka did not start")?, pipeline };
        let requests = async {
            match door {
                Some(door) => door.end(&stop).await.context("answering re-scoring requests failed"),
                None => Ok(Drained { unfinished: 0 }),
            }
        };
        let (drained, answered) = tokio::join!(reading.end(&stop), requests);
        info!(ran = ?started.elapsed(), "reading ended");
        if let Some(cause) = halt.cause() {
            bail!(cause.clone());
        }
        let (drained, answered) = (drained?, answered?);
        Ok(Drained { unfinished: drained.unfinished + answered.unfinished })
    }

    /// The topic of re-scoring requests, where one is configured: a source and a consumer group of its own.
    fn start_door(&self, outlet: &Arc<KafkaOutlet>, halt: &Halt, stop: &CancellationToken) -> Result<Option<Reading>> {
        let (Some(topics), Some(rescorer)) = (&self.config.rescore.topics, &self.rescorer) else { return Ok(None) };
        let limits = &self.config.pipeline;
        let parts = DoorParts {
            rescorer: Arc::clone(rescorer),
            outlet: Arc::clone(outlet),
            metrics: Arc::clone(&self.metrics),
            halt: halt.clone(),
            backoff: BackoffLimits::from(limits),
        };
        let (intake, pipeline) = door::start(topics, limits.bytes_in_flight_max, parts);
        let topic = TopicConfig { name: topics.request.clone(), kind: None, version: VersionSource::Offset };
        let kafka = KafkaConfig { group: topics.group.clone(), topics: vec![topic], ..self.kafka.clone() };
        let deps = SourceDeps {
            intake,
            metrics: Arc::clone(&self.metrics),
            readiness: Arc::clone(&self.readiness),
            condition: Condition::RescoreTopic,
            stop: stop.clone(),
            halt: halt.token().clone(),
        };
        let source = source::start(&kafka, deps).context("reading re-scoring requests did not start")?;
        Ok(Some(Reading { source, pipeline }))
    }
}

/// A source with what its records go through.
struct Reading {
    source: oneshot::Receiver<Result<Drained, SourceError>>,
    pipeline: JoinHandle<()>,
}

impl Reading {
    /// Waits until the source has left its group and what it read has ended. One that ends by itself stops the others.
    async fn end(self, stop: &CancellationToken) -> Result<Drained> {
        // Only a panic of the polling thread drops its answer.
        let drained = self.source.await.map_err(|_| anyhow::anyhow!("the polling thread ended without an answer"));
        stop.cancel();
        if tokio::time::timeout(END_TIMEOUT, self.pipeline).await.is_err() {
            // What is left waits for something that may pass; it is not acknowledged, so it is read again.
            warn!("records were left waiting at the end");
        }
        Ok(drained??)
    }
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

/// Keeps readiness and the number of points up to date.
async fn watch_index(index: Arc<dyn Index>, metrics: Arc<Metrics>, readiness: Arc<Readiness>) {
    let mut ticks = tokio::time::interval(INDEX_CHECK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match index.counts().await {
            Ok(counts) => {
                readiness.set_ready(Condition::Index);
                for (kind, points) in counts {
                    metrics.set_index_points(kind, points);
                }
            }
            Err(error) => readiness.set_missing(Condition::Index, error.to_string()),
        }
    }
}

/// Keeps the depths of the towers' queues up to date.
async fn watch_queues(towers: Towers, metrics: Arc<Metrics>) {
    let mut ticks = tokio::time::interval(QUEUE_CHECK);
    loop {
        ticks.tick().await;
        let depths = towers.queue_depths();
        metrics.set_queue_depth("image", depths.image);
        metrics.set_queue_depth("text", depths.text);
        metrics.set_queue_depth("cross", depths.cross);
    }
}
