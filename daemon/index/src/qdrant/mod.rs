//! The index on a Qdrant server, over gRPC.
//!
//! Writes wait until they are applied. Their ordering is left at Qdrant's default: the guard makes writes commute, so replicas that see
//! two writers in different orders still end in the same highest version.

mod catalog;
mod convert;
mod error;
mod setup;
mod survey;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use astromech_schemas::results::Outcome;
use astromech_schemas::{Fingerprint, Kind};
use futures::future::{BoxFuture, FutureExt as _, try_join_all};
use qdrant_client::qdrant::{
    CountPointsBuilder, DeletePointsBuilder, GetPointsBuilder, PayloadIncludeSelector, QuantizationSearchParamsBuilder,
    QueryPointGroupsBuilder, QueryPointsBuilder, ScrollPointsBuilder, SearchParamsBuilder, UpdateBatchPointsBuilder,
};
use qdrant_client::{Qdrant, QdrantError};
use uuid::Uuid;

pub use self::catalog::QdrantCatalog;
use self::convert::{Prepared, from_point_id, operations, prepare, to_filter, to_input, to_point_id, to_stored};
use self::error::from_client;
use self::setup::Setup;
use super::guard::{Predicate, check, live};
use super::payload::{FIELD_CONTENT, FIELD_VERSION, FIELD_VERSION_OFFSET, FIELD_VERSION_SOURCE, FIELD_VIDEO, is_tombstone};
use super::purge::purge;
use super::video::{self, Head, Points};
use super::{Change, Finding, Index, IndexError, IndexWriter, Page, Query, Scope, Space, Stored, VECTOR_IMAGE};
use crate::book::collection_name;

/// Most bytes of one write request, about. The server itself sets no limit to a gRPC message; a proxy before it may.
const REQUEST_BYTES_MAX: usize = 16 << 20;
/// Most points of one write request: the guard is evaluated for each point against each condition.
const REQUEST_POINTS_MAX: usize = 256;

/// How to reach the server.
#[derive(Debug, Clone)]
pub struct QdrantOptions {
    /// gRPC address, for example `http://127.0.0.1:6334`; `https` for TLS with the system's roots.
    pub url: String,
    /// API key, if the server wants one.
    pub api_key: Option<ApiKey>,
    /// Longest time for one request.
    pub timeout: Duration,
    /// Longest time to connect.
    pub connect_timeout: Duration,
    /// Whether another generation may be live: then the aliases are left as they are.
    pub beside: bool,
}

/// A key that no log, dump or error ever shows.
#[derive(Clone)]
pub struct ApiKey(String);

impl ApiKey {
    /// Wraps a key.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The key itself, for the one place that sends it.
    fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl QdrantOptions {
    /// Options with the default times: 30 s a request, 5 s to connect, no API key.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            api_key: None,
            timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            beside: false,
        }
    }
}

/// A client for the server; nothing is asked yet.
fn client(options: &QdrantOptions) -> Result<Qdrant, IndexError> {
    Qdrant::from_url(&options.url)
        .api_key(options.api_key.as_ref().map(ApiKey::reveal))
        .timeout(options.timeout)
        .connect_timeout(options.connect_timeout)
        // It compares with the client's own version and only warns; what we need is asked for in `setup`.
        .skip_compatibility_check()
        .build()
        .map_err(|error| from_client("connecting", &options.url, error))
}

/// What [`QdrantIndex::open`] would find, create or refuse on the server; nothing is changed.
///
/// # Errors
/// [`IndexError::Transient`] when the server does not answer; [`IndexError::Mismatch`] when it is too old or refuses the API key.
pub async fn survey(options: &QdrantOptions, space: &Space) -> Result<Vec<Finding>, IndexError> {
    let client = client(options)?;
    Setup { client: &client, url: &options.url, space, beside: options.beside }.survey().await
}

/// The collections of one vector space on a Qdrant server.
pub struct QdrantIndex {
    client: Qdrant,
    url: String,
    space: Space,
    closed: AtomicBool,
}

impl QdrantIndex {
    /// Connects, creates what is not there yet (collections, payload indexes, aliases) and checks what is.
    ///
    /// # Errors
    /// [`IndexError::Transient`] when the server does not answer; [`IndexError::Mismatch`] when it is older than 1.16, refuses the API key,
    /// or has a collection or alias of another fingerprint, dimension, similarity, distance or set of vectors.
    pub async fn open(options: &QdrantOptions, space: &Space) -> Result<Self, IndexError> {
        let client = client(options)?;
        Setup { client: &client, url: &options.url, space, beside: options.beside }.run().await?;
        Ok(Self { client, url: options.url.clone(), space: space.clone(), closed: AtomicBool::new(false) })
    }

