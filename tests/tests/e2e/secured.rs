//! A broker that asks for TLS and SASL or a certificate, a Qdrant that asks for TLS and a key, pictures by HTTPS; and no secret anywhere.

use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use astromech_e2e::authority::Authority;
use astromech_e2e::checks::Answers;
use astromech_e2e::corpus::corpus;
use astromech_e2e::daemon::run_to_end_with;
use astromech_e2e::http_server::PictureHost;
use astromech_e2e::items::{Item, article, image};
use astromech_e2e::schema_registry::{SchemaRegistry, schema_file};
use astromech_e2e::secured::Secured;
use astromech_e2e::world::scratch;
use astromech_e2e::{Daemon, DaemonConfig, Record, Topics, wait_until};
use astromech_schemas::ImageSource;
use serde_json::json;

use crate::scenario::STREAM_DEADLINE;

const DEADLINE: Duration = Duration::from_mins(1);
const ITEMS: usize = 6;
/// Secrets that no output may hold.
const PASSWORD: &str = "planted-kafka-password-7d1f0c";
const API_KEY: &str = "planted-qdrant-key-52be90";
const READ_KEY: &str = "planted-http-read-key-e4410a";
const WRITE_KEY: &str = "planted-http-write-key-09c3d7";
const REGISTRY_PASSWORD: &str = "planted-registry-password-3ce07a";
const WRONG: &str = "planted-wrong-secret-b86a21";

static SECURED: LazyLock<Mutex<Secured>> = LazyLock::new(|| Mutex::new(Secured::start(&scratch("secured"), PASSWORD, API_KEY)));

fn secured() -> MutexGuard<'static, Secured> {
    SECURED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn quote(text: &str) -> String {
    json!(text).to_string()
}

/// The daemon at the broker's listener `brokers`, with librdkafka's `properties` beside the authority's certificate.
fn config(secured: &Secured, topics: &Topics, brokers: &str, properties: &[(&str, &str)]) -> DaemonConfig {
    let ca = secured.file("ca.pem");
    let trust = [("ssl.ca.location", ca.as_str())];
    let lines: Vec<String> =
        trust.iter().chain(properties).map(|(name, value)| format!("{} = {}\n", quote(name), quote(value))).collect();
    DaemonConfig {
        http_hosts: vec!["localhost:*".to_owned()],
        qdrant_keys: format!("api_key_file = {}", quote(&secured.file("api-key"))),
        kafka_properties: lines.concat(),
        env: vec![("SSL_CERT_FILE".to_owned(), ca)],
        ..DaemonConfig::at(&secured.qdrant.url, brokers, topics)
    }
}

fn by_password(secured: &Secured, topics: &Topics, mechanism: &str, password_file: &str) -> DaemonConfig {
    let user = [("security.protocol", "sasl_ssl"), ("sasl.mechanism", mechanism), ("sasl.username", "astromech")];
    let mut config = config(secured, topics, &secured.sasl_ssl, &user);
    config.extra = format!("[kafka.properties_files]\n\"sasl.password\" = {}\n", quote(password_file));
    config
}

fn by_certificate(secured: &Secured, topics: &Topics) -> DaemonConfig {
    let (certificate, key) = (secured.file("certificate.pem"), secured.file("key.pem"));
    let proof =
        [("security.protocol", "ssl"), ("ssl.certificate.location", certificate.as_str()), ("ssl.key.location", key.as_str())];
    config(secured, topics, &secured.mtls, &proof)
}

fn articles() -> Vec<Item> {
    corpus().entries.iter().take(ITEMS).map(|entry| article(entry, 1, None)).collect()
}

/// Produces articles and sees that a daemon of `config` answers each.
fn works(secured: &Secured, config: &DaemonConfig) -> Daemon {
    let sent = secured.client.produce(&config.topics.changes, articles().iter().map(Item::record).collect());
    let mut daemon = Daemon::start(config);
    secured.client.wait_lag_0(&config.topics.changes, &config.group, STREAM_DEADLINE, || daemon.expect_alive());
    let answers = Answers::read(&secured.client, &config.topics);
    answers.assert_nothing_lost(&sent);
    answers.assert_no_dead_letters();
    daemon
}

fn file(name: &str, text: &str) -> String {
    let path = scratch("secret").join(name);
    std::fs::write(&path, text).expect("the file is written");
    path.to_string_lossy().into_owned()
}

/// A daemon that waits, its log telling one of `words`, and has answered nothing.
fn waiting(secured: &Secured, config: &DaemonConfig, words: &[&str]) -> Daemon {
    let mut daemon = Daemon::spawn(config);
    wait_until(&format!("the log tells one of {words:?}"), DEADLINE, || {
        daemon.expect_alive();
        let log = daemon.log();
        if words.iter().any(|word| log.contains(word)) { Ok(()) } else { Err(log) }
    });
    assert_eq!(secured.client.count(&config.topics.results), 0);
    daemon
}

