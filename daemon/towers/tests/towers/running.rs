//! The towers over a bundle of a few nodes, on the real ONNX Runtime.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::common::tiny_bundle::{self, SIZE, picture};
use astromech_schemas::manifest::Precision;
use astromech_towers::graph::{GraphOptions, TextGraph};
use astromech_towers::{
    BatchLimits, BatchObserver, Bundle, Priority, Provider, Tower, Towers, TowersConfig, TowersError, init_runtime,
};

/// A bundle in a folder of the test's own, taken away at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        init_runtime(None).unwrap();
        tiny_bundle::write(&dir);
        Self(dir)
    }

    fn start(&self, config: &TowersConfig) -> Result<Towers, TowersError> {
        Towers::start(&Bundle::open(&self.0)?, config)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn assert_close(a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len());
    assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5), "{a:?} is not {b:?}");
}

#[tokio::test]
async fn an_embedding_does_not_depend_on_the_batch_it_was_in() {
    let folder = Folder::new("batches");
    // A wait that only full batches end.
    let limits = BatchLimits { batch_max: 6, queue_max: 6, wait_us_max: 3_600_000_000 };
    let batched = folder.start(&TowersConfig { text: limits, image: limits, ..TowersConfig::default() }).unwrap();
    let alone = BatchLimits { batch_max: 1, ..limits };
    let alone = folder.start(&TowersConfig { text: alone, image: alone, ..TowersConfig::default() }).unwrap();
    let texts = ["红色的汽车", "乔丹", "", "红", "车车车车车车车车车", "的的的的的的的的的的的的的的的的的的的的的的"];
    let tasks: Vec<_> = texts
        .map(|text| {
            let towers = batched.clone();
            tokio::spawn(async move { towers.embed_text_states(towers.prepare_text(text)).await })
        })
        .into_iter()
        .collect();
    for (text, task) in texts.into_iter().zip(tasks) {
        let found = task.await.unwrap().unwrap();
        let expected = alone.embed_text_states(alone.prepare_text(text)).await.unwrap();
        assert_close(&found.embedding, &expected.embedding);
        assert_eq!(found.states, expected.states);
        assert_eq!(found.states.tokens, alone.prepare_text(text).ids().len());
        assert!((found.embedding.iter().map(|number| number * number).sum::<f32>() - 1.0).abs() < 1e-5);
    }
    let tasks: Vec<_> = (0..6_u8)
        .map(|shade| {
            let towers = batched.clone();
            tokio::spawn(async move { towers.embed_image(picture([shade, 200, shade * 40])).await })
        })
        .collect();
    for (shade, task) in (0..6_u8).zip(tasks) {
        let expected = alone.embed_image(picture([shade, 200, shade * 40])).await.unwrap();
        assert_close(&task.await.unwrap().unwrap().embedding, &expected.embedding);
    }
    assert_eq!(batched.counters().text.batches(), 1);
    assert_eq!(batched.counters().image.items(), 6);
    assert_eq!(batched.queue_depths().image, 0);
}

#[test]
fn a_text_padded_to_the_full_length_has_the_same_vector_as_at_its_own() {
    let folder = Folder::new("padding");
    let bundle = Bundle::open(&folder.0).unwrap();
    let options = GraphOptions { provider: Provider::Cpu, precision: Precision::F32, threads: 1 };
    let mut graph = TextGraph::open(&bundle, options).unwrap();
    let text = bundle.tokenizer().unwrap().prepare("红色的汽车");
    let own = graph.run(&[&text], true).unwrap();
    let padded = graph.run_padded(&[&text], 16, true).unwrap();
    assert_close(&own[0].embedding, &padded[0].embedding);
    assert_eq!(own[0].states, padded[0].states);
}

