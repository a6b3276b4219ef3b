//! The index: where points live. One trait, two engines: a Qdrant server over gRPC, and SQLite in the process.
//!
//! Whatever the engine, a change is applied under the version guard (promise 2): a point is replaced only by a newer change ([`Order`]),
//! decided inside the engine, and a delete is a point without vectors under the same guard. Everybody reads through [`Index`]; only who holds the
//! [`IndexWriter`] that [`open`] gives can apply. Nothing here knows of Kafka.

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::float_cmp,
        reason = "a failed unwrap is a failed test; floats are compared where they are exact"
    )
)]

pub mod book;

#[cfg(feature = "embedded")]
pub mod embedded;
mod error;
mod filter;
mod finding;
pub mod guard;
pub mod payload;
mod purge;
pub mod qdrant;
mod video;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use astromech_schemas::record::TieBreaker;
use astromech_schemas::results::Outcome;
use astromech_schemas::{Fingerprint, Kind, Similarity};
use futures::future::BoxFuture;
use uuid::Uuid;

pub use book::Catalog;
pub use error::{IndexError, Problem};
pub use filter::SearchFilter;
pub use finding::{Finding, Verdict};
pub use video::with_frame;

/// Name of the vector of an item's text.
pub const VECTOR_TEXT: &str = "text";
/// Name of the vector of an item's picture.
pub const VECTOR_IMAGE: &str = "image";
/// Both, in the order in which they are listed and checked.
const VECTORS: [&str; 2] = [VECTOR_TEXT, VECTOR_IMAGE];

/// Name of the vector that items of `kind` are compared by: articles by their text, all others by their picture.
pub const fn compared_by(kind: Kind) -> &'static str {
    match kind {
        Kind::Article => VECTOR_TEXT,
        Kind::Image | Kind::Ad | Kind::Video => VECTOR_IMAGE,
    }
}

/// One change of one item, embedded and ready to write.
#[derive(Debug, Clone)]
pub struct Change {
    /// Kind of the item.
    pub kind: Kind,
    /// Id of the item.
    pub id: String,
    /// Point of the item: `astromech_schemas::point_id(kind, &id)`.
    pub point_id: Uuid,
    /// Source version.
    pub version: u64,
    /// Decides between changes of one version; a change without one gives way to any that has one.
    pub tie_breaker: Option<TieBreaker>,
    /// Vector space of the vectors; the writer refuses another than its own (promise 3).
    pub fingerprint: Fingerprint,
    /// What to do.
    pub body: ChangeBody,
}

/// Where a change stands among those of its item: the greater replaces the less, and equal ones are the same change. Total over all changes,
/// so that every order of arrival and every replay end in the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order {
    /// Source version.
    pub version: u64,
    /// Decides where the versions are equal.
    pub tie_breaker: Option<TieBreaker>,
}

impl Change {
    /// Where it stands among the changes of its item.
    pub const fn order(&self) -> Order {
        Order { version: self.version, tie_breaker: self.tie_breaker }
    }
}

/// What a change does.
#[derive(Debug, Clone)]
pub enum ChangeBody {
    /// Write the item.
    Upsert {
        /// Unit vector of the text, if the item has one; those of its tokens, one after another, in a space of late interaction.
        text: Option<Vec<f32>>,
        /// Unit vector of the picture, if the item has one; those of its tokens in a space of late interaction.
        image: Option<Vec<f32>>,
        /// Everything that is returned with a hit; `id`, `kind`, `version` and `fingerprint` are added by the writer.
        payload: serde_json::Map<String, serde_json::Value>,
    },
    /// Write a video: the item's own point, and one for each frame; the frames of older versions go.
    Video {
        /// Unit vector of the text, if the video has one; of the item's own point.
        text: Option<Vec<f32>>,
        /// Its frames; a frame's number is its place here.
        frames: Vec<FramePoint>,
        /// As of [`ChangeBody::Upsert`], for the item's own point.
        payload: serde_json::Map<String, serde_json::Value>,
    },
    /// Leave a tombstone.
    Delete,
}

/// A frame of a video, embedded.
#[derive(Debug, Clone)]
pub struct FramePoint {
    /// Unit vector of the picture.
    pub image: Vec<f32>,
    /// Where the frame stands, milliseconds from the beginning.
    pub time_ms: u64,
    /// What is known of this frame alone, and what searches filter by.
    pub payload: serde_json::Map<String, serde_json::Value>,
}

