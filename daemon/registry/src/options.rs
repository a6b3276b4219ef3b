//! Where the registry is, and its limits.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use url::Url;

use crate::RegistryError;

/// Where the registry is and how to speak to it.
#[derive(Clone, Default)]
pub struct RegistryOptions {
    /// `s3://bucket/prefix`, `file:///folder`, or a plain path of a folder (local or shared).
    pub url: String,
    /// Address of the object storage, where it is not Amazon's: `https://minio.internal:9000`.
    pub endpoint: Option<String>,
    /// Region; `us-east-1` where none is given here or in `AWS_REGION`.
    pub region: Option<String>,
    /// Access key; without one, the `AWS_*` variables and the machine's own role.
    pub access_key: Option<String>,
    /// Secret of the access key.
    pub secret_key: Option<String>,
    /// Speak to an `http://` endpoint, unencrypted.
    pub allow_http: bool,
    /// Make the folder where it is missing: for publishers. A reader that is pointed at a wrong folder should say so.
    pub create: bool,
    /// Limits.
    pub limits: RegistryLimits,
}

impl RegistryOptions {
    /// The registry at `url`, all else as it is by default.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), ..Self::default() }
    }
}

impl fmt::Debug for RegistryOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryOptions")
            .field("url", &self.url)
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("access_key", &self.access_key.as_ref().map(|_| "…"))
            .field("secret_key", &self.secret_key.as_ref().map(|_| "…"))
            .field("allow_http", &self.allow_http)
            .field("create", &self.create)
            .field("limits", &self.limits)
            .finish()
    }
}

/// Limits of what is published and fetched.
#[derive(Debug, Clone)]
pub struct RegistryLimits {
    /// Most bytes of a bundle, all files together.
    pub bundle_bytes_max: u64,
    /// Most files of a bundle, the manifest not counted.
    pub bundle_files_max: u64,
    /// Longest a connection may take to open.
    pub connect_timeout: Duration,
    /// Longest one request may take; each moves at most 16 MiB.
    pub request_timeout: Duration,
    /// Longest a failing request is repeated.
    pub retry_timeout: Duration,
}

impl Default for RegistryLimits {
    fn default() -> Self {
        Self {
            bundle_bytes_max: 32 << 30,
            bundle_files_max: 64,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_mins(1),
            retry_timeout: Duration::from_secs(30),
        }
    }
}

/// A parsed address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A folder.
    Folder(PathBuf),
    /// Object storage: bucket and prefix.
    S3(String, String),
}

impl Place {
    pub(crate) fn parse(url: &str) -> Result<Self, RegistryError> {
        let wrong = |problem: String| RegistryError::Url { url: url.to_owned(), problem };
        if url.is_empty() {
            return Err(wrong("it is empty".to_owned()));
        }
        if !url.contains("://") {
            return Ok(Self::Folder(Path::new(url).to_owned()));
        }
        let parsed = Url::parse(url).map_err(|error| wrong(error.to_string()))?;
        if !parsed.username().is_empty() || parsed.password().is_some() {
            // It would end up in logs and announcements.
            return Err(RegistryError::Url {
                url: format!("{}://…", parsed.scheme()),
                problem: "keys do not belong into the address; give access_key and secret_key".to_owned(),
            });
        }
        match parsed.scheme() {
            "file" => parsed.to_file_path().map(Self::Folder).map_err(|()| wrong("it names no local folder".to_owned())),
            "s3" => {
                let bucket =
                    parsed.host_str().filter(|host| !host.is_empty()).ok_or_else(|| wrong("it names no bucket".to_owned()))?;
                Ok(Self::S3(bucket.to_owned(), parsed.path().trim_matches('/').to_owned()))
            }
            other => Err(wrong(format!("{other}:// is not known"))),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_folders_or_buckets_and_others_are_refused_with_the_known_ones() {
        assert_eq!(Place::parse("models").unwrap(), Place::Folder("models".into()));
        assert_eq!(Place::parse("file:///srv/my%20models").unwrap(), Place::Folder("/srv/my models".into()));
        assert_eq!(Place::parse("s3://bucket").unwrap(), Place::S3("bucket".to_owned(), String::new()));
        assert_eq!(Place::parse("s3://bucket/a/b/").unwrap(), Place::S3("bucket".to_owned(), "a/b".to_owned()));
        for wrong in ["", "s3://", "ftp://host/x", "s3://key:secret@bucket"] {
            let text = Place::parse(wrong).unwrap_err().to_string();
            assert!(text.contains("s3://bucket/prefix") && !text.contains("secret@"), "{text}");
        }
    }

    #[test]
    fn keys_are_not_printed() {
        let options = RegistryOptions {
            secret_key: Some("hush".to_owned()),
            access_key: Some("me".to_owned()),
            ..RegistryOptions::new("s3://b")
        };
        let text = format!("{options:?}");
        assert!(!text.contains("hush") && !text.contains("me\""), "{text}");
    }
}
