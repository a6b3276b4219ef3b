//! Without Kafka and without a server: `astromech index` into the embedded engine, and `astromech search` and `rescore` out of it.

use std::fmt::Write as _;
use std::path::Path;

use astromech_e2e::corpus::{Entry, corpus};
use astromech_e2e::daemon::run_to_end;
use astromech_e2e::items::{article, image};
use astromech_e2e::world::scratch;
use astromech_e2e::{bundle, paths};
use astromech_schemas::ImageSource;
use astromech_schemas::rescore::RescoreResponse;

const GOOD: usize = 40;
/// Items of the tests that need no more.
const FEW: usize = 6;

/// The picture as it lies in its folder.
fn in_file(entry: &Entry) -> ImageSource {
    ImageSource::from_url(format!("file:{}", entry.picture.display()))
}

/// The first entries of the corpus as messages in a file, pictures (from `source`) and articles in turn, and `bad` behind the eleventh.
fn messages(folder: &Path, count: usize, source: impl Fn(&Entry) -> ImageSource, bad: &str) -> String {
    let mut lines = String::new();
    for (i, entry) in corpus().entries.iter().take(count).enumerate() {
        let item = if i % 2 == 0 { image(entry, 1, source(entry)) } else { article(entry, 1, Some(in_file(entry))) };
        // Writing to a String can't fail.
        let _ = writeln!(lines, "{}", item.message);
        if i == 10 {
            lines.push_str(bad);
        }
    }
    let file = folder.join("messages.jsonl");
    std::fs::write(&file, lines).expect("the messages are written");
    file.to_string_lossy().into_owned()
}

/// A configuration with the embedded engine in `folder`, and `more` behind it.
fn configuration(folder: &Path, bundle: &Path, more: &str) -> String {
    let file = folder.join("astromech.toml");
    // In single quotes TOML takes a path as it is.
    let text = format!(
        "[bundle]\npath = '{}'\n[index]\nengine = \"embedded\"\n[index.embedded]\npath = '{}'\n[media]\nfile_roots = ['{}']\n{more}",
        bundle.display(),
        folder.join("index").display(),
        corpus().root.display(),
    );
    std::fs::write(&file, text).expect("the configuration is written");
    file.to_string_lossy().into_owned()
}

/// The lines between the first that opens an object and the last that closes it: data is on standard output, notes are not.
fn json(said: &str) -> &str {
    let (from, to) = (said.find('{').expect("there is an object"), said.rfind("\n}").expect("it ends"));
    &said[from..to + 2]
}

#[test]
fn a_file_is_indexed_into_the_embedded_engine_twice_alike_and_searched_and_its_bad_line_is_named() {
    let folder = scratch("command-line");
    let corpus = corpus();
    let inline = |entry: &Entry| ImageSource::from_bytes(entry.bytes());
    let file = messages(&folder, GOOD, inline, "{\"kind\": \"article\", \"id\": \"bad\", \"title\": 7, \"body\": \"b\"}\n");
    let config = configuration(&folder, &bundle::path(), "");
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

#[test]
fn candidates_are_re_scored_and_a_search_is_ranked_anew_from_the_command_line() {
    let folder = scratch("command-line-rescore");
    let corpus = corpus();
    let file = messages(&folder, FEW, in_file, "");
    let config = configuration(&folder, &bundle::path(), "[rescore]\ndeadline_ms = 10000\n");
    let (status, said) = run_to_end(&["index", "--config", &config, &file]);
    assert!(status.success(), "{said}");

    let text = corpus.entries[0].title.as_str();
    let indexed = format!("image:image-{}", corpus.entries[0].id);
    let picture = corpus.entries[2].picture.to_string_lossy().into_owned();
    let (status, said) = run_to_end(&["rescore", "--config", &config, "--text", text, &indexed, &picture]);
    assert!(status.success(), "{said}");
    assert!(said.contains(&format!("[0] {indexed}")) && said.contains("[1] picture") && said.contains("2 scored in"), "{said}");

    let arguments = ["rescore", "--config", &config, "--json", "-k", "1", "--text", text, &indexed, "image:none", &picture];
    let (status, said) = run_to_end(&arguments);
    assert_eq!(status.code(), Some(1), "a candidate that was not scored is told by the exit code:\n{said}");
    let answer: RescoreResponse = serde_json::from_str(json(&said)).unwrap_or_else(|e| panic!("{e}:\n{said}"));
    assert_eq!((answer.scored, answer.results.len()), (2, 1));
    assert_eq!(answer.problems.iter().map(|p| (p.index, p.kind.as_str())).collect::<Vec<_>>(), [(1, "not_found")]);
    let (_, said) = run_to_end(&["rescore", "--config", &config, "--json", "--text", text, &indexed, &picture]);
    let both: RescoreResponse = serde_json::from_str(json(&said)).unwrap_or_else(|e| panic!("{e}:\n{said}"));
    assert_eq!(both.results.iter().map(|result| result.rank).collect::<Vec<_>>(), [1, 2]);
    assert!(both.results[0].scores.score >= both.results[1].scores.score, "{both:?}");

    let request = folder.join("request.json");
    std::fs::write(&request, serde_json::json!({"context": {"text": text}, "candidates": []}).to_string())
        .expect("it is written");
    let (status, said) = run_to_end(&["rescore", "--config", &config, "--request", &request.to_string_lossy()]);
    assert!(!status.success() && said.contains("candidates: there are none") && said.contains("fix: "), "{said}");

    let (status, said) = run_to_end(&["search", "--config", &config, "--rescore", "5", "--kind", "image", text]);
    assert!(status.success(), "{said}");
    assert!(said.contains("(was 1)") && said.contains("(was 3)") && said.contains("re-scored in"), "{said}");
}

#[test]
fn a_bundle_without_a_cross_tower_is_searched_and_re_scoring_says_what_to_do() {
    let folder = scratch("command-line-no-cross");
    let corpus = corpus();
    let bundle = bundle::without_cross(&folder.join("bundle"));
    let file = messages(&folder, FEW, in_file, "");
    let config = configuration(&folder, &bundle, "");
    let (status, said) = run_to_end(&["index", "--config", &config, &file]);
    assert!(status.success(), "{said}");
    let text = corpus.entries[0].title.as_str();
    let (status, said) = run_to_end(&["search", "--config", &config, text]);
    assert!(status.success() && said.contains(&format!("image-{}", corpus.entries[0].id)), "{said}");

    let candidate = format!("image:image-{}", corpus.entries[0].id);
    let demo = ["demo", "--once", "--config", &config, "--set", &file];
    for refused in [
        &["search", "--config", &config, "--rescore", "5", text][..],
        &["rescore", "--config", &config, "--text", text, &candidate],
        &demo,
    ] {
        let (status, said) = run_to_end(refused);
        assert_eq!(status.code(), Some(2), "{refused:?}:\n{said}");
        assert!(said.contains("has no cross tower") && said.contains("set rescore.enabled = false"), "{refused:?}:\n{said}");
    }

    let config = configuration(&folder, &bundle, "[rescore]\nenabled = false\n");
    let (status, said) = run_to_end(&["rescore", "--config", &config, "--text", text, &candidate]);
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(said.contains("rescore.enabled is false") && said.contains("with a bundle that has a cross tower"), "{said}");
    let (status, said) = run_to_end(&["search", "--config", &config, "--rescore", "5", text]);
    assert!(!status.success() && said.contains("rescore: this daemon does not re-score"), "{said}");
    let (status, said) = run_to_end(&["search", "--config", &config, text]);
    assert!(status.success() && said.contains(&format!("image-{}", corpus.entries[0].id)), "{said}");
}
