//! Rows of text files, each named with its line where it is bad.

use std::path::Path;

use serde_json::Value;

use super::error::CorpusError;
use crate::files::file_error;

/// Parses every line that is not blank; `parse` may leave a row out by `None`. Lines count from 1.
pub(super) fn read_rows<T>(
    path: &Path,
    mut parse: impl FnMut(&str) -> Result<Option<T>, String>,
) -> Result<Vec<(usize, T)>, CorpusError> {
    let text = std::fs::read_to_string(path).map_err(file_error(path))?;
    let mut rows = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let line_number = index + 1;
        let parsed = parse(line).map_err(|message| CorpusError::Row { path: path.to_path_buf(), line: line_number, message })?;
        rows.extend(parsed.map(|row| (line_number, row)));
    }
    Ok(rows)
}

/// One JSON object.
pub(super) fn object(line: &str) -> Result<Value, String> {
    let value: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
    if value.is_object() { Ok(value) } else { Err("the row is no JSON object".to_owned()) }
}

/// A text field that is not empty.
pub(super) fn text_field(row: &Value, field: &str) -> Result<String, String> {
    match row.get(field) {
        None => Err(format!("field `{field}` is missing")),
        Some(Value::String(text)) if text.trim().is_empty() => Err(format!("field `{field}` is empty")),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(format!("field `{field}` is {other}; it must be a text")),
    }
}

/// A label: 1 match, 0 no match.
pub(super) fn label_field(row: &Value, field: &str) -> Result<bool, String> {
    let value = row.get(field).ok_or_else(|| format!("field `{field}` is missing"))?;
    match value.as_i64() {
        Some(0) => Ok(false),
        Some(1) => Ok(true),
        _ => Err(format!("field `{field}` is {value}; it must be 0 or 1")),
    }
}
