"""Pictures for Schemathesis: no JSON Schema can say what a readable one is, so the field's valid values are drawn from the demo's set."""

import base64
import os
import pathlib

import schemathesis

SMALL = sorted(pathlib.Path(os.environ["ASTROMECH_PICTURES"]).glob("*.jpg"), key=lambda path: path.stat().st_size)[:8]
PICTURES = [base64.b64encode(path.read_bytes()).decode() for path in SMALL]


@schemathesis.hook
def before_load_schema(ctx, raw_schema):
    raw_schema["components"]["schemas"]["InlineBytes"]["enum"] = PICTURES
