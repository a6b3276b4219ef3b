//! The configuration: every mistake at once, with line, field and fix; and the committed files are correct.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::{Path, PathBuf};

use astromech_avro::SubjectNameStrategy;
use astromech_config::{
    Config, ConfigError, ConfigErrors, EngineConfig, RecordFormat, Role, fill_limits, reference_toml, sections,
};
use astromech_settings::{Document, Form, Need, Shape};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn no_env(_: &str) -> Option<String> {
    None
}

fn errors(text: &str) -> Vec<ConfigError> {
    Config::parse(text, Path::new("/folder"), &no_env).expect_err("the text has mistakes")
}

fn parse(text: &str) -> Config {
    Config::parse(text, Path::new("/folder"), &no_env).unwrap_or_else(|errors| {
        panic!("{}", ConfigErrors { file: "test.toml".into(), errors });
    })
}

const MINIMAL: &str = "[bundle]\npath = \"b\"\n[index.embedded]\npath = \"i\"\n";

/// `UPDATE_GOLDEN=1 cargo test -p astromech-config --test config_reports` rewrites the file.
fn compare(path: &Path, text: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, text).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap_or_default();
    assert!(golden == text, "{} differs; run with UPDATE_GOLDEN=1 and review. Now:\n{text}", path.display());
}