/// A nearest-neighbour question to one collection. Videos by their pictures are one hit each, of their nearest frame.
#[derive(Debug, Clone)]
pub struct Query {
    /// Which collection.
    pub kind: Kind,
    /// Which of the named vectors: [`VECTOR_TEXT`] or [`VECTOR_IMAGE`].
    pub vector_name: &'static str,
    /// Unit vector; those of the query's tokens, one after another, in a space of late interaction.
    pub vector: Vec<f32>,
    /// Most hits.
    pub limit: u32,
    /// What may be found.
    pub filter: SearchFilter,
}

/// A stored point, as found or retrieved. Tombstones are only ever retrieved. A video found by a frame is its own point with the fields of
/// that frame ([`payload::FIELD_FRAME`], [`payload::FIELD_FRAME_TIME`], its picture's) and the frame's score.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Point id.
    pub point_id: Uuid,
    /// Cosine to the query, or in a space of late interaction the mean over the query's tokens of the best cosine among the item's; 0
    /// when retrieved by id.
    pub score: f32,
    /// Payload, with `id`, `kind`, `version`, `fingerprint` and, on a tombstone, `deleted`.
    pub payload: serde_json::Map<String, serde_json::Value>,
}

/// Which points [`Index::scroll`] lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Items.
    Live,
    /// Items, and tombstones of deleted ones.
    All,
}

/// A page of [`Index::scroll`].
#[derive(Debug, Clone)]
pub struct Page {
    /// The points, without scores.
    pub points: Vec<Stored>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<Uuid>,
}

/// What everybody may ask of an engine that holds the collections of one generation, one a kind.
pub trait Index: Send + Sync {
    /// Vector space of this index.
    fn fingerprint(&self) -> &Fingerprint;

    /// Best hits first.
    fn search<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Vec<Stored>, IndexError>>;

    /// Points by id, tombstones included; unknown ids are left out.
    fn retrieve<'a>(&'a self, kind: Kind, point_ids: &'a [Uuid]) -> BoxFuture<'a, Result<Vec<Stored>, IndexError>>;

    /// A page of points in the order of their ids, from the id `from` on, and the id that the next page begins with. Of the live ones a video
    /// is its own point, without its frames.
    fn scroll(&self, kind: Kind, scope: Scope, from: Option<Uuid>, limit: u32) -> BoxFuture<'_, Result<Page, IndexError>>;

    /// Live items (tombstones and frames not counted) by kind.
    fn counts(&self) -> BoxFuture<'_, Result<BTreeMap<Kind, u64>, IndexError>>;

    /// Removes the tombstones that were written before `before_ms`, milliseconds since 1970; returns about how many. An older version that
    /// still comes afterwards brings its item back.
    fn purge(&self, before_ms: u64) -> BoxFuture<'_, Result<u64, IndexError>>;

    /// Answers when the engine answers.
    fn health(&self) -> BoxFuture<'_, Result<(), IndexError>>;

    /// Flushes and closes. Nothing is applied afterwards.
    fn close(&self) -> BoxFuture<'_, Result<(), IndexError>>;
}

/// An engine to write to. It is given to the pipeline's writer alone, whose fences and order of acknowledgement promise 1 and 4 stand on; the
/// rest of the daemon has the same engine as an [`Index`].
pub trait IndexWriter: Index {
    /// Applies `changes` (any kinds, several of one item allowed: the newest wins) and returns when they are durable and searchable, with
    /// what became of each. All or nothing is not promised: after an error the same changes are simply applied again.
    fn apply<'a>(&'a self, changes: &'a [Change]) -> BoxFuture<'a, Result<Vec<Outcome>, IndexError>>;
}

/// The vector space that an index is opened for.
#[derive(Debug, Clone)]
pub struct Space {
    /// Fingerprint of the bundle in use.
    pub fingerprint: Fingerprint,
    /// Length of its vectors.
    pub embedding_dim: u32,
    /// How they are compared, and how many an item has at most.
    pub similarity: Similarity,
    /// Name of the bundle, for people; kept in the collections' metadata and never compared.
    pub bundle: String,
}

impl Space {
    /// Most vectors that a point has under this name.
    fn vectors_max(&self, name: &str) -> usize {
        if name == VECTOR_IMAGE { self.similarity.image_vectors_max() } else { self.similarity.text_vectors_max() }
    }

    /// An engine sums the best cosines over the query's tokens; the mean does not grow with the query.
    fn score(&self, found: f32, query: &Query) -> f32 {
        if self.similarity.is_cosine() { found } else { found / (query.vector.len() / self.embedding_dim as usize).max(1) as f32 }
    }

