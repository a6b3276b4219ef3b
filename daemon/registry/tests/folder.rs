//! The registry in a folder.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod contract;

use astromech_registry::{Registry, RegistryError, RegistryOptions, Signer, Trust, generate_key};
use contract::Place;

fn place() -> (tempfile::TempDir, Place) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("models");
    let options = RegistryOptions { create: true, ..RegistryOptions::new(format!("file://{}", root.display())) };
    (folder, Place { options, root })
}

macro_rules! contract {
    ($($case:ident)*) => { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            let (_folder, place) = place();
            contract::$case(&place).await;
        }
    )* };
}

contract::for_each_case!(contract);

#[test]
fn a_reader_of_a_folder_that_is_not_there_is_told_and_no_folder_is_made() {
    let (_folder, place) = place();
    let error = Registry::open(&RegistryOptions { create: false, ..place.options }).unwrap_err();
    assert!(matches!(&error, RegistryError::Io { path, .. } if *path == place.root) && error.is_transient(), "{error}");
    assert!(!place.root.exists());
}

#[tokio::test]
async fn a_damaged_bundle_is_never_published() {
    let (folder, place) = place();
    let registry = Registry::open(&place.options).unwrap();
    let source = contract::bundle(&folder.path().join("a"), 1, 100);
    std::fs::write(source.join("text.onnx"), [7; 2000]).unwrap();
    let error = registry.publish(&source, None).await.unwrap_err();
    assert!(matches!(&error, RegistryError::Checksum { path, .. } if path.ends_with("text.onnx")), "{error}");
    std::fs::remove_file(source.join("text.onnx")).unwrap();
    let error = registry.publish(&source, None).await.unwrap_err();
    assert!(matches!(error, RegistryError::Missing { .. }), "{error}");
    assert_eq!(registry.list().await.unwrap(), []);
    assert!(!place.root.join("bundles").exists());
}

#[tokio::test]
async fn the_same_vectors_with_another_manifest_are_refused() {
    let (folder, place) = place();
    let registry = Registry::open(&place.options).unwrap();
    let source = contract::bundle(&folder.path().join("a"), 1, 100);
    registry.publish(&source, None).await.unwrap();
    let manifest = std::fs::read_to_string(source.join("manifest.json")).unwrap().replace("tiny-1", "renamed");
    std::fs::write(source.join("manifest.json"), manifest).unwrap();
    let error = registry.publish(&source, None).await.unwrap_err();
    assert!(matches!(error, RegistryError::Published { .. }) && !error.is_transient(), "{error}");
}

#[tokio::test]
async fn one_process_at_a_time_fetches_and_what_a_dead_one_left_is_removed() {
    let (folder, place) = place();
    let registry = Registry::open(&place.options).unwrap();
    let release = registry.publish(&contract::bundle(&folder.path().join("a"), 1, 100), None).await.unwrap();
    let into = folder.path().join("into");
    std::fs::create_dir_all(into.join(".partial-dead")).unwrap();
    let lock = std::fs::File::create(into.join(".fetch.lock")).unwrap();
    lock.lock().unwrap();
    let error = registry.fetch(&release, &into, &Trust::anyone()).await.unwrap_err();
    assert!(matches!(error, RegistryError::Busy { .. }) && error.is_transient(), "{error}");
    drop(lock);
    registry.fetch(&release, &into, &Trust::anyone()).await.unwrap();
    assert!(!into.join(".partial-dead").exists());
}

#[test]
fn a_secret_key_is_its_owners_alone_and_is_never_overwritten_and_its_password_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    generate_key(&path, Some("open sesame")).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert!(generate_key(&path, None).is_err());
    Signer::from_file(&path, Some("open sesame")).unwrap();
    for password in [None, Some("wrong")] {
        let error = Signer::from_file(&path, password).unwrap_err();
        assert!(error.to_string().contains("is the password missing or wrong?"), "{error}");
    }
    assert!(Trust::key_file(&folder.path().join("key.pub")).unwrap().requires_signature());
    assert!(matches!(Trust::key_file(&path), Err(RegistryError::Key { .. })));
}
