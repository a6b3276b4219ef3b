//! `GET /openapi.json`: the OpenAPI 3.1 document, with the schemas of the types that are served and the limits of this daemon.

mod generations;
mod schemas;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::{Access, AppState, Limits};

const DESCRIPTION: &str = "Search articles and pictures by Chinese text or by picture, in one vector space, and re-score candidates. \
    Where the daemon has API keys, /v1 asks for one. Bodies may be sent with content-encoding: gzip, and answers are packed for who \
    accepts it. Every answer carries an x-request-id and a traceparent: of the client's trace (W3C Trace Context), else of a new one. \
    Every error is a problem document (RFC 9457), but for /readyz. A route that has another method answers 405.";

/// `GET /openapi.json`.
pub(super) async fn handle(State(state): State<Arc<AppState>>) -> Json<Value> {
    Json(document(&state.limits, &state.access))
}

/// The document of a daemon with the limits that are the defaults. A golden test compares it with the checked-in `docs/openapi.json`.
pub fn openapi_document() -> Value {
    document(&Limits::default(), &Access::default())
}

/// The document of a daemon with these limits, and with these keys.
fn document(limits: &Limits, access: &Access) -> Value {
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Astromech",
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The daemon that this document comes from"}],
        "security": security(access.asks_for_keys()),
        "paths": {
            "/v1/search": {"post": search()},
            "/v1/rescore": {"post": rescore()},
            "/v1/embed": {"post": embed()},
            "/v1/media/{kind}/{id}": {"get": media()},
            "/v1/info": {"get": keyed(get("info", "The bundle, the vector space and the number of items served", json!({
                "200": answer("What this daemon serves", "Info"),
            })))},
            "/healthz": {"get": open(get("alive", "Whether the process answers", json!({
                "200": {"description": "It does", "content": {"text/plain": {"schema": {"type": "string"}}}},
            })))},
            "/readyz": {"get": open(get("ready", "Whether every condition holds", json!({
                "200": answer("Ready", "Ready"),
                "503": answer("Not ready, with what is missing", "Ready"),
            })))},
            "/readyz/{check}": {"get": ready_check()},
            "/metrics": {"get": metrics(access)},
            "/openapi.json": {"get": open(get("openapi", "This document", json!({
                "200": {"description": "OpenAPI 3.1", "content": {"application/json": {"schema": {"type": "object"}}}},
            })))},
        },
        "components": {
            "schemas": schemas::components(limits),
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

/// One of the two, where the daemon has keys; a daemon without keys asks for none.
fn security(asked_for: bool) -> Value {
    if asked_for { json!([{"bearer": []}, {"apiKey": []}]) } else { json!([{"bearer": []}, {"apiKey": []}, {}]) }
}

fn get(id: &str, summary: &str, responses: Value) -> Value {
    let mut operation = json!({"operationId": id, "summary": summary});
    operation["responses"] = responses;
    operation
}

/// `operation` for everybody.
fn open(mut operation: Value) -> Value {
    operation["security"] = json!([]);
    operation
}

fn post(id: &str, summary: &str, request: &str, response: &str) -> Value {
    keyed(json!({
        "operationId": id,
        "summary": summary,
        "requestBody": {"required": true, "content": content(request)},
        "responses": {
            "200": answer("The answer", response),
            "400": problem("The request is not valid: field, limit and fix are named"),
            "408": problem("The body did not arrive within http.read_timeout_ms"),
            "413": problem("The body, as it is unpacked, or the picture is over its limit"),
            "415": problem("The body is not JSON, or packed in another way than gzip"),
            "422": problem("The picture can't be read"),
        },
    }))
}

/// `operation` for callers with a key, where the daemon has keys, and within their rate; and what may befall every one of these.
fn keyed(mut operation: Value) -> Value {
    let responses = &mut operation["responses"];
    let mut unauthorized = problem("The daemon has API keys, and the request carries none of them");
    unauthorized["headers"] = json!({"WWW-Authenticate": {"$ref": "#/components/headers/WWW-Authenticate"}});
    responses["401"] = unauthorized;
    responses["429"] = retried("The key, or without one the address, sends more than http.rate.requests_per_s");
    responses["500"] = problem("The daemon failed: the cause is in its log under the answer's x-request-id");
    if responses.get("503").is_none() {
        responses["503"] = retried("Too many requests are under way, the index does not answer, or the daemon is starting");
    }
    if responses.get("504").is_none() {
        responses["504"] = problem("No answer within http.timeout_ms");
    }
    sorted(operation)
}

fn sorted(mut operation: Value) -> Value {
    if let Some(responses) = operation["responses"].as_object_mut() {
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
        "Location": header("Where the picture is", "string"),
        "Retry-After": header("Seconds after which the client may try again", "integer"),
        "WWW-Authenticate": header("How a key is sent", "string"),
    })
}

fn search() -> Value {
    let mut operation = post("search", "Search by text or by picture", "SearchRequest", "SearchResponse");
    operation["responses"]["501"] = problem("Re-scoring is asked for, and this daemon does none: rescore.enabled is false");
    sorted(operation)
}

fn rescore() -> Value {
    let mut operation =
        post("rescore", "Scores and ranks of candidates against a text or a picture", "RescoreRequest", "RescoreResponse");
    let responses = &mut operation["responses"];
    responses["404"] = problem("The index holds no item of the context's id");
    responses["422"] = problem("The context can't be scored against, or there are more than rescore.candidates_max candidates");
    responses["501"] = problem("This daemon does not re-score: rescore.enabled is false");
    responses["503"] =
        retried("rescore.requests_in_flight_max or http.requests_in_flight_max requests are under way, or as elsewhere");
    responses["504"] = problem("Nothing was scored before the deadline, or no answer within http.timeout_ms");
    sorted(operation)
}

fn embed() -> Value {
    let mut operation = post("embed", "Unit vectors of texts and pictures", "EmbedRequest", "EmbedResponse");
    operation["responses"]["501"] = problem("The bundle compares items token by token: no item has one vector");
    sorted(operation)
}

fn media() -> Value {
    const TYPES: [&str; 5] = ["image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp"];
    let pictures: serde_json::Map<String, Value> =
        TYPES.map(|content_type| (content_type.to_owned(), json!({}))).into_iter().collect();
    keyed(json!({
        "operationId": "media",
        "summary": "The picture of an item",
        "parameters": [
            parameter("kind", json!({"$ref": "#/components/schemas/Kind"}), "Kind of the item"),
            parameter("id", json!({"type": "string", "minLength": 1}), "Id of the item, percent-encoded UTF-8; a slash may stand as it is"),
            {"name": "frame", "in": "query", "required": false,
             "schema": {"type": "integer", "format": "uint32", "minimum": 0, "maximum": u32::MAX, "default": 0},
             "description": "Of a video: which of its frames"},
        ],
        "responses": {
            "200": {"description": "The picture", "content": pictures},
            "302": {"description": "The picture is on the web", "headers": {"Location": {"$ref": "#/components/headers/Location"}}},
            "304": {"description": "The client has it: if-none-match names it"},
            "400": problem("The kind is not known, or a parameter can't be read"),
            "404": problem("No such item, or none with a picture that may be shown"),
        },
    }))
}

fn ready_check() -> Value {
    let mut operation = open(get(
        "readyCheck",
        "Whether one condition holds, or what a search needs",
        json!({
            "200": answer("It holds", "Ready"),
            "400": problem("The name can't be read"),
            "404": problem("This daemon has no condition of that name"),
            "503": answer("It does not, with the reason", "Ready"),
        }),
    ));
    let description = "search (what a search needs: running, bundle, index), or the name of a condition";
    operation["parameters"] = json!([parameter("check", json!({"type": "string", "minLength": 1}), description)]);
    operation
}

fn metrics(access: &Access) -> Value {
    let text = || json!({"schema": {"type": "string"}});
    let operation = get(
        "metrics",
        "Metrics, in the form that accept likes better",
        json!({
            "200": {"description": "All metrics", "content": {"application/openmetrics-text": text(), "text/plain": text()}},
        }),
    );
    if access.metrics_are_open() { open(operation) } else { keyed(operation) }
}

fn parameter(name: &str, schema: Value, description: &str) -> Value {
    let mut parameter = json!({"name": name, "in": "path", "required": true, "description": description});
    parameter["schema"] = schema;
    parameter
}

fn content(name: &str) -> Value {
    json!({"application/json": {"schema": {"$ref": format!("#/components/schemas/{name}")}}})
}

fn answer(description: &str, name: &str) -> Value {
    json!({"description": description, "content": content(name)})
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

    #[test]
    fn the_bounds_of_the_document_are_those_that_are_checked() {
        use crate::{rescore, search};
        let limits =
            Limits { rescore_candidates_max: 7, rescore_deadline_max: std::time::Duration::from_secs(3), ..Limits::default() };
        let document = document(&limits, &Access::default());
        let property = |schema: &str, name: &str| document["components"]["schemas"][schema]["properties"][name].clone();
        let bound = |schema, name, bound: &str| {
            property(schema, name)[bound].as_i64().unwrap_or_else(|| panic!("{schema}.{name}: no {bound}"))
        };
        for (schema, name, min, max) in [
            ("SearchRequest", "limit", 1, i64::from(search::SEARCH_LIMIT_MAX)),
            ("SearchRequest", "rescore", 1, i64::from(search::SEARCH_RESCORE_MAX)),
            ("SearchRequest", "time_ms_from", i64::MIN, i64::MAX),
            ("RescoreRequest", "k", 1, i64::from(u32::MAX)),
            ("RescoreRequest", "deadline_ms", 1, 3000),
            ("WeightsOverride", "bid", -(rescore::WEIGHT_MAX as i64), rescore::WEIGHT_MAX as i64),
        ] {
            assert_eq!((bound(schema, name, "minimum"), bound(schema, name, "maximum")), (min, max), "{schema}.{name}");
        }
        assert_eq!(bound("SearchRequest", "text", "maxLength"), rescore::TEXT_CHARS_MAX as i64);
        assert_eq!(property("EmbedRequest", "texts")["items"]["maxLength"], rescore::TEXT_CHARS_MAX);
        assert_eq!(bound("RescoreContext", "text", "maxLength"), rescore::TEXT_CHARS_MAX as i64);
        for (schema, name, max) in [
            ("SearchRequest", "tags", search::FILTER_WORDS_MAX),
            ("SearchRequest", "languages", search::FILTER_WORDS_MAX),
            ("EmbedRequest", "texts", search::EMBED_INPUTS_MAX),
            ("EmbedRequest", "images", search::EMBED_INPUTS_MAX),
            ("RescoreRequest", "candidates", 7),
        ] {
            assert_eq!(bound(schema, name, "maxItems"), max as i64, "{schema}.{name}");
        }
    }

    #[test]
    fn a_text_is_blank_to_the_document_where_it_is_to_the_daemon() {
        let document = openapi_document();
        let pattern = document["components"]["schemas"]["SearchRequest"]["properties"]["text"]["pattern"].as_str().unwrap();
        let class = pattern.strip_prefix("[^").and_then(|rest| rest.strip_suffix(']')).unwrap();
        let class = class.replace("\\t", "\t").replace("\\r", "\r");
        let mut chars = Vec::new();
        let mut rest = class.as_str();
        while !rest.is_empty() {
            let (char, behind) = match rest.strip_prefix("\\u") {
                Some(code) => (char::from_u32(u32::from_str_radix(&code[..4], 16).unwrap()).unwrap(), &code[4..]),
                None => (rest.chars().next().unwrap(), &rest[rest.chars().next().unwrap().len_utf8()..]),
            };
            chars.push(char);
            rest = behind;
        }
        let mut blank = std::collections::BTreeSet::new();
        for (place, char) in chars.iter().enumerate() {
            if *char == '-' { blank.extend(chars[place - 1]..=chars[place + 1]) } else { blank.extend([*char]) }
        }
        blank.remove(&'-');
        let white: std::collections::BTreeSet<char> = ('\0'..=char::MAX).filter(|char| char.is_whitespace()).collect();
        assert_eq!(blank, white);
    }

    #[test]
    fn no_choice_of_constants_is_left_and_every_whole_number_has_its_range() {
        fn check(value: &Value, place: &str) {
            match value {
                Value::Object(map) => {
                    let constants = map
                        .get("oneOf")
                        .and_then(Value::as_array)
                        .is_some_and(|of| of.iter().any(|one| one.get("const").is_some()));
                    assert!(!constants && !map.contains_key("const"), "{place}: {value}");
                    let range = matches!(map.get("format").and_then(Value::as_str), Some("uint16" | "uint32" | "int64"));
                    assert!(!range || (map.contains_key("minimum") && map.contains_key("maximum")), "{place}: {value}");
                    map.iter().for_each(|(name, value)| check(value, &format!("{place}/{name}")));
                }
                Value::Array(values) => values.iter().for_each(|value| check(value, place)),
                _ => {}
            }
        }
        check(&openapi_document(), "");
    }

    #[test]
    fn a_daemon_with_keys_says_that_it_asks_for_one() {
        let key = crate::config::KeyConfig {
            name: "a".to_owned(),
            role: crate::config::Role::Read,
            key: crate::config::Secret::new("0123456789abcdef"),
        };
        let access = Access::new(&crate::config::AuthConfig { keys: vec![key], metrics_open: false }, None);
        let with = document(&Limits::default(), &access);
        assert_eq!(with["security"], json!([{"bearer": []}, {"apiKey": []}]));
        assert!(with["paths"]["/metrics"]["get"].get("security").is_none(), "as everywhere");
        assert_eq!(openapi_document()["paths"]["/metrics"]["get"]["security"], json!([]));
    }
}
