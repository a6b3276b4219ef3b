//! `GET /openapi.json`: the OpenAPI 3.1 document, with the schemas of the types that are served.

mod generations;

use astromech_schemas::schema_documents;
use axum::Json;
use serde_json::{Map, Value, json};

const DESCRIPTION: &str = "Search articles and pictures by Chinese text or by picture, in one vector space, and re-score candidates. \
    Where the daemon has API keys, /v1 asks for one. Bodies may be sent with content-encoding: gzip, and answers are packed for who \
    accepts it. Every answer carries an x-request-id and a traceparent: of the client's trace (W3C Trace Context), else of a new one.";

/// `GET /openapi.json`.
pub(super) async fn handle() -> Json<Value> {
    Json(openapi_document())
}

/// The document. A golden test compares it with the checked-in `docs/openapi.json`.
pub fn openapi_document() -> Value {
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Astromech",
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            "/v1/search": {"post": post("search", "Search by text or by picture", "SearchRequest", "SearchResponse")},
            "/v1/rescore": {"post": rescore()},
            "/v1/embed": {"post": embed()},
            "/v1/media/{kind}/{id}": {"get": media()},
            "/v1/info": {"get": keyed(get("info", "The bundle, the vector space and the number of items served", json!({
                "200": {"description": "What this daemon serves", "content": {"application/json": {"schema": info_schema()}}},
                "503": retried("The index does not answer, or too many requests are under way"),
            })))},
            "/healthz": {"get": get("alive", "Whether the process answers", json!({"200": {"description": "It does"}}))},
            "/readyz": {"get": get("ready", "Whether every condition holds", json!({
                "200": {"description": "Ready", "content": {"application/json": {"schema": ready_schema()}}},
                "503": {"description": "Not ready, with what is missing", "content": {"application/json": {"schema": ready_schema()}}},
            }))},
            "/metrics": {"get": keyed(get("metrics", "Metrics in the text form of OpenMetrics", json!({
                "200": {"description": "All metrics", "content": {"application/openmetrics-text": {}}},
            })))},
        },
        "components": {
            "schemas": components(),
            "securitySchemes": security_schemes(),
            "headers": headers(),
            // For operations that administer: every key may read.
            "responses": {"Forbidden": problem("The key is not of the role that this asks for")},
        },
    });
    for (path, operations) in generations::paths() {
        document["paths"][path] = operations;
    }
    document
}

fn get(id: &str, summary: &str, responses: Value) -> Value {
    let mut operation = json!({"operationId": id, "summary": summary});
    operation["responses"] = responses;
    operation
}

fn post(id: &str, summary: &str, request: &str, response: &str) -> Value {
    let schema = |name: &str| json!({"application/json": {"schema": {"$ref": format!("#/components/schemas/{name}")}}});
    keyed(json!({
        "operationId": id,
        "summary": summary,
        "requestBody": {"required": true, "content": schema(request)},
        "responses": {
            "200": {"description": "The answer", "content": schema(response)},
            "400": problem("The request is not valid: field, limit and fix are named"),
            "408": problem("The body did not arrive within http.read_timeout_ms"),
            "413": problem("The body, as it is unpacked, or the picture is over its limit"),
            "415": problem("The body is not JSON, or packed in another way than gzip"),
            "422": problem("The picture can't be read"),
            "503": retried("Too many requests are under way, or the index does not answer"),
            "504": problem("No answer within http.timeout_ms"),
        },
    }))
}

/// `operation` for callers with a key, where the daemon has keys, and within their rate.
fn keyed(mut operation: Value) -> Value {
    // One of the three: a daemon without keys asks for none.
    operation["security"] = json!([{"bearer": []}, {"apiKey": []}, {}]);
    let mut unauthorized = problem("The daemon has API keys, and the request carries none of them");
    unauthorized["headers"] = json!({"WWW-Authenticate": {"$ref": "#/components/headers/WWW-Authenticate"}});
    let responses = &mut operation["responses"];
    responses["401"] = unauthorized;
    responses["429"] = retried("The key, or without one the address, sends more than http.rate.requests_per_s");
    if let Some(responses) = responses.as_object_mut() {
        responses.sort_keys();
    }
    operation
}

fn security_schemes() -> Value {
    let description = "A key of [http.auth.read_keys], or of [http.auth.write_keys], which may administer the daemon too.";
    json!({
        "bearer": {"type": "http", "scheme": "bearer", "description": description},
        "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": description},
    })
}

fn headers() -> Value {
    let header = |description: &str, schema: &str| json!({"description": description, "schema": {"type": schema}});
    json!({
        "Retry-After": header("Seconds after which the client may try again", "integer"),
        "WWW-Authenticate": header("How a key is sent", "string"),
    })
}

