//! `astromech bundle fetch`: what an init container runs, against a registry in a folder.

use std::path::Path;

use astromech_e2e::bundle::{self, Published};
use astromech_e2e::daemon::run_to_end;
use astromech_e2e::world::scratch;
use astromech_registry::{Signer, bundle_at, generate_key};
use astromech_schemas::Manifest;

/// Runs it with these arguments; what it said.
fn fetch(arguments: &[&str], code: i32) -> String {
    let (status, said) = run_to_end(&[&["bundle", "fetch"], arguments].concat());
    assert_eq!(status.code(), Some(code), "{arguments:?}:\n{said}");
    said
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The whole bundle in a folder.
fn held(folder: &Path) -> Manifest {
    bundle_at(folder).unwrap_or_else(|e| panic!("{e}")).unwrap_or_else(|| panic!("nothing in {}", folder.display()))
}

/// The names in a folder, but for the lock.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    let names = entries.map(|entry| entry.expect("it is read").file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name != ".live.lock").collect();
    names.sort();
    names
}

#[test]
fn the_current_bundle_is_brought_where_the_configuration_looks_for_it_and_what_is_there_stays() {
    let (folder, registry) = (scratch("bundle-fetch"), Published::new());
    registry.publish(&bundle::path());
    let (config, live) = (folder.join("astromech.toml"), folder.join("bundles/live"));
    let rollout = format!("[rollout]\nregistry = '{}'\n[index.embedded]\npath = 'index'\n", registry.folder.display());
    std::fs::write(&config, format!("[bundle]\npath = 'bundles/live'\n[index]\nengine = \"embedded\"\n{rollout}"))
        .expect("written");
    let config = text(&config);
    let (status, said) = run_to_end(&["check-config", "--config", &config]);
    assert!(!status.success() && said.contains("manifest.json is not there"), "{said}");
    // Of a process that died on its way; and somebody else's.
    for left in [".live.partial-1", ".other.partial-1"] {
        std::fs::create_dir_all(folder.join("bundles").join(left)).expect("a folder");
    }

    let said = fetch(&["--config", &config], 0);
    let fingerprint = bundle::manifest().fingerprint;
    assert!(said.contains(fingerprint.as_str()) && said.contains(": fetched"), "{said}");
    assert_eq!(
        (held(&live).fingerprint, names(&folder.join("bundles"))),
        (fingerprint, vec![".other.partial-1".to_owned(), "live".to_owned()])
    );
    assert!(run_to_end(&["check-config", "--config", &config]).0.success());

    // What is whole needs no registry.
    let away = folder.join("away");
    std::fs::rename(&registry.folder, &away).expect("renamed");
    assert!(fetch(&["--config", &config], 0).contains(": there already"));
    let said = fetch(&["--config", &config, "--update"], 1);
    assert!(said.contains("hint: look at the registry's address"), "{said}");
    std::fs::rename(&away, &registry.folder).expect("renamed");
    assert!(fetch(&["--config", &config, "--update"], 0).contains(": there already"));

    let vocabulary = live.join("vocab.txt");
    std::fs::write(&vocabulary, "[PAD]\n").expect("written");
    let said = fetch(&["--config", &config], 0);
    assert!(said.contains("holds a damaged bundle, which is replaced") && said.contains(": fetched"), "{said}");
    held(&live);
}

