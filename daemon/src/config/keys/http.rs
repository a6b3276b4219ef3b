//! Keys of `[http]` and of the sections below it.

use super::KeyKind::{Bool, Float, Integer, Text};
use super::Need::Default;
use super::{GIB, KIB, MINUTE_MS, Section, SectionForm, key};

/// `[http]`
pub(super) const SERVER: Section = Section {
    name: "http",
    doc: "The HTTP interface and the page.",
    form: SectionForm::Table(&[
        key("listen", Text, Default("\"127.0.0.1:8080\""), "Address and port to listen on; port 0 picks a free one."),
        key(
            "body_bytes_max",
            Integer(KIB, GIB),
            Default("20971520"),
            "Largest request body, bytes; of one sent with content-encoding: gzip after it is unpacked.",
        ),
        key("requests_in_flight_max", Integer(1, 65_536), Default("64"), "Most requests at once; beyond it the answer is 503."),
        key("timeout_ms", Integer(1, 10 * MINUTE_MS), Default("10000"), "Longest time for one request, milliseconds."),
        key(
            "read_timeout_ms",
            Integer(1, 10 * MINUTE_MS),
            Default("8000"),
            "Longest time for the headers of a request, and for its body, to arrive, milliseconds. The headers' time begins when the \
             connection opens or the last answer is sent; when it is over the connection is closed. A late body is answered 408.",
        ),
    ]),
};

/// `[http.rate]`
pub(super) const RATE: Section = Section {
    name: "http.rate",
    doc: "How often one caller may ask /v1: each API key has a bucket of its own; without a key each peer address has one (of IPv6 \
          its /64). Behind a proxy every caller has the proxy's address: give them keys.",
    form: SectionForm::Table(&[
        key(
            "requests_per_s",
            Float(0.0, 1_000_000.0),
            Default("0.0"),
            "Requests a second that a caller may send for long; beyond it the answer is 429. 0 sets no limit.",
        ),
        key(
            "burst_s",
            Float(0.0, 3600.0),
            Default("2.0"),
            "How many seconds' worth of requests a caller may send at once after a pause, seconds; always at least one request.",
        ),
        key(
            "callers_max",
            Integer(16, 10_000_000),
            Default("10000"),
            "Most peer addresses that are remembered; beyond it the least recently used begin anew with a full bucket.",
        ),
    ]),
};

/// `[http.tls]`
pub(super) const TLS: Section = Section {
    name: "http.tls",
    doc: "The certificate to serve HTTPS with; without it HTTP is plain. The files are read again when they change.",
    form: SectionForm::Table(&[
        key(
            "certificate_file",
            Text,
            Default("\"\""),
            "File of the certificate, then of those that vouch for it, in PEM; empty serves plain HTTP.",
        ),
        key("key_file", Text, Default("\"\""), "File of its private key, unencrypted, in PEM."),
        key(
            "client_ca_file",
            Text,
            Default("\"\""),
            "File of the certificates in PEM that vouch for clients: who shows none of theirs is cut off, health checks included. Empty \
             asks for none.",
        ),
    ]),
};

/// `[http.auth]`
pub(super) const AUTH: Section = Section {
    name: "http.auth",
    doc: "API keys. With at least one in the sections below, /v1 is answered to them only, sent as `authorization: Bearer KEY` or \
          `x-api-key: KEY`. The page, /openapi.json, /healthz and /readyz are always open; they tell nothing of the items.",
    form: SectionForm::Table(&[key(
        "metrics_open",
        Bool,
        Default("true"),
        "Whether /metrics is answered without a key too; false asks for one of either role.",
    )]),
};

/// `[http.auth.read_keys]`
pub(super) const READ_KEYS: Section = Section {
    name: "http.auth.read_keys",
    doc: "Name of a caller and the file that holds its key, at least 16 characters: may search, re-score and embed. The name is what \
          logs show.",
    form: SectionForm::Map("\"editor\" = \"/run/secrets/editor-key\""),
};

/// `[http.auth.write_keys]`
pub(super) const WRITE_KEYS: Section = Section {
    name: "http.auth.write_keys",
    doc: "As http.auth.read_keys, for callers that may administer the daemon too. Without any key in either section, only callers \
          on this machine may.",
    form: SectionForm::Map("\"operator\" = \"/run/secrets/operator-key\""),
};
