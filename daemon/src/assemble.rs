//! From the configuration to running parts: the only place where they are opened.

mod metrics;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use astromech_towers::{BatchLimits, Bundle, ImageLimits, Provider, Towers, TowersConfig, init_runtime};

pub use metrics::{Batches, TowerMetrics};

use crate::config::{Config, EngineConfig, ProviderKind, TowerLimits};
use crate::failure::{Usage, hinted};
use crate::index::qdrant::{ApiKey, QdrantOptions};
use crate::index::{self, EmbeddedOptions, Index, IndexError, IndexOptions, IndexWriter, Space};
use crate::media::Media;
use crate::rescore::{DiskTier, RescoreParts, Rescorer, StateCache};
use crate::vitals::{BackoffLimits, Condition, Metrics, Readiness, Vitals};

/// How the names of a bundle's cross graphs begin.
const CROSS_PREFIX: &str = "cross.";
/// Longest time to connect to a Qdrant server.
const QDRANT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens the bundle and starts the towers, on a blocking thread: graphs load and the golden vectors are replayed. The cross tower is
/// loaded only where the caller re-scores.
///
/// # Errors
/// No ONNX Runtime, a damaged bundle, one without the cross tower that is asked for, a provider that is not there, or vectors that
/// differ from the bundle's.
pub async fn start_towers(config: &Config, metrics: &Arc<Metrics>, with_cross: bool) -> Result<Towers> {
    let (config, metrics) = (config.clone(), Arc::clone(metrics));
    let start = move || start_towers_here(&config, &metrics, with_cross);
    tokio::task::spawn_blocking(start).await.context("the towers did not start")?
}

fn start_towers_here(config: &Config, metrics: &Arc<Metrics>, with_cross: bool) -> Result<Towers> {
    let library = config.runtime.onnxruntime.as_deref();
    init_runtime(library).context("ONNX Runtime was not loaded")?;
    let bundle = Bundle::open(&config.bundle.path)
        .with_context(|| hinted(format!("the bundle {} was not opened", config.bundle.path.display()), "check bundle.path"))?;
    if with_cross && !bundle.manifest.files.iter().any(|file| file.name.starts_with(CROSS_PREFIX)) {
        let problem = format!("the bundle {} has no cross tower, which re-scoring needs", config.bundle.path.display());
        let hint = "set rescore.enabled = false, or release the bundle with its cross tower".to_owned();
        return Err(Usage { problem, hint }.into());
    }
    if config.kafka.as_ref().is_some_and(|kafka| kafka.results.embeddings) && !bundle.manifest.similarity.is_cosine() {
        let problem = format!(
            "the bundle {} compares items token by token, and kafka.results.embeddings = true asks for one vector an item",
            config.bundle.path.display()
        );
        let hint = "set kafka.results.embeddings = false, or serve a bundle that was exported without --similarity".to_owned();
        return Err(Usage { problem, hint }.into());
    }
    let towers_config = TowersConfig { load_cross: with_cross, ..towers_config(config) };
    let towers = Towers::start(&bundle, &towers_config).context("the towers did not start")?;
    let metrics = metrics.of::<TowerMetrics>();
    towers.observe(Arc::new(Batches(metrics.clone())));
    metrics.set_provider(towers.provider_in_use(), towers.precision().as_str(), towers.fingerprint().as_str());
    tracing::info!(
        bundle = towers.manifest().name,
        fingerprint = towers.fingerprint().short(),
        provider = towers.provider_in_use(),
        precision = towers.precision().as_str(),
        "towers started"
    );
    Ok(towers)
}

fn towers_config(config: &Config) -> TowersConfig {
    let limits = |limits: &TowerLimits| BatchLimits {
        batch_max: limits.batch_max,
        queue_max: limits.queue_max,
        wait_us_max: limits.wait_us_max,
    };
    TowersConfig {
        provider: match config.runtime.provider {
            ProviderKind::Cpu => Provider::Cpu,
            ProviderKind::Cuda => Provider::Cuda { device_id: config.runtime.device_id },
        },
        precision: config.bundle.precision,
        threads: config.runtime.threads,
        image: limits(&config.towers.image),
        text: limits(&config.towers.text),
        cross: limits(&config.towers.cross),
        image_limits: ImageLimits {
            bytes_max: config.media.bytes_max,
            pixels_max: config.media.pixels_max,
            edge_max: config.media.edge_max,
        },
        ..TowersConfig::default()
    }
}