#[test]
fn another_release_takes_the_place_of_one_only_where_that_is_asked_for() {
    let (folder, registry) = (scratch("bundle-update"), Published::new());
    let old = bundle::manifest().fingerprint;
    registry.publish(&bundle::path());
    let (place, live) = (text(&registry.folder), folder.join("live"));
    let to = text(&live);
    let with = |more: &[&'static str]| [&["--registry", place.as_str(), "--to", to.as_str()][..], more].concat();
    fetch(&with(&[]), 0);
    let other = bundle::without_cross(&scratch("bundle-other"));
    registry.publish(&other);
    let new = held(&other).fingerprint;

    assert!(fetch(&with(&[]), 0).contains(old.as_str()), "the bundle that an index was filled with stays");
    assert_eq!(held(&live).fingerprint, old);
    let said = fetch(&with(&["--update"]), 0);
    assert!(said.contains(&format!("fetched, in place of {old}")), "{said}");
    assert_eq!((held(&live).fingerprint, names(&folder)), (new.clone(), vec!["live".to_owned()]));
    let back = [&["--registry", place.as_str(), "--to", to.as_str()][..], &["--fingerprint", old.short()]].concat();
    for says in ["fetched, in place of", "there already"] {
        assert!(fetch(&back, 0).contains(says), "{says}");
    }
    assert_eq!(held(&live).fingerprint, old);

    // By a link, what it points to.
    let link = folder.join("link");
    std::os::unix::fs::symlink(&live, &link).expect("linked");
    fetch(&["--registry", &place, "--to", &text(&link), "--update"], 0);
    assert!(link.is_symlink());
    assert_eq!(held(&live).fingerprint, new);
    let said = fetch(&with(&["--fingerprint", "000000000000"]), 1);
    assert!(said.contains("holds no release whose fingerprint begins with 000000000000"), "{said}");
    assert!(fetch(&with(&["--fingerprint", "live"]), 2).contains("is no fingerprint"));
}

#[test]
fn what_is_damaged_or_not_trusted_is_refused_and_what_was_there_stays_untouched() {
    let (folder, registry) = (scratch("bundle-refused"), Published::new());
    let place = text(&registry.folder);
    let to = |name: &str| text(&folder.join(name));
    assert!(fetch(&["--registry", &place, "--to", &to("live")], 1).contains("holds no release yet"));
    registry.publish_spoilt(&bundle::path(), &bundle::manifest(), |files| {
        std::fs::write(files.join("vocab.txt"), "[PAD]\n").expect("written");
    });
    let said = fetch(&["--registry", &place, "--to", &to("live")], 1);
    assert!(said.contains("vocab.txt: expected"), "{said}");
    assert_eq!(names(&folder), [""; 0], "neither the bundle nor a part of it");

    registry.publish(&bundle::path());
    std::fs::create_dir(folder.join("data")).expect("a folder");
    std::fs::write(folder.join("data/precious"), "1").expect("written");
    let said = fetch(&["--registry", &place, "--to", &to("data")], 2);
    assert!(said.contains("holds something that is no bundle") && folder.join("data/precious").is_file(), "{said}");
    for (arguments, says) in [
        (&["--to", &to("live")][..], "no registry is named"),
        (&["--registry", &place], "no folder is named"),
        (&["--registry", "ftp://a/b", "--to", &to("live")], "ftp:// is not known"),
    ] {
        let (status, said) = run_to_end(&[&["bundle", "fetch"], arguments].concat());
        assert!(!status.success() && said.contains(says) && said.contains("hint: "), "{arguments:?}: {said}");
    }

    let (ours, theirs) = (folder.join("ours"), folder.join("theirs"));
    for key in [&ours, &theirs] {
        generate_key(key, None).unwrap_or_else(|e| panic!("{e}"));
    }
    let public = |key: &Path| text(&key.with_extension("pub"));
    let unsigned = fetch(&["--registry", &place, "--to", &to("live"), "--public-key", &public(&ours)], 1);
    assert!(unsigned.contains("is not signed"), "{unsigned}");
    let signed = Published::new();
    let signer = Signer::from_file(&ours, None).unwrap_or_else(|e| panic!("{e}"));
    astromech_e2e::wait::block_on(signed.registry.publish(&bundle::path(), Some(&signer))).unwrap_or_else(|e| panic!("{e}"));
    let place = text(&signed.folder);
    assert!(
        fetch(&["--registry", &place, "--to", &to("live"), "--public-key", &public(&theirs)], 1).contains("is signed by key")
    );
    fetch(&["--registry", &place, "--to", &to("live"), "--public-key", &public(&ours)], 0);
    held(&folder.join("live"));
}