    fn name(&self, kind: Kind) -> String {
        collection_name(kind, &self.space.fingerprint)
    }

    fn error(&self, doing: &'static str) -> impl Fn(QdrantError) -> IndexError {
        move |error| from_client(doing, &self.url, error)
    }

    async fn write(&self, kind: Kind, batch: Vec<Prepared<'_>>) -> Result<(), IndexError> {
        let request = UpdateBatchPointsBuilder::new(self.name(kind), operations(batch)).wait(true);
        self.client.update_points_batch(request).await.map_err(self.error("writing points"))?;
        Ok(())
    }

    /// One kind's requests, one after the other.
    async fn write_kind(&self, kind: Kind, changes: Vec<&Change>) -> Result<(), IndexError> {
        let mut batch: Vec<Prepared<'_>> = Vec::with_capacity(changes.len());
        let mut bytes = 0;
        for change in changes {
            let prepared = prepare(change, &self.space);
            if !batch.is_empty() && (batch.len() == REQUEST_POINTS_MAX || bytes + prepared.bytes > REQUEST_BYTES_MAX) {
                self.write(kind, std::mem::take(&mut batch)).await?;
                bytes = 0;
            }
            bytes += prepared.bytes;
            batch.push(prepared);
        }
        if batch.is_empty() { Ok(()) } else { self.write(kind, batch).await }
    }
}

impl Points for QdrantIndex {
    async fn write(&self, changes: Vec<&Change>) -> Result<(), IndexError> {
        let mut by_kind: BTreeMap<Kind, Vec<&Change>> = BTreeMap::new();
        for change in changes {
            by_kind.entry(change.kind).or_default().push(change);
        }
        try_join_all(by_kind.into_iter().map(|(kind, changes)| self.write_kind(kind, changes))).await?;
        Ok(())
    }

    async fn heads(&self, kind: Kind, ids: &[Uuid]) -> Result<HashMap<Uuid, Head>, IndexError> {
        let fields = [FIELD_VERSION, FIELD_VERSION_OFFSET, FIELD_VERSION_SOURCE, FIELD_CONTENT].map(str::to_owned).to_vec();
        let ids: Vec<_> = ids.iter().copied().map(to_point_id).collect();
        let request = GetPointsBuilder::new(self.name(kind), ids).with_payload(PayloadIncludeSelector { fields });
        let answer = self.client.get_points(request).await.map_err(self.error("reading what is stored"))?;
        let mut heads = HashMap::with_capacity(answer.result.len());
        for point in answer.result {
            let stored = to_stored(point.id, 0.0, point.payload)?;
            heads.extend(Head::of(&stored.payload).map(|head| (stored.point_id, head)));
        }
        Ok(heads)
    }

    async fn read(&self, ids: &[Uuid]) -> Result<Vec<Stored>, IndexError> {
        self.retrieve(Kind::Video, ids).await
    }

    async fn count(&self, kind: Kind, which: Predicate) -> Result<u64, IndexError> {
        let request = CountPointsBuilder::new(self.name(kind)).filter(to_filter(&which)).exact(true);
        let answer = self.client.count(request).await.map_err(self.error("counting points"))?;
        Ok(answer.result.map_or(0, |result| result.count))
    }

    async fn remove(&self, kind: Kind, which: Predicate) -> Result<(), IndexError> {
        let request = DeletePointsBuilder::new(self.name(kind)).points(to_filter(&which)).wait(true);
        self.client.delete_points(request).await.map_err(self.error("removing points"))?;
        Ok(())
    }

    async fn frames(&self, query: &Query, found: &[Uuid], videos: usize) -> Result<Vec<Stored>, IndexError> {
        let request = QueryPointGroupsBuilder::new(self.name(Kind::Video), FIELD_VIDEO)
            .query(to_input(&query.vector, &self.space))
            .using(query.vector_name)
            .limit(videos as u64)
            .group_size(1_u64)
            .with_payload(true);
        let request = match query.filter.predicate_beside(found) {
            Some(predicate) => request.filter(to_filter(&predicate)),
            None => request,
        };
        let answer = self.client.query_groups(request).await.map_err(self.error("searching frames"))?;
        let groups = answer.result.map(|result| result.groups).unwrap_or_default();
        groups
            .into_iter()
            .flat_map(|group| group.hits)
            .map(|point| to_stored(point.id, self.space.score(point.score, query), point.payload))
            .collect()
    }
}

