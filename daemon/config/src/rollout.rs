//! `[rollout]` and the section below it.

use std::path::PathBuf;
use std::time::Duration;

use astromech_settings::kinds::{choice, flag, float, int, millis, path, path_or_none, text};
use astromech_settings::{Mistake, Value as _, settings};

use crate::limits::hours;
use crate::secret::Secret;
use crate::{GIB, MIB, MINUTE_MS};

/// Where bundles are published: `rollout.registry` and `[rollout.s3]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistryConfig {
    /// `file:///folder`, a folder, or `s3://bucket/prefix`.
    pub url: String,
    /// Address of the object storage; empty is Amazon's.
    pub endpoint: String,
    /// Region of the object storage.
    pub region: String,
    /// Access key.
    pub access_key: Option<Secret>,
    /// Secret key.
    pub secret_key: Option<Secret>,
    /// Whether the endpoint may be without TLS.
    pub allow_http: bool,
}

/// What a new generation is filled from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackfillSource {
    /// The topics, from their oldest record on.
    Topics,
    /// The live generation's points, then the topics from where it was.
    Collection,
}

const SOURCES: &[(&str, BackfillSource)] = &[("topics", BackfillSource::Topics), ("collection", BackfillSource::Collection)];

settings! {
    /// `[rollout]`
    #[derive(Debug, Clone, PartialEq)]
    pub struct RolloutConfig {
        /// Where bundles are published.
        registry: RegistryConfig = derived => RegistryConfig::default();
        /// Time between two looks at the registry, milliseconds.
        poll as "poll_ms": Duration = 10000 => millis(100, 1440 * MINUTE_MS);
        /// Folder that verified bundles are kept in, one a fingerprint; bundle.path serves until something else is live.
        bundles: PathBuf = "bundles" => path();
        /// minisign public key: a release that it did not sign is refused. Empty takes unsigned releases too.
        public_key_file: Option<PathBuf> = "" => path_or_none();
        /// minisign public key that releases must be signed with.
        public_key: Option<String> = derived => None;
        /// Most memory of this process with a second bundle in it; a bundle whose graphs would not fit is refused.
        memory_bytes_max: u64 = 8589934592 => int(64 * MIB, 1024 * GIB);
        /// How long a generation that is no longer live is kept up to date, so that going back takes seconds; then it is dropped.
        keep as "keep_hours": Duration = 24.0 => float(0.0, 8760.0).map(hours);
        /// What a new generation is filled from. topics: their oldest record on. collection: the live generation's points, texts and
        /// picture addresses, then the topics from where the live generation was; for topics that don't hold every item.
        backfill: BackfillSource = "topics" => choice(SOURCES);
        /// With backfill = "collection": most items that may lose their picture or a part of their text, because it was inline in a
        /// record, was cut, or is at its address no more. With one more the bundle is refused.
        backfill_lost_max: u64 = 0 => int(0, 1_000_000_000);
        /// How many records a second more than live traffic a generation beside the live one takes while live records or requests are
        /// under way: so fast it comes nearer to the live head. While live records pile up it takes this many alone.
        records_per_second_busy: u32 = 20 => int(1, 1_000_000);
        /// Most records a second that it takes otherwise; 0 is no limit.
        records_per_second_max: u32 = 0 => int(0, 1_000_000);
        /// Largest share by which its number of points of a kind may differ from the live one's, to go live.
        count_difference_max: f64 = 0.01 => float(0.0, 1.0);
        /// Items of each kind that are looked for in it by their own text before it goes live.
        recall_items: u32 = 32 => int(0, 1000);
        /// Least share of them that must be among its first ten hits.
        recall_min: f64 = 0.8 => float(0.0, 1.0);
        /// How long these comparisons may fail at the live head before the generation is refused, milliseconds.
        verify_max as "verify_ms_max": Duration = 600000 => millis(100, 1440 * MINUTE_MS);
    }

    /// `[rollout.s3]` as written.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct S3Section {
        /// Address of the storage; empty is Amazon's.
        endpoint: String = "" => text();
        /// Region.
        region: String = "us-east-1" => text();
        /// File with the access key.
        access_key_file: Option<PathBuf> = "" => path_or_none();
        /// File with the secret key.
        secret_key_file: Option<PathBuf> = "" => path_or_none();
        /// Whether the endpoint may be without TLS.
        allow_http: bool = false => flag();
    }
}

pub(crate) fn registry(url: String) -> Result<String, Mistake> {
    // A folder may be written without a scheme; empty is none.
    if url.starts_with("file://") || url.starts_with("s3://") || !url.contains("://") {
        return Ok(url);
    }
    let fix = "write file:///folder or s3://bucket/prefix";
    Err(Mistake::new(format!("`{url}` is neither a folder nor object storage"), fix))
}