#[test]
fn every_mistake_is_reported_at_once_with_line_field_and_fix() {
    let text = include_str!("snapshots/config_wrong.toml");
    let report = ConfigErrors { file: "wrong.toml".into(), errors: errors(text) }.to_string();
    compare(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots/config_wrong.txt"), &format!("{report}\n"));
}

#[test]
fn results_are_json_and_in_avro_need_a_registry_and_have_a_subject() {
    let kafka = "[kafka]\nbrokers = \"b:1\"\ngroup = \"g\"\nresults_topic = \"r\"\ndead_letter_topic = \"d\"\n";
    let topic = "[[kafka.topics]]\nname = \"changes\"\n";
    let registry = "[kafka.schema_registry]\nurl = \"http://r:1\"\n";
    let bare = parse(&format!("{MINIMAL}{kafka}{registry}{topic}")).kafka.unwrap();
    assert_eq!(bare.results.format, RecordFormat::Json);
    assert!(bare.used_schema_registry().is_none(), "nothing is in Avro");
    let results = "[kafka.results]\nformat = \"avro\"\nsubject_name_strategy = \"record_name\"\nauto_register_schemas = false\n";
    let avro = parse(&format!("{MINIMAL}{kafka}{registry}{results}{topic}")).kafka.unwrap();
    assert!(avro.used_schema_registry().is_some());
    let expected = (RecordFormat::Avro, SubjectNameStrategy::RecordName, false);
    assert_eq!((avro.results.format, avro.results.subject_name_strategy, avro.results.auto_register_schemas), expected);
    let missing = errors(&format!("{MINIMAL}{kafka}{results}{topic}"));
    assert!(missing[0].to_string().contains("kafka.schema_registry.url is empty"), "{missing:?}");
    let unheard = results.replace("record_name", "unheard_of");
    let error = errors(&format!("{MINIMAL}{kafka}{registry}{unheard}{topic}"))[0].to_string();
    assert!(error.contains("subject_name_strategy") && error.contains("topic_record_name"), "{error}");
}

#[test]
fn a_topic_in_avro_needs_a_registry_whose_address_and_login_are_whole() {
    let kafka = "[kafka]\nbrokers = \"b:1\"\ngroup = \"g\"\nresults_topic = \"r\"\ndead_letter_topic = \"d\"\n";
    let topic = "[[kafka.topics]]\nname = \"changes\"\nformat = \"avro\"\n";
    let with = |registry: &str| format!("{MINIMAL}{kafka}[kafka.schema_registry]\n{registry}\n{topic}");
    let config = parse(&with("url = \"http://127.0.0.1:8081\"")).kafka.unwrap();
    assert_eq!(config.topics[0].format, RecordFormat::Avro);
    assert_eq!(config.schema_registry.unwrap().url.as_str(), "http://127.0.0.1:8081/");
    for (registry, path, says) in [
        ("", "kafka.topics.format", "kafka.schema_registry.url is empty"),
        ("url = \"registry:8081\"", "kafka.schema_registry.url", "no address"),
        ("url = \"http://me:secret@r:1\"", "kafka.schema_registry.url", "user name in it"),
        ("url = \"http://r:1\"\nusername = \"u\"", "kafka.schema_registry.password_file", "without a password"),
        ("url = \"http://r:1\"\npassword_file = \"/p\"", "kafka.schema_registry.username", "without a user name"),
        ("url = \"http://r:1\"\nca_file = \"/nowhere.pem\"", "kafka.schema_registry.ca_file", "can't be read"),
    ] {
        let found = errors(&with(registry));
        assert_eq!(found.len(), 1, "{registry}: {found:?}");
        let text = found[0].to_string();
        assert!(text.contains(path) && text.contains(says) && !text.contains("secret@"), "{text}");
    }
}

#[test]
fn the_reference_is_printed_from_the_table_of_keys_and_is_correct() {
    let text = reference_toml();
    compare(&repository().join("configs/reference.toml"), &text);
    let config = parse(&text);
    assert!(config.kafka.is_some());
}

#[test]
fn every_default_of_the_table_is_of_its_kind_and_inside_its_range() {
    // The reference writes every default out, so a wrong one would be reported with a line.
    let reference = reference_toml();
    let (written, errors) = Document::parse(&reference);
    assert_eq!(errors, []);
    let mut required = String::new();
    for section in sections() {
        for key in &section.keys {
            let name = format!("{}.{}", section.name, key.name);
            // Of an array of tables the first.
            let line = reference.lines().position(|line| line.starts_with(&format!("{} = ", key.name)));
            assert!(section.form == Form::Array || written.get(&name).is_some_and(|node| node.spot.line > 0), "{name}");
            assert!(line.is_some(), "{name}");
        }
        let needed = section.keys.iter().filter_map(|key| match key.need {
            Need::Required(example) => Some(format!("{} = {example}\n", key.name)),
            _ => None,
        });
        let needed: String = needed.collect();
        if !needed.is_empty() {
            let header =
                if section.form == Form::Array { format!("[[{}]]", section.name) } else { format!("[{}]", section.name) };
            required.extend([header, "\n".to_owned(), needed]);
        }
    }
    // And as written nowhere: the same values.
    assert_eq!(parse(&required), parse(&reference));
}

#[test]
fn every_key_is_documented_and_named_with_its_unit() {
    for section in sections() {
        assert!(!section.doc.is_empty(), "{}", section.name);
        for key in &section.keys {
            assert!(key.doc.ends_with('.'), "{}.{}: {}", section.name, key.name, key.doc);
            if let (Shape::Integer(min, max), Need::Default(default)) = (&key.shape, key.need) {
                let default: u64 = default.parse().unwrap();
                assert!((*min..=*max).contains(&default), "{}.{}", section.name, key.name);
            }
        }
    }
}

#[test]
fn the_rows_of_the_table_of_limits_have_default_and_range_of_their_keys() {
    let path = repository().join("docs/LIMITS.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once("<!-- generated: configuration keys -->\n").expect("the rows' beginning is marked");
    let (rows, after) = rest.split_once("<!-- end -->").expect("the rows' end is marked");
    assert!(rows.lines().count() > 40, "the rows were read: {rows}");
    let filled = fill_limits(rows).unwrap_or_else(|row| panic!("{row}"));
    compare(&path, &format!("{before}<!-- generated: configuration keys -->\n{filled}<!-- end -->{after}"));
    assert!(filled.contains("| `rescore.deadline_ms` / `_max` | 2,000 / 10,000 | 1 to 600,000 / 1 to 600,000 |"), "{filled}");
    let unknown = fill_limits("| `media.byte_max` | 1 | 1 to 2 | bytes | `media` | refused |\n").unwrap_err();
    assert!(unknown.contains("media.byte_max"), "{unknown}");
}

#[test]
fn the_committed_configurations_are_correct() {
    for name in ["configs/demo.toml", "configs/local.toml", "deploy/docker/astromech.toml"] {
        let path = repository().join(name);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
        let parsed = Config::parse(&text, path.parent().unwrap(), &no_env);
        assert!(parsed.is_ok(), "{}", ConfigErrors { file: path, errors: parsed.unwrap_err() });
    }
}

/// Where the chart's examples mount their Secrets.
const SECRETS: &str = "/run/secrets/astromech/";

#[test]
fn the_configurations_of_the_chart_are_correct() {
    let chart = repository().join("deploy/helm/astromech");
    let examples = std::fs::read_dir(chart.join("examples")).unwrap().map(|entry| entry.unwrap().path());
    // What the examples mount from Secrets, each with a value of its own.
    let secrets = tempfile::tempdir().unwrap();
    let mut found = 0;
    for path in examples.chain([chart.join("values.yaml")]) {
        let text = std::fs::read_to_string(&path).unwrap();
        // The last value of a file that has one; indented by two.
        let Some((_, block)) = text.split_once("\nconfig: |\n") else { continue };
        let lines: Vec<_> = block.lines().map(|line| line.strip_prefix("  ").unwrap_or(line)).collect();
        let text = lines.join("\n");
        for name in text.split(SECRETS).skip(1).filter_map(|rest| rest.split('"').next()) {
            std::fs::write(secrets.path().join(name), format!("{name}-{}", "0".repeat(40))).unwrap();
        }
        let text = text.replace(SECRETS, &format!("{}/", secrets.path().display()));
        let parsed = Config::parse(&text, Path::new("/etc/astromech"), &no_env);
        assert!(parsed.is_ok(), "{}", ConfigErrors { file: path, errors: parsed.unwrap_err() });
        found += 1;
    }
    assert!(found > 3, "{found} configurations");
}

#[test]
fn a_short_file_is_enough_and_paths_are_relative_to_its_folder() {
    let config = parse(MINIMAL);
    assert_eq!(config.bundle.path, Path::new("/folder/b"));
    assert_eq!(config.index.engine, EngineConfig::Embedded { path: "/folder/i".into(), vector_bytes_max: 2 << 30 });
    assert_eq!(config.kafka, None);
    assert_eq!(config.record.image_bytes_max, config.media.bytes_max);
}

#[test]
fn variables_stand_for_strings_and_numbers() {
    let env = |name: &str| (name == "THREADS").then(|| "3".to_owned());
    let text = format!("{MINIMAL}[runtime]\nthreads = \"${{THREADS}}\"\n[pipeline]\npoison_window = \"${{WINDOW:-50}}\"\n");
    let config = Config::parse(&text, Path::new("/"), &env).unwrap();
    assert_eq!((config.runtime.threads, config.pipeline.poison_window), (3, 50));
    let errors = errors(&format!("{MINIMAL}[runtime]\nthreads = \"${{THREADS}}\"\n"));
    assert_eq!((errors.len(), errors[0].line, errors[0].field.as_str()), (1, 6, "runtime.threads"));
}

#[test]
fn a_misspelt_key_or_section_is_an_error_that_suggests_the_nearest() {
    for (text, field, suggestion) in [
        ("[medai]\nbytes_max = 1\n", "medai", "media"),
        ("[media]\nbyte_max = 1\n", "media.byte_max", "bytes_max"),
        ("[towers.imag]\n", "towers.imag", "image"),
        ("[index.qdrnt]\n", "index.qdrnt", "qdrant"),
        ("[index.qdrant]\napi_key = \"s3cret\"\n", "index.qdrant.api_key", "api_key_file"),
        ("[runtime]\nprovider = \"cdua\"\n", "runtime.provider", "cuda"),
    ] {
        let errors = errors(&format!("{MINIMAL}{text}"));
        assert_eq!(errors.len(), 1, "{text}: {errors:?}");
        assert_eq!(errors[0].field, field);
        assert!(errors[0].fix.contains(suggestion), "{text}: {}", errors[0].fix);
        assert!(!errors[0].to_string().contains("s3cret"));
    }
}

#[test]
fn secrets_come_from_files_only_and_are_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("key"), "s3cret\n").unwrap();
    let text = "[bundle]\npath = \"b\"\n[index]\nengine = \"qdrant\"\n[index.qdrant]\napi_key_file = \"key\"\n";
    let config = Config::parse(text, dir.path(), &no_env).unwrap();
    let EngineConfig::Qdrant { api_key: Some(key), .. } = &config.index.engine else { panic!("{:?}", config.index.engine) };
    assert_eq!(key.reveal(), "s3cret");
    assert!(!format!("{config:?}").contains("s3cret"));

    let errors = Config::parse(text, Path::new("/nowhere"), &no_env).unwrap_err();
    assert_eq!((errors.len(), errors[0].field.as_str(), errors[0].line), (1, "index.qdrant.api_key_file", 6));
}