/// Where the index is, as configured; `beside` leaves what is live as it is.
pub fn index_options(config: &Config, beside: bool) -> IndexOptions {
    match &config.index.engine {
        EngineConfig::Embedded { path, vector_bytes_max } => {
            IndexOptions::Embedded(EmbeddedOptions { path: path.clone(), vector_bytes_max: *vector_bytes_max, beside })
        }
        EngineConfig::Qdrant { url, api_key, timeout } => IndexOptions::Qdrant(QdrantOptions {
            url: url.clone(),
            api_key: api_key.as_ref().map(|key| ApiKey::new(key.reveal())),
            timeout: *timeout,
            connect_timeout: QDRANT_CONNECT_TIMEOUT.min(*timeout),
            beside,
        }),
    }
}

/// The vector space of `towers`.
pub fn space(towers: &Towers) -> Space {
    let manifest = towers.manifest();
    Space {
        fingerprint: towers.fingerprint().clone(),
        embedding_dim: manifest.embedding_dim,
        similarity: manifest.similarity,
        bundle: manifest.name.clone(),
    }
}

/// Opens the index for the towers' vector space; one attempt.
///
/// # Errors
/// As [`index::open`].
pub async fn open_index(config: &Config, towers: &Towers) -> Result<Arc<dyn IndexWriter>, IndexError> {
    index::open(&index_options(config, false), &space(towers)).await
}

/// As [`open_index`], where another vector space may be live.
///
/// # Errors
/// As [`index::open`].
pub async fn open_index_beside(config: &Config, towers: &Towers) -> Result<Arc<dyn IndexWriter>, IndexError> {
    index::open(&index_options(config, true), &space(towers)).await
}

/// What every part of a process reports to; it is ready once all of `conditions` hold.
pub fn vitals_of(config: &Config, metrics: Arc<Metrics>, conditions: &[Condition]) -> Vitals {
    let backoff = BackoffLimits { min: config.pipeline.retry_backoff_min, max: config.pipeline.retry_backoff_max };
    Vitals::new(metrics, Readiness::new(conditions), backoff)
}

/// The feature cache's tier on disk, where one is configured and can be used. One a process: its folder is of one alone.
pub async fn open_disk(config: &Config, metrics: &Arc<Metrics>) -> Option<Arc<DiskTier>> {
    let disk = config.rescore.cache.disk.as_ref().filter(|_| config.rescore.enabled)?;
    DiskTier::open(disk, metrics).await
}

/// The re-scoring service over running parts, with nothing cached but what `disk` holds; `None` where it is off.
///
/// # Errors
/// As [`Media::new`].
pub fn start_rescorer(
    config: &Config,
    towers: &Towers,
    index: &Arc<dyn Index>,
    disk: Option<Arc<DiskTier>>,
    metrics: &Arc<Metrics>,
) -> Result<Option<Arc<Rescorer>>> {
    if !config.rescore.enabled {
        return Ok(None);
    }
    let cache = StateCache::new(towers.fingerprint().clone(), &config.rescore.cache, disk, metrics.of());
    let parts = RescoreParts {
        towers: towers.clone(),
        index: Arc::clone(index),
        media: Arc::new(Media::new(&config.media)?.measured(metrics)),
        cache: Arc::new(cache),
        metrics: metrics.of(),
    };
    Ok(Some(Arc::new(Rescorer::new(config, parts))))
}

/// The cache that the pipeline fills while it indexes, where it is to.
pub fn warm_cache(config: &Config, rescorer: Option<&Arc<Rescorer>>) -> Option<Arc<StateCache>> {
    rescorer.filter(|_| config.rescore.cache.warm).map(|rescorer| Arc::clone(rescorer.cache()))
}
