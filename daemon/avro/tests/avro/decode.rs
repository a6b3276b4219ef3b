//! From a datum to JSON: every type, every kind of damage, and limits that hold whatever the bytes claim.

use apache_avro::Schema;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use astromech_avro::{DEPTH_MAX, WriterSchema, json_bytes_max};
use proptest::prelude::*;

fn schema(text: &str) -> WriterSchema {
    WriterSchema::parse(text, &[]).unwrap()
}

fn written(text: &str, value: Value) -> Vec<u8> {
    let schema = Schema::parse_str(text).unwrap();
    GenericDatumWriter::builder(&schema).build().unwrap().write_value_to_vec(value).unwrap()
}

fn json(text: &str, value: Value) -> String {
    String::from_utf8(schema(text).to_json(&written(text, value)).unwrap()).unwrap()
}

fn refused(text: &str, datum: &[u8]) -> String {
    schema(text).to_json(datum).unwrap_err().to_string()
}

/// A whole number as Avro writes it.
fn long(number: i64) -> Vec<u8> {
    written(r#""long""#, Value::Long(number))
}

#[test]
fn every_type_becomes_the_json_that_the_messages_have() {
    let logical = |inner: &str, name: &str| format!(r#"{{"type":"{inner}","logicalType":"{name}"}}"#);
    for (text, value, expected) in [
        (r#""boolean""#, Value::Boolean(true), "true"),
        (r#""int""#, Value::Int(-7), "-7"),
        (r#""long""#, Value::Long(i64::MIN), "-9223372036854775808"),
        (r#""long""#, Value::Long(i64::MAX), "9223372036854775807"),
        (r#""float""#, Value::Float(0.1), "0.1"),
        (r#""double""#, Value::Double(-2.5), "-2.5"),
        (r#""string""#, Value::from("引\"号\n"), "\"引\\\"号\\n\""),
        (r#""bytes""#, Value::Bytes(vec![1, 2, 3, 4]), "\"AQIDBA==\""),
        (r#"{"type":"fixed","name":"F","size":2}"#, Value::Fixed(2, vec![255, 0]), "\"/wA=\""),
        (r#"{"type":"enum","name":"E","symbols":["a","b"]}"#, Value::Enum(1, "b".to_owned()), "\"b\""),
        (r#"["null","string"]"#, Value::Union(1, Box::new("x".into())), "\"x\""),
        (r#"{"type":"array","items":"int"}"#, Value::Array(vec![Value::Int(1), Value::Int(2)]), "[1,2]"),
        (r#"{"type":"array","items":"int"}"#, Value::Array(vec![]), "[]"),
        (r#"{"type":"map","values":"int"}"#, Value::Map([("k".to_owned(), Value::Int(1))].into()), r#"{"k":1}"#),
        (&logical("long", "timestamp-millis"), Value::TimestampMillis(-1), "-1"),
        (&logical("long", "timestamp-micros"), Value::TimestampMicros(1_999_999), "1999"),
        (&logical("long", "timestamp-micros"), Value::TimestampMicros(-1), "-1"),
        (&logical("int", "date"), Value::Date(20_000), "20000"),
    ] {
        assert_eq!(json(text, value), expected, "{text}");
    }
    let uuid = r#"{"type":"fixed","name":"U","size":16,"logicalType":"uuid"}"#;
    let said = schema(uuid).to_json(&(0..16).collect::<Vec<u8>>()).unwrap();
    assert_eq!(said, b"\"00010203-0405-0607-0809-0a0b0c0d0e0f\"");
}

#[test]
fn fields_that_are_null_are_left_out_and_items_that_are_null_keep_their_place() {
    let text = r#"{"type":"record","name":"R","fields":[{"name":"a","type":["null","int"]},{"name":"b","type":"int"},
        {"name":"c","type":"null"},{"name":"d","type":{"type":"array","items":["null","int"]}}]}"#;
    // a: null, b: 1, c: nothing, d: one block of two items, null and 3.
    assert_eq!(schema(text).to_json(&[0, 2, 4, 0, 2, 6, 0]).unwrap(), br#"{"b":1,"d":[null,3]}"#);
    let all_null = r#"{"type":"record","name":"R","fields":[{"name":"a","type":["null","int"]}]}"#;
    assert_eq!(schema(all_null).to_json(&[0]).unwrap(), b"{}");
    let map = r#"{"type":"map","values":["null","int"]}"#;
    assert_eq!(schema(map).to_json(&[4, 2, b'a', 0, 2, b'b', 2, 2, 0]).unwrap(), br#"{"b":1}"#);
}

#[test]
fn a_block_with_its_size_is_read_as_one_without() {
    assert_eq!(schema(r#"{"type":"array","items":"int"}"#).to_json(&[3, 4, 2, 4, 0]).unwrap(), b"[1,2]");
}

#[test]
fn a_number_that_json_has_not_is_text_and_refuses_no_record() {
    let floats = r#"{"type":"array","items":["float","double"]}"#;
    let value = |number: Value, branch| Value::Union(branch, Box::new(number));
    let numbers = [f32::NAN, f32::INFINITY].map(|number| value(Value::Float(number), 0)).into_iter();
    let numbers = numbers.chain([f64::NAN, f64::NEG_INFINITY, 0.5].map(|number| value(Value::Double(number), 1)));
    assert_eq!(json(floats, Value::Array(numbers.collect())), r#"["NaN","inf","NaN","-inf",0.5]"#);
}

#[test]
fn what_is_damaged_is_named_with_its_path() {
    let text = r#"{"type":"record","name":"R","fields":[{"name":"title","type":"string"},
        {"name":"image","type":["null",{"type":"record","name":"I","fields":[{"name":"bytes","type":["null","bytes"]}]}]},
        {"name":"tags","type":{"type":"array","items":"string"}},{"name":"scores","type":{"type":"map","values":"double"}}]}"#;
    let whole = [2, b't', 2, 2, 4, 1, 2, 2, 2, b'x', 0, 2, 2, b'k', 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert!(schema(text).to_json(&whole).is_ok());
    let with = |at: usize, bytes: &[u8]| [&whole[..at], bytes, &whole[at + bytes.len()..]].concat();
    for (datum, says) in [
        (whole[..6].to_vec(), "image.bytes: cut off: bytes of 2 bytes, 1 are left"),
        (with(1, &[0xff]), "title: invalid UTF-8 at byte 0"),
        (with(0, &[3]), "title: a string of length -2"),
        (with(2, &[4]), "image: 2 is none of 2 branches"),
        (with(9, &[0xfe]), "tags[0]: invalid UTF-8"),
        ([&whole[..], &[0]].concat(), ".: 1 bytes behind the datum"),
    ] {
        let error = refused(text, &datum);
        assert!(error.starts_with(says), "{error}\nexpected: {says}");
        assert!(error.contains("; fix: "), "{error}");
    }
    assert!(refused(r#""boolean""#, &[2]).contains("2 is no boolean"));
    assert!(refused(r#""int""#, &long(1 << 31)).contains("is no int"));
    assert!(refused(r#""long""#, &[0xff; 10]).contains("more than 64 bits"));
    assert!(refused(r#"{"type":"enum","name":"E","symbols":["a"]}"#, &[2]).contains("1 is none of 1 symbols"));
}

#[test]
fn a_record_cut_off_anywhere_is_refused_and_never_taken_for_a_shorter_one() {
    let text = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"string"},{"name":"b","type":["null","string"]},
        {"name":"c","type":"boolean"},{"name":"d","type":["null","long"]}]}"#;
    let whole = [4, b'x', b'y', 2, 4, b'u', b'v', 1, 2, 8];
    assert!(schema(text).to_json(&whole).is_ok());
    for end in 0..whole.len() {
        assert!(refused(text, &whole[..end]).contains("cut off"), "{end}");
    }
}

#[test]
fn a_few_bytes_that_claim_much_are_refused_before_any_memory_is_taken_for_it() {
    let most = json_bytes_max(16);
    // 2^60 items of no bytes; a string and bytes of 2^50.
    let array = refused(r#"{"type":"array","items":"null"}"#, &[long(1 << 60), vec![0]].concat());
    assert!(array.contains(&format!("more than {} bytes of JSON", json_bytes_max(10))), "{array}");
    assert!(most < 2 * 1024 * 1024, "{most}");
    for text in [r#""string""#, r#""bytes""#] {
        assert!(refused(text, &long(1 << 50)).contains("cut off"), "{text}");
    }
    // Arrays of arrays, each small enough by itself.
    let nested = r#"{"type":"array","items":{"type":"array","items":{"type":"record","name":"Empty","fields":[]}}}"#;
    let inner = [long(100_000), vec![0]].concat();
    let outer = [long(1000), inner.repeat(1000), vec![0]].concat();
    assert!(refused(nested, &outer).contains("bytes of JSON"));
}

#[test]
fn the_longest_json_is_a_multiple_of_the_datum_and_never_more_than_128_mib() {
    assert_eq!(json_bytes_max(0), 1024 * 1024);
    assert_eq!(json_bytes_max(1024 * 1024), 9 * 1024 * 1024);
    assert_eq!(json_bytes_max(usize::MAX), 128 * 1024 * 1024);
    // What really grows most, control characters, fits.
    let text = "\u{1}".repeat(2_000_000);
    assert_eq!(json(r#""string""#, text.into()).len(), 12_000_002);
}

#[test]
fn nesting_beyond_its_limit_is_refused() {
    let text = r#"{"type":"record","name":"N","fields":[{"name":"n","type":["null","N"]}]}"#;
    let deep = |levels: usize| [vec![2; levels - 1], vec![0]].concat();
    assert!(schema(text).to_json(&deep(DEPTH_MAX)).is_ok());
    let error = refused(text, &deep(DEPTH_MAX + 1));
    assert!(error.contains("nested deeper than 64") && error.starts_with("n.n.n"), "{error}");
    assert!(refused(text, &deep(1_000_000)).contains("nested deeper"));
    // A record that holds itself without a choice can't end.
    assert!(refused(r#"{"type":"record","name":"S","fields":[{"name":"s","type":"S"}]}"#, &[]).contains("nested deeper"));
}

const SCHEMAS: [&str; 5] = [
    r#"{"type":"record","name":"N","fields":[{"name":"n","type":["null","N",{"type":"array","items":"N"}]},{"name":"d","type":"double"}]}"#,
    r#"{"type":"array","items":["null",{"type":"map","values":"bytes"},{"type":"enum","name":"E","symbols":["a","b"]}]}"#,
    r#"{"type":"map","values":{"type":"array","items":{"type":"record","name":"R","fields":[{"name":"s","type":"string"},{"name":"f","type":"float"}]}}}"#,
    r#"{"type":"array","items":{"type":"array","items":{"type":"array","items":"null"}}}"#,
    r#"{"type":"record","name":"A","fields":[{"name":"title","type":"string"},{"name":"when","type":{"type":"long","logicalType":"timestamp-micros"}},
        {"name":"x","type":{"type":"fixed","name":"F","size":3}},{"name":"tags","type":{"type":"array","items":"string"}}]}"#,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Small bytes are likely: they are small counts, lengths and branches.
    #[test]
    fn arbitrary_bytes_never_panic_and_what_comes_out_is_json_within_its_limit(
        which in 0..SCHEMAS.len(),
        datum in prop::collection::vec(prop_oneof![3 => 0_u8..8, 1 => any::<u8>()], 0..200),
    ) {
        if let Ok(json) = schema(SCHEMAS[which]).to_json(&datum) {
            prop_assert!(json.len() <= json_bytes_max(datum.len()));
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&json).is_ok(), "{}", String::from_utf8_lossy(&json));
        }
    }
}
