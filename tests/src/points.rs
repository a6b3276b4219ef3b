//! The harness's own look at Qdrant, past the daemon.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use astromech_schemas::Kind;
use qdrant_client::Qdrant;
use qdrant_client::qdrant::point_id::PointIdOptions;
use qdrant_client::qdrant::vector_output::Vector;
use qdrant_client::qdrant::vectors_output::VectorsOptions;
use qdrant_client::qdrant::{PointId, QueryBatchPointsBuilder, QueryPointsBuilder, ScrollPointsBuilder, VectorsOutput};
use uuid::Uuid;

use crate::wait::{block_on, wait_until};

/// For one answer of the server.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Points in one request.
const PAGE: u32 = 256;

/// A point as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Payload.
    pub payload: serde_json::Map<String, serde_json::Value>,
    /// Vectors by name.
    pub vectors: BTreeMap<String, Vec<f32>>,
}

impl Point {
    /// Source version.
    pub fn version(&self) -> u64 {
        self.payload
            .get("version")
            .and_then(serde_json::Value::as_u64)
            .unwrap_or_else(|| panic!("no version in {:?}", self.payload))
    }

    /// A payload field that is a string; empty where absent.
    pub fn text(&self, field: &str) -> &str {
        self.payload.get(field).and_then(serde_json::Value::as_str).unwrap_or_default()
    }

    /// Whether the point stands for a deleted item.
    pub fn is_tombstone(&self) -> bool {
        self.payload.get("deleted") == Some(&serde_json::Value::Bool(true))
    }
}

/// Every point of every kind.
pub type Snapshot = BTreeMap<Kind, BTreeMap<Uuid, Point>>;

/// The client.
pub struct Points(Qdrant);

impl std::fmt::Debug for Points {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Points")
    }
}

impl Points {
    /// A client of the server at `url` (gRPC).
    pub fn new(url: &str) -> Self {
        let client = Qdrant::from_url(url).timeout(TIMEOUT).skip_compatibility_check().build();
        Self(client.unwrap_or_else(|e| panic!("a client of {url}: {e}")))
    }

    /// The client itself.
    pub const fn client(&self) -> &Qdrant {
        &self.0
    }

    /// Deletes every collection.
    pub fn wipe(&self) {
        // The channel may still hold a connection to the server that was stopped: the first call finds out.
        wait_until("deleting all collections", TIMEOUT, || block_on(self.try_wipe()).map_err(|e| e.to_string()));
    }

    async fn try_wipe(&self) -> Result<(), qdrant_client::QdrantError> {
        for collection in self.0.list_collections().await?.collections {
            self.0.delete_collection(collection.name).await?;
        }
        Ok(())
    }

    /// Every point of `kind`, tombstones included.
    pub fn all(&self, kind: Kind) -> BTreeMap<Uuid, Point> {
        self.collection(kind.collection())
    }

    /// Every point of every kind.
    pub fn snapshot(&self) -> Snapshot {
        Kind::ALL.into_iter().map(|kind| (kind, self.all(kind))).collect()
    }

    /// Every point of the collection or alias `name`.
    pub fn collection(&self, name: &str) -> BTreeMap<Uuid, Point> {
        let mut points = BTreeMap::new();
        let mut offset: Option<PointId> = None;
        loop {
            let mut request = ScrollPointsBuilder::new(name).limit(PAGE).with_payload(true).with_vectors(true);
            if let Some(offset) = offset.take() {
                request = request.offset(offset);
            }
            let page = block_on(self.0.scroll(request)).unwrap_or_else(|e| panic!("scroll of {name}: {e}"));
            for point in page.result {
                let stored = Point { payload: json(point.payload), vectors: point.vectors.map(vectors).unwrap_or_default() };
                points.insert(uuid(point.id), stored);
            }
            match page.next_page_offset {
                Some(next) => offset = Some(next),
                None => return points,
            }
        }
    }

    /// The nearest `limit` points of each query, best first, with their scores.
    pub fn search(&self, kind: Kind, vector_name: &str, queries: &[Vec<f32>], limit: u64) -> Vec<Vec<(Uuid, f32)>> {
        let mut found = Vec::with_capacity(queries.len());
        for chunk in queries.chunks(PAGE as usize) {
            let one = |query: &Vec<f32>| {
                QueryPointsBuilder::new(kind.collection()).query(query.clone()).using(vector_name).limit(limit).build()
            };
            let request = QueryBatchPointsBuilder::new(kind.collection(), chunk.iter().map(one).collect::<Vec<_>>());
            let answer = block_on(self.0.query_batch(request)).unwrap_or_else(|e| panic!("search of {kind}: {e}"));
            let hits =
                answer.result.into_iter().map(|batch| batch.result.into_iter().map(|hit| (uuid(hit.id), hit.score)).collect());
            found.extend(hits);
        }
        found
    }
}

fn uuid(id: Option<PointId>) -> Uuid {
    match id.and_then(|id| id.point_id_options) {
        Some(PointIdOptions::Uuid(text)) => text.parse().unwrap_or_else(|e| panic!("point id {text}: {e}")),
        other => panic!("a point id that is no UUID: {other:?}"),
    }
}

fn json(payload: HashMap<String, qdrant_client::qdrant::Value>) -> serde_json::Map<String, serde_json::Value> {
    payload.into_iter().map(|(key, value)| (key, value.into_json())).collect()
}

fn vectors(output: VectorsOutput) -> BTreeMap<String, Vec<f32>> {
    match output.vectors_options {
        Some(VectorsOptions::Vectors(named)) => {
            let dense = |(name, vector): (String, qdrant_client::qdrant::VectorOutput)| match vector.into_vector() {
                Vector::Dense(dense) => (name, dense.data),
                other => panic!("vector {name} is not dense: {other:?}"),
            };
            named.vectors.into_iter().map(dense).collect()
        }
        Some(VectorsOptions::Vector(_)) => panic!("a vector without a name"),
        None => BTreeMap::new(),
    }
}
