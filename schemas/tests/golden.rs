//! The checked-in JSON Schemas are those of the types. `UPDATE_GOLDEN=1 cargo test -p astromech-schemas` rewrites them.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::Path;

#[test]
fn checked_in_json_schemas_are_those_of_the_types() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("json");
    for (name, schema) in astromech_schemas::schema_documents() {
        let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        let path = folder.join(name);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            checked_in == text,
            "{name} differs from the types: run UPDATE_GOLDEN=1 cargo test -p astromech-schemas and review"
        );
    }
}
