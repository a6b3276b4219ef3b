//! Pictures and texts as others write them: Hugging Face's structs and lists in Parquet, base64 of either alphabet.

use std::path::Path;
use std::sync::Arc;

use astromech_trainer::zero::{FaultKind, ImageSource};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::zero_stream::{read, write};

/// Values that are there, with the levels of definition and repetition of all.
type Leaf<'a> = (&'a [&'a [u8]], &'a [i16], &'a [i16]);

/// A Parquet file of one column of bytes or text, in one leaf or more, beside `query`.
fn write_column(path: &Path, column: &str, leaves: &[Leaf<'_>]) {
    let schema = format!("message m {{ required binary query (UTF8); {column} }}");
    let schema = Arc::new(parse_message_type(&schema).unwrap());
    let file = std::fs::File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let rows = leaves[0].2.iter().filter(|repetition| **repetition == 0).count();
    let queries: Vec<ByteArray> = (0..rows).map(|row| ByteArray::from(format!("查询{row}").as_str())).collect();
    let mut first = group.next_column().unwrap().unwrap();
    first.typed::<ByteArrayType>().write_batch(&queries, None, None).unwrap();
    first.close().unwrap();
    for (values, definitions, repetitions) in leaves {
        let values: Vec<ByteArray> = values.iter().map(|value| ByteArray::from(value.to_vec())).collect();
        let mut leaf = group.next_column().unwrap().unwrap();
        leaf.typed::<ByteArrayType>().write_batch(&values, Some(definitions), Some(repetitions)).unwrap();
        leaf.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
}

#[test]
fn a_picture_of_hugging_face_is_its_structs_bytes_or_the_file_at_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.parquet");
    let jpeg = b"\xff\xd8 bytes".as_slice();
    let parts = "optional binary bytes; optional binary path (UTF8);";
    // Bytes; none, and a path; both null; the struct null.
    let leaves: [Leaf<'_>; 2] = [(&[jpeg], &[2, 1, 1, 0], &[0; 4]), (&[b"1.jpg", b"2.jpg"], &[2, 2, 1, 0], &[0; 4])];
    for name in ["image", "image_bytes"] {
        write_column(&path, &format!("optional group {name} {{ {parts} }}"), &leaves);
        let (records, faults, first) = read(&path, |_| {});
        let pictures: Vec<_> = records.iter().map(|record| &record.image).collect();
        assert_eq!(pictures, [&ImageSource::Bytes(jpeg.to_vec()), &ImageSource::Path(folder.path().join("2.jpg"))], "{name}");
        assert_eq!(faults, [(FaultKind::NoPicture, 2)], "{name}: {first}");
        assert!(first.contains("row 3"), "{first}");
    }
    // The other order, and a part that is not known.
    let swapped = "required group image { optional binary path (UTF8); optional binary bytes; optional binary sha (UTF8); }";
    let one: Leaf<'_> = (&[b"x"], &[1], &[0]);
    write_column(&path, swapped, &[one, (&[jpeg], &[1], &[0]), one]);
    assert_eq!(read(&path, |_| {}).0[0].image, ImageSource::Bytes(jpeg.to_vec()));
}

#[test]
fn of_a_list_of_texts_the_first_counts_and_bytes_without_a_type_are_a_picture_or_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.parquet");
    // Three texts, the first blank; an empty list; null.
    let texts: [&[u8]; 3] = [b" ", "猫".as_bytes(), "狗".as_bytes()];
    for item in ["optional group list { optional binary element (UTF8); }", "optional group bag { optional binary item; }"] {
        let list = format!("optional group caption (LIST) {{ {} }}", item.replacen("optional", "repeated", 1));
        write_column(&path, &list, &[(&texts, &[3, 3, 3, 1, 0], &[0, 1, 1, 0, 0])]);
        let found: Vec<String> = read(&path, |settings| settings.columns.image = vec!["query".to_owned()])
            .0
            .into_iter()
            .map(|record| record.content)
            .collect();
        assert_eq!(found, ["猫"], "{item}");
    }
    write_column(&path, "optional binary image;", &[(&[b"\xff\xd8", b"a.png"], &[1, 1], &[0, 0])]);
    let images: Vec<_> = read(&path, |_| {}).0.into_iter().map(|record| record.image).collect();
    assert_eq!(images, [ImageSource::Bytes(b"\xff\xd8".to_vec()), ImageSource::Path(folder.path().join("a.png"))]);
}

#[test]
fn a_column_of_a_type_that_no_field_can_be_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.parquet");
    let one: Leaf<'_> = (&[b"x"], &[1], &[0]);
    let inside: Leaf<'_> = (&[b"x"], &[2], &[0]);
    for (column, leaf, says) in [
        ("required group image { optional binary data; }", one, "a struct without bytes and path"),
        (
            "required group image (LIST) { repeated group list { required group element { optional binary bytes; } } }",
            inside,
            "a list of structs",
        ),
        ("required group title { optional binary zh (UTF8); }", one, "holds a struct"),
    ] {
        write_column(&path, column, &[leaf]);
        let (records, faults, first) = read(&path, |_| {});
        assert_eq!((records.len(), faults), (0, vec![(FaultKind::WrongColumn, 1)]), "{first}");
        assert!(first.contains(says) || column.contains("title"), "{first}");
    }
}

#[test]
fn base64_of_a_text_shard_may_be_of_either_alphabet() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = [0xfb, 0xff, 0xfe, 1];
    let forms = ["-__-AQ==", "-__-AQ", "+//+AQ==", "data:image/jpeg;base64,+//+AQ=="];
    for column in ["image_bytes", "image"] {
        let rows: String = forms.map(|form| format!("{form}\t猫\n")).concat();
        let rows = if column == "image" { format!("{}\t猫\n", forms[3]) } else { rows };
        let path = write(folder.path(), "a.tsv", &format!("{column}\tquery\n{rows}"));
        let (records, faults, first) = read(&path, |_| {});
        assert!(faults.is_empty() && records.len() == rows.lines().count(), "{first}");
        assert!(records.iter().all(|record| record.image == ImageSource::Bytes(bytes.to_vec())));
    }
}
