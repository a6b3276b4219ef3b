//! What can go wrong, in words that name what, expected, found and the fix.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use astromech_schemas::{DecodeError, Fingerprint};

/// Why the registry did not do it. [`RegistryError::is_transient`] tells a store that is down from a bundle that is refused.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RegistryError {
    /// The address is none that is known.
    #[error("registry `{url}`: {problem}; give a folder, file:///folder or s3://bucket/prefix")]
    Url {
        /// The address.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The store did not answer, or answered that something is wrong at its side.
    #[error("registry: {operation} {path}: {error}; is the store up and reachable?")]
    Store {
        /// What was asked of the store.
        operation: &'static str,
        /// The object.
        path: String,
        /// What it said.
        error: Arc<object_store::Error>,
    },
    /// The store refused: credentials, rights, or a feature that it lacks.
    #[error(
        "registry: {operation} {path} was refused: {error}; check keys, rights and region, and that the store knows conditional puts"
    )]
    Refused {
        /// What was asked of the store.
        operation: &'static str,
        /// The object.
        path: String,
        /// What it said.
        error: Arc<object_store::Error>,
    },
    /// A local file or folder can't be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        error: Arc<std::io::Error>,
    },
    /// A folder that is to become a bundle's holds something else.
    #[error("{}: holds something that is no bundle; name a folder that is not there yet, or that holds a bundle", path.display())]
    NoBundle {
        /// The folder.
        path: PathBuf,
    },
    /// Another process is at work in the folder.
    #[error("{}: another process holds the lock; wait for it to end", path.display())]
    Busy {
        /// The lock's file.
        path: PathBuf,
    },
    /// Pointer, release or manifest is no such document.
    #[error("{path} is garbage: {error}")]
    Document {
        /// Where it lies.
        path: String,
        /// Field, problem and fix.
        error: DecodeError,
    },
    /// The registry holds no such release, or its pointer names one that is not there.
    #[error("the registry holds no release {fingerprint}; publish it, or point to one that `list` shows")]
    NoRelease {
        /// The release that was looked for.
        fingerprint: Fingerprint,
    },
    /// A listed file is not there: the bundle is half-written.
    #[error("{path} is missing: the bundle is half-written; publish it again")]
    Missing {
        /// Where it should lie.
        path: String,
    },
    /// A file's size is not the listed one.
    #[error("{path}: expected {expected} bytes by the manifest, found {found}; publish the bundle again")]
    Size {
        /// Where it lies.
        path: String,
        /// Bytes by the list.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
    /// A file's sum is not the listed one.
    #[error("{path}: expected sha-256 {expected}, found {found}; publish the bundle again")]
    Checksum {
        /// Where it lies.
        path: String,
        /// sha-256 by the list.
        expected: String,
        /// sha-256 found.
        found: String,
    },
    /// Release and manifest disagree.
    #[error("release {fingerprint}: {field} is {expected} by the release and {found} by its manifest; publish the bundle again")]
    Disagree {
        /// The release.
        fingerprint: Fingerprint,
        /// What they disagree on.
        field: &'static str,
        /// By the release.
        expected: String,
        /// By the manifest.
        found: String,
    },
    /// The release has no signature, and a key is required.
    #[error("release {fingerprint} is not signed, and a key is required; publish it with --key, or require none")]
    Unsigned {
        /// The release.
        fingerprint: Fingerprint,
    },
    /// The release is signed by another key than the trusted ones.
    #[error(
        "release {fingerprint} is signed by key {found}, trusted is {expected}; sign it with that key, or trust the other one"
    )]
    WrongKey {
        /// The release.
        fingerprint: Fingerprint,
        /// Ids of the trusted keys.
        expected: String,
        /// Id of the key that signed.
        found: String,
    },
    /// The signature is not of this release.
    #[error(
        "release {fingerprint}: the signature does not fit the release: {problem}; it was changed after signing: publish the bundle again"
    )]
    Signature {
        /// The release.
        fingerprint: Fingerprint,
        /// What the check said.
        problem: String,
    },
    /// A key's file or text is no minisign key, or its password is wrong.
    #[error("key {what}: {problem}; make one with `trainer keygen`")]
    Key {
        /// The file, or the key's text.
        what: String,
        /// What is wrong.
        problem: String,
    },
    /// The bundle is over a limit. Nothing was downloaded.
    #[error("release {fingerprint}: {field} is {found}, the limit is {limit}; raise the limit, or publish a smaller bundle")]
    OverLimit {
        /// The release.
        fingerprint: Fingerprint,
        /// What is over the limit.
        field: &'static str,
        /// Found.
        found: u64,
        /// Limit.
        limit: u64,
    },
    /// The registry holds these vectors with another manifest (metrics or model card differ).
    #[error(
        "release {fingerprint} is published with manifest {published}, this one is {found}: the vectors are the same, only metrics or \
         model card differ; nothing needs publishing (point to the release to make it current)"
    )]
    Published {
        /// The release.
        fingerprint: Fingerprint,
        /// sha-256 of the published manifest.
        published: String,
        /// sha-256 of this one.
        found: String,
    },
    /// Another publisher moved the pointer meanwhile. The release is in the registry, the pointer is the other's.
    #[error(
        "the pointer moved from {expected} to {found} while {fingerprint} was published; the release is stored and not current: run it \
         again to make it current"
    )]
    PointerMoved {
        /// The release that was to become current.
        fingerprint: Fingerprint,
        /// What the pointer named before.
        expected: String,
        /// What it names now.
        found: String,
    },
}

impl RegistryError {
    /// Whether the same call may succeed later without anybody mending the bundle, the keys or the configuration: the store is down,
    /// the disk is full, another process is at work. Everything else is a refusal.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Store { .. } | Self::Io { .. } | Self::Busy { .. } | Self::PointerMoved { .. })
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |error| Self::Io { path: path.to_owned(), error: Arc::new(error) }
    }

    /// An error of the store that is neither "not there" nor "moved meanwhile".
    pub(crate) fn store(operation: &'static str, path: &impl std::fmt::Display, error: object_store::Error) -> Self {
        use object_store::Error as E;
        let (path, refused) = (path.to_string(), is_refusal(&error));
        if let E::NotFound { .. } = error {
            // Of one object its caller knows what that means; here it is the bucket.
            return Self::Refused { operation, path, error: Arc::new(error) };
        }
        let error = Arc::new(error);
        if refused { Self::Refused { operation, path, error } } else { Self::Store { operation, path, error } }
    }
}

const fn is_refusal(error: &object_store::Error) -> bool {
    use object_store::Error as E;
    matches!(
        error,
        E::PermissionDenied { .. }
            | E::Unauthenticated { .. }
            | E::NotSupported { .. }
            | E::NotImplemented { .. }
            | E::InvalidPath { .. }
            | E::UnknownConfigurationKey { .. }
    )
}
