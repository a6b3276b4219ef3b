//! Without Kafka and without a server: `astromech index` into the embedded engine, and `astromech search` out of it.

use std::fmt::Write as _;

use astromech_e2e::corpus::corpus;
use astromech_e2e::daemon::run_to_end;
use astromech_e2e::items::{article, image};
use astromech_e2e::world::scratch;
use astromech_e2e::{bundle, paths};
use astromech_schemas::ImageSource;

const GOOD: usize = 40;

#[test]
fn a_file_is_indexed_into_the_embedded_engine_twice_alike_and_searched_and_its_bad_line_is_named() {
    let folder = scratch("command-line");
    let corpus = corpus();
    let mut lines = String::new();
    for (i, entry) in corpus.entries.iter().take(GOOD).enumerate() {
        let item = if i % 2 == 0 {
            image(entry, 1, ImageSource::from_bytes(entry.bytes()))
        } else {
            article(entry, 1, Some(ImageSource::from_url(format!("file:{}", entry.picture.display()))))
        };
        // Writing to a String can't fail.
        let _ = writeln!(lines, "{}", item.message);
        if i == 10 {
            lines.push_str("{\"kind\": \"article\", \"id\": \"bad\", \"title\": 7, \"body\": \"b\"}\n");
        }
    }
    let (file, config) = (folder.join("messages.jsonl"), folder.join("astromech.toml"));
    std::fs::write(&file, lines).expect("the messages are written");
    let text = format!(
        "[bundle]\npath = {:?}\n[index]\nengine = \"embedded\"\n[index.embedded]\npath = {:?}\n[media]\nfile_roots = [{:?}]\n",
        bundle::path(),
        folder.join("index"),
        corpus.root,
    );
    std::fs::write(&config, text).expect("the configuration is written");
    let (file, config) = (file.to_string_lossy().into_owned(), config.to_string_lossy().into_owned());
    for round in ["new", "again"] {
        let (status, said) = run_to_end(&["index", "--config", &config, &file]);
        assert_eq!(status.code(), Some(1), "a bad line is told by the exit code ({round}):\n{said}");
        assert!(said.contains(&format!("{GOOD} indexed, 1 bad")), "{round}:\n{said}");
        assert!(said.contains(":12: invalid_record: title"), "the bad line is named with its field ({round}):\n{said}");
    }
    let wanted = article(&corpus.entries[1], 1, None);
    let query = format!("{}。{}", corpus.entries[1].title, corpus.entries[1].body);
    let (status, said) = run_to_end(&["search", "--config", &config, "--limit", "5", &query]);
    paths::message(&said);
    assert!(status.success(), "{said}");
    assert!(said.contains(&wanted.id), "{} is found by its own text:\n{said}", wanted.id);
    let picture = corpus.entries[0].picture.to_string_lossy().into_owned();
    let (status, said) = run_to_end(&["search", "--config", &config, "--limit", "5", "--image", &picture]);
    assert!(status.success(), "{said}");
    assert!(said.contains(&format!("image-{}", corpus.entries[0].id)), "a picture is found by itself:\n{said}");
}