#[tokio::test]
async fn match_scores_come_in_the_callers_order_whatever_the_chunks() {
    let folder = Folder::new("pairs");
    let config =
        |batch_max| TowersConfig { cross: BatchLimits { batch_max, queue_max: 2, wait_us_max: 0 }, ..TowersConfig::default() };
    let (whole, chunked) = (folder.start(&config(64)).unwrap(), folder.start(&config(3)).unwrap());
    let (mut images, mut texts) = (Vec::new(), Vec::new());
    for shade in [0, 100, 250] {
        images.push(whole.embed_image_states(picture([shade, 100, 10])).await.unwrap().states);
    }
    for text in ["红色的汽车", "", "乔丹乔丹", "车"] {
        texts.push(whole.embed_text_states(whole.prepare_text(text)).await.unwrap().states);
    }
    let pairs = vec![(2, 0), (0, 3), (1, 1), (0, 0), (2, 2), (2, 0), (1, 3), (0, 1)];
    let expected = whole.match_pairs(images.clone(), texts.clone(), pairs.clone()).await.unwrap();
    let found = chunked.match_pairs(images.clone(), texts.clone(), pairs.clone()).await.unwrap();
    for (found, expected) in found.iter().zip(&expected) {
        assert_close(
            &[found.itm_text, found.itm_image, found.score()],
            &[expected.itm_text, expected.itm_image, expected.score()],
        );
    }
    assert_eq!((found.len(), expected[0]), (pairs.len(), expected[5]));
    assert!((expected[0].itm_image - expected[1].itm_image).abs() > 1e-3, "the pictures differ");
    assert_eq!(chunked.counters().cross.items(), 3);
    assert_eq!(whole.match_pairs(images.clone(), texts.clone(), Vec::new()).await.unwrap(), []);

    let error = whole.match_pairs(images.clone(), texts.clone(), vec![(0, 4)]).await.unwrap_err();
    assert_eq!(error.to_string(), "pairs: (0, 4) among 3 images and 4 texts");
    let mut other = (*images[0]).clone();
    other.width += 1;
    let error = whole.match_pairs(vec![Arc::new(other)], texts.clone(), vec![(0, 0)]).await.unwrap_err();
    assert_eq!(error.to_string(), "images: states [5, 4]; the model's are [5, 3]");
    let without = folder.start(&TowersConfig { load_cross: false, ..TowersConfig::default() }).unwrap();
    assert!(matches!(without.match_pairs(images, texts, pairs).await, Err(TowersError::CrossNotLoaded)));
}

#[tokio::test]
async fn small_requests_of_several_callers_are_one_batch_with_the_scores_they_have_alone() {
    let folder = Folder::new("merged");
    // A wait that only a full batch of 6 pairs ends.
    let limits = BatchLimits { batch_max: 6, queue_max: 8, wait_us_max: 3_600_000_000 };
    let merged = folder.start(&TowersConfig { cross: limits, ..TowersConfig::default() }).unwrap();
    let alone = folder.start(&TowersConfig::default()).unwrap();
    let (mut images, mut texts) = (Vec::new(), Vec::new());
    for shade in [0, 100, 250] {
        images.push(alone.embed_image_states(picture([shade, 100, 10])).await.unwrap().states);
    }
    for text in ["红色的汽车", "", "乔丹乔丹"] {
        texts.push(alone.embed_text_states(alone.prepare_text(text)).await.unwrap().states);
    }
    // The second picture and the first text are the first two callers'.
    let first = (images[..2].to_vec(), texts[..1].to_vec(), vec![(1, 0), (0, 0)]);
    let second = (images[1..].to_vec(), texts.clone(), vec![(0, 0), (1, 2), (1, 1)]);
    let third = (images[..1].to_vec(), texts[2..].to_vec(), vec![(0, 0)]);
    let ask = |towers: Towers, (images, texts, pairs): (Vec<_>, Vec<_>, Vec<_>)| async move {
        towers.match_pairs(images, texts, pairs).await.unwrap()
    };
    let together = tokio::join!(
        ask(merged.clone(), first.clone()),
        ask(merged.live(), second.clone()),
        ask(merged.until(Instant::now() + Duration::from_hours(1)), third.clone()),
    );
    for (found, request) in [(together.0, first), (together.1, second), (together.2, third)] {
        let pairs = request.2.len();
        let expected = ask(alone.clone(), request).await;
        assert_eq!((found.len(), expected.len()), (pairs, pairs));
        for (found, expected) in found.iter().zip(&expected) {
            assert_close(&[found.itm_text, found.itm_image], &[expected.itm_text, expected.itm_image]);
        }
    }
    assert_eq!((merged.counters().cross.batches(), merged.counters().cross.items()), (1, 3));
}

#[tokio::test]
async fn a_handle_past_its_deadline_runs_nothing_and_its_clones_share_queues_and_urgency() {
    let folder = Folder::new("deadline");
    let towers = folder.start(&TowersConfig::default()).unwrap();
    assert_eq!((towers.priority(), towers.live().clone().priority()), (Priority::Indexing, Priority::Live));
    let image = towers.embed_image_states(picture([1, 2, 3])).await.unwrap().states;
    let text = towers.live().embed_text_states(towers.prepare_text("乔丹")).await.unwrap().states;
    let late = towers.live().until(Instant::now());
    let errors = [
        late.embed_image(picture([1, 2, 3])).await.unwrap_err(),
        late.embed_text(late.prepare_text("乔丹")).await.unwrap_err(),
        late.match_pairs(vec![image], vec![text], vec![(0, 0)]).await.unwrap_err(),
    ];
    for (error, tower) in errors.iter().zip([Tower::Image, Tower::Text, Tower::Cross]) {
        assert!(matches!(error, TowersError::Deadline { tower: named } if *named == tower.as_str()), "{error}");
        assert_eq!(towers.counters().of(tower).expired(), 1);
    }
    let counters = towers.counters();
    assert_eq!((counters.image.items(), counters.text.items(), counters.cross.items()), (1, 1, 0));
    let in_time = towers.live().until(Instant::now() + Duration::from_hours(1));
    in_time.embed_text(towers.prepare_text("乔丹")).await.unwrap();
}

