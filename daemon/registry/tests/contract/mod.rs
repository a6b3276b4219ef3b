//! What every registry keeps, whatever store it is on. The folder's tests and those against a real S3 server run the same cases: a
//! [`Place`] is a registry and the folder in which the store keeps its objects, which a test damages behind its back.

use std::path::{Path, PathBuf};

use astromech_registry::{Registry, RegistryError, RegistryOptions, Signer, Trust, generate_key};
use astromech_schemas::Similarity;
use astromech_schemas::manifest::{Architecture, BundleFile, ImageInput, Precision, StackSize, TextInput, Training, hex};
use astromech_schemas::{Manifest, Release};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

/// Bytes of the large file: more than one request of an upload or a download.
const LARGE: usize = (16 << 20) + 12_345;

/// Hands every case of the contract to the macro `$tests`, which makes a test of each: a case that is missing here is dead code and
/// does not compile.
macro_rules! for_each_case {
    ($tests:ident) => {
        $tests! {
            a_published_bundle_comes_back_whole_and_publishing_it_again_changes_nothing
            a_damaged_bundle_is_refused_with_its_reason_and_mended_by_publishing_it_again
            garbage_documents_are_named_and_hide_no_other_release
            only_what_a_trusted_key_signed_is_fetched_where_a_key_is_required
            retention_keeps_the_newest_and_the_current_one_and_the_pointer_goes_back
            of_publishers_at_the_same_time_one_wins_and_the_others_are_told
            a_publisher_stopped_at_any_step_leaves_the_old_pointer_or_the_new_bundle_whole
        }
    };
}
pub(crate) use for_each_case;

/// One registry under test.
pub struct Place {
    /// How it is opened.
    pub options: RegistryOptions,
    /// The folder that holds `bundles/`, `releases/` and `current.json`.
    pub root: PathBuf,
}

impl Place {
    fn open(&self) -> Registry {
        Registry::open(&self.options).unwrap()
    }

    fn object(&self, release: &Release, name: &str) -> PathBuf {
        self.root.join("bundles").join(release.fingerprint.as_str()).join(name)
    }

    fn document(&self, release: &Release) -> PathBuf {
        self.root.join("releases").join(format!("{}.json", release.fingerprint))
    }
}

/// Writes a bundle whose files differ by `seed`. The registry looks at no graph.
pub fn bundle(dir: &Path, seed: u8, large: usize) -> PathBuf {
    std::fs::create_dir_all(dir).unwrap();
    let image: Vec<u8> = (0..large).map(|at| (at / 251) as u8 ^ seed).collect();
    let contents: [(&str, Vec<u8>); 5] = [
        ("MODEL_CARD.md", b"# tiny\n".to_vec()),
        ("empty.bin", Vec::new()),
        ("image.onnx", image),
        ("text.onnx", vec![seed; 2000]),
        ("vocab.txt", b"[PAD]\n".to_vec()),
    ];
    let files: Vec<BundleFile> = contents
        .iter()
        .map(|(name, bytes)| {
            std::fs::write(dir.join(name), bytes).unwrap();
            BundleFile { name: (*name).to_owned(), bytes: bytes.len() as u64, sha256: hex(&Sha256::digest(bytes)) }
        })
        .collect();
    let stack = StackSize { width: 1, layers: 1, heads: 1, mlp: 1 };
    let manifest = Manifest {
        schema: 1,
        name: format!("tiny-{seed}"),
        fingerprint: Manifest::compute_fingerprint(&files),
        parent: None,
        architecture: Architecture { vision: stack, patch: 1, text: stack, cross: stack, parameters: 0 },
        embedding_dim: 3,
        similarity: Similarity::Cosine,
        precisions: vec![Precision::F32],
        opset: 20,
        image: ImageInput { size: 8, resize: "squash".to_owned(), filter: "bicubic".to_owned(), mean: [0.5; 3], std: [0.5; 3] },
        text: TextInput { max_tokens: 16, vocabulary_sha256: files[4].sha256.clone() },
        training: Training::default(),
        blend: None,
        files,
    };
    std::fs::write(dir.join("manifest.json"), serde_json::to_vec_pretty(&manifest).unwrap()).unwrap();
    dir.to_owned()
}

