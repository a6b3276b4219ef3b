//! The parity pack through HTTP and through the topics: what the authors' own class answered (../shared/parity), all pairs of its texts
//! and pictures, served by a bundle that the trainer makes of the pack's weights.

use std::collections::{HashMap, HashSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use astromech_e2e::checks::header;
use astromech_e2e::paths::{message, repository, shared, trainer_binary};
use astromech_e2e::world::scratch;
use astromech_e2e::{Daemon, World, world};
use astromech_schemas::rescore::RescoreResponse;
use astromech_schemas::rescore_topic::{HEADER_CORRELATION_ID, HEADER_STATUS};
use base64::Engine as _;
use serde_json::{Value, json};

use crate::rescore_topic::{body, request, wait_replies, with_topics};
use crate::scenario::Scenario;

/// The pack's bar for match scores and cosines from the given pixels.
const TOLERANCE: f32 = 1e-4;
/// With states in 16 bits, as the reference configuration says.
const TOLERANCE_F16: f32 = 1e-3;

struct Pack {
    folder: PathBuf,
    texts: Vec<String>,
    images: Vec<String>,
    expected: HashMap<String, Vec<f32>>,
}

impl Pack {
    /// The pack beside the repository; `None`, with a printed reason, where it is not there.
    fn find() -> Option<Self> {
        let Some(folder) = shared().map(|shared| shared.join("parity")).filter(|folder| folder.is_dir()) else {
            message("skipped: no parity pack beside the repository");
            return None;
        };
        let inputs: Value = serde_json::from_slice(&read(&folder.join("inputs.json"))).expect("inputs.json is JSON");
        let list = |field: &str| -> Vec<String> {
            inputs[field].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let expected = floats(&folder.join("expected.npz"));
        Some(Self { texts: list("texts"), images: list("images"), expected, folder })
    }

    fn picture(&self, name: &str) -> Vec<u8> {
        read(&self.folder.join("pixels").join(format!("{name}.png")))
    }

    /// The bundle of the pack's weights, as `trainer import` and `trainer export` make it.
    fn bundle(&self) -> PathBuf {
        let folder = scratch("parity");
        let at = |name: &str| folder.join(name).display().to_string();
        self.write_samples(&folder.join("corpus"));
        let weights = self.folder.join("r2d2_tiny_random.pth").display().to_string();
        let preset = repository().join("configs/models/tiny.toml").display().to_string();
        let vocabulary = self.folder.with_file_name("vocab.txt").display().to_string();
        trainer(&["import", "--from", &weights, "--config", &preset, "--out", &at("weights.safetensors")]);
        let (checkpoint, out, samples) = (at("weights.safetensors"), at("bundle"), at("corpus"));
        let export = ["export", "--checkpoint", &checkpoint, "--out", &out, "--name", "parity", "--precisions", "f32"];
        trainer(&[&export[..], &["--vocabulary", &vocabulary, "--samples", &samples]].concat());
        folder.join("bundle")
    }

    /// The pack's own pictures and texts as the corpus that golden vectors are made of.
    fn write_samples(&self, corpus: &Path) {
        std::fs::create_dir_all(corpus.join("images")).expect("a new folder");
        let texts = self.texts.iter().filter(|text| !text.trim().is_empty()).cycle();
        let row = |(name, text): (&String, &String)| {
            let image = format!("images/{name}.png");
            std::fs::write(corpus.join(&image), self.picture(name)).expect("a file in a new folder");
            let row = json!({"id": name, "image": image, "title": text, "query": text, "content": text, "concept": name, "domain": "parity", "licence": "MIT", "split": "val"});
            format!("{row}\n")
        };
        let rows: String = self.images.iter().zip(texts).map(row).collect();
        std::fs::write(corpus.join("val.jsonl"), rows).expect("a file in a new folder");
    }

    fn candidates(&self) -> Vec<Value> {
        let encode = |name: &String| base64::engine::general_purpose::STANDARD.encode(self.picture(name));
        self.images.iter().map(|name| json!({"image": encode(name)})).collect()
    }

    fn assert_official(&self, text: usize, found: &RescoreResponse, tolerance: f32) {
        let name_of = |index: u32| &self.images[index as usize];
        assert_eq!(found.scored as usize, self.images.len(), "{}: {:?}", self.texts[text], found.problems);
        for result in &found.results {
            let place = result.index as usize * self.texts.len() + text;
            let scores = result.scores;
            let pairs =
                [("itm_text", scores.itm_text), ("itm_image", scores.itm_image), ("match", scores.itm), ("cosine", scores.itc)];
            for (name, found) in pairs {
                let official = self.expected[name][place];
                let what = format!("{name} of `{}` and {}", self.texts[text], name_of(result.index));
                assert!((found - official).abs() <= tolerance, "{what}: {found}, official {official}");
            }
            let blend = self.expected["match"][place] + self.expected["cosine"][place];
            assert!((scores.score - blend).abs() <= 2.0 * tolerance, "{}", self.texts[text]);
        }
    }
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn trainer(arguments: &[&str]) {
    let done = Command::new(trainer_binary()).args(arguments).output().expect("the trainer starts");
    assert!(done.status.success(), "trainer {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// The float arrays of an `.npz`, a ZIP of `.npy` files of format 1.0.
fn floats(file: &Path) -> HashMap<String, Vec<f32>> {
    let file = std::fs::File::open(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let mut archive = zip::ZipArchive::new(file).expect("an .npz is a ZIP");
    let mut arrays = HashMap::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).expect("an entry");
        let name = entry.name().trim_end_matches(".npy").to_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("an entry is read");
        let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        if String::from_utf8_lossy(&bytes[10..start]).contains("'<f4'") {
            let numbers = bytes[start..].as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            arrays.insert(name, numbers);
        }
    }
    arrays
}

#[test]
fn every_pair_of_the_parity_pack_scores_as_the_official_class_does_over_http_and_over_the_topics() {
    let Some(pack) = Pack::find() else { return };
    let bundle = pack.bundle();
    let world = world();
    for (states, tolerance) in [("f32", TOLERANCE), ("f16", TOLERANCE_F16)] {
        world.points.wipe();
        every_pair_scores_within(&pack, &bundle, &world, states, tolerance);
    }
}

fn every_pair_scores_within(pack: &Pack, bundle: &Path, world: &World, states: &str, tolerance: f32) {
    let (mut scenario, topics) = with_topics(Scenario::new(world, "parity"));
    bundle.clone_into(&mut scenario.config.bundle);
    let cache = format!("[rescore.cache]\nstates = \"{states}\"\n");
    scenario.config.extra.push_str(&cache);
    let mut daemon = Daemon::start(&scenario.config);
    let candidates = pack.candidates();
    let requests: Vec<Value> =
        pack.texts.iter().map(|text| json!({"context": {"text": text}, "candidates": candidates})).collect();
    // Some files hold the same pixels, and the cache knows.
    let distinct = candidates.iter().map(Value::to_string).collect::<HashSet<_>>().len();
    // Twice: encoded, and from the cache.
    for round in 0..2 {
        for (text, request) in requests.iter().enumerate() {
            let (status, answer) = daemon.post("/v1/rescore", request);
            assert_eq!(status, 200, "{answer}");
            let found: RescoreResponse = serde_json::from_value(answer).expect("an answer");
            let encoded = match (round, text) {
                (0, 0) => 1 + distinct,
                (0, _) => 1,
                _ => 0,
            };
            assert_eq!(found.cache.misses as usize, encoded, "{}", pack.texts[text]);
            pack.assert_official(text, &found, tolerance);
        }
    }
    let records = requests.iter().enumerate().map(|(text, body)| request(&text.to_string(), body, &[])).collect();
    scenario.world.client.produce(&topics.changes, records);
    let replies = wait_replies(&scenario, &topics.results, requests.len() as u64, &mut daemon);
    let mut answered = HashSet::new();
    for reply in &replies {
        assert_eq!(header(reply, HEADER_STATUS), "200", "{}", body(reply));
        let text: usize = header(reply, HEADER_CORRELATION_ID).parse().expect("the text's number");
        let found: RescoreResponse = serde_json::from_value(body(reply)).expect("an answer");
        pack.assert_official(text, &found, tolerance);
        answered.insert(text);
    }
    assert_eq!(answered.len(), pack.texts.len());
    assert!(daemon.terminate().success());
}
