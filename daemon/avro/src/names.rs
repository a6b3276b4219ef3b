//! Names in writers' schemas. The specification allows ASCII letters, digits and `_`; registries, Connect and Debezium let others
//! through (a topic prefix with a hyphen becomes a namespace), and names do not change the bytes of a record.

use std::sync::OnceLock;

use apache_avro::AvroResult;
use apache_avro::error::Details;
use apache_avro::validator::{
    EnumSymbolNameValidator, RecordFieldNameValidator, SchemaNameValidator, SchemaNamespaceValidator,
    set_enum_symbol_name_validator, set_record_field_name_validator, set_schema_name_validator, set_schema_namespace_validator,
};

/// What a name must be, for the errors.
const RULE: &str = "no part is empty, and none holds a control character, white space or a quotation mark";

/// Any name whose parts, between dots, can be told apart.
struct AnyName;

fn is_part(part: &str) -> bool {
    !part.is_empty() && !part.contains(|c: char| c.is_control() || c.is_whitespace() || c == '"')
}

impl SchemaNameValidator for AnyName {
    fn validate(&self, full_name: &str) -> AvroResult<usize> {
        // A name without a namespace may be written with a dot before it.
        let parts = full_name.strip_prefix('.').unwrap_or(full_name);
        if !parts.split('.').all(is_part) {
            return Err(Details::InvalidSchemaName(full_name.to_owned(), RULE).into());
        }
        Ok(full_name.rfind('.').map_or(0, |dot| dot + 1))
    }
}

impl SchemaNamespaceValidator for AnyName {
    fn validate(&self, namespace: &str) -> AvroResult<()> {
        if namespace.is_empty() || namespace.split('.').all(is_part) {
            return Ok(());
        }
        Err(Details::InvalidNamespace(namespace.to_owned(), RULE).into())
    }
}

impl EnumSymbolNameValidator for AnyName {
    fn validate(&self, symbol: &str) -> AvroResult<()> {
        if is_part(symbol) { Ok(()) } else { Err(Details::EnumSymbolName(symbol.to_owned()).into()) }
    }
}

impl RecordFieldNameValidator for AnyName {
    fn validate(&self, field: &str) -> AvroResult<()> {
        if is_part(field) { Ok(()) } else { Err(Details::FieldName(field.to_owned()).into()) }
    }
}

/// Tells the parser, once in a process and before its first schema: the first one would make its own rules final.
pub(crate) fn accept_any() {
    static TOLD: OnceLock<()> = OnceLock::new();
    TOLD.get_or_init(|| {
        // An error says that somebody has told it before; then those rules hold.
        let _ = set_schema_name_validator(Box::new(AnyName));
        let _ = set_schema_namespace_validator(Box::new(AnyName));
        let _ = set_enum_symbol_name_validator(Box::new(AnyName));
        let _ = set_record_field_name_validator(Box::new(AnyName));
    });
}
