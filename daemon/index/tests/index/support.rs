//! What the index's tests share: an engine to open, changes to apply, and a way to look at what is stored.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use astromech_index::qdrant::QdrantOptions;
use astromech_index::{
    self as index, Change, ChangeBody, EmbeddedOptions, Index, IndexError, IndexOptions, IndexWriter, Query, SearchFilter, Space,
    Stored, VECTOR_IMAGE, VECTOR_TEXT,
};
use astromech_schemas::record::TieBreaker;
use astromech_schemas::{Fingerprint, Kind, Similarity, point_id};
use qdrant_client::Qdrant;
use qdrant_client::qdrant::{OptimizersConfigDiffBuilder, UpdateCollectionBuilder};
use serde_json::json;

/// Makes of each `async fn(Engine)` a test on the embedded engine and one on a server.
macro_rules! on_both_engines {
    ($($test:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test(crate::support::Engine::embedded()).await;
            })*
        }
        mod qdrant {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test(crate::support::Engine::qdrant().await).await;
            })*
        }
    };
}

/// Length of the tests' vectors.
pub const DIM: u32 = 32;
/// Longest wait for a condition.
const DEADLINE: Duration = Duration::from_mins(1);

/// A vector space whose fingerprint repeats one hexadecimal digit.
pub fn space(digit: char) -> Space {
    let fingerprint = Fingerprint::try_from(digit.to_string().repeat(64)).unwrap();
    Space { fingerprint, embedding_dim: DIM, similarity: Similarity::Cosine, bundle: format!("test-{digit}") }
}

/// Seeded pseudo-random numbers (splitmix64): the same on every machine.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub fn unit_vector(&mut self, dim: u32) -> Vec<f32> {
        let values: Vec<f32> = (0..dim).map(|_| (self.next() >> 40) as f32 / (1_u64 << 23) as f32 - 1.0).collect();
        let length = values.iter().map(|v| v * v).sum::<f32>().sqrt();
        values.into_iter().map(|v| v / length).collect()
    }

    pub fn shuffle<T>(&mut self, values: &mut [T]) {
        for end in (1..values.len()).rev() {
            values.swap(end, self.below(end + 1));
        }
    }
}

/// The unit vector of a seed.
pub fn vector(seed: u64) -> Vec<f32> {
    Random(seed).unit_vector(DIM)
}

pub fn change(kind: Kind, id: &str, version: u64, body: ChangeBody) -> Change {
    let fingerprint = space('a').fingerprint;
    Change { kind, id: id.to_owned(), point_id: point_id(kind, id), version, tie_breaker: None, fingerprint, body }
}

/// The change of the record at `offset` of a partition of the topic `t`.
pub fn at(partition: i32, offset: u64, change: Change) -> Change {
    Change { tie_breaker: Some(TieBreaker::new("t", partition, offset)), ..change }
}

/// An image whose title names its version and whose vectors are of the given seeds.
pub fn image(id: &str, version: u64, text: Option<u64>, image: Option<u64>) -> Change {
    let payload = json!({"title": format!("{id} v{version}"), "tags": ["测试"]}).as_object().unwrap().clone();
    change(Kind::Image, id, version, ChangeBody::Upsert { text: text.map(vector), image: image.map(vector), payload })
}

pub fn delete(id: &str, version: u64) -> Change {
    change(Kind::Image, id, version, ChangeBody::Delete)
}

/// The stored image of that id, tombstone or not.
pub async fn stored(index: &dyn Index, id: &str) -> Option<Stored> {
    index.retrieve(Kind::Image, &[point_id(Kind::Image, id)]).await.unwrap().pop()
}

/// The title of the stored image, `deleted` for a tombstone, `absent` for an unknown one.
pub async fn title(index: &dyn Index, id: &str) -> String {
    match stored(index, id).await {
        None => "absent".to_owned(),
        Some(point) if index::payload::is_tombstone(&point.payload) => "deleted".to_owned(),
        Some(point) => point.payload["title"].as_str().unwrap().to_owned(),
    }
}

/// Ids of the images that a search for the vector of a seed finds, best first, with their scores.
pub async fn search(index: &dyn Index, vector_name: &'static str, seed: u64, limit: u32) -> Vec<(String, f32)> {
    let query = Query { kind: Kind::Image, vector_name, vector: vector(seed), limit, filter: SearchFilter::default() };
    let hits = index.search(&query).await.unwrap();
    hits.into_iter().map(|hit| (hit.payload["id"].as_str().unwrap().to_owned(), hit.score)).collect()
}

/// Whether a search by that vector finds the image at all.
pub async fn found(index: &dyn Index, vector_name: &'static str, seed: u64, id: &str) -> bool {
    search(index, vector_name, seed, 10_000).await.iter().any(|(hit, _)| hit == id)
}

/// Everything that can be seen of some images: payloads, and scores by both vectors.
pub async fn picture_of(index: &dyn Index, ids: &[String]) -> String {
    let mut lines = Vec::new();
    for id in ids {
        lines.push(format!("{id}: {:?}", stored(index, id).await.map(|point| json!(sorted(&point)).to_string())));
    }
    for name in [VECTOR_TEXT, VECTOR_IMAGE] {
        let mut hits = search(index, name, 1, 10_000).await;
        hits.sort_by(|a, b| a.0.cmp(&b.0));
        lines.extend(hits.into_iter().map(|(id, score)| format!("{name} {id} {score:.4}")));
    }
    lines.join("\n")
}