impl IndexWriter for QdrantIndex {
    fn apply<'a>(&'a self, changes: &'a [Change]) -> BoxFuture<'a, Result<Vec<Outcome>, IndexError>> {
        async move {
            if self.closed.load(Ordering::Acquire) {
                return Err(IndexError::Mismatch("the index is closed".to_owned().into()));
            }
            check(changes, &self.space)?;
            video::apply(self, changes).await
        }
        .boxed()
    }
}

impl Index for QdrantIndex {
    fn fingerprint(&self) -> &Fingerprint {
        &self.space.fingerprint
    }

    fn search<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Vec<Stored>, IndexError>> {
        async move {
            self.space.check_query(query)?;
            if query.kind == Kind::Video && query.vector_name == VECTOR_IMAGE {
                return video::search(self, query).await;
            }
            let request = QueryPointsBuilder::new(self.name(query.kind))
                .query(to_input(&query.vector, &self.space))
                .using(query.vector_name)
                .limit(u64::from(query.limit))
                .with_payload(true);
            let request = if self.space.similarity.is_cosine() {
                request
            } else {
                // Multivectors want quantising; the hits' scores are still those of the whole numbers.
                let exact = QuantizationSearchParamsBuilder::default().rescore(true);
                request.params(SearchParamsBuilder::default().quantization(exact))
            };
            let request = match query.filter.predicate() {
                Some(predicate) => request.filter(to_filter(&predicate)),
                None => request,
            };
            let answer = self.client.query(request).await.map_err(self.error("searching"))?;
            let mut hits = Vec::with_capacity(answer.result.len());
            for point in answer.result {
                let stored = to_stored(point.id, self.space.score(point.score, query), point.payload)?;
                // Between a delete and the removal of its leftover vectors a search can still see the tombstone.
                if !is_tombstone(&stored.payload) {
                    hits.push(stored);
                }
            }
            Ok(hits)
        }
        .boxed()
    }

    fn retrieve<'a>(&'a self, kind: Kind, point_ids: &'a [Uuid]) -> BoxFuture<'a, Result<Vec<Stored>, IndexError>> {
        async move {
            let ids: Vec<_> = point_ids.iter().copied().map(to_point_id).collect();
            let request = GetPointsBuilder::new(self.name(kind), ids).with_payload(true);
            let answer = self.client.get_points(request).await.map_err(self.error("reading points"))?;
            answer.result.into_iter().map(|point| to_stored(point.id, 0.0, point.payload)).collect()
        }
        .boxed()
    }

    fn scroll(&self, kind: Kind, scope: Scope, from: Option<Uuid>, limit: u32) -> BoxFuture<'_, Result<Page, IndexError>> {
        async move {
            let request = ScrollPointsBuilder::new(self.name(kind)).limit(limit).with_payload(true);
            let request = if scope == Scope::Live { request.filter(to_filter(&live(kind))) } else { request };
            let request = match from {
                Some(from) => request.offset(to_point_id(from)),
                None => request,
            };
            let answer = self.client.scroll(request).await.map_err(self.error("listing points"))?;
            let points =
                answer.result.into_iter().map(|point| to_stored(point.id, 0.0, point.payload)).collect::<Result<_, _>>()?;
            Ok(Page { points, next: answer.next_page_offset.map(|id| from_point_id(Some(id))).transpose()? })
        }
        .boxed()
    }

    fn counts(&self) -> BoxFuture<'_, Result<BTreeMap<Kind, u64>, IndexError>> {
        async move {
            let count = |kind| async move { Ok::<_, IndexError>((kind, self.count(kind, live(kind)).await?)) };
            Ok(try_join_all(Kind::ALL.map(count)).await?.into_iter().collect())
        }
        .boxed()
    }

    fn purge(&self, before_ms: u64) -> BoxFuture<'_, Result<u64, IndexError>> {
        purge(self, before_ms).boxed()
    }

    fn health(&self) -> BoxFuture<'_, Result<(), IndexError>> {
        async move {
            self.client.health_check().await.map_err(self.error("asking for health"))?;
            Ok(())
        }
        .boxed()
    }

    fn close(&self) -> BoxFuture<'_, Result<(), IndexError>> {
        async move {
            self.closed.store(true, Ordering::Release);
            Ok(())
        }
        .boxed()
    }
}
