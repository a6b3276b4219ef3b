//! The schemas of the HTTP bodies, in the words that generators of clients understand.

use astromech_schemas::schema_documents;
use serde_json::{Map, Value, json};

use super::super::Limits;

/// Each type once under its name, with the limits of this daemon.
pub(super) fn components(limits: &Limits) -> Map<String, Value> {
    const BODIES: [(&str, &str); 7] = [
        ("search-request.schema.json", "SearchRequest"),
        ("search-response.schema.json", "SearchResponse"),
        ("embed-request.schema.json", "EmbedRequest"),
        ("embed-response.schema.json", "EmbedResponse"),
        ("rescore-request.schema.json", "RescoreRequest"),
        ("rescore-response.schema.json", "RescoreResponse"),
        ("problem.schema.json", "Problem"),
    ];
    let mut components = Map::new();
    for (file, mut schema) in schema_documents() {
        let Some((_, name)) = BODIES.into_iter().find(|(body, _)| *body == file) else { continue };
        adapt(&mut schema);
        let object = schema.as_object_mut().expect("a schema of a struct is an object");
        object.remove("$schema");
        if let Some(Value::Object(definitions)) = object.remove("$defs") {
            components.extend(definitions);
        }
        components.insert(name.to_owned(), schema);
    }
    let request = &mut components["RescoreRequest"]["properties"];
    request["candidates"]["maxItems"] = json!(limits.rescore_candidates_max);
    request["deadline_ms"]["maximum"] = json!(u64::try_from(limits.rescore_deadline_max.as_millis()).unwrap_or(u64::MAX));
    components.insert("Ready".to_owned(), ready());
    components.insert("Info".to_owned(), info());
    components
}

/// Moves references into the components, makes a list of words of a choice of constants, writes the range of a whole number out, and leaves
/// defaults to the descriptions.
fn adapt(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get_mut("$ref") {
                *reference = reference.replace("#/$defs/", "#/components/schemas/");
            }
            // Generators make what has a default a field that must be sent.
            map.remove("default");
            list_words(map);
            bound(map);
            map.values_mut().for_each(adapt);
        }
        Value::Array(values) => values.iter_mut().for_each(adapt),
        _ => {}
    }
}

/// A choice of constants is a list of words, to which generators of clients give one type.
fn list_words(map: &mut Map<String, Value>) {
    let Some(choices) = map.get("oneOf").and_then(Value::as_array) else { return };
    let words: Option<Vec<Value>> = choices.iter().map(|choice| choice.get("const").cloned()).collect();
    let Some(words) = words else { return };
    let told = choices
        .iter()
        .filter_map(|choice| Some(format!("- `{}`: {}", choice["const"].as_str()?, choice["description"].as_str()?)));
    let description = map.get("description").and_then(Value::as_str).unwrap_or_default();
    let description = format!("{description}\n\n{}", told.collect::<Vec<_>>().join("\n"));
    map.remove("oneOf");
    map.insert("type".to_owned(), json!("string"));
    map.insert("enum".to_owned(), words.into());
    map.insert("description".to_owned(), description.trim().into());
}

/// Generators know few formats, and none of them is a limit.
fn bound(map: &mut Map<String, Value>) {
    let (min, max) = match map.get("format").and_then(Value::as_str) {
        Some("uint16") => (json!(0), json!(u16::MAX)),
        Some("uint32") => (json!(0), json!(u32::MAX)),
        Some("int64") => (json!(i64::MIN), json!(i64::MAX)),
        _ => return,
    };
    map.entry("minimum").or_insert(min);
    map.entry("maximum").or_insert(max);
}

fn ready() -> Value {
    json!({
        "type": "object",
        "required": ["ready", "missing"],
        "properties": {
            "ready": {"type": "boolean"},
            "missing": {"type": "object", "additionalProperties": {"type": "string"}, "description": "Reason by condition: running, bundle, index, kafka, publish, rescore_topic, schema_registry"},
        },
    })
}

fn info() -> Value {
    json!({
        "type": "object",
        "required": ["version", "bundle", "fingerprint", "dim", "precision", "provider", "points", "examples", "body_bytes_max", "rescore_candidates_max", "rolls_out"],
        "properties": {
            "version": {"type": "string"},
            "bundle": {"type": "string"},
            "fingerprint": {"$ref": "#/components/schemas/Fingerprint"},
            "dim": {"type": "integer"},
            "precision": {"type": "string", "enum": ["f32", "fp16", "int8"]},
            "provider": {"type": "string"},
            "points": {"type": "object", "additionalProperties": {"type": "integer"}, "description": "Live points by kind"},
            "examples": {"type": "array", "items": {"type": "string"}},
            "body_bytes_max": {"type": "integer"},
            "rolls_out": {"type": "boolean", "description": "Whether /v1/generations answers"},
            "rescore_candidates_max": {"type": "integer", "description": "0 where re-scoring is off"},
        },
    })
}
