//! The parity pack through HTTP: what the authors' own class answered (../shared/parity), all pairs of its texts and pictures.
//!
//! It needs a bundle of the pack's weights: `trainer import` and `trainer export --precisions f32`, its folder in
//! `$ASTROMECH_PARITY_BUNDLE`. Without pack or bundle the test says so and passes.

use std::collections::{HashMap, HashSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use astromech::api::Limits;
use astromech_schemas::rescore::RescoreResponse;
use serde_json::{Value, json};

use crate::support::{Server, base64, repository, skip, start_bundle};

/// The pack's bar for match scores and cosines from the given pixels.
const TOLERANCE: f32 = 1e-4;
/// With states in 16 bits, as the reference configuration says.
const TOLERANCE_F16: f32 = 1e-3;

/// A float array of an `.npz`, a ZIP of `.npy` files of format 1.0.
fn floats(file: &Path) -> HashMap<String, Vec<f32>> {
    let mut archive = zip::ZipArchive::new(std::fs::File::open(file).unwrap()).unwrap();
    let mut arrays = HashMap::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).unwrap();
        let name = entry.name().trim_end_matches(".npy").to_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        if std::str::from_utf8(&bytes[10..start]).unwrap().contains("'<f4'") {
            let numbers = bytes[start..].as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            arrays.insert(name, numbers);
        }
    }
    arrays
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pair_of_the_parity_pack_scores_as_the_official_class_does() {
    let pack = std::env::var_os("ASTROMECH_SHARED").map_or_else(|| repository().join("../shared"), PathBuf::from).join("parity");
    let bundle = std::env::var_os("ASTROMECH_PARITY_BUNDLE").map(PathBuf::from);
    let (true, Some(bundle)) = (pack.is_dir(), bundle) else {
        skip("no parity pack beside the repository, or no bundle of it in ASTROMECH_PARITY_BUNDLE");
        return;
    };
    for (states, tolerance) in [("f32", TOLERANCE), ("f16", TOLERANCE_F16)] {
        let settings = format!("[rescore]\ndeadline_ms = 10000\n[rescore.cache]\nstates = \"{states}\"\n");
        let server = Server::start_configured(start_bundle(&bundle), Limits::default(), &settings).await;
        every_pair_scores_within(tolerance, &server, &pack).await;
    }
}

async fn every_pair_scores_within(tolerance: f32, server: &Server, pack: &Path) {
    let inputs: Value = serde_json::from_slice(&std::fs::read(pack.join("inputs.json")).unwrap()).unwrap();
    let list = |field: &str| -> Vec<String> {
        inputs[field].as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect()
    };
    let (texts, images) = (list("texts"), list("images"));
    let expected = floats(&pack.join("expected.npz"));
    let candidates: Vec<Value> = images
        .iter()
        .map(|name| json!({"image": base64(&std::fs::read(pack.join("pixels").join(format!("{name}.png"))).unwrap())}))
        .collect();
    // Some files hold the same pixels, and the cache knows.
    let distinct = candidates.iter().map(Value::to_string).collect::<HashSet<_>>().len();
    // Twice: encoded, and from the cache.
    for round in 0..2 {
        for (t, text) in texts.iter().enumerate() {
            let response = server.post("/v1/rescore", &json!({"context": {"text": text}, "candidates": candidates})).await;
            let found: RescoreResponse = response.json().await.unwrap();
            assert_eq!(found.scored as usize, images.len(), "{text}: {:?}", found.problems);
            let encoded = match (round, t) {
                (0, 0) => 1 + distinct,
                (0, _) => 1,
                _ => 0,
            };
            assert_eq!(found.cache.misses as usize, encoded, "{text}");
            for result in &found.results {
                let place = result.index as usize * texts.len() + t;
                let scores = result.scores;
                let pairs = [
                    ("itm_text", scores.itm_text),
                    ("itm_image", scores.itm_image),
                    ("match", scores.itm),
                    ("cosine", scores.itc),
                ];
                for (name, found) in pairs {
                    let official = expected[name][place];
                    assert!(
                        (found - official).abs() <= tolerance,
                        "{name} of `{text}` and {}: {found}, official {official}",
                        images[result.index as usize]
                    );
                }
                let blend = expected["match"][place] + expected["cosine"][place];
                assert!((scores.score - blend).abs() <= 2.0 * tolerance, "{text}");
            }
        }
    }
}
