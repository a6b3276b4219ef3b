//! The store: small documents, and the pointer that moves only where nobody else moved it.

use std::fs::{File, TryLockError};
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use astromech_schemas::error::from_json;
use astromech_schemas::{DecodeError, Fingerprint};
use bytes::Bytes;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, RetryConfig, UpdateVersion,
};
use serde::{Deserialize, Serialize};

use crate::options::Place;
use crate::{RegistryError, RegistryOptions};

/// Largest document that is read: pointer, release, manifest.
pub(crate) const DOCUMENT_BYTES_MAX: u64 = 4 << 20;
/// Bytes of one request of an upload or a download.
pub(crate) const CHUNK_BYTES: usize = 16 << 20;
/// Longest wait for another publisher's move of the pointer; it takes milliseconds.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(10);
const LOCK_POLL: Duration = Duration::from_millis(20);
const POINTER_SCHEMA: u32 = 1;

/// The store at one address.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    pub(crate) objects: Arc<dyn ObjectStore>,
    prefix: Path,
    /// Where the store is a folder, which knows no conditional replacement: its pointer moves under a lock.
    folder: Option<PathBuf>,
}

/// The pointer's document.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Pointer {
    schema: u32,
    pub(crate) fingerprint: Fingerprint,
}

/// What the pointer was when it was read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) fingerprint: Option<Fingerprint>,
    version: Option<UpdateVersion>,
}

impl Seen {
    fn name(&self) -> String {
        self.fingerprint.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string)
    }
}

impl Store {
    pub(crate) fn open(options: &RegistryOptions) -> Result<Self, RegistryError> {
        match Place::parse(&options.url)? {
            Place::Folder(folder) => {
                if options.create {
                    std::fs::create_dir_all(&folder).map_err(RegistryError::io(&folder))?;
                }
                // Its own error names neither the folder nor what the system said.
                std::fs::read_dir(&folder).map_err(RegistryError::io(&folder))?;
                let wrong = |error| RegistryError::store("open", &folder.display(), error);
                let objects = LocalFileSystem::new_with_prefix(&folder).map_err(wrong)?.with_fsync(true);
                Ok(Self { objects: Arc::new(objects), prefix: Path::default(), folder: Some(folder) })
            }
            Place::S3(bucket, prefix) => {
                let prefix = Path::parse(&prefix)
                    .map_err(|error| RegistryError::Url { url: options.url.clone(), problem: error.to_string() })?;
                Ok(Self { objects: Arc::new(s3(options, &bucket)?), prefix, folder: None })
            }
        }
    }

    /// The place of an object of the bundle.
    pub(crate) fn file(&self, fingerprint: &Fingerprint, name: &str) -> Path {
        self.bundle(fingerprint).join(name)
    }

    pub(crate) fn bundle(&self, fingerprint: &Fingerprint) -> Path {
        self.bundles().join(fingerprint.as_str())
    }

    pub(crate) fn bundles(&self) -> Path {
        self.prefix.clone().join("bundles")
    }

    pub(crate) fn releases(&self) -> Path {
        self.prefix.clone().join("releases")
    }

    pub(crate) fn release(&self, fingerprint: &Fingerprint) -> Path {
        self.releases().join(format!("{fingerprint}.json"))
    }

    fn pointer(&self) -> Path {
        self.prefix.clone().join("current.json")
    }

    /// A small document and its version; none where there is none.
    pub(crate) async fn document(&self, path: &Path) -> Result<Option<(Bytes, UpdateVersion)>, RegistryError> {
        let wrong = |error| RegistryError::store("get", path, error);
        let result = match self.objects.get(path).await {
            Ok(result) => result,
            Err(object_store::Error::NotFound { ref source, .. }) if !is_bucket(source.as_ref()) => return Ok(None),
            Err(error) => return Err(wrong(error)),
        };
        if result.meta.size > DOCUMENT_BYTES_MAX {
            let problem = format!("it has {} bytes, the limit is {DOCUMENT_BYTES_MAX}", result.meta.size);
            let error = DecodeError::new(".", problem, "publish the bundle again");
            return Err(RegistryError::Document { path: path.to_string(), error });
        }
        let version = UpdateVersion { e_tag: result.meta.e_tag.clone(), version: result.meta.version.clone() };
        Ok(Some((result.bytes().await.map_err(wrong)?, version)))
    }

    pub(crate) async fn put(&self, path: &Path, bytes: Vec<u8>) -> Result<(), RegistryError> {
        self.objects.put(path, bytes.into()).await.map(|_| ()).map_err(|error| RegistryError::store("put", path, error))
    }