fn scratch() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn key(dir: &Path, name: &str) -> (Signer, Trust) {
    let path = dir.join(name);
    let (public, line) = generate_key(&path, None).unwrap();
    assert_eq!(std::fs::read_to_string(public).unwrap().lines().last(), Some(line.as_str()));
    (Signer::from_file(&path, None).unwrap(), Trust::keys(&[line]).unwrap())
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| !name.starts_with(".fetch"));
    names.sort();
    names
}

/// Published, a bundle is current, is listed and comes back byte by byte; published again, nothing changes.
pub async fn a_published_bundle_comes_back_whole_and_publishing_it_again_changes_nothing(place: &Place) {
    let scratch = scratch();
    let registry = place.open();
    assert_eq!(registry.current().await.unwrap(), None);
    assert_eq!(registry.list().await.unwrap(), []);
    let source = bundle(&scratch.path().join("a"), 1, LARGE);
    let release = registry.publish(&source, None).await.unwrap();
    assert_eq!(registry.current().await.unwrap(), Some(release.clone()));
    assert_eq!(registry.publish(&source, None).await.unwrap(), release);
    assert_eq!(registry.list().await.unwrap(), std::slice::from_ref(&release));

    let into = scratch.path().join("fetched");
    let fetched = registry.fetch(&release, &into, &Trust::anyone()).await.unwrap();
    assert_eq!(fetched, into.join(release.fingerprint.as_str()));
    assert_eq!(names(&fetched), names(&source));
    for name in names(&source) {
        assert!(std::fs::read(fetched.join(&name)).unwrap() == std::fs::read(source.join(&name)).unwrap(), "{name} differs");
    }
    // What is whole here is not asked of the store again; what is damaged here is fetched anew.
    std::fs::rename(place.object(&release, "text.onnx"), scratch.path().join("aside")).unwrap();
    assert_eq!(registry.fetch(&release, &into, &Trust::anyone()).await.unwrap(), fetched);
    std::fs::rename(scratch.path().join("aside"), place.object(&release, "text.onnx")).unwrap();
    std::fs::write(fetched.join("text.onnx"), b"damaged").unwrap();
    registry.fetch(&release, &into, &Trust::anyone()).await.unwrap();
    assert_eq!(std::fs::read(fetched.join("text.onnx")).unwrap(), vec![1; 2000]);
    assert_eq!(names(&into), [release.fingerprint.to_string()]);
}

/// The file, what the refusal must say, what is done to the file.
type Damage<'a> = (&'a str, &'a str, Box<dyn Fn(&Path) + 'a>);

/// Damage in the store: which error, and that nothing appears. Publishing again mends it.
pub async fn a_damaged_bundle_is_refused_with_its_reason_and_mended_by_publishing_it_again(place: &Place) {
    let scratch = scratch();
    let registry = place.open();
    let source = bundle(&scratch.path().join("a"), 1, 100);
    let other = bundle(&scratch.path().join("b"), 2, 100);
    let release = registry.publish(&source, None).await.unwrap();
    let into = scratch.path().join("fetched");
    let cases: [Damage<'_>; 6] = [
        ("image.onnx", "expected sha-256", Box::new(flip)),
        ("text.onnx", "is missing: the bundle is half-written", Box::new(|path| std::fs::remove_file(path).unwrap())),
        (
            "text.onnx",
            "expected 2000 bytes by the manifest, found 1999",
            Box::new(|path| std::fs::write(path, [1; 1999]).unwrap()),
        ),
        ("manifest.json", "expected sha-256", Box::new(flip)),
        ("manifest.json", "is missing", Box::new(|path| std::fs::remove_file(path).unwrap())),
        (
            "manifest.json",
            "expected sha-256",
            Box::new(|path| std::fs::write(path, std::fs::read(other.join("manifest.json")).unwrap()).unwrap()),
        ),
    ];
    for (name, reason, damage) in cases {
        damage(&place.object(&release, name));
        let error = registry.fetch(&release, &into, &Trust::anyone()).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(reason) && text.contains(name) && text.contains("publish"), "{text}");
        assert!(!error.is_transient(), "{text}");
        assert_eq!(names(&into), Vec::<String>::new(), "after: {text}");
        assert_eq!(registry.publish(&source, None).await.unwrap(), release);
        std::fs::remove_dir_all(registry.fetch(&release, &into, &Trust::anyone()).await.unwrap()).unwrap();
    }
    let big = RegistryOptions {
        limits: astromech_registry::RegistryLimits { bundle_bytes_max: 2106, ..place.options.limits.clone() },
        ..place.options.clone()
    };
    let error = Registry::open(&big).unwrap().fetch(&release, &into, &Trust::anyone()).await.unwrap_err();
    assert!(error.to_string().contains("bundle_bytes is 2113, the limit is 2106"), "{error}");
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[50] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// Garbage in the registry's own documents.
pub async fn garbage_documents_are_named_and_hide_no_other_release(place: &Place) {
    let scratch = scratch();
    let registry = place.open();
    let first = registry.publish(&bundle(&scratch.path().join("a"), 1, 10), None).await.unwrap();
    let source = bundle(&scratch.path().join("b"), 2, 10);
    let second = registry.publish(&source, None).await.unwrap();
    std::fs::write(place.document(&second), b"{\"schema\": 1").unwrap();
    let error = registry.current().await.unwrap_err();
    assert!(matches!(&error, RegistryError::Document { path, .. } if path.contains(second.fingerprint.as_str())), "{error}");
    assert_eq!(registry.list().await.unwrap(), std::slice::from_ref(&first));
    let mended = registry.publish(&source, None).await.unwrap();
    assert_eq!(registry.current().await.unwrap(), Some(mended));

    std::fs::remove_file(place.document(&second)).unwrap();
    let error = registry.current().await.unwrap_err();
    assert!(matches!(&error, RegistryError::NoRelease { fingerprint } if *fingerprint == second.fingerprint), "{error}");
    assert!(matches!(registry.point(&second.fingerprint).await, Err(RegistryError::NoRelease { .. })));
    registry.point(&first.fingerprint).await.unwrap();
    assert_eq!(registry.current().await.unwrap(), Some(first));

    std::fs::write(place.root.join("current.json"), b"garbage").unwrap();
    let error = registry.current().await.unwrap_err();
    assert!(matches!(&error, RegistryError::Document { path, .. } if path.ends_with("current.json")), "{error}");
}

