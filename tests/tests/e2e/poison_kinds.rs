//! Every kind of poison that we know of, in one stream: each is one dead letter with its reason, odd things that are in order are applied,
//! and the daemon's memory stays within a figure.

use std::collections::BTreeSet;
use std::io::Write as _;

use astromech_e2e::items::{self, Item};
use astromech_e2e::paths::message;
use astromech_e2e::world;
use astromech_e2e::world::scratch;
use astromech_schemas::ImageSource;
use base64::Engine as _;
use flate2::Compression;
use flate2::write::GzEncoder;
use image::ExtendedColorType;
use serde_json::{Value, json};

use crate::hostile_pictures as pictures;
use crate::poison::{Bad, assert_dead_letters, bad, image, inline};
use crate::scenario::Scenario;

/// The daemon's memory at most, poison included: BENCHMARKS.md's 512 MiB of a daemon that indexes at full speed, and no more.
const RSS_MAX_BYTES: u64 = 512 * 1024 * 1024;
/// Kinds that the issue asks for.
const KINDS_MIN: usize = 40;

const INVALID: &str = "invalid_image";
const TOO_LARGE: &str = "image_too_large";
const RECORD: &str = "invalid_record";
const VERSION: &str = "invalid_version";

fn spoilt(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    bytes[at] ^= 0xff;
    bytes
}

fn cut(bytes: &[u8], part: usize) -> Vec<u8> {
    bytes[..bytes.len() / part].to_vec()
}

fn jpegs(photo: &[u8]) -> Vec<(&'static str, &'static str, Vec<u8>)> {
    vec![
        ("JPEG cut in the middle", INVALID, cut(photo, 2)),
        ("JPEG cut in its header", INVALID, photo[..20].to_vec()),
        ("JPEG without its end", INVALID, photo[..photo.len() - 2].to_vec()),
        ("JPEG of nothing but start and end", INVALID, vec![0xff, 0xd8, 0xff, 0xd9]),
        ("JPEG with a table of a wrong length", INVALID, spoilt(pictures::jpeg(0xc0, 8, 8, 8, 1), 5)),
        ("JPEG claiming 65,500 x 65,500", TOO_LARGE, pictures::jpeg(0xc0, 8, 65_500, 65_500, 1)),
        ("JPEG claiming 7,000 x 7,000 in 200 bytes", INVALID, pictures::jpeg(0xc0, 8, 7000, 7000, 1)),
        ("JPEG of no width", INVALID, pictures::jpeg(0xc0, 8, 0, 8, 1)),
        ("JPEG, lossless", INVALID, pictures::jpeg(0xc3, 8, 8, 8, 1)),
        ("JPEG of 12 bits", INVALID, pictures::jpeg(0xc1, 12, 8, 8, 1)),
        ("JPEG of five components", INVALID, pictures::jpeg(0xc0, 8, 8, 8, 5)),
    ]
}

fn pngs() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let png = pictures::png();
    let long = pictures::png_of(&vec![0; 100_000], 1, 100_000, ExtendedColorType::L8);
    vec![
        ("PNG cut in the middle", INVALID, cut(&png, 2)),
        ("PNG with a wrong byte among its pixels", INVALID, spoilt(png.clone(), png.len() / 2)),
        ("PNG with a wrong checksum in its header", INVALID, spoilt(png.clone(), 30)),
        ("PNG claiming 60,000 x 60,000", TOO_LARGE, pictures::png_declaring(60_000, 60_000)),
        ("PNG claiming 4,294,967,295 x 1", TOO_LARGE, pictures::png_declaring(u32::MAX, 1)),
        ("PNG claiming 60,000 x 60,000 without pixels", TOO_LARGE, pictures::png_without_pixels(60_000, 60_000)),
        ("PNG without pixels", INVALID, pictures::png_without_pixels(8, 8)),
        ("PNG with half its pixels", INVALID, pictures::png_with_half_its_pixels()),
        ("PNG of 1 x 100,000 pixels", TOO_LARGE, long),
        ("PNG of no width", INVALID, pictures::png_declaring(0, 8)),
        ("PNG of an unknown colour type", INVALID, pictures::png_with(8, 5)),
        ("PNG of 3 bits", INVALID, pictures::png_with(3, 0)),
    ]
}