fn sorted(point: &Stored) -> std::collections::BTreeMap<String, serde_json::Value> {
    point.payload.clone().into_iter().collect()
}

/// One of the two engines, empty.
pub enum Engine {
    Embedded(tempfile::TempDir),
    Qdrant(QdrantTurn),
}

impl Engine {
    pub fn embedded() -> Self {
        Self::Embedded(tempfile::tempdir().unwrap())
    }

    pub async fn qdrant() -> Self {
        Self::Qdrant(QdrantTurn::take().await)
    }

    pub fn options(&self) -> IndexOptions {
        match self {
            Self::Embedded(dir) => IndexOptions::Embedded(EmbeddedOptions::new(dir.path().join("index"))),
            Self::Qdrant(turn) => IndexOptions::Qdrant(QdrantOptions::new(turn.url())),
        }
    }

    pub async fn try_open(&self, space: &Space) -> Result<Arc<dyn IndexWriter>, IndexError> {
        index::open(&self.options(), space).await
    }

    pub async fn open(&self) -> Arc<dyn IndexWriter> {
        self.try_open(&space('a')).await.unwrap()
    }

    /// An index whose images lie in a segment with a graph, where an upsert goes other ways than in a fresh one.
    pub async fn open_indexed(&self, images: &[Change]) -> Arc<dyn IndexWriter> {
        match self {
            // It has no graph: every search looks at every vector.
            Self::Embedded(_) => {
                let index = self.open().await;
                index.apply(images).await.unwrap();
                index
            }
            Self::Qdrant(turn) => {
                let index = self.open().await;
                let name = index::book::collection_name(Kind::Image, index.fingerprint());
                let client = turn.client();
                let small = OptimizersConfigDiffBuilder::default().indexing_threshold(16);
                client.update_collection(UpdateCollectionBuilder::new(name.as_str()).optimizers_config(small)).await.unwrap();
                index.apply(images).await.unwrap();
                turn.wait_indexed(&name).await;
                index
            }
        }
    }
}

/// A real server, shared by the tests of this process that overlap; stopped when the last of them ends, also by a panic, and by the
/// script's own watcher when this process is killed.
struct Server {
    script: PathBuf,
    dir: tempfile::TempDir,
    url: String,
}

static SERVER: Mutex<Weak<Server>> = Mutex::new(Weak::new());
/// Aliases are of the whole server, so one test at a time has it.
static TURN: Mutex<()> = Mutex::new(());

impl Server {
    fn shared() -> Arc<Self> {
        let mut slot = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = slot.upgrade() {
            return server;
        }
        let server = Arc::new(Self::start());
        *slot = Arc::downgrade(&server);
        server
    }

    fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/local/qdrant.sh");
        let dir = tempfile::tempdir().unwrap();
        let output = Command::new(&script)
            .arg("start")
            .arg(dir.path())
            .env("ASTROMECH_OWNER_PID", std::process::id().to_string())
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}", script.display()));
        assert!(output.status.success(), "{} start: {}", script.display(), String::from_utf8_lossy(&output.stderr));
        let env = fs::read_to_string(dir.path().join("qdrant.env")).unwrap();
        let url = env.lines().find_map(|line| line.strip_prefix("QDRANT_URL=")).unwrap().to_owned();
        Self { script, dir, url }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let stopped = Command::new(&self.script).arg("stop").arg(self.dir.path()).output();
        assert!(
            std::thread::panicking() || stopped.is_ok_and(|output| output.status.success()),
            "the Qdrant server did not stop"
        );
    }
}

/// The server, emptied, for one test alone.
pub struct QdrantTurn {
    // Dropped in this order: first the turn, so that the next test may have it, then this test's hold on the server.
    _turn: MutexGuard<'static, ()>,
    server: Arc<Server>,
}

impl QdrantTurn {
    pub async fn take() -> Self {
        let server = Server::shared();
        let turn = Self { _turn: TURN.lock().unwrap_or_else(PoisonError::into_inner), server };
        turn.wipe().await;
        turn
    }

    /// Waits until the collection has a graph and its optimizer rests.
    pub async fn wait_indexed(&self, name: &str) {
        let client = self.client();
        let until = Instant::now() + DEADLINE;
        loop {
            let info = client.collection_info(name).await.unwrap().result.unwrap();
            if info.indexed_vectors_count.unwrap_or(0) > 0 && info.status() == qdrant_client::qdrant::CollectionStatus::Green {
                return;
            }
            assert!(Instant::now() < until, "not indexed in time: {info:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Removes every collection.
    pub async fn wipe(&self) {
        let client = self.client();
        for collection in client.list_collections().await.unwrap().collections {
            client.delete_collection(collection.name).await.unwrap();
        }
    }

    pub fn url(&self) -> &str {
        &self.server.url
    }

    pub fn client(&self) -> Qdrant {
        Qdrant::from_url(self.url()).timeout(DEADLINE).skip_compatibility_check().build().unwrap()
    }
}
