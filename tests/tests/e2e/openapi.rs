//! The OpenAPI document, checked by validators that are not ours: see `deploy/local/pins/openapi`. That it is the one that is served
//! is held by a test of the daemon.

use std::path::Path;
use std::process::Command;

use astromech_e2e::paths;
use astromech_e2e::world::scratch;
use serde_json::{Value, json};

/// What the validators say of the document in `file`; nothing where it is right.
fn mistakes(file: &Path) -> String {
    let check = paths::cache().join("openapi/check.mjs");
    assert!(check.is_file(), "{} is not there; fix: deploy/local/install.sh openapi", check.display());
    let output = Command::new("node").arg(&check).arg(file).output().unwrap_or_else(|e| panic!("node: {e}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(i32::from(!said.is_empty())), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

#[test]
fn the_document_is_right_by_the_published_schemas_and_a_wrong_one_is_told() {
    let file = paths::repository().join("docs/openapi.json");
    assert_eq!(mistakes(&file), "");
    let document: Value = serde_json::from_slice(&std::fs::read(&file).expect("it is read")).expect("it is JSON");
    let wrong = scratch("openapi").join("wrong.json");
    for (pointer, value) in [
        ("/info/version", json!(7)),
        ("/components/securitySchemes/apiKey/in", json!("nowhere")),
        ("/components/schemas/Problem/type", json!("record")),
        ("/paths/~1v1~1search/post/responses/200/content/application~1json/schema/$ref", json!("#/components/schemas/Nothing")),
    ] {
        let mut broken = document.clone();
        *broken.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer} is not there")) = value;
        std::fs::write(&wrong, broken.to_string()).expect("it is written");
        assert_ne!(mistakes(&wrong), "", "{pointer}");
    }
}