fn others() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let gif = pictures::gif(3);
    vec![
        ("GIF cut in the middle of its first picture", INVALID, gif[..gif.len() / 6].to_vec()),
        ("GIF with a canvas of 65,535 x 65,535", TOO_LARGE, pictures::gif_declaring((65_535, 65_535), (1, 1))),
        ("GIF with a picture of 65,535 x 65,535 on a small canvas", TOO_LARGE, pictures::gif_declaring((1, 1), (65_535, 65_535))),
        ("GIF without a picture", INVALID, b"GIF89a\x01\0\x01\0\0\0\0\x3b".to_vec()),
        ("WebP cut in the middle", INVALID, cut(&pictures::webp(), 2)),
        ("WebP claiming 16,000,000 x 16,000,000", TOO_LARGE, pictures::webp_declaring(16_000_000, 16_000_000, 0)),
        ("WebP, animated, claiming 20,000 x 20,000", TOO_LARGE, pictures::webp_declaring(20_000, 20_000, 2)),
        ("WebP of a header alone", INVALID, pictures::webp_declaring(8, 8, 0)),
        ("BMP cut in the middle", INVALID, cut(&pictures::bmp(), 2)),
        ("BMP claiming 40,000 x -40,000", TOO_LARGE, pictures::bmp_declaring(40_000, -40_000)),
        ("SVG", INVALID, b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>".to_vec()),
        ("AVIF", INVALID, b"\0\0\0\x20ftypavif\0\0\0\0".to_vec()),
        ("TIFF", INVALID, b"II*\0\x08\0\0\0".to_vec()),
        ("PDF", INVALID, b"%PDF-1.7\n".to_vec()),
        ("ZIP", INVALID, b"PK\x03\x04\x14\0\0\0".to_vec()),
        ("picture packed by gzip", INVALID, gzip(&pictures::png())),
        ("noise", INVALID, (0..5000_u32).map(|n| (n * n % 251) as u8).collect()),
    ]
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(bytes).expect("bytes are packed");
    packed.finish().expect("bytes are packed")
}

/// What lies in files that are named as pictures.
fn files() -> Vec<Bad> {
    let folder = scratch("files");
    let address = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        std::fs::write(&path, bytes).expect("the file is written");
        image(&json!({"url": format!("file://{}", path.display())}))
    };
    let large = folder.join("large.jpg");
    std::fs::File::create(&large).and_then(|file| file.set_len(1 << 34)).expect("a file with a hole is made");
    let fifo = folder.join("pipe.jpg");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().expect("mkfifo starts");
    assert!(made.success(), "mkfifo {}", fifo.display());
    std::os::unix::fs::symlink("/etc/passwd", folder.join("link.jpg")).expect("a link is made");
    let at = |path: &std::path::Path| image(&json!({"url": format!("file://{}", path.display())}));
    vec![
        bad("HTML named .jpg", INVALID, address("page.jpg", "<!doctype html><title>404</title>此页不存在".as_bytes())),
        bad("SVG named .jpg", INVALID, address("drawing.jpg", b"<?xml version='1.0'?><svg xmlns='x'/>")),
        bad("file of zero bytes", INVALID, address("empty.jpg", b"")),
        bad("file of 16 GiB", "url_too_large", at(&large)),
        bad("pipe", "url_forbidden", at(&fifo)),
        bad("folder", "url_forbidden", at(&folder)),
        bad("link out of the folder", "url_forbidden", at(&folder.join("link.jpg"))),
    ]
}

fn article(fields: &Value) -> String {
    let mut message = json!({"kind": "article", "version": 1, "title": "标题", "body": "正文"});
    message.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
    message.to_string()
}

