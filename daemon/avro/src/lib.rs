//! Records in Avro with a schema registry: Confluent's wire format (byte 0, the schema's id in four bytes, the datum) becomes JSON text
//! of the shape that `astromech-schemas` reads. The daemon goes on from there as with any JSON record. [`Writer`] goes the other way, for results.
//!
//! `apache-avro` parses schemas; what it reads of a datum is not strict enough for a daemon that must not take half a record for a whole
//! one. Its decoder takes a string, a boolean or a union that is cut off for null, tells nobody of bytes behind the datum, follows
//! a recursive schema as deep as the data likes, and bounds each array by itself but not all of them together. So [`WriterSchema`]
//! walks the data itself: see `json.rs`.
//!
//! The calls to the registry are made with reqwest and not with `schema_registry_converter`: that one keeps every schema it ever saw,
//! keeps errors until it is told to forget them, and says in the text of an error only whether an id is unknown (a dead letter) or the
//! registry won't answer (which is waited for).

#![forbid(unsafe_code)]

mod error;
mod json;
mod names;
mod registry;
mod schema;
mod subjects;
mod writer;

pub use error::{AvroError, Invalid, StartError};
pub use json::{DEPTH_MAX, json_bytes_max};
pub use registry::{REFERENCES_MAX, SCHEMA_BYTES_MAX, SCHEMAS_MAX, SchemaRegistry, SchemaRegistryOptions, UNKNOWN_FOR};
pub use schema::WriterSchema;
pub use subjects::{Standing, Subject};
pub use writer::{SubjectNameStrategy, Writer};

/// Bytes before the datum: 0 and the id.
pub const HEADER_BYTES: usize = 5;

/// Splits a record's value into the id of its schema and the datum.
///
/// # Errors
/// A value that is no longer than the header needs, or that does not begin with byte 0.
pub fn split(value: &[u8]) -> Result<(u32, &[u8]), Invalid> {
    let fix = "send Avro as Confluent's serializers do: byte 0, the schema's id in four bytes, the datum";
    match value {
        [0, a, b, c, d, datum @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), datum)),
        [b'{', ..] => {
            let fix = "set the topic's format to \"json\", or send Avro";
            Err(Invalid::new("starts with `{`: JSON sent to a topic whose format is avro", fix))
        }
        [0, ..] => Err(Invalid::new(format!("{} bytes, too few for a schema id", value.len()), fix)),
        [first, ..] => Err(Invalid::new(format!("starts with byte {first}, not with 0: no schema id"), fix)),
        [] => Err(Invalid::new("an empty value", format!("{fix}; a delete has no value at all (null)"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_taken_apart_and_anything_else_is_named() {
        assert_eq!(split(&[0, 0, 0, 1, 2, 9]), Ok((258, &[9][..])));
        assert_eq!(split(&[0, 255, 255, 255, 255]), Ok((u32::MAX, &[][..])));
        for (value, says) in [
            (&b"{\"kind\":\"ad\"}"[..], "starts with `{`: JSON sent to a topic whose format is avro"),
            (&[0, 0, 0], "3 bytes, too few"),
            (&[7, 0, 0, 0, 1], "starts with byte 7"),
            (&[], "an empty value"),
        ] {
            let error = split(value).expect_err("no header");
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}