    /// What the pointer names.
    pub(crate) async fn seen(&self) -> Result<Seen, RegistryError> {
        let path = self.pointer();
        let Some((bytes, version)) = self.document(&path).await? else { return Ok(Seen::default()) };
        let garbage = |error| RegistryError::Document { path: path.to_string(), error };
        let pointer: Pointer = from_json(&bytes).map_err(garbage)?;
        if pointer.schema != POINTER_SCHEMA {
            let problem = format!("schema {} is not read by this version, which reads {POINTER_SCHEMA}", pointer.schema);
            return Err(garbage(DecodeError::new("schema", problem, "upgrade astromech")));
        }
        Ok(Seen { fingerprint: Some(pointer.fingerprint), version: Some(version) })
    }

    /// Moves the pointer from what was `seen` to `fingerprint`, unless somebody else moved it since; where they moved it to the same, or it
    /// was this call whose answer was lost, all is as wanted.
    pub(crate) async fn move_pointer(&self, seen: &Seen, fingerprint: &Fingerprint) -> Result<(), RegistryError> {
        let path = self.pointer();
        let pointer = Pointer { schema: POINTER_SCHEMA, fingerprint: fingerprint.clone() };
        let bytes = json(&pointer, &path)?;
        let _lock = match &self.folder {
            Some(folder) => Some(lock(&folder.join(".pointer.lock")).await?),
            None => None,
        };
        let moved = |found: &Seen| {
            if found.fingerprint.as_ref() == Some(fingerprint) {
                return Ok(());
            }
            let (expected, found) = (seen.name(), found.name());
            Err(RegistryError::PointerMoved { fingerprint: fingerprint.clone(), expected, found })
        };
        let mode = match (&seen.version, &self.folder) {
            (None, _) => PutMode::Create,
            (Some(version), None) => PutMode::Update(version.clone()),
            (Some(version), Some(_)) => {
                let now = self.seen().await?;
                if now.version.as_ref().map(|version| &version.e_tag) != Some(&version.e_tag) {
                    return moved(&now);
                }
                PutMode::Overwrite
            }
        };
        match self.objects.put_opts(&path, bytes.into(), PutOptions::from(mode)).await {
            Ok(_) => Ok(()),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                moved(&self.seen().await?)
            }
            Err(error) => Err(RegistryError::store("move the pointer", &path, error)),
        }
    }
}

/// A missing bucket is reported as a missing object; it is a wrong configuration and not an empty registry.
fn is_bucket(source: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    source.to_string().contains("NoSuchBucket")
}

fn s3(options: &RegistryOptions, bucket: &str) -> Result<object_store::aws::AmazonS3, RegistryError> {
    // The client panics without a provider of cryptography; a process that already has one keeps it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let limits = &options.limits;
    let client = ClientOptions::new()
        .with_connect_timeout(limits.connect_timeout)
        .with_timeout(limits.request_timeout)
        .with_allow_http(options.allow_http);
    let retry = RetryConfig { max_retries: 10, retry_timeout: limits.retry_timeout, backoff: BackoffConfig::default() };
    // Of the environment, what is not given here: AWS_ACCESS_KEY_ID, AWS_REGION, the machine's role.
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_client_options(client).with_retry(retry);
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(region) = &options.region {
        builder = builder.with_region(region);
    }
    if let Some(key) = &options.access_key {
        builder = builder.with_access_key_id(key);
    }
    if let Some(secret) = &options.secret_key {
        builder = builder.with_secret_access_key(secret);
    }
    builder.build().map_err(|error| RegistryError::Url { url: options.url.clone(), problem: error.to_string() })
}

pub(crate) fn json<T: Serialize>(document: &T, path: &Path) -> Result<Vec<u8>, RegistryError> {
    let mut bytes = serde_json::to_vec_pretty(document).map_err(|error| RegistryError::Document {
        path: path.to_string(),
        error: DecodeError::new(".", error.to_string(), "report this as a bug"),
    })?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Holds the lock of `path` until dropped, or the process ends.
async fn lock(path: &FilePath) -> Result<File, RegistryError> {
    let deadline = Instant::now() + LOCK_WAIT_MAX;
    loop {
        match try_lock(path) {
            Err(RegistryError::Busy { .. }) if Instant::now() < deadline => tokio::time::sleep(LOCK_POLL).await,
            other => return other,
        }
    }
}

/// Takes the lock of `path` at once, or says that it is busy.
pub(crate) fn try_lock(path: &FilePath) -> Result<File, RegistryError> {
    let file = File::options().create(true).truncate(false).write(true).open(path).map_err(RegistryError::io(path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(RegistryError::Busy { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(RegistryError::io(path)(error)),
    }
}