/// Text that no message is.
fn texts() -> Vec<Bad> {
    let good = article(&json!({}));
    let with = |from: &str, to: &str| good.replacen(from, to, 1);
    let utf16: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut not_utf8 = good.clone().into_bytes();
    let last = not_utf8.len() - 5;
    not_utf8[last] = 0xff;
    let nested = |open: &str, close: &str| format!("{}{}", open.repeat(100_000), close.repeat(100_000));
    vec![
        bad("invalid UTF-8", RECORD, not_utf8),
        bad("UTF-16", RECORD, utf16),
        // One before the document is read over; behind that it is no white space of JSON.
        bad("byte order mark within", RECORD, good.replacen('{', "{\u{feff}", 1)),
        bad("lone surrogate", RECORD, with("标题", "\\ud83d")),
        bad("surrogates the wrong way round", RECORD, with("标题", "\\ude00\\ud83d")),
        bad("control characters", RECORD, with("标题", "\u{1}\u{8}\u{1f}")),
        bad("NUL in a string", RECORD, with("标题", "a\0b")),
        bad("text of 10 MB", RECORD, article(&json!({"body": "长".repeat(3_500_000)}))),
        bad("text of spaces alone", RECORD, article(&json!({"title": " \u{3000}\n", "body": "\t"}))),
        bad("NaN", VERSION, with("\"version\":1", "\"version\":NaN")),
        bad("Infinity", VERSION, with("\"version\":1", "\"version\":-Infinity")),
        bad("number beyond any float", VERSION, with("\"version\":1", "\"version\":1e999")),
        bad("number of 100,000 digits", VERSION, with("\"version\":1", &format!("\"version\":{}", "9".repeat(100_000)))),
        bad("version with a fraction", VERSION, with("\"version\":1", "\"version\":1.5")),
        bad("version of 2^63", VERSION, with("\"version\":1", "\"version\":9223372036854775808")),
        bad("100,000 arrays in each other", RECORD, nested("[", "]")),
        bad("100,000 objects in each other", RECORD, nested("{\"a\":", "}")),
        bad("a title of arrays in each other", RECORD, with("\"标题\"", &nested("[", "]"))),
        bad("cut JSON", RECORD, &good.as_bytes()[..good.len() - 4]),
        bad("two messages", RECORD, format!("{good}{good}")),
        bad("a field twice", RECORD, with("\"version\":1", "\"version\":1,\"title\":\"a\"")),
        bad("an array", RECORD, format!("[{good}]")),
        bad("a string", RECORD, "\"article\""),
        bad("null", RECORD, "null"),
        bad("XML", RECORD, "<article><title>标题</title></article>"),
        bad("binary with a magic byte and a schema's number", RECORD, b"\0\0\0\0\x07\x0e\xe6\xa0\x87".to_vec()),
        bad("JSON packed by gzip", RECORD, gzip(good.as_bytes())),
    ]
}

/// Messages with wrong fields, ids and addresses.
fn fields(scenario: &Scenario) -> Vec<Bad> {
    let base64 = base64::engine::general_purpose::STANDARD.encode(pictures::png());
    let with_url = |url: &str| image(&json!({"url": url}));
    let mut giant = bad("key of 1 MB", "invalid_key", article(&json!({})));
    giant.record.key = Some(vec![b'k'; 1 << 20]);
    let mut binary = bad("key that is no text", "invalid_key", article(&json!({})));
    binary.record.key = Some(vec![0xc3, 0x28, 0]);
    vec![
        giant,
        binary,
        bad("id of 1 MB", "invalid_key", article(&json!({"id": "i".repeat(1 << 20)}))),
        bad("kind of a wrong type", RECORD, article(&json!({"kind": 7}))),
        bad("tags of a wrong type", RECORD, article(&json!({"tags": {"a": 1}}))),
        bad("1,000 tags", RECORD, article(&json!({"tags": (0..1000).map(|n| n.to_string()).collect::<Vec<_>>()}))),
        bad("picture by both ways", RECORD, image(&json!({"url": "file:a.jpg", "bytes": base64}))),
        bad("picture by no way", RECORD, image(&json!({}))),
        bad("base64 that is none", RECORD, image(&json!({"bytes": "%%%%"}))),
        bad("picture of zero bytes", RECORD, inline(b"")),
        bad("address of 9,000 bytes", RECORD, with_url(&format!("http://localhost/{}", "a".repeat(9000)))),
        bad("address with a password", "url_forbidden", with_url("http://me:secret@localhost/1.jpg")),
        bad("address of a metadata service", "url_forbidden", with_url("http://169.254.169.254/latest/meta-data")),
        bad("address in decimal", "url_forbidden", with_url(&format!("http://2130706433:{}/1.jpg", scenario.host.port()))),
        bad("address in data:", "url_forbidden", with_url("data:image/png;base64,AAAA")),
        bad("address of a file with dots", "url_forbidden", with_url("file:../../../../../../etc/hostname")),
    ]
}