#[test]
fn properties_that_the_promises_rest_on_and_secrets_are_refused() {
    let kafka = "[kafka]\nbrokers = \"b\"\ngroup = \"g\"\nresults_topic = \"r\"\ndead_letter_topic = \"d\"\n[[kafka.topics]]\nname = \"t\"\n";
    let config =
        parse(&format!("{MINIMAL}{kafka}[kafka.properties]\n\"fetch.min.bytes\" = 1\n\"security.protocol\" = \"ssl\"\n"));
    assert_eq!(config.kafka.unwrap().properties["fetch.min.bytes"], "1");
    for property in
        ["\"enable.auto.commit\" = true", "\"group.id\" = \"x\"", "\"sasl.password\" = \"s3cret\"", "acks = 1", "ssl.x = 1"]
    {
        let errors = errors(&format!("{MINIMAL}{kafka}[kafka.properties]\n{property}\n"));
        assert_eq!(errors.len(), 1, "{property}: {errors:?}");
        assert!(!errors[0].to_string().contains("s3cret"), "{}", errors[0]);
    }
}

#[test]
fn limits_that_contradict_each_other_are_reported() {
    let kafka = |drain: u32, session: u32| {
        format!(
            "[kafka]\nbrokers = \"b\"\ngroup = \"g\"\nresults_topic = \"r\"\ndead_letter_topic = \"d\"\n\
             drain_timeout_ms = {drain}\nsession_timeout_ms = {session}\n[[kafka.topics]]\nname = \"t\"\n"
        )
    };
    let fields = |text: &str| errors(text).into_iter().map(|e| e.field).collect::<Vec<_>>();
    assert_eq!(fields(&format!("{MINIMAL}{}", kafka(10_000, 10_000))), ["kafka.drain_timeout_ms"]);
    let qdrant = "[bundle]\npath = \"b\"\n[index]\nengine = \"qdrant\"\n[index.qdrant]\ntimeout_ms = 6000\n";
    assert_eq!(fields(&format!("{qdrant}{}", kafka(5000, 10_000))), ["index.qdrant.timeout_ms"]);
    assert_eq!(fields(&format!("{MINIMAL}[towers.text]\nbatch_max = 64\nqueue_max = 63\n")), ["towers.text.queue_max"]);
    let backoff = "[pipeline]\nretry_backoff_ms_min = 20\nretry_backoff_ms_max = 10\n";
    assert_eq!(fields(&format!("{MINIMAL}{backoff}")), ["pipeline.retry_backoff_ms_min"]);
    let topics = "[kafka]\nbrokers = \"b\"\ngroup = \"g\"\nresults_topic = \"r\"\ndead_letter_topic = \"r\"\n\
                  [[kafka.topics]]\nname = \"r\"\n[[kafka.topics]]\nname = \"t\"\n[[kafka.topics]]\nname = \"t\"\n";
    assert_eq!(fields(&format!("{MINIMAL}{topics}")), ["kafka.dead_letter_topic", "kafka.topics.name", "kafka.topics.name"]);
}