#[tokio::test]
async fn chunks_that_have_not_begun_at_the_deadline_are_dropped() {
    /// Tells of the first batch and holds the worker until it is let go.
    struct Hold(Mutex<(Option<Sender<()>>, Receiver<()>)>);
    impl BatchObserver for Hold {
        fn batch(&self, _tower: Tower, _items: usize, _busy: Duration) {
            let mut held = self.0.lock().unwrap();
            if let Some(first) = held.0.take() {
                first.send(()).unwrap();
                let _ = held.1.recv();
            }
        }
    }
    let folder = Folder::new("chunks");
    let limits = BatchLimits { batch_max: 1, queue_max: 8, wait_us_max: 0 };
    let towers = folder.start(&TowersConfig { cross: limits, ..TowersConfig::default() }).unwrap();
    let image = towers.embed_image_states(picture([1, 2, 3])).await.unwrap().states;
    let text = towers.embed_text_states(towers.prepare_text("乔丹")).await.unwrap().states;
    let (begun, first) = channel();
    let (go, held) = channel();
    towers.observe(Arc::new(Hold(Mutex::new((Some(begun), held)))));
    let running = tokio::spawn({
        let (towers, image, text) = (towers.clone(), Arc::clone(&image), Arc::clone(&text));
        async move { towers.match_pairs(vec![image], vec![text], vec![(0, 0)]).await }
    });
    tokio::task::spawn_blocking(move || first.recv_timeout(Duration::from_secs(20)).unwrap()).await.unwrap();
    let late = towers.until(Instant::now() + Duration::from_millis(50));
    let error = late.match_pairs(vec![image.clone()], vec![text.clone()], vec![(0, 0); 5]).await.unwrap_err();
    assert!(matches!(error, TowersError::Deadline { tower: "cross" }), "{error}");
    go.send(()).unwrap();
    running.await.unwrap().unwrap();
    // It runs after whatever is left of the five, so that the counts below are the last.
    towers.match_pairs(vec![image], vec![text], vec![(0, 0)]).await.unwrap();
    assert_eq!(towers.counters().cross.items(), 2);
}

#[tokio::test]
async fn a_picture_of_another_size_is_refused_before_it_joins_a_batch() {
    let folder = Folder::new("size");
    let towers = folder.start(&TowersConfig::default()).unwrap();
    let other = astromech_towers::PreparedImage::from_rgb(SIZE + 1, vec![0; 9 * 9 * 3]).unwrap();
    let error = towers.embed_image(other).await.unwrap_err();
    assert_eq!(error.to_string(), "image: a picture of 9 pixels a side; the model takes 8");
}

#[tokio::test]
async fn an_observer_hears_of_every_batch() {
    struct Heard(Mutex<Vec<(Tower, usize)>>);
    impl BatchObserver for Heard {
        fn batch(&self, tower: Tower, items: usize, _busy: Duration) {
            self.0.lock().unwrap().push((tower, items));
        }
    }
    let folder = Folder::new("observer");
    let towers = folder.start(&TowersConfig { workers: 2, threads: 2, ..TowersConfig::default() }).unwrap();
    let heard = Arc::new(Heard(Mutex::default()));
    towers.observe(Arc::clone(&heard) as Arc<dyn BatchObserver>);
    towers.embed_image(picture([1, 2, 3])).await.unwrap();
    towers.embed_text(towers.prepare_text("乔丹")).await.unwrap();
    assert_eq!(*heard.0.lock().unwrap(), [(Tower::Image, 1), (Tower::Text, 1)]);
}

#[test]
fn a_changed_file_is_refused_with_what_was_expected_and_what_was_found() {
    let folder = Folder::new("changed");
    let path = folder.0.join("text.onnx");
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let error = Bundle::open(&folder.0).unwrap_err();
    assert!(matches!(&error, TowersError::Checksum { path: found, .. } if *found == path), "{error}");
    bytes.pop();
    std::fs::write(&path, &bytes).unwrap();
    let error = Bundle::open(&folder.0).unwrap_err().to_string();
    assert!(error.contains("text.onnx") && error.contains(&format!("expected {}", last + 1)), "{error}");
    std::fs::remove_file(&path).unwrap();
    assert!(Bundle::open(&folder.0).unwrap_err().to_string().contains("text.onnx"));
}