/// Odd, and in order: applied.
fn odd(scenario: &Scenario) -> Vec<Item> {
    let kinds: Vec<(&str, Vec<u8>)> = vec![
        ("PNG of 16 bits", pictures::png_16_bit()),
        ("CMYK JPEG with Adobe's marker", pictures::jpeg(0xc0, 8, 8, 8, 4)),
        ("gray JPEG of 8 x 8 pixels", pictures::jpeg(0xc0, 8, 8, 8, 1)),
        // As libjpeg and Pillow read it; decoders of browsers do not.
        ("JPEG, arithmetically coded", pictures::jpeg(0xc9, 8, 8, 8, 1)),
        ("PNG of one pixel", pictures::png_of(&[7], 1, 1, ExtendedColorType::L8)),
        ("PNG with a profile of 64 MiB", pictures::png_with_profile_bomb()),
        ("PNG with a text of 64 MiB", pictures::png_with_text_bomb()),
        ("GIF of 200 pictures", pictures::gif(200)),
        ("PNG with bytes behind its end", [pictures::png(), vec![0; 1000]].concat()),
        ("BMP", pictures::bmp()),
        ("WebP", pictures::webp()),
    ];
    let item = |(what, bytes): (&str, Vec<u8>)| {
        let mut entry = scenario.corpus.entries[0].clone();
        entry.id = format!("odd-{what}\u{0}\u{1b}\u{202e}😀");
        items::image(&entry, 1, ImageSource::from_bytes(bytes))
    };
    kinds.into_iter().map(item).collect()
}

#[test]
fn every_kind_of_poison_is_one_dead_letter_odd_records_are_applied_and_memory_stays_within_its_figure() {
    let world = world();
    let mut scenario = Scenario::new(&world, "kinds");
    let photo = scenario.corpus.entries[0].bytes();
    let of_pictures = jpegs(&photo).into_iter().chain(pngs()).chain(others());
    let mut kinds: Vec<Bad> = of_pictures.map(|(what, reason, bytes)| bad(what, reason, inline(&bytes))).collect();
    kinds.extend(files());
    kinds.extend(texts());
    kinds.extend(fields(&scenario));
    let names: BTreeSet<_> = kinds.iter().map(|kind| kind.what).collect();
    assert!(names.len() == kinds.len() && names.len() >= KINDS_MIN, "{} names of {} kinds", names.len(), kinds.len());
    let odd = odd(&scenario);
    let odd_count = odd.len();

    let daemon = assert_dead_letters(&mut scenario, &kinds, odd);
    let peak = daemon.rss_peak_bytes();
    let mib = |bytes: u64| bytes / (1024 * 1024);
    message(&format!(
        "{} kinds of poison and {odd_count} odd records: {} MiB of memory at most, {} allowed",
        kinds.len(),
        mib(peak),
        mib(RSS_MAX_BYTES)
    ));
    assert!(peak <= RSS_MAX_BYTES, "{} MiB of memory at most, {} allowed", mib(peak), mib(RSS_MAX_BYTES));
}
