//! `/v1/generations`.

use serde_json::{Value, json};

use super::{get, keyed, parameter, problem, retried, sorted};

/// Path and operations of each.
pub(super) fn paths() -> [(&'static str, Value); 4] {
    let list = keyed(get(
        "generations",
        "The live generation, those beside it, and the bundles that were refused",
        json!({
            "200": {"description": "What this daemon knows", "content": {"application/json": {"schema": rollout_schema()}}},
            "501": problem("This daemon rolls nothing out: rollout.registry is empty"),
        }),
    ));
    [
        ("/v1/generations", json!({"get": list})),
        (
            "/v1/generations/rollback",
            json!({"post": change("rollback", "Go back to the generation that was live before", false)}),
        ),
        (
            "/v1/generations/{fingerprint}/promote",
            json!({"post": change("promote", "Make a generation live that is kept up to date", true)}),
        ),
        (
            "/v1/generations/{fingerprint}/drop",
            json!({"post": change("drop", "Stop a generation that is not live, and delete it", true)}),
        ),
    ]
}

/// A change: for keys that may administer; without keys, for this machine only.
fn change(id: &str, summary: &str, names_one: bool) -> Value {
    let schema = json!({
        "type": "object",
        "required": ["fingerprint"],
        "properties": {"fingerprint": {"$ref": "#/components/schemas/Fingerprint"}},
    });
    let mut operation = keyed(get(
        id,
        summary,
        json!({
            "200": {"description": "The generation that is live now, or was dropped", "content": {"application/json": {"schema": schema}}},
            "403": {"$ref": "#/components/responses/Forbidden"},
            "404": problem("No generation has such a fingerprint"),
            "409": problem("The state of the generation does not allow it"),
            "501": problem("This daemon rolls nothing out: rollout.registry is empty"),
            "503": retried("Something does not answer now, or too many commands wait"),
        }),
    ));
    if names_one {
        let description = "The fingerprint, or as many of its first digits as tell it apart";
        operation["parameters"] = json!([parameter("fingerprint", json!({"type": "string", "minLength": 1}), description)]);
        operation["responses"]["400"] = problem("The fingerprint can't be read");
        operation = sorted(operation);
    }
    operation
}

fn rollout_schema() -> Value {
    let fingerprint = json!({"$ref": "#/components/schemas/Fingerprint"});
    let optional = |description: &str| json!({"type": "integer", "description": description});
    json!({
        "type": "object",
        "required": ["generations", "refused"],
        "properties": {
            "generations": {"type": "array", "items": {
                "type": "object",
                "required": ["fingerprint", "bundle", "state", "points"],
                "properties": {
                    "fingerprint": fingerprint,
                    "bundle": {"type": "string"},
                    "state": {"type": "string", "enum": ["live", "filling", "verifying", "retired", "held", "stored"]},
                    "since_ms": optional("Kept without being live since then, milliseconds since 1970"),
                    "points": {"type": "object", "additionalProperties": {"type": "integer"}, "description": "Live points by kind"},
                    "lag_records": optional("Records that its group has not acknowledged"),
                    "progress": {"type": "number", "minimum": 0, "maximum": 1, "description": "Share of what it is filled from that it has"},
                    "eta_seconds": optional("Until it is at the live head, at its present speed"),
                    "waits_for": {"type": "string"},
                },
            }},
            "refused": {"type": "array", "items": {
                "type": "object",
                "required": ["fingerprint", "bundle", "reason"],
                "properties": {"fingerprint": fingerprint, "bundle": {"type": "string"}, "reason": {"type": "string"}},
            }},
            "registry_problem": {"type": "string"},
        },
    })
}