    /// Says what is wrong with a query's vector, if anything. A picture may ask for texts and a text for pictures, so either's most counts.
    fn check_query(&self, query: &Query) -> Result<(), IndexError> {
        let most = self.similarity.image_vectors_max().max(self.similarity.text_vectors_max());
        guard::check_vector(&query.vector, self.embedding_dim, most)
            .map_err(|problem| IndexError::Mismatch(format!("the query's vector {problem}").into()))
    }
}

/// Memory for vectors of the embedded engine where nobody says how much: 2 GiB are 3.2 million vectors of 256 numbers.
pub const VECTOR_BYTES_MAX: usize = 2 << 30;

/// Where the embedded index is, and how much memory it may take.
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    /// Folder of the index; created when absent. One process at a time.
    pub path: PathBuf,
    /// Most bytes of memory for the vectors of all generations that are open: 2 a number, and about 150 a vector. What goes over it is
    /// refused.
    pub vector_bytes_max: usize,
    /// Whether another generation may be live: then what is live is left as it is.
    pub beside: bool,
}

impl EmbeddedOptions {
    /// A folder, with [`VECTOR_BYTES_MAX`] bytes for vectors.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), vector_bytes_max: VECTOR_BYTES_MAX, beside: false }
    }
}

/// Which engine, and where.
#[derive(Debug, Clone)]
pub enum IndexOptions {
    /// SQLite in this process (feature `embedded`).
    Embedded(EmbeddedOptions),
    /// A Qdrant server.
    Qdrant(qdrant::QdrantOptions),
}

/// Opens the index for `space`, creating on first start what is not there yet.
///
/// # Errors
/// [`IndexError::Mismatch`] when what is there is of another space or form, when the server is too old, or when the engine is not part of
/// this build; [`IndexError::Transient`] when the server does not answer or another process holds the embedded index.
pub async fn open(options: &IndexOptions, space: &Space) -> Result<Arc<dyn IndexWriter>, IndexError> {
    match options {
        #[cfg(feature = "embedded")]
        IndexOptions::Embedded(options) => Ok(Arc::new(embedded::EmbeddedIndex::open(options, space).await?)),
        #[cfg(not(feature = "embedded"))]
        IndexOptions::Embedded(_) => Err(no_embedded()),
        IndexOptions::Qdrant(options) => Ok(Arc::new(qdrant::QdrantIndex::open(options, space).await?)),
    }
}

/// What [`open`] would find, create or refuse; nothing is changed.
///
/// # Errors
/// [`IndexError::Transient`] when the server does not answer, or a folder can't be read; [`IndexError::Mismatch`] for an engine that is not
/// part of this build.
pub async fn survey(options: &IndexOptions, space: &Space) -> Result<Vec<Finding>, IndexError> {
    match options {
        #[cfg(feature = "embedded")]
        IndexOptions::Embedded(options) => embedded::survey(options, space).await,
        #[cfg(not(feature = "embedded"))]
        IndexOptions::Embedded(_) => Err(no_embedded()),
        IndexOptions::Qdrant(options) => qdrant::survey(options, space).await,
    }
}

/// What holds points and [`open`] would make, because it is not there; nothing is changed.
///
/// # Errors
/// As [`survey`].
pub async fn missing(options: &IndexOptions, space: &Space) -> Result<Vec<String>, IndexError> {
    let found = match survey(options, space).await {
        // What can't be used at all is for `open` to tell.
        Err(IndexError::Mismatch(_) | IndexError::Refused(_)) => Vec::new(),
        found => found?,
    };
    let holds_points = |finding: &Finding| !finding.subject.starts_with("alias ");
    let made = found.into_iter().filter(|finding| finding.verdict == Verdict::Create && holds_points(finding));
    Ok(made.map(|finding| finding.subject).collect())
}

/// The book of generations of an index.
///
/// # Errors
/// [`IndexError::Mismatch`] for an address that is none, and for an engine that is not part of this build.
pub fn catalog(options: &IndexOptions) -> Result<Arc<dyn Catalog>, IndexError> {
    match options {
        #[cfg(feature = "embedded")]
        IndexOptions::Embedded(options) => Ok(Arc::new(embedded::EmbeddedCatalog::new(options))),
        #[cfg(not(feature = "embedded"))]
        IndexOptions::Embedded(_) => Err(no_embedded()),
        IndexOptions::Qdrant(options) => Ok(Arc::new(qdrant::QdrantCatalog::new(options)?)),
    }
}

#[cfg(not(feature = "embedded"))]
fn no_embedded() -> IndexError {
    let problem = "this build has no embedded engine: set index.engine = \"qdrant\", or build with the feature `embedded`";
    IndexError::Mismatch(problem.into())
}