/// As [`waiting`], and it says that it is not ready; returns everything it said.
fn waits_and_says(secured: &Secured, config: &DaemonConfig, words: &[&str]) -> String {
    let daemon = waiting(secured, config, words);
    let (status, body) = daemon.get("/readyz");
    assert_eq!(status, 503, "{body}");
    let log = daemon.log();
    daemon.kill();
    format!("{log}{body}")
}

#[test]
fn kafka_by_tls_with_plain_scram_or_a_certificate_and_qdrant_by_tls_with_a_key_work() {
    let secured = secured();
    let topics = || secured.client.topics("secured");
    let password = secured.file("password");
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let daemon = works(&secured, &by_password(&secured, &topics(), mechanism, &password));
        assert!(daemon.terminate().success(), "{mechanism}");
    }
    let daemon = works(&secured, &by_certificate(&secured, &topics()));
    let title = articles()[0].message["title"].as_str().expect("an article has a title").to_owned();
    let (status, found) = daemon.post("/v1/search", &json!({"text": title, "kinds": ["article"], "limit": 3}));
    assert_eq!(status, 200, "{found}");
    assert!(!found["hits"]["article"].as_array().expect("hits").is_empty(), "the points are in the server: {found}");
    assert!(daemon.terminate().success());
}

#[test]
fn a_wrong_password_no_certificate_or_an_unknown_authority_is_named_and_waited_for_with_nothing_lost() {
    let secured = secured();
    let topics = secured.client.topics("refused");
    secured.client.produce(&topics.changes, articles().iter().map(Item::record).collect());
    let wrong = file("password", WRONG);
    waits_and_says(&secured, &by_password(&secured, &topics, "SCRAM-SHA-512", &wrong), &["uthentication"]);
    let mut nobody = by_certificate(&secured, &topics);
    nobody.kafka_properties =
        format!("\"ssl.ca.location\" = {}\n\"security.protocol\" = \"ssl\"\n", quote(&secured.file("ca.pem")));
    waits_and_says(&secured, &nobody, &["certificate required", "handshake", "SSL"]);
    let mut stranger = by_certificate(&secured, &topics);
    let other = file("other.pem", &Authority::default().pem());
    stranger.kafka_properties = stranger.kafka_properties.replace(&secured.file("ca.pem"), &other);
    waits_and_says(&secured, &stranger, &["certificate verify failed", "broker certificate could not be verified"]);
    let mut untrusted = by_certificate(&secured, &topics);
    untrusted.env = vec![("SSL_CERT_FILE".to_owned(), other)];
    waits_and_says(&secured, &untrusted, &["InvalidCertificate"]);

    // The same records, by the same group, once the proof is right.
    let right = by_password(&secured, &topics, "SCRAM-SHA-512", &secured.file("password"));
    let mut daemon = Daemon::start(&right);
    secured.client.wait_lag_0(&topics.changes, &right.group, STREAM_DEADLINE, || daemon.expect_alive());
    assert_eq!(secured.client.count(&topics.results), ITEMS as u64);
    drop(daemon);

    // A key that Qdrant refuses is no fault that passes.
    let mut refused = right.clone();
    refused.qdrant_keys = format!("api_key_file = {}", quote(&file("key", WRONG)));
    let mut daemon = Daemon::spawn(&refused);
    assert!(!daemon.wait_exit(DEADLINE).success());
    let log = daemon.log();
    assert!(log.contains("API key") && !log.contains(WRONG), "{log}");
}

#[test]
fn promise_5_pictures_come_by_https_and_a_certificate_expired_or_of_another_name_is_named_and_waited_for() {
    let secured = secured();
    let topics = secured.client.topics("https");
    let hosts = [
        secured.authority.issue("localhost"),
        secured.authority.issue_expired("localhost"),
        secured.authority.issue("elsewhere"),
    ]
    .map(|certificate| PictureHost::start_tls(&certificate));
    let entries = &corpus().entries[..hosts.len()];
    let pictures = hosts
        .iter()
        .zip(entries)
        .map(|(host, entry)| image(entry, 1, ImageSource::from_url(host.serve("/picture.jpg", entry.bytes()))).record());
    secured.client.produce(&topics.changes, pictures.collect());
    let config = by_certificate(&secured, &topics);
    let mut daemon = Daemon::start(&config);
    wait_until("the good picture is indexed and both faults are named", DEADLINE, || {
        daemon.expect_alive();
        let log = daemon.log();
        let seen = (secured.client.count(&topics.results), log.contains("xpired"), log.contains("not valid for name"));
        if seen == (1, true, true) { Ok(()) } else { Err(format!("{seen:?}\n{log}")) }
    });
    assert_eq!(secured.client.count(&topics.dead_letters), 0, "a certificate can be renewed: no dead letter");
    assert_eq!((hosts[1].requests(), hosts[2].requests()), (0, 0), "no request is sent to who can't prove its name");
}