#[test]
fn a_file_that_is_no_toml_still_reports_its_other_mistakes() {
    let errors = errors("[bundle]\npath = b\n[media]\nbytes_max = 0\n");
    let found: Vec<_> = errors.iter().map(|e| (e.line, e.field.as_str())).collect();
    assert!(found.iter().any(|(line, _)| *line == 2), "{errors:?}");
    assert!(found.contains(&(4, "media.bytes_max")), "{errors:?}");
}

#[test]
fn api_keys_come_from_files_and_each_mistake_with_one_is_named_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    file("long", "0123456789abcdef\n");
    file("other", "fedcba9876543210fedcba9876543210");
    file("short", "0123456789");
    file("spaced", "0123456789 abcdef");
    file("empty", "\n");
    let parse = |keys: &str| Config::parse(&format!("{MINIMAL}{keys}"), folder.path(), &no_env);
    let config =
        parse("[http.auth.read_keys]\n\"editor\" = \"long\"\n[http.auth.write_keys]\n\"operator\" = \"other\"\n").unwrap();
    let found: Vec<_> = config.http.auth.keys.iter().map(|key| (key.name.as_str(), key.role, key.key.reveal())).collect();
    assert_eq!(
        found,
        [("editor", Role::Read, "0123456789abcdef"), ("operator", Role::Write, "fedcba9876543210fedcba9876543210")]
    );
    assert!(!format!("{config:?}").contains("0123456789"));
    for (file, part) in [
        ("short", "10 characters, outside 16 to 1024"),
        ("spaced", "no header may carry"),
        ("empty", "is empty"),
        ("none", "can't be read"),
    ] {
        let errors = parse(&format!("[http.auth.read_keys]\n\"editor\" = \"{file}\"\n")).unwrap_err();
        let said = errors[0].to_string();
        assert!(errors.len() == 1 && said.contains(part) && said.contains("http.auth.read_keys.editor"), "{errors:?}");
        assert!(!said.contains("0123"), "{said}");
    }
    for (other, name) in [("long", "operator"), ("other", "editor")] {
        let keys = format!("[http.auth.read_keys]\n\"editor\" = \"long\"\n[http.auth.write_keys]\n\"{name}\" = \"{other}\"\n");
        let errors = parse(&keys).unwrap_err();
        assert!(errors.len() == 1 && errors[0].problem.contains("same name or key as `editor`"), "{errors:?}");
    }
}

#[test]
fn a_rate_is_off_by_default_and_its_burst_is_at_least_one_request() {
    assert_eq!(parse(MINIMAL).http.rate, None);
    for (rate, burst) in [("requests_per_s = 50", 100), ("requests_per_s = 0.1", 1), ("requests_per_s = 5.0\nburst_s = 0", 1)] {
        let config = parse(&format!("{MINIMAL}[http.rate]\n{rate}\n"));
        assert_eq!(config.http.rate.unwrap().burst.get(), burst, "{rate}");
    }
}