/// Keys.
pub async fn only_what_a_trusted_key_signed_is_fetched_where_a_key_is_required(place: &Place) {
    let scratch = scratch();
    let registry = place.open();
    let ((ours, trust), (theirs, other)) = (key(scratch.path(), "ours"), key(scratch.path(), "theirs"));
    let source = bundle(&scratch.path().join("a"), 1, 10);
    let into = scratch.path().join("fetched");

    let unsigned = registry.publish(&source, None).await.unwrap();
    let error = registry.fetch(&unsigned, &into, &trust).await.unwrap_err();
    assert!(matches!(error, RegistryError::Unsigned { .. }), "{error}");

    let stranger = registry.publish(&source, Some(&theirs)).await.unwrap();
    let error = registry.fetch(&stranger, &into, &trust).await.unwrap_err();
    let RegistryError::WrongKey { expected, found, .. } = &error else { panic!("{error}") };
    assert_ne!(expected, found);

    let signed = registry.publish(&source, Some(&ours)).await.unwrap();
    assert_eq!(signed.published_at, unsigned.published_at);
    // A later publication without the key keeps the signature.
    assert_eq!(registry.publish(&source, None).await.unwrap(), signed);
    for (forged, what) in [
        (Release { published_at: "2000-01-01T00:00:00Z".to_owned(), ..signed.clone() }, "time"),
        (Release { manifest_sha256: "0".repeat(64), ..signed.clone() }, "manifest"),
        (Release { signature: Some("garbage".to_owned()), ..signed.clone() }, "signature"),
    ] {
        let error = registry.fetch(&forged, &into, &trust).await.unwrap_err();
        assert!(matches!(error, RegistryError::Signature { .. }), "{what}: {error}");
    }
    assert!(!into.exists(), "refused before anything is written");
    assert!(registry.fetch(&signed, &into, &other).await.is_err());
    registry.fetch(&signed, &into, &trust).await.unwrap();
}

