//! A server on a free port, a client, and items to search.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use astromech::api::{Access, AppState, Limits, MediaRoots, Tls, serve};
use astromech::assemble::{open_disk, start_rescorer, vitals_of};
use astromech::config::Config;
use astromech::generation::{Live, Serving};
use astromech::index::{Change, ChangeBody, EmbeddedOptions, Index, IndexOptions, IndexWriter, Space, open};
use astromech::rescore::Rescorer;
use astromech::vitals::{Condition, Metrics, Readiness};
use astromech_schemas::{Kind, point_id};
use astromech_towers::{Bundle, Towers, TowersConfig, init_runtime};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A picture of the demo set by the id of its item.
pub fn picture(id: &str) -> Vec<u8> {
    std::fs::read(repository().join(format!("configs/demo/set/pictures/{id}.jpg"))).unwrap()
}

pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Towers shared by the tests of this process.
pub fn towers() -> Towers {
    static TOWERS: OnceLock<Towers> = OnceLock::new();
    TOWERS.get_or_init(own_towers).clone()
}

/// Folder of the bundle that is served.
pub fn bundle_folder() -> PathBuf {
    std::env::var_os("ASTROMECH_E2E_BUNDLE").map_or_else(|| repository().join("configs/demo/bundle"), PathBuf::from)
}

/// Towers that no other test shares: what they compute does not depend on what runs beside.
pub fn own_towers() -> Towers {
    let dir = bundle_folder();
    assert!(dir.join("manifest.json").is_file(), "no bundle in {}; set ASTROMECH_E2E_BUNDLE to a released one", dir.display());
    init_runtime(None).unwrap();
    Towers::start(&Bundle::open(&dir).unwrap(), &TowersConfig::default()).unwrap()
}

/// A running server with an index of its own.
pub struct Server {
    pub address: SocketAddr,
    pub client: reqwest::Client,
    pub towers: Towers,
    pub index: Arc<dyn IndexWriter>,
    pub rescorer: Option<Arc<Rescorer>>,
    pub config: Config,
    pub tls: Option<Arc<Tls>>,
    pub readiness: Arc<Readiness>,
    pub metrics: Arc<Metrics>,
    pub stop: CancellationToken,
    pub served: tokio::task::JoinHandle<()>,
    pub folder: tempfile::TempDir,
}

impl Server {
    pub async fn start() -> Self {
        Self::start_with(Limits::default()).await
    }

    /// Pictures may be shown from the folder `root` of the server's own folder.
    pub async fn start_with(limits: Limits) -> Self {
        Self::start_configured(towers(), limits, "").await
    }

    /// With these conditions of readiness, none of which holds yet.
    pub async fn start_configured_with(conditions: &[Condition]) -> Self {
        Self::start_whole(towers(), Limits::default(), "", conditions).await
    }

    /// As [`Server::start_with`], with towers of the caller's and `settings` beside what a server needs: TOML. Pictures are fetched from
    /// the folder `root` too.
    pub async fn start_configured(towers: Towers, limits: Limits, settings: &str) -> Self {
        Self::start_whole(towers, limits, settings, &[Condition::Bundle, Condition::Index]).await
    }

    async fn start_whole(towers: Towers, limits: Limits, settings: &str, conditions: &[Condition]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let manifest = towers.manifest();
        let space = Space {
            fingerprint: manifest.fingerprint.clone(),
            embedding_dim: manifest.embedding_dim,
            similarity: manifest.similarity,
            bundle: manifest.name.clone(),
        };
        let options = IndexOptions::Embedded(EmbeddedOptions::new(folder.path().join("index")));
        let index = open(&options, &space).await.unwrap();
        let readable = Arc::clone(&index) as Arc<dyn Index>;
        std::fs::create_dir(folder.path().join("root")).unwrap();
        // A process that already has a provider keeps it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = config(folder.path(), settings);
        let vitals = vitals_of(&config, Arc::new(Metrics::new()), conditions);
        let (readiness, metrics) = (Arc::clone(&vitals.readiness), Arc::clone(&vitals.metrics));
        let rescorer = start_rescorer(&config, &towers, &readable, open_disk(&config, &metrics).await, &metrics).unwrap();
        let tls = Tls::of(&config).unwrap();
        let state = AppState {
            live: Arc::new(Live::new(Serving::new(towers.clone(), Arc::clone(&index), rescorer.clone()))).into(),
            generations: None,
            vitals,
            media: MediaRoots { file_roots: vec![folder.path().join("root")], bytes_max: 100_000 },
            limits,
            access: Access::of(&config),
            tls: tls.clone(),
            examples: vec!["红色的汽车".to_owned()],
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let served = tokio::spawn({
            let stop = stop.clone();
            async move { serve(listener, Arc::new(state), stop).await.unwrap() }
        });
        let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { address, client, towers, index, rescorer, config, tls, readiness, metrics, stop, served, folder }
    }

    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub async fn get(&self, path: &str) -> reqwest::Response {
        self.client.get(self.url(path)).send().await.unwrap()
    }

    pub async fn post(&self, path: &str, body: &Value) -> reqwest::Response {
        self.client.post(self.url(path)).json(body).send().await.unwrap()
    }

    /// Indexes an item with the vectors of `text` and of `image`.
    pub async fn put(&self, kind: Kind, id: &str, text: Option<&str>, image: Option<&[u8]>, payload: Value) {
        let text = match text {
            Some(text) => Some(self.towers.embed_text(self.towers.prepare_text(text)).await.unwrap().embedding),
            None => None,
        };
        let image = match image {
            Some(bytes) => Some(self.towers.embed_image(self.towers.prepare_image(bytes).unwrap()).await.unwrap().embedding),
            None => None,
        };
        let Value::Object(payload) = payload else { panic!("a payload is an object") };
        self.apply(kind, id, 1, ChangeBody::Upsert { text, image, payload }).await;
    }

    pub async fn apply(&self, kind: Kind, id: &str, version: u64, body: ChangeBody) {
        let fingerprint = self.towers.fingerprint().clone();
        let change =
            Change { kind, id: id.to_owned(), point_id: point_id(kind, id), version, tie_breaker: None, fingerprint, body };
        self.index.apply(&[change]).await.unwrap();
    }
}

/// A configuration whose own parts the server does not use, with `settings`; `file:` pictures lie in the folder `root`.
pub fn config(folder: &Path, settings: &str) -> Config {
    // A key may be written in one place only, so a test that sets [media] names its roots itself.
    let media = if settings.contains("[media]") { "" } else { "[media]\nfile_roots = [\"root\"]\n" };
    let text = format!("[bundle]\npath = \"b\"\n[index.embedded]\npath = \"i\"\n{media}{settings}");
    Config::parse(&text, folder, &|_| None).unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// The whole body, packed.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

/// Asserts that `response` is a problem document with these parts in its detail; returns it.
pub async fn expect_problem(response: reqwest::Response, status: u16, name: &str, parts: &[&str]) -> Value {
    let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
    let found = response.status().as_u16();
    let body = response.text().await.unwrap();
    assert_eq!(found, status, "{body}");
    assert_eq!(content_type, "application/problem+json", "{body}");
    let problem: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(problem["type"], json!(format!("urn:astromech:problem:{name}")));
    assert_eq!(problem["status"], json!(status));
    let detail = problem["detail"].as_str().unwrap();
    for part in parts {
        assert!(detail.contains(part), "no `{part}` in: {detail}");
    }
    problem
}