fn rescore() -> Value {
    let mut operation =
        post("rescore", "Scores and ranks of candidates against a text or a picture", "RescoreRequest", "RescoreResponse");
    let responses = &mut operation["responses"];
    responses["404"] = problem("The index holds no item of the context's id");
    responses["422"] = problem("The context can't be scored against, or there are more than rescore.candidates_max candidates");
    responses["501"] = problem("This daemon does not re-score: rescore.enabled is false");
    responses["503"] = retried("rescore.requests_in_flight_max or http.requests_in_flight_max requests are under way");
    responses["504"] = problem("Nothing was scored before the deadline, or no answer within http.timeout_ms");
    operation
}

fn embed() -> Value {
    let mut operation = post("embed", "Unit vectors of texts and pictures", "EmbedRequest", "EmbedResponse");
    let responses = &mut operation["responses"];
    responses["501"] = problem("The bundle compares items token by token: no item has one vector");
    if let Some(responses) = responses.as_object_mut() {
        responses.sort_keys();
    }
    operation
}

fn media() -> Value {
    let parameter = |name: &str, schema: Value| json!({"name": name, "in": "path", "required": true, "schema": schema});
    keyed(json!({
        "operationId": "media",
        "summary": "The picture of an item",
        "parameters": [
            parameter("kind", json!({"$ref": "#/components/schemas/Kind"})),
            parameter("id", json!({"type": "string"})),
            {"name": "frame", "in": "query", "required": false, "schema": {"type": "integer", "minimum": 0, "default": 0},
             "description": "Of a video: which of its frames"},
        ],
        "responses": {
            "200": {"description": "The picture", "content": {"image/*": {}}},
            "302": {"description": "The picture's address on the web"},
            "400": problem("The kind is not known"),
            "404": problem("No such item, or none with a picture that may be shown"),
            "503": retried("The index does not answer, or too many requests are under way"),
        },
    }))
}

fn problem(description: &str) -> Value {
    json!({"description": description, "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}})
}

/// A problem that may pass.
fn retried(description: &str) -> Value {
    let mut problem = problem(description);
    problem["headers"] = json!({"Retry-After": {"$ref": "#/components/headers/Retry-After"}});
    problem
}

fn ready_schema() -> Value {
    json!({
        "type": "object",
        "required": ["ready", "missing"],
        "properties": {
            "ready": {"type": "boolean"},
            "missing": {"type": "object", "additionalProperties": {"type": "string"}, "description": "Reason by condition: bundle, index, kafka"},
        },
    })
}

fn info_schema() -> Value {
    json!({
        "type": "object",
        "required": ["version", "bundle", "fingerprint", "dim", "precision", "provider", "points", "examples", "body_bytes_max", "rescore_candidates_max", "rolls_out"],
        "properties": {
            "version": {"type": "string"},
            "bundle": {"type": "string"},
            "fingerprint": {"$ref": "#/components/schemas/Fingerprint"},
            "dim": {"type": "integer"},
            "precision": {"enum": ["f32", "fp16", "int8"]},
            "provider": {"type": "string"},
            "points": {"type": "object", "additionalProperties": {"type": "integer"}, "description": "Live points by kind"},
            "examples": {"type": "array", "items": {"type": "string"}},
            "body_bytes_max": {"type": "integer"},
            "rolls_out": {"type": "boolean", "description": "Whether /v1/generations answers"},
            "rescore_candidates_max": {"type": "integer", "description": "0 where re-scoring is off"},
        },
    })
}

/// The schemas of the HTTP bodies, each type once under its name.
fn components() -> Map<String, Value> {
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
        move_references(&mut schema);
        let object = schema.as_object_mut().expect("a schema of a struct is an object");
        object.remove("$schema");
        if let Some(Value::Object(definitions)) = object.remove("$defs") {
            components.extend(definitions);
        }
        components.insert(name.to_owned(), schema);
    }
    components
}

/// A reference inside a document of its own becomes one into the components.
fn move_references(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get_mut("$ref") {
                *reference = reference.replace("#/$defs/", "#/components/schemas/");
            }
            map.values_mut().for_each(move_references);
        }
        Value::Array(values) => values.iter_mut().for_each(move_references),
        _ => {}
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_checked_in_document_is_the_one_that_is_served() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
        let text = serde_json::to_string_pretty(&openapi_document()).unwrap() + "\n";
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(checked_in == text, "docs/openapi.json differs: run UPDATE_GOLDEN=1 cargo test -p astromech openapi and review");
    }

    #[test]
    fn every_reference_leads_to_a_schema() {
        fn check(value: &Value, document: &Value) {
            match value {
                Value::Object(map) => {
                    if let Some(Value::String(reference)) = map.get("$ref") {
                        let pointer = reference.strip_prefix('#').unwrap();
                        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
                    }
                    map.values().for_each(|value| check(value, document));
                }
                Value::Array(values) => values.iter().for_each(|value| check(value, document)),
                _ => {}
            }
        }
        let document = openapi_document();
        check(&document, &document);
    }
}
