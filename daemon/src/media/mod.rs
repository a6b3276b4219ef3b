//! Media: the bytes of a picture, from the record, a folder or a host that the configuration allows.
//!
//! One attempt each; whether and when to try again is the pipeline's decision. Absent here: nothing is decoded or cached.

mod address;
mod content;
mod error;
mod files;
mod hosts;
mod http;
mod metrics;
mod resolver;

use std::path::PathBuf;

use astromech_schemas::ImageSource;
use url::Url;

pub use address::AddressRules;
pub use content::ContentHash;
pub use error::MediaError;
pub use files::FileRoots;
pub use metrics::MediaMetrics;
pub use resolver::{Lookup, system_lookup};

use crate::config::MediaConfig;
use crate::vitals::Metrics;

/// Why media did not start.
#[derive(Debug, thiserror::Error)]
pub enum MediaStartError {
    /// A folder of `media.file_roots` is not there.
    #[error("media.file_roots: {} can't be opened: {error}; fix: create it or take it out", path.display())]
    Root {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The HTTP client did not start.
    #[error("the http client for pictures did not start: {0}")]
    Client(#[from] reqwest::Error),
}

/// Fetches pictures.
pub struct Media {
    files: FileRoots,
    hosts: hosts::Hosts,
    http: http::HttpFetcher,
    bytes_max: usize,
}

/// A picture's turn: what is to be read, and the place at its host where it has one. Given back when dropped.
pub struct Turn(Target);

enum Target {
    Inline(Vec<u8>),
    File(String),
    Web(Url, hosts::HostTurn),
}

impl Media {
    /// With the system's resolver.
    ///
    /// # Errors
    /// A folder that is not there; no TLS roots.
    pub fn new(config: &MediaConfig) -> Result<Self, MediaStartError> {
        Self::with_lookup(config, system_lookup())
    }

    /// With a resolver of the caller's.
    ///
    /// # Errors
    /// As [`Media::new`].
    pub fn with_lookup(config: &MediaConfig, lookup: Lookup) -> Result<Self, MediaStartError> {
        let files = FileRoots::open(&config.file_roots).map_err(|(path, error)| MediaStartError::Root { path, error })?;
        Ok(Self {
            files,
            hosts: hosts::Hosts::new(config),
            http: http::HttpFetcher::new(config, lookup)?,
            bytes_max: config.bytes_max,
        })
    }

    /// Counts the hosts that are left alone into `metrics`.
    #[must_use]
    pub fn measured(mut self, metrics: &Metrics) -> Self {
        self.hosts.metrics = Some(metrics.of());
        self
    }

    /// The encoded picture: those of the record as they are, others fetched once.
    ///
    /// # Errors
    /// [`MediaError`] says whether it may pass.
    pub async fn fetch(&self, source: ImageSource) -> Result<Vec<u8>, MediaError> {
        self.fetch_in(self.turn(source).await?).await
    }

    /// Waits until it is this picture's turn at its host (`media.host_in_flight_max`).
    ///
    /// # Errors
    /// The address is not allowed; the host is left alone for a while.
    pub async fn turn(&self, source: ImageSource) -> Result<Turn, MediaError> {
        if let Some(bytes) = source.bytes {
            return Ok(Turn(Target::Inline(bytes.0)));
        }
        let address = source.url.unwrap_or_default();
        let scheme = address.split(':').next().unwrap_or_default();
        if scheme.eq_ignore_ascii_case("file") {
            return Ok(Turn(Target::File(address)));
        }
        let url = Url::parse(&address).map_err(|e| {
            MediaError::Forbidden(format!("`{address}` is no address: {e}; fix: send https://HOST/PATH or file:PATH"))
        })?;
        // First, so that nothing is remembered of a host that is not allowed.
        self.http.check(&url)?;
        let host = self.hosts.turn(&url).await?;
        Ok(Turn(Target::Web(url, host)))
    }

    /// Reads the picture whose turn it is, and gives its place back.
    ///
    /// # Errors
    /// As [`Media::fetch`].
    pub async fn fetch_in(&self, turn: Turn) -> Result<Vec<u8>, MediaError> {
        match turn.0 {
            Target::Inline(bytes) => Ok(bytes),
            Target::File(address) => {
                let (files, bytes_max) = (self.files.clone(), self.bytes_max);
                let read = tokio::task::spawn_blocking(move || files.read(&address, bytes_max)).await;
                read.unwrap_or_else(|e| Err(MediaError::Transient(format!("reading was interrupted: {e}"))))
            }
            Target::Web(url, host) => {
                let fetched = self.http.fetch(&url).await;
                // A refusal is an answer too.
                host.ended(!matches!(fetched, Err(MediaError::Transient(_))));
                fetched
            }
        }
    }
}
