//! Keys of `[kafka.results]`.

use super::KeyKind::{Bool, Choice, Integer};
use super::Need::Default;
use super::{Section, SectionForm, key};

/// `[kafka.results]`
pub(super) const RESULTS: Section = Section {
    name: "kafka.results",
    doc: "What each result carries beside its names, and what it is written as.",
    form: SectionForm::Table(&[
        key("embeddings", Bool, Default("false"), "The item's vectors."),
        key(
            "neighbours",
            Integer(0, 100),
            Default("0"),
            "The nearest items of each kind, up to this many; one search of each collection for every upsert.",
        ),
        key(
            "format",
            Choice(&["json", "avro"]),
            Default("\"json\""),
            "What values are. avro: Confluent's wire format, by the schema schemas/avro/result.avsc in kafka.schema_registry.",
        ),
        key(
            "subject_name_strategy",
            Choice(&["topic_name", "record_name", "topic_record_name"]),
            Default("\"topic_name\""),
            "Of avro: the schema's subject. topic_name: RESULTS_TOPIC-value. record_name: astromech.v1.result.Result. topic_record_name: \
             both, with a hyphen between.",
        ),
        key(
            "auto_register_schemas",
            Bool,
            Default("true"),
            "Of avro: registers the schema where its subject does not have it. false: results wait until somebody has registered it.",
        ),
    ]),
};
