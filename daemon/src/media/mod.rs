//! Media: the bytes of a picture, from the record, a folder or a host that the configuration allows.
//!
//! One attempt each; whether and when to try again is the pipeline's decision. Absent here: nothing is decoded or cached.

mod address;
mod content;
mod error;
mod files;
mod http;
mod resolver;

use std::path::PathBuf;

use astromech_schemas::ImageSource;
use url::Url;

pub use address::AddressRules;
pub use content::ContentHash;
pub use error::MediaError;
pub use files::FileRoots;
pub use resolver::{Lookup, system_lookup};

use crate::config::MediaConfig;

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
    http: http::HttpFetcher,
    bytes_max: usize,
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
        Ok(Self { files, http: http::HttpFetcher::new(config, lookup)?, bytes_max: config.bytes_max })
    }

    /// The encoded picture: those of the record as they are, others fetched once.
    ///
    /// # Errors
    /// [`MediaError`] says whether it may pass.
    pub async fn fetch(&self, source: ImageSource) -> Result<Vec<u8>, MediaError> {
        if let Some(bytes) = source.bytes {
            return Ok(bytes.0);
        }
        let address = source.url.unwrap_or_default();
        let scheme = address.split(':').next().unwrap_or_default();
        if scheme.eq_ignore_ascii_case("file") {
            let (files, bytes_max) = (self.files.clone(), self.bytes_max);
            let read = tokio::task::spawn_blocking(move || files.read(&address, bytes_max)).await;
            return read.unwrap_or_else(|e| Err(MediaError::Transient(format!("reading was interrupted: {e}"))));
        }
        let url = Url::parse(&address).map_err(|e| {
            MediaError::Forbidden(format!("`{address}` is no address: {e}; fix: send https://HOST/PATH or file:PATH"))
        })?;
        self.http.fetch(&url).await
    }
}