/// Starts the tiny bundle with number `index` of the golden tensor `name` altered.
fn start_with_altered_golden(name: &str, index: usize, alter: impl FnOnce(f32) -> f32) -> TowersError {
    let folder = Folder::new(&format!("golden-{name}"));
    let path = folder.0.join("golden.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let meta: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let offset = 8 + header + meta[name]["data_offsets"][0].as_u64().unwrap() as usize + 4 * index;
    let number = f32::from_le_bytes(bytes[offset..offset + 4].try_into().unwrap());
    bytes[offset..offset + 4].copy_from_slice(&alter(number).to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    tiny_bundle::write_manifest(&folder.0);
    folder.start(&TowersConfig::default()).unwrap_err()
}

#[test]
fn golden_vectors_that_do_not_come_out_again_stop_the_start() {
    // The second sample's first number, negated.
    let error = start_with_altered_golden("text_embedding", tiny_bundle::DIM, |number| -number);
    assert!(matches!(error, TowersError::Golden { what: "cosine of the text embedding", sample: 1, .. }), "{error}");
}

#[test]
fn golden_match_scores_that_do_not_come_out_again_stop_the_start() {
    for (name, difference) in [("itm_text", "difference of itm_text"), ("itm_image", "difference of itm_image")] {
        let error = start_with_altered_golden(name, 1, |score| score + 0.002);
        assert!(matches!(error, TowersError::Golden { what, sample: 1, .. } if what == difference), "{error}");
    }
}

/// One field of a protobuf message that holds bytes.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(content.len()).unwrap()], content].concat()
}

/// A graph of one constant whose four numbers lie in the file at `location`.
fn graph_with_weights_at(location: &str) -> Vec<u8> {
    let varint = |number: u8, value: u8| vec![number << 3, value];
    let place = [field(1, b"location"), field(2, location.as_bytes())].concat();
    // Four numbers of type float, called w, in another file.
    let weights = [varint(1, 4), varint(2, 1), field(8, b"w"), field(13, &place), varint(14, 1)].concat();
    let shape = field(1, &varint(1, 4));
    let tensor = field(1, &[varint(1, 1), field(2, &shape)].concat());
    let output = [field(1, b"y"), field(2, &tensor)].concat();
    let node = [field(1, b"w"), field(2, b"y"), field(4, b"Identity")].concat();
    let graph = [field(1, &node), field(2, b"g"), field(5, &weights), field(12, &output)].concat();
    [varint(1, 10), field(7, &graph), field(8, &varint(2, 20))].concat()
}

#[test]
fn a_graph_whose_weights_lie_outside_the_bundle_is_refused() {
    let folder = Folder::new("outside");
    let outside = folder.0.with_file_name(format!("secret-{}", std::process::id()));
    let name = outside.file_name().unwrap().to_str().unwrap();
    std::fs::write(&outside, [0; 16]).unwrap();
    std::fs::write(folder.0.join("inside"), [0; 16]).unwrap();
    let refusal = |location: &str| {
        std::fs::write(folder.0.join("text.onnx"), graph_with_weights_at(location)).unwrap();
        tiny_bundle::write_manifest(&folder.0);
        folder.start(&TowersConfig::default()).unwrap_err().to_string()
    };
    // It is read, and found to be no tower.
    assert!(refusal("inside").contains("lacks the input or output"), "{}", refusal("inside"));
    for location in [format!("../{name}"), outside.to_str().unwrap().to_owned()] {
        let refused = refusal(&location);
        assert!(
            !refused.contains("lacks the input or output") && refused.contains("External data path"),
            "{location}: {refused}"
        );
    }
    std::fs::remove_file(outside).unwrap();
}

#[test]
fn cuda_asked_for_and_absent_is_an_error_and_no_step_down() {
    let folder = Folder::new("cuda");
    match folder.start(&TowersConfig { provider: Provider::Cuda { device_id: 0 }, ..TowersConfig::default() }) {
        Err(error @ TowersError::ProviderUnavailable { .. }) => assert!(error.to_string().contains("cuda:0"), "{error}"),
        Err(error) => panic!("{error}"),
        // On a machine that has it, it is what was asked for.
        Ok(towers) => assert_eq!(towers.provider_in_use(), "cuda:0"),
    }
}

#[test]
fn a_precision_that_the_bundle_lacks_is_named_beside_those_it_has() {
    let folder = Folder::new("precision");
    let error = folder.start(&TowersConfig { precision: Some(Precision::Int8), ..TowersConfig::default() }).unwrap_err();
    assert!(error.to_string().ends_with("precision int8 is not in the bundle, which has f32"), "{error}");
    let towers = folder.start(&TowersConfig::default()).unwrap();
    assert_eq!((towers.precision(), towers.provider_in_use()), (Precision::F32, "cpu"));
}