/// Retention and the way back.
pub async fn retention_keeps_the_newest_and_the_current_one_and_the_pointer_goes_back(place: &Place) {
    let scratch = scratch();
    let registry = place.open();
    let mut releases = Vec::new();
    for seed in 1..=4 {
        let source = bundle(&scratch.path().join(seed.to_string()), seed, 10);
        let release = registry.publish(&source, None).await.unwrap();
        // The time has milliseconds; the order of two in the same one is by name.
        releases.push(release);
        let mut now = chrono::Utc::now().timestamp_millis();
        let then = now;
        while now == then {
            tokio::task::yield_now().await;
            now = chrono::Utc::now().timestamp_millis();
        }
    }
    registry.point(&releases[0].fingerprint).await.unwrap();
    registry.point(&releases[0].fingerprint).await.unwrap();
    let removed = registry.retain(2).await.unwrap();
    assert_eq!(removed, [releases[1].clone()]);
    let left: Vec<_> = registry.list().await.unwrap();
    assert_eq!(left, [releases[3].clone(), releases[2].clone(), releases[0].clone()]);
    assert!(!place.object(&releases[1], "text.onnx").exists());
    assert_eq!(registry.current().await.unwrap(), Some(releases[0].clone()));
    registry.fetch(&releases[0], &scratch.path().join("fetched"), &Trust::anyone()).await.unwrap();
    std::fs::remove_file(place.object(&releases[2], "text.onnx")).unwrap();
    assert!(matches!(registry.point(&releases[2].fingerprint).await, Err(RegistryError::Missing { .. })));
    assert_eq!(registry.retain(0).await.unwrap().len(), 2);
    assert_eq!(registry.list().await.unwrap(), [releases[0].clone()]);
}

/// Publishers at the same time.
pub async fn of_publishers_at_the_same_time_one_wins_and_the_others_are_told(place: &Place) {
    let scratch = scratch();
    let sources: Vec<_> = (1..=6).map(|seed| bundle(&scratch.path().join(seed.to_string()), seed, 1000)).collect();
    let registry = place.open();
    registry.publish(&bundle(&scratch.path().join("first"), 100, 10), None).await.unwrap();
    let tasks: Vec<_> = sources
        .iter()
        .cloned()
        .map(|source| {
            let registry = registry.clone();
            tokio::spawn(async move { registry.publish(&source, None).await })
        })
        .collect();
    let mut won = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            Ok(release) => won.push(release.fingerprint),
            Err(error @ RegistryError::PointerMoved { .. }) => assert!(error.is_transient()),
            Err(error) => panic!("{error}"),
        }
    }
    let current = registry.current().await.unwrap().unwrap();
    assert!(won.contains(&current.fingerprint), "{won:?}");
    assert_eq!(registry.list().await.unwrap().len(), 7, "each is stored, whoever won");
    for source in &sources {
        let fingerprint = registry.publish(source, None).await.unwrap().fingerprint;
        assert_eq!(registry.current().await.unwrap().unwrap().fingerprint, fingerprint);
    }
}

/// A publisher that is stopped after its n-th step, for every n.
pub async fn a_publisher_stopped_at_any_step_leaves_the_old_pointer_or_the_new_bundle_whole(place: &Place) {
    let scratch = scratch();
    let registry = place.open();
    let old = registry.publish(&bundle(&scratch.path().join("old"), 100, 10), None).await.unwrap();
    let source = bundle(&scratch.path().join("new"), 1, 1000);
    let Manifest { fingerprint, files, .. } = Manifest::from_json(&std::fs::read(source.join("manifest.json")).unwrap()).unwrap();
    let (mut steps, mut stopped_before) = (0, 0);
    loop {
        steps += 1;
        let mut left = steps;
        let mut publishing = Box::pin(registry.publish(&source, None));
        let ended = std::future::poll_fn(|context| {
            left -= 1;
            match publishing.as_mut().poll(context) {
                std::task::Poll::Ready(result) => std::task::Poll::Ready(Some(result.unwrap())),
                std::task::Poll::Pending if left == 0 => std::task::Poll::Ready(None),
                std::task::Poll::Pending => std::task::Poll::Pending,
            }
        })
        .await;
        drop(publishing);
        let current = registry.current().await.unwrap().unwrap();
        if current.fingerprint == fingerprint {
            let into = scratch.path().join("fetched");
            registry.fetch(&current, &into, &Trust::anyone()).await.unwrap();
            if ended.is_some() {
                break;
            }
            std::fs::remove_dir_all(into).unwrap();
            registry.point(&old.fingerprint).await.unwrap();
        } else {
            assert_eq!(current, old, "step {steps}");
            stopped_before += 1;
        }
    }
    // How many steps there are depends on how many answers a poll finds waiting, but each file is asked for or sent after the last.
    assert!(stopped_before >= files.len(), "stopped {stopped_before} times before the pointer moved, of {steps} steps");
}
