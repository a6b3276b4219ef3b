//! A bundle of late interaction, served whole: from Kafka into Qdrant's multivectors, found by every token of a query, re-scored by the
//! single tower. What is expected is computed here, from the tokens that the towers give for each item alone.

use std::path::Path;

use astromech_e2e::corpus::Entry;
use astromech_e2e::items::{Item, article, image};
use astromech_e2e::wait::block_on;
use astromech_e2e::{Daemon, bundle, world};
use astromech_schemas::http::{Hit, SearchResponse};
use astromech_schemas::{ImageSource, Kind, item_text};
use astromech_towers::{Bundle, Towers, TowersConfig, init_runtime, similarity};
use base64::Engine as _;
use serde_json::{Value, json};

use crate::promise_3::assert_refused;
use crate::scenario::Scenario;

const PICTURES: usize = 24;
const LIMIT: usize = 10;
/// Of a score; items that lie closer together may change places.
const TOLERANCE: f32 = 1e-4;

/// The same bundle in this process.
struct BruteForce {
    towers: Towers,
    dim: usize,
}

impl BruteForce {
    fn start(bundle: &Path) -> Self {
        init_runtime(None).expect("ONNX Runtime is there");
        let bundle = Bundle::open(bundle).expect("the trainer wrote it");
        let config = TowersConfig { load_cross: false, threads: 1, ..TowersConfig::default() };
        let towers = Towers::start(&bundle, &config).expect("the towers start");
        Self { dim: towers.manifest().embedding_dim as usize, towers }
    }

    fn picture(&self, entry: &Entry) -> Vec<f32> {
        let prepared = self.towers.prepare_image(&entry.bytes()).expect("a picture");
        block_on(self.towers.embed_image(prepared)).expect("the towers answer").vectors().to_vec()
    }

    fn text(&self, text: &str) -> Vec<f32> {
        block_on(self.towers.embed_text(self.towers.prepare_text(text))).expect("the towers answer").vectors().to_vec()
    }

    /// The hits have the scores of brute force, are in its order, and none that it ranks before them is missing.
    fn assert_best(&self, query: &[f32], items: &[(String, Vec<f32>)], hits: &[Hit]) {
        let expected = |id: &str| {
            let (_, vectors) = items.iter().find(|(own, _)| own == id).unwrap_or_else(|| panic!("{id} was not sent"));
            similarity(query, vectors, self.dim)
        };
        assert_eq!(hits.len(), LIMIT.min(items.len()));
        for hit in hits {
            let expected = expected(&hit.id);
            assert!((hit.score - expected).abs() < TOLERANCE, "{}: {}, expected {expected}", hit.id, hit.score);
        }
        let mut all: Vec<f32> = items.iter().map(|(id, _)| expected(id)).collect();
        all.sort_by(|a, b| b.total_cmp(a));
        for (hit, best) in hits.iter().zip(all) {
            assert!((expected(&hit.id) - best).abs() < TOLERANCE, "{} stands where an item of {best} should", hit.id);
        }
    }
}

fn search(daemon: &Daemon, request: &Value) -> SearchResponse {
    let (status, answer) = daemon.post("/v1/search", request);
    assert_eq!(status, 200, "{answer}");
    serde_json::from_value(answer).expect("an answer")
}

#[test]
fn items_from_kafka_are_found_and_ranked_by_late_interaction_as_brute_force_does_and_re_scored() {
    let (path, manifest) = bundle::late_interaction(21);
    let brute = BruteForce::start(&path);
    let world = world();
    let mut scenario = Scenario::new(&world, "late");
    scenario.config.bundle.clone_from(&path);
    let entries = &scenario.corpus.entries[..PICTURES];
    let articles: Vec<Item> = entries.iter().take(6).map(|entry| article(entry, 1, None)).collect();
    // As files: what is re-scored is read anew.
    let picture = |entry: &Entry| ImageSource::from_url(format!("file://{}", entry.picture.display()));
    let images: Vec<Item> = entries.iter().map(|entry| image(entry, 1, picture(entry))).collect();
    scenario.produce(&images);
    scenario.produce(&articles);
    let mut daemon = Daemon::start(&scenario.config);
    scenario.wait_done(&mut daemon);

    let pictures: Vec<_> = entries.iter().map(|entry| (format!("image-{}", entry.id), brute.picture(entry))).collect();
    for entry in &entries[..4] {
        let request = json!({"text": entry.title, "kinds": ["image"], "limit": LIMIT});
        let found = search(&daemon, &request);
        assert_eq!(found.fingerprint, manifest.fingerprint);
        brute.assert_best(&brute.text(&entry.title), &pictures, &found.hits[&Kind::Image]);
    }
    // The other way round it is the picture's tokens that ask.
    let texts: Vec<_> = entries[..6]
        .iter()
        .map(|entry| (format!("article-{}", entry.id), brute.text(&item_text(&entry.title, &entry.body).expect("a text"))))
        .collect();
    let picture = base64::engine::general_purpose::STANDARD.encode(entries[7].bytes());
    let found = search(&daemon, &json!({"image": picture, "kinds": ["article"], "limit": LIMIT}));
    brute.assert_best(&brute.picture(&entries[7]), &texts, &found.hits[&Kind::Article]);

    // The second stage: its raw similarity is the first stage's score.
    let found = search(&daemon, &json!({"text": entries[0].title, "kinds": ["image"], "limit": LIMIT, "rescore": 5}));
    let scored: Vec<_> = found.hits[&Kind::Image].iter().filter_map(|hit| Some((hit, hit.rescore.as_ref()?.scores?))).collect();
    assert_eq!(scored.len(), 5);
    for (hit, scores) in scored {
        assert!((scores.itc - hit.score).abs() < TOLERANCE, "{}: {scores:?}", hit.id);
    }
    // One vector an item would be another space: nobody is given it.
    let (status, problem) = daemon.post("/v1/embed", &json!({"texts": ["红色的汽车"]}));
    assert_eq!(status, 501, "{problem}");
    assert!(daemon.terminate().success());
}

#[test]
fn results_with_one_vector_an_item_are_refused_for_a_bundle_of_late_interaction() {
    let (path, _) = bundle::late_interaction(22);
    let world = world();
    let mut scenario = Scenario::new(&world, "late");
    scenario.config.bundle = path;
    "[kafka.results]\nembeddings = true\n".clone_into(&mut scenario.config.extra);
    assert_refused(&scenario, &["kafka.results.embeddings", "token by token"]);
}
