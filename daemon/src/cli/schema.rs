//! `astromech schema`.

use anyhow::{Context as _, Result};
use astromech_schemas::schema_documents;

use super::failure::EXIT_OK;
use super::output;
use crate::failure::Usage;

/// Prints the schema of that name, or all of them in one object by name.
///
/// # Errors
/// No schema has that name.
pub(super) fn run(name: Option<&str>) -> Result<u8> {
    let documents = schema_documents();
    let short = |file: &str| file.trim_end_matches(".schema.json").to_owned();
    let value = match name {
        None => serde_json::Value::Object(documents.into_iter().map(|(file, schema)| (short(file), schema)).collect()),
        Some(name) => {
            let names: Vec<_> = documents.iter().map(|(file, _)| short(file)).collect();
            let found = documents.into_iter().find(|(file, _)| *file == name || short(file) == name);
            let unknown =
                || Usage { problem: format!("no schema is called `{name}`"), hint: format!("use one of {}", names.join(", ")) };
            found.ok_or_else(unknown)?.1
        }
    };
    output::data(&serde_json::to_string_pretty(&value).context("a schema is no JSON")?);
    Ok(EXIT_OK)
}
