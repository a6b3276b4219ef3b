//! Shards of every layout, whole and broken; their stream, its order, its sharing out and its resume.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use astromech_trainer::zero::{FaultKind, ImageSource, Place, Position, RecordStream, StreamSettings, ZeroError, ZeroRecord};
use flate2::Compression;
use flate2::write::GzEncoder;
use parquet::basic::{Compression as PageCompression, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

const PICTURE: &[u8] = b"not a picture, but bytes";

fn line(number: usize) -> String {
    format!(r#"{{"id":"r{number}","image":"a.png","query":"查询{number}","title":"标题","content":"内容{number}","url":"u"}}"#)
}

pub(crate) fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// Shards of ten records, ids r0, r1, …
fn write_shards(folder: &Path, shards: usize) {
    for shard in 0..shards {
        let text: String = (0..10).map(|number| line(shard * 10 + number) + "\n").collect();
        write(folder, &format!("{shard:03}.jsonl"), &text);
    }
}

fn settings(folder: &Path, shuffle_records: usize) -> StreamSettings {
    StreamSettings { shards: vec![folder.display().to_string()], shuffle_records, ..StreamSettings::default() }
}

fn draw(stream: &mut RecordStream, count: usize) -> Vec<String> {
    (0..count).map(|_| stream.draw().unwrap().record.id).collect()
}

/// All records of one epoch of one file, in order, with the faults by kind and the first one.
pub(crate) fn read(path: &Path, change: impl FnOnce(&mut StreamSettings)) -> (Vec<ZeroRecord>, Vec<(FaultKind, u64)>, String) {
    let mut settings = settings(path, usize::MAX);
    change(&mut settings);
    let mut stream = RecordStream::open(settings, 0).unwrap();
    // The first draw reads the whole epoch into the buffer.
    let mut drawn: Vec<ZeroRecord> = Vec::new();
    let first = match stream.draw() {
        Ok(first) => Some(first),
        Err(ZeroError::Empty { .. }) => None,
        Err(error) => panic!("{error}"),
    };
    let faults = stream.ledger.counts().iter().map(|(kind, count)| (*kind, *count)).collect();
    let read = stream.position().read as usize;
    drawn.extend(first.map(|first| first.record));
    while drawn.len() < read {
        drawn.push(stream.draw().unwrap().record);
    }
    drawn.sort_by_key(|record| match &record.place {
        Place::Line(number) | Place::Row(number) => (*number, String::new()),
        Place::Member(key) => (0, key.clone()),
        Place::Shard => (0, String::new()),
    });
    (drawn, faults, stream.ledger.first().unwrap_or_default().to_owned())
}

fn write_parquet(path: &Path, compression: PageCompression, ids: &[&str], groups: usize) {
    let schema = "message m { required binary id (UTF8); required binary query (UTF8); optional binary title (UTF8); required binary jpg; required int64 width; }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
    let mut writer = SerializedFileWriter::new(std::fs::File::create(path).unwrap(), schema, properties).unwrap();
    for part in ids.chunks(ids.len().div_ceil(groups)) {
        let mut group = writer.next_row_group().unwrap();
        let texts = |prefix: &str| -> Vec<ByteArray> {
            part.iter().map(|id| ByteArray::from(format!("{prefix}{id}").as_str())).collect()
        };
        let pictures: Vec<ByteArray> = part.iter().map(|_| ByteArray::from(PICTURE.to_vec())).collect();
        for column in 0..5 {
            let mut column_writer = group.next_column().unwrap().unwrap();
            match column {
                4 => {
                    let values: Vec<i64> = part.iter().map(|_| 7).collect();
                    column_writer.typed::<parquet::data_type::Int64Type>().write_batch(&values, None, None).unwrap();
                }
                2 => {
                    let levels: Vec<i16> = part.iter().map(|_| 0).collect();
                    column_writer.typed::<ByteArrayType>().write_batch(&[], Some(&levels), None).unwrap();
                }
                _ => {
                    let values = match column {
                        0 => texts(""),
                        1 => texts("查询"),
                        _ => pictures.clone(),
                    };
                    column_writer.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
                }
            }
            column_writer.close().unwrap();
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
}

fn write_tar(path: &Path, records: usize) {
    let mut tar = tar::Builder::new(std::fs::File::create(path).unwrap());
    let mut add = |name: String, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append_data(&mut header, name, bytes).unwrap();
    };
    for number in 0..records {
        // img2dataset's names and fields; every tenth key is long enough for an extension header.
        let key = if number % 10 == 9 { format!("{number:09}{}", "x".repeat(120)) } else { format!("{number:09}") };
        let caption = format!("内容{number}");
        add(format!("{key}.jpg"), PICTURE);
        add(
            format!("{key}.json"),
            format!(r#"{{"caption":"{caption}","url":"https://x/{number}","key":"k{number}","width":9}}"#).as_bytes(),
        );
        add(format!("{key}.txt"), caption.as_bytes());
    }
    tar.into_inner().unwrap().sync_all().unwrap();
}

#[test]
fn every_layout_gives_the_same_texts() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let lines: String = (0..3).map(|number| line(number) + "\n").collect();
    write(folder.path(), "a.jsonl", &lines);
    let mut gzip = GzEncoder::new(std::fs::File::create(at("b.jsonl.gz")).unwrap(), Compression::fast());
    gzip.write_all(lines.as_bytes()).unwrap();
    gzip.finish().unwrap();
    let rows = [0, 1, 2].map(|n| format!("u\tr{n}\t查询{n}\t标题\t内容{n}\ta.png\n")).concat();
    write(folder.path(), "c.tsv", &format!("Url\tImageKey\tImageQuery\tTitle\tContent\tImageUrl\n{rows}"));
    write(folder.path(), "d.tsv", &rows);
    let (expected, faults, _) = read(&at("a.jsonl"), |_| {});
    assert!(faults.is_empty());
    assert_eq!(expected.len(), 3);
    assert_eq!((expected[1].id.as_str(), expected[1].query.as_str(), expected[1].content.as_str()), ("r1", "查询1", "内容1"));
    assert_eq!(expected[1].image, ImageSource::Path(at("a.png")));
    let names = ["url", "id", "query", "title", "content", "image"].map(str::to_owned).to_vec();
    for name in ["b.jsonl.gz", "c.tsv", "d.tsv"] {
        let (records, ..) = read(&at(name), |settings| settings.tsv_columns = (name == "d.tsv").then(|| names.clone()));
        let texts = |records: &[ZeroRecord]| -> Vec<[String; 5]> {
            records.iter().map(|r| [&r.id, &r.query, &r.title, &r.content, &r.url].map(Clone::clone)).collect()
        };
        assert_eq!(texts(&records), texts(&expected), "{name}");
    }
}

#[test]
fn parquet_is_read_by_row_group_with_its_pictures_in_all_three_compressions() {
    let folder = tempfile::tempdir().unwrap();
    let ids: Vec<String> = (0..100).map(|number| format!("r{number}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let compressions =
        [PageCompression::UNCOMPRESSED, PageCompression::SNAPPY, PageCompression::ZSTD(ZstdLevel::try_new(3).unwrap())];
    for compression in compressions {
        let path = folder.path().join("p.parquet");
        write_parquet(&path, compression, &ids, 3);
        let (records, faults, _) = read(&path, |_| {});
        assert!(faults.is_empty(), "{faults:?}");
        assert_eq!(records.iter().map(|record| record.id.as_str()).collect::<Vec<_>>(), ids);
        assert_eq!((records[99].query.as_str(), records[99].title.as_str()), ("查询r99", ""));
        assert_eq!(records[99].picture().unwrap(), PICTURE);
    }
}

#[test]
fn tar_records_are_whole_across_parts_and_their_pictures_stay_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("000000.tar");
    write_tar(&path, 600);
    let (records, faults, _) = read(&path, |_| {});
    assert!(faults.is_empty(), "{faults:?}");
    assert_eq!(records.len(), 600);
    for (number, record) in records.iter().enumerate() {
        assert_eq!((record.id.clone(), record.content.clone()), (format!("k{number}"), format!("内容{number}")));
        assert!(matches!(record.image, ImageSource::Within { .. }));
        assert_eq!(record.picture().unwrap(), PICTURE);
    }
}

#[test]
fn each_fault_is_named_with_its_file_and_line_and_the_rest_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let good = line(1);
    let cases: [(&str, Vec<u8>, FaultKind, &str); 9] = [
        ("missing text", br#"{"id":"x","image":"a.png"}"#.to_vec(), FaultKind::WrongColumn, "query, ImageQuery"),
        ("missing picture", br#"{"query":"x"}"#.to_vec(), FaultKind::WrongColumn, "ImageUrl"),
        ("list", br#"{"image":"a.png","query":["x"]}"#.to_vec(), FaultKind::WrongColumn, "holds a list"),
        ("empty", br#"{"image":"a.png","query":" ","title":"","content":null}"#.to_vec(), FaultKind::EmptyText, "are empty"),
        ("utf-8", b"{\"image\":\"a.png\",\"query\":\"\xFF\"}".to_vec(), FaultKind::NotUtf8, "UTF-8"),
        ("no json", b"{broken".to_vec(), FaultKind::BadRow, "line 2"),
        ("outside", br#"{"image":"../a.png","query":"x"}"#.to_vec(), FaultKind::NoPicture, "must stay inside"),
        ("empty picture", br#"{"image":"","query":"x"}"#.to_vec(), FaultKind::NoPicture, "is empty"),
        ("base64", br#"{"image_bytes":"%%","query":"x"}"#.to_vec(), FaultKind::WrongColumn, "base64"),
    ];
    for (name, bad, kind, says) in cases {
        let path = folder.path().join("s.jsonl");
        let text = [good.as_bytes(), b"\n", &bad, b"\n", good.as_bytes(), b"\n"].concat();
        std::fs::write(&path, text).unwrap();
        let (records, faults, first) = read(&path, |_| {});
        assert_eq!(records.len(), 2, "{name}");
        assert_eq!(faults, [(kind, 1)], "{name}");
        assert!(first.contains("s.jsonl, line 2") && first.contains(says), "{name}: {first}");
    }
    let path = write(folder.path(), "t.tsv", "id\timage\tquery\n1\ta\tq\n2\ta\n3\ta\tq\n");
    let (records, faults, first) = read(&path, |_| {});
    assert_eq!((records.len(), faults), (2, vec![(FaultKind::WrongColumn, 1)]));
    assert!(first.contains("line 3") && first.contains("2 cells, 3 columns"), "{first}");
    let path = write(folder.path(), "h.tsv", "bild\tsuche\n1\t2\n");
    let (records, faults, first) = read(&path, |_| {});
    assert_eq!((records.len(), faults), (0, vec![(FaultKind::WrongColumn, 1)]));
    assert!(first.contains("bild, suche"), "{first}");
}

#[test]
fn a_truncated_shard_is_one_fault_and_what_is_before_the_cut_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let cut = |name: &str, bytes: u64| std::fs::File::options().write(true).open(at(name)).unwrap().set_len(bytes).unwrap();
    let truncated = vec![(FaultKind::Truncated, 1)];

    // In the middle of a string, and of a character.
    for kept in [39, 40] {
        std::fs::write(at("a.jsonl"), [line(0).as_bytes(), b"\n", &line(1).as_bytes()[..kept]].concat()).unwrap();
        let (records, faults, first) = read(&at("a.jsonl"), |_| {});
        assert_eq!((records.len(), &faults), (1, &truncated), "{first}");
    }

    let mut gzip = GzEncoder::new(std::fs::File::create(at("b.jsonl.gz")).unwrap(), Compression::none());
    (0..1000).for_each(|number| writeln!(gzip, "{}", line(number)).unwrap());
    gzip.finish().unwrap();
    cut("b.jsonl.gz", 70_000);
    let (records, faults, first) = read(&at("b.jsonl.gz"), |_| {});
    assert!(records.len() > 100 && records.len() < 1000);
    assert_eq!(faults, truncated, "{first}");

    // Each record has three members of a header and a block; r9 has long names of two more blocks each.
    for (bytes, whole, says) in [
        (512 * 6 * 3 + 512 + 10, 3, "ends inside member"),
        (512 * 6 * 4, 4, "between two members"),
        (512 * 6 * 2 + 100, 1, "header"),
    ] {
        write_tar(&at("c.tar"), 12);
        cut("c.tar", bytes);
        let (records, faults, first) = read(&at("c.tar"), |_| {});
        assert_eq!((records.len(), &faults), (whole, &truncated), "{first}");
        assert!(first.contains("c.tar") && first.contains(says), "{first}");
    }

    write_parquet(&at("d.parquet"), PageCompression::SNAPPY, &["a", "b"], 1);
    let length = std::fs::metadata(at("d.parquet")).unwrap().len();
    cut("d.parquet", length - 20);
    let (records, faults, first) = read(&at("d.parquet"), |_| {});
    assert_eq!((records.len(), &faults), (0, &truncated), "{first}");
    assert!(first.contains("footer"), "{first}");
}

#[test]
fn a_parquet_group_that_breaks_is_left_out_and_the_next_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.parquet");
    let ids: Vec<String> = (0..60).map(|number| format!("name-of-record-{number}")).collect();
    write_parquet(&path, PageCompression::UNCOMPRESSED, &ids.iter().map(String::as_str).collect::<Vec<_>>(), 2);
    let mut bytes = std::fs::read(&path).unwrap();
    let needle = b"name-of-record-7";
    let at = bytes.windows(needle.len()).position(|window| window == needle).unwrap();
    bytes[at] = 0xFF;
    std::fs::write(&path, bytes).unwrap();
    let (records, faults, first) = read(&path, |_| {});
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(first.contains("left out"), "{first}");
    // No text is beside another's record.
    assert!(records.len() >= 30 && records.len() < 60);
    assert!(records.iter().all(|record| record.query == format!("查询{}", record.id)));
    assert_eq!(records.last().unwrap().id, "name-of-record-59");
}

#[test]
fn too_many_faults_stop_the_stream_and_name_the_worst_shard() {
    let folder = tempfile::tempdir().unwrap();
    write_shards(folder.path(), 3);
    let bad: String = (0..30).map(|_| "{}\n").collect();
    write(folder.path(), "bad.jsonl", &bad);
    write(folder.path(), "one.jsonl", "{}\n");
    let settings = StreamSettings { faults_max: 20, ..settings(folder.path(), 5) };
    let mut stream = RecordStream::open(settings, 1).unwrap();
    let error = (0..1000).find_map(|_| stream.draw().err()).unwrap().to_string();
    assert!(error.contains("faults_max = 20") && error.contains("bad.jsonl") && error.contains("wrong_column 21"), "{error}");
    let only_bad =
        StreamSettings { shards: vec![folder.path().join("bad.jsonl").display().to_string()], ..StreamSettings::default() };
    let error = RecordStream::open(only_bad, 1).unwrap().draw().unwrap_err().to_string();
    assert!(error.contains("none of the 1 shards holds a usable record") && error.contains("line 1"), "{error}");
}

#[test]
fn an_epoch_gives_every_record_once_in_an_order_of_seed_and_epoch() {
    let folder = tempfile::tempdir().unwrap();
    write_shards(folder.path(), 8);
    let epochs = |seed, shuffle| {
        let mut stream = RecordStream::open(settings(folder.path(), shuffle), seed).unwrap();
        [draw(&mut stream, 80), draw(&mut stream, 80)]
    };
    let [first, second] = epochs(5, 20);
    let all: BTreeSet<&String> = first.iter().collect();
    assert_eq!(all.len(), 80);
    assert_eq!(all, second.iter().collect());
    assert_ne!(first, second);
    assert_eq!(epochs(5, 20), [first.clone(), second]);
    assert_ne!(epochs(6, 20)[0], first);
    let in_order: Vec<String> = (0..80).map(|number| format!("r{number}")).collect();
    assert_eq!(epochs(5, 1)[0], in_order);
    // The buffer mixes shards: among the first ten are records of more than two.
    let shards: BTreeSet<usize> = first[..10].iter().map(|id| id[1..].parse::<usize>().unwrap() / 10).collect();
    assert!(shards.len() > 1, "{shards:?}");
}

#[test]
fn workers_share_the_shards_without_overlap() {
    let folder = tempfile::tempdir().unwrap();
    write_shards(folder.path(), 7);
    let mut seen = BTreeSet::new();
    for (worker, shards) in [(0, 3), (1, 2), (2, 2)] {
        let own = StreamSettings { worker, workers: 3, ..settings(folder.path(), 4) };
        let mut stream = RecordStream::open(own, 2).unwrap();
        let ids = draw(&mut stream, shards * 10);
        assert_eq!(stream.epoch(), 0);
        assert!(ids.into_iter().all(|id| seen.insert(id)));
    }
    assert_eq!(seen.len(), 70);
    let own = StreamSettings { worker: 8, workers: 9, ..settings(folder.path(), 4) };
    let error = RecordStream::open(own, 2).err().unwrap().to_string();
    assert!(error.contains("9 workers share 7 shards"), "{error}");
}

/// Shards with faults at their begin, middle and end, and one without any record.
fn write_faulty_shards(folder: &Path) {
    write_shards(folder, 6);
    let mixed = format!("{{}}\n{}\n{{}}\n{}\n{{}}\n{{}}\n", line(900), line(901));
    write(folder, "006.jsonl", &mixed);
    write(folder, "007.jsonl", "{}\n");
    write_tar(&folder.join("008.tar"), 12);
}

#[test]
fn a_stream_resumed_anywhere_goes_on_as_if_it_had_not_stopped() {
    let folder = tempfile::tempdir().unwrap();
    write_faulty_shards(folder.path());
    for shuffle in [1, 7, 30, 500] {
        let open = || RecordStream::open(settings(folder.path(), shuffle), 11).unwrap();
        let mut whole = open();
        let mut positions: Vec<Position> = vec![whole.position()];
        let mut ids = Vec::new();
        for _ in 0..160 {
            ids.extend(draw(&mut whole, 1));
            positions.push(whole.position());
        }
        assert_eq!(whole.epoch(), 2);
        let faults = whole.ledger.counts().clone();
        for (drawn, position) in positions.iter().enumerate().step_by(3) {
            let stored: Position = serde_json::from_str(&serde_json::to_string(position).unwrap()).unwrap();
            let mut stream = open();
            stream.resume(&stored).unwrap();
            assert_eq!(&stream.position(), position, "shuffle {shuffle}, drawn {drawn}");
            assert_eq!(draw(&mut stream, 160 - drawn), ids[drawn..], "shuffle {shuffle}, drawn {drawn}");
            assert_eq!(stream.ledger.counts(), &faults, "shuffle {shuffle}, drawn {drawn}");
            assert_eq!(stream.position(), positions[160]);
        }
    }
}

#[test]
fn resuming_reads_no_shard_whose_records_are_all_given_out() {
    let folder = tempfile::tempdir().unwrap();
    write_shards(folder.path(), 20);
    let open = || RecordStream::open(settings(folder.path(), 5), 3).unwrap();
    let mut whole = open();
    let begin = draw(&mut whole, 150);
    let position = whole.position();
    let rest = draw(&mut whole, 50);
    let needed: BTreeSet<&str> = rest.iter().map(String::as_str).collect();
    let mut emptied = 0;
    for shard in 0..20 {
        let ids: Vec<String> = (0..10).map(|number| format!("r{}", shard * 10 + number)).collect();
        if ids.iter().all(|id| begin.contains(id) && !needed.contains(id.as_str())) {
            write(folder.path(), &format!("{shard:03}.jsonl"), "");
            emptied += 1;
        }
    }
    assert!(emptied >= 10, "{emptied}");
    let mut stream = open();
    stream.resume(&position).unwrap();
    assert_eq!(draw(&mut stream, 50), rest);
}

#[test]
fn a_position_of_other_shards_or_settings_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    write_shards(folder.path(), 4);
    let mut stream = RecordStream::open(settings(folder.path(), 5), 3).unwrap();
    draw(&mut stream, 23);
    let position = stream.position();
    let error = RecordStream::open(settings(folder.path(), 6), 3).unwrap().resume(&position).unwrap_err().to_string();
    assert!(error.contains("shuffle_records 5") && error.contains("shuffle_records 6"), "{error}");
    for shard in 0..4 {
        write(folder.path(), &format!("{shard:03}.jsonl"), &(line(0) + "\n"));
    }
    let error = RecordStream::open(settings(folder.path(), 5), 3).unwrap().resume(&position).unwrap_err().to_string();
    assert!(error.contains(".jsonl") && error.contains("it had at least"), "{error}");
}

#[test]
fn a_picture_on_the_web_is_not_fetched_but_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "a.jsonl", "{\"ImageUrl\":\"https://x.example/1.jpg\",\"ImageQuery\":\"猫\"}\n");
    let (records, ..) = read(&path, |_| {});
    let fault = records[0].picture().unwrap_err();
    assert_eq!(fault.kind, FaultKind::UrlOnly);
    assert!(fault.to_string().contains("a.jsonl, line 1") && fault.to_string().contains("img2dataset"), "{fault}");
}

#[test]
fn the_check_reports_memory_and_faults() {
    let trainer = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_trainer")).arg("stream-check").args(args).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let (ok, text) = trainer(&["--synthetic", "--records", "30000", "--report-every", "10000", "--shuffle-records", "1000"]);
    assert!(ok && text.lines().count() == 4, "{text}");
    assert!(text.lines().all(|line| line.contains("RSS ") && line.contains("no faults")), "{text}");
    let folder = tempfile::tempdir().unwrap();
    write_faulty_shards(folder.path());
    let (ok, text) = trainer(&["--shards", &folder.path().display().to_string(), "--decode-px", "32"]);
    assert!(ok && text.contains("74 records") && text.contains("bad_picture 12") && text.contains("worst shard"), "{text}");
}
