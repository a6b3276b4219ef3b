//! The schemas in `schemas/avro`, as they are registered: what is written with them is read as items.

use apache_avro::Schema;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use astromech_avro::WriterSchema;
use astromech_schemas::{Item, Kind, RecordLimits, decode_item};

const PICTURE: &[u8] = &[0xff, 0xd8, 0xff, 0];

fn some(value: impl Into<Value>) -> Value {
    Value::Union(1, Box::new(value.into()))
}

fn none() -> Value {
    Value::Union(0, Box::new(Value::Null))
}

fn record(fields: &[(&str, Value)]) -> Value {
    Value::Record(fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
}

fn kind(kind: Kind) -> Value {
    let index = [Kind::Article, Kind::Image, Kind::Ad, Kind::Video].iter().position(|each| *each == kind).unwrap();
    Value::Enum(index as u32, kind.to_string())
}

fn picture() -> Value {
    record(&[("url", none()), ("bytes", some(Value::Bytes(PICTURE.to_vec())))])
}

fn item(file: &str, fields: &[(&str, Value)]) -> Item {
    let path = format!("{}/../../schemas/avro/{file}.avsc", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let common = [
        ("id", some("one")),
        ("version", some(7_i64)),
        ("link", none()),
        ("language", some("zh-Hans")),
        ("time_ms", Value::Union(1, Box::new(Value::TimestampMillis(1_700_000_000_123)))),
        ("tags", Value::Array(vec!["猫".into(), "狗".into()])),
        ("attributes", Value::Map([("licence".to_owned(), Value::from("CC0"))].into())),
    ];
    let all: Vec<_> = fields.iter().cloned().chain(common).collect();
    let schema = Schema::parse_str(&text).unwrap();
    let datum = GenericDatumWriter::builder(&schema).build().unwrap().write_value_to_vec(record(&all)).unwrap();
    let json = WriterSchema::parse(&text, &[]).unwrap().to_json(&datum).unwrap();
    let item = decode_item(&json, None, &RecordLimits::default());
    let item = item.unwrap_or_else(|e| panic!("{file}: {e}\n{}", String::from_utf8_lossy(&json)));
    let common = item.common();
    assert_eq!((common.id.as_deref(), common.version, common.link.as_deref()), (Some("one"), Some(7), None));
    assert_eq!((common.language.as_deref(), common.time_ms), (Some("zh-Hans"), Some(1_700_000_000_123)));
    assert_eq!((common.tags.len(), common.attributes["licence"].as_str()), (2, "CC0"));
    item
}

#[test]
fn an_article_written_with_the_schema_to_register_is_read_as_an_article() {
    let fields = [("kind", kind(Kind::Article)), ("title", "标题".into()), ("body", "正文".into()), ("image", some(picture()))];
    let Item::Article(article) = item("article", &fields) else { panic!("no article") };
    assert_eq!((article.title.as_str(), article.body.as_str()), ("标题", "正文"));
    assert_eq!(article.image.unwrap().bytes.unwrap().0, PICTURE);
}

#[test]
fn an_image_written_with_the_schema_to_register_is_read_as_an_image() {
    let Item::Image(image) = item("image", &[("kind", kind(Kind::Image)), ("image", picture()), ("caption", none())]) else {
        panic!("no image")
    };
    assert_eq!((image.image.bytes.unwrap().0, image.caption), (PICTURE.to_vec(), None));
}

#[test]
fn an_ad_written_with_the_schema_to_register_is_read_as_an_ad() {
    let fields =
        [("kind", kind(Kind::Ad)), ("title", "好".into()), ("body", none()), ("image", none()), ("advertiser", some("Acme"))];
    let Item::Ad(ad) = item("ad", &fields) else { panic!("no ad") };
    assert_eq!((ad.title.as_str(), ad.body, ad.advertiser.as_deref()), ("好", None, Some("Acme")));
}

#[test]
fn a_video_written_with_the_schema_to_register_is_read_as_a_video() {
    let frame = |at: i64| record(&[("time_ms", at.into()), ("image", picture())]);
    let frames = Value::Array(vec![frame(0), frame(4000)]);
    let fields = [("kind", kind(Kind::Video)), ("frames", frames), ("title", some("片")), ("body", none())];
    let Item::Video(video) = item("video", &fields) else { panic!("no video") };
    assert_eq!((video.frames[1].time_ms, video.frames.len(), video.title.as_deref()), (4000, 2, Some("片")));
}
