//! Keys of `[kafka.schema_registry]`.

use super::KeyKind::{Integer, Text};
use super::Need::Default;
use super::{MINUTE_MS, Section, SectionForm, key};

/// `[kafka.schema_registry]`
pub(super) const SCHEMA_REGISTRY: Section = Section {
    name: "kafka.schema_registry",
    doc: "The registry that has the schemas of topics whose format is avro; it is asked by Confluent's API. Only kafka.results.format writes \
          to it.",
    form: SectionForm::Table(&[
        key("url", Text, Default("\"\""), "Root of the API, for example https://registry.internal:8081; empty for none."),
        key("username", Text, Default("\"\""), "User name; empty sends none."),
        key("password_file", Text, Default("\"\""), "File that holds the user's password."),
        key("ca_file", Text, Default("\"\""), "Certificates in PEM that are trusted beside the system's; empty for none."),
        key(
            "timeout_ms",
            Integer(100, 10 * MINUTE_MS),
            Default("5000"),
            "Longest time for one request, milliseconds. A registry that does not answer is asked again; its records wait.",
        ),
    ]),
};