#[test]
fn promise_5_a_schema_registry_by_https_is_used_and_one_that_can_not_prove_its_name_is_named_and_waited_for() {
    let secured = secured();
    let registry = SchemaRegistry::start_tls(&scratch("registry"), &secured.authority);
    let writer = registry.register("articles-value", &schema_file("article"));
    let topics = secured.client.topics("registry");
    let records = articles().iter().map(|item| Record { value: Some(writer.value(&item.message)), ..item.record() }).collect();
    secured.client.produce(&topics.changes, records);
    let trusting = |ca: &str| {
        // The authority is not among the system's certificates, by which a Qdrant would be trusted.
        let embedded = Some(scratch("index"));
        let mut config = DaemonConfig { env: Vec::new(), embedded, ..by_certificate(&secured, &topics) };
        "format = \"avro\"\n".clone_into(&mut config.topic_keys);
        let password = quote(&file("password", REGISTRY_PASSWORD));
        config.extra = format!(
            "[kafka.schema_registry]\nurl = {}\nusername = \"astromech\"\npassword_file = {password}\nca_file = {}\n",
            quote(&registry.url),
            quote(ca)
        );
        config
    };
    let stranger = file("other.pem", &Authority::default().pem());
    let said = waits_and_says(&secured, &trusting(&stranger), &["the schema of a record can't be had now"]);
    assert!(said.contains("schema_registry") && said.contains("invalid peer certificate"), "{said}");
    assert!(!said.contains(REGISTRY_PASSWORD), "{said}");

    let right = trusting(&secured.file("ca.pem"));
    let mut daemon = Daemon::start(&right);
    secured.client.wait_lag_0(&topics.changes, &right.group, STREAM_DEADLINE, || daemon.expect_alive());
    assert_eq!(secured.client.count(&topics.results), ITEMS as u64);
    assert_eq!(secured.client.count(&topics.dead_letters), 0);
    assert!(!daemon.log().contains(REGISTRY_PASSWORD));
}

#[test]
fn no_secret_is_in_any_output() {
    let secured = secured();
    let topics = secured.client.topics("planted");
    let mut config = by_password(&secured, &topics, "PLAIN", &secured.file("password"));
    let serving = scratch("serving");
    secured.certified().write(&serving);
    let more = format!(
        "[log]\nlevel = \"debug\"\n[http.auth.read_keys]\n\"reader\" = {}\n[http.auth.write_keys]\n\"writer\" = {}\n",
        quote(&file("read", READ_KEY)),
        quote(&file("write", WRITE_KEY)),
    );
    config.extra.push_str(&more);
    let mut outputs: Vec<(String, String)> = Vec::new();
    let mut say = |what: &str, said: String| outputs.push((what.to_owned(), said));

    let daemon = works(&secured, &config);
    for path in ["/readyz", "/healthz", "/metrics", "/openapi.json", "/", "/v1/info", "/v1/generations"] {
        say(path, daemon.get(path).1);
    }
    let (_, refused) = daemon.post("/v1/search", &json!({"text": "猫"}));
    say("a request without a key", refused.to_string());
    say("the log at debug", daemon.log());
    drop(daemon);

    let toml = file("astromech.toml", &config.to_toml(1));
    let tls = format!(
        "{}[http.tls]\ncertificate_file = {}\nkey_file = {}\n",
        config.to_toml(1),
        quote(&serving.join("certificate.pem").to_string_lossy()),
        quote(&secured.file("password")),
    );
    let broken = file("broken.toml", &tls);
    let commands: &[&[&str]] = &[
        &["check-config", "--config", &toml],
        &["plan", "--config", &toml],
        &["plan", "--json", "--config", &toml],
        &["offsets", "show", "--config", &toml],
        &["dlq", "list", "--config", &toml],
        &["run", "--config", &broken],
        &["--help"],
        &["run", "--help"],
        &["generations", "--help"],
    ];
    for words in commands {
        say(&words.join(" "), run_to_end_with(words, &config.env).1);
    }
    let wrong = by_password(&secured, &secured.client.topics("wrong"), "SCRAM-SHA-256", &file("wrong", WRONG));
    say("a wrong password", waits_and_says(&secured, &wrong, &["uthentication"]));

    assert!(outputs.iter().all(|(what, said)| !said.is_empty() || panic!("{what} said nothing")));
    for (what, said) in &outputs {
        for secret in [PASSWORD, API_KEY, READ_KEY, WRITE_KEY, WRONG] {
            assert!(!said.contains(secret), "{what} tells {secret}:\n{said}");
        }
    }
}
