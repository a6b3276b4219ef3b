//! What the registry's answers mean, how often it is asked, and what is remembered. The real registry is in the end-to-end tests; these
//! answers are those that it gives only when something is wrong.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use astromech_avro::{
    AvroError, SCHEMA_BYTES_MAX, SCHEMAS_MAX, SchemaRegistry, SchemaRegistryOptions, Standing, StartError, SubjectNameStrategy,
    UNKNOWN_FOR, Writer, WriterSchema, split,
};
use astromech_schemas::results::{
    FrameResult, Neighbour, Operation, Outcome, RESULT_AVRO_SCHEMA, RESULT_SCHEMA, RecordPosition, ResultMessage,
};
use astromech_schemas::{Fingerprint, Kind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

const TIMEOUT: Duration = Duration::from_millis(500);
const UNKNOWN: (u16, &str) = (404, r#"{"error_code":40403,"message":"Schema not found"}"#);

/// Answers by path; paths it does not know are unknown ids.
#[derive(Clone)]
struct Answers {
    by_path: Arc<Mutex<HashMap<String, (u16, String)>>>,
    asked: Arc<AtomicUsize>,
    last: Arc<Mutex<String>>,
    under_way: Arc<AtomicUsize>,
    most_under_way: Arc<AtomicUsize>,
    /// Held while answers are held back.
    gate: Arc<Semaphore>,
}

const GATE: u32 = 1000;

impl Answers {
    fn set(&self, path: &str, status: u16, body: impl Into<String>) {
        self.by_path.lock().unwrap().insert(path.to_owned(), (status, body.into()));
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    async fn answer(self, mut stream: TcpStream) {
        let (mut head, mut chunk) = (Vec::new(), [0; 1024]);
        while !head.windows(4).any(|four| four == b"\r\n\r\n") {
            match stream.read(&mut chunk).await {
                Ok(0) | Err(_) => return,
                Ok(read) => head.extend_from_slice(&chunk[..read]),
            }
        }
        let head = String::from_utf8(head).unwrap();
        let path = head.split(' ').nth(1).unwrap().to_owned();
        *self.last.lock().unwrap() = head;
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.most_under_way.fetch_max(self.under_way.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let found = self.by_path.lock().unwrap().get(&path).cloned();
        let (status, body) = found.unwrap_or((UNKNOWN.0, UNKNOWN.1.to_owned()));
        drop(self.gate.acquire().await.unwrap());
        if status == 0 {
            // Never: the client gives up first, and closes.
            let _ = stream.read(&mut chunk).await;
            return;
        }
        // Before the client can know and send the next one.
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        let text = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        let _ = stream.write_all(text.as_bytes()).await;
    }
}

async fn registry() -> (Answers, SchemaRegistry) {
    registry_within(TIMEOUT, UNKNOWN_FOR).await
}

async fn registry_within(timeout: Duration, unknown_for: Duration) -> (Answers, SchemaRegistry) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/api/", listener.local_addr().unwrap()).parse().unwrap();
    let answers = Answers {
        by_path: Arc::default(),
        asked: Arc::default(),
        last: Arc::default(),
        under_way: Arc::default(),
        most_under_way: Arc::default(),
        gate: Arc::new(Semaphore::new(GATE as usize)),
    };
    let served = answers.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(served.clone().answer(stream));
        }
    });
    let login = Some(("astro".to_owned(), "mech".to_owned()));
    (answers, SchemaRegistry::new(SchemaRegistryOptions { url, login, ca: None, timeout, unknown_for }).unwrap())
}

fn schema(text: &str) -> String {
    serde_json::json!({"schema": text}).to_string()
}

#[tokio::test]
async fn a_schema_is_asked_for_once_however_many_records_want_it_at_once() {
    let (answers, registry) = registry().await;
    answers.set("/api/schemas/ids/7", 200, schema(r#""string""#));
    let registry = Arc::new(registry);
    let callers: Vec<_> = (0..50)
        .map(|_| {
            let registry = Arc::clone(&registry);
            tokio::spawn(async move { registry.schema(7).await.map(|schema| schema.to_json(&[2, b'a']).unwrap()) })
        })
        .collect();
    for caller in callers {
        assert_eq!(caller.await.unwrap().unwrap(), b"\"a\"");
    }
    assert_eq!(answers.asked(), 1);
    // astro:mech
    assert!(answers.last.lock().unwrap().to_lowercase().contains("authorization: basic"));
}

#[tokio::test]
async fn an_unknown_id_is_remembered_for_a_moment_and_pushes_no_known_schema_out() {
    let (answers, registry) = registry().await;
    answers.set("/api/schemas/ids/7", 200, schema(r#""string""#));
    registry.schema(7).await.unwrap();
    for _ in 0..20 {
        let error = registry.schema(8).await.unwrap_err();
        assert!(matches!(error, AvroError::Unknown { id: 8, .. }), "{error}");
    }
    assert_eq!(answers.asked(), 2);
    let flood = u32::try_from(SCHEMAS_MAX).unwrap() + 200;
    for id in 1000..1000 + flood {
        assert!(matches!(registry.schema(id).await, Err(AvroError::Unknown { .. })));
    }
    let before = answers.asked();
    registry.schema(7).await.unwrap();
    assert_eq!(answers.asked(), before, "still known");
}

#[tokio::test]
async fn an_id_that_was_unknown_is_asked_for_again_after_its_time_and_may_be_known_then() {
    let (answers, registry) = registry_within(TIMEOUT, Duration::ZERO).await;
    for asked in 1..4 {
        assert!(matches!(registry.schema(8).await, Err(AvroError::Unknown { .. })));
        assert_eq!(answers.asked(), asked);
    }
    answers.set("/api/schemas/ids/8", 200, schema(r#""string""#));
    registry.schema(8).await.unwrap();
}

#[tokio::test]
async fn what_may_pass_is_never_unknown_and_is_asked_again() {
    let (answers, registry) = registry().await;
    for (status, body, says) in [
        (500, "", "answered 500"),
        (503, "{\"error_code\":50301}", "answered 503"),
        (429, "", "answered 429"),
        (401, "{\"error_code\":401}", "check kafka.schema_registry.username"),
        (403, "", "check kafka.schema_registry.username"),
        (404, "<html>no such page", "is kafka.schema_registry.url the root"),
        (404, "{\"error_code\":404}", "is kafka.schema_registry.url the root"),
        (200, "<html>welcome", "answered with no schema"),
        (0, "", "took longer than kafka.schema_registry.timeout_ms = 500"),
    ] {
        answers.set("/api/schemas/ids/9", status, body);
        let error = registry.schema(9).await.unwrap_err();
        assert!(matches!(error, AvroError::Transient(_)) && error.to_string().contains(says), "{status} {body}: {error}");
        assert!(!error.to_string().contains("mech"), "{error}");
    }
    answers.set("/api/schemas/ids/9", 200, schema(r#""long""#));
    registry.schema(9).await.unwrap();
}

#[tokio::test]
async fn no_more_than_eight_requests_are_under_way_at_once() {
    let (answers, registry) = registry_within(Duration::from_secs(30), UNKNOWN_FOR).await;
    let shut = answers.gate.acquire_many(GATE).await.unwrap();
    let registry = Arc::new(registry);
    let callers: Vec<_> = (0..24)
        .map(|id| {
            let registry = Arc::clone(&registry);
            tokio::spawn(async move { registry.schema(id).await.map(drop) })
        })
        .collect();
    while answers.under_way.load(Ordering::SeqCst) < 8 {
        tokio::task::yield_now().await;
    }
    drop(shut);
    for caller in callers {
        assert!(matches!(caller.await.unwrap(), Err(AvroError::Unknown { .. })));
    }
    assert_eq!((answers.asked(), answers.most_under_way.load(Ordering::SeqCst)), (24, 8));
}

#[tokio::test]
async fn a_registry_that_is_not_there_may_come_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    drop(listener);
    let registry =
        SchemaRegistry::new(SchemaRegistryOptions { url, login: None, ca: None, timeout: TIMEOUT, unknown_for: UNKNOWN_FOR })
            .unwrap();
    assert!(matches!(registry.schema(1).await, Err(AvroError::Transient(_))));
}

#[tokio::test]
async fn a_schema_that_can_not_be_read_is_invalid_and_asked_for_once() {
    let (answers, registry) = registry().await;
    let large = schema(&"x".repeat(SCHEMA_BYTES_MAX));
    for (id, body, says) in [
        (1, schema("{}"), "the schema of id 1"),
        (2, r#"{"schema":"syntax = \"proto3\";","schemaType":"PROTOBUF"}"#.to_owned(), "its type is PROTOBUF"),
        (3, large, "an answer of more than 1048576 bytes"),
    ] {
        answers.set(&format!("/api/schemas/ids/{id}"), 200, body);
        let before = answers.asked();
        for _ in 0..3 {
            let error = registry.schema(id).await.unwrap_err();
            assert!(matches!(error, AvroError::Invalid(_)) && error.to_string().contains(says), "{error}");
        }
        assert_eq!(answers.asked(), before + 1);
    }
}

#[tokio::test]
async fn schemas_that_a_schema_refers_to_are_fetched_through_others_too_and_only_so_many() {
    let (answers, registry) = registry().await;
    let with = |schema: &str, subject: &str, version: u32| {
        let references = [serde_json::json!({"name": "any", "subject": subject, "version": version})];
        serde_json::json!({"schema": schema, "schemaType": "AVRO", "references": references}).to_string()
    };
    let record = |name: &str, of: &str| format!(r#"{{"type":"record","name":"{name}","fields":[{{"name":"x","type":"{of}"}}]}}"#);
    answers.set("/api/schemas/ids/1", 200, with(&record("A", "B"), "b/b", 3));
    answers.set("/api/subjects/b%2Fb/versions/3?deleted=true", 200, with(&record("B", "C"), "c", 1));
    answers.set("/api/subjects/c/versions/1?deleted=true", 200, schema(&record("C", "int")));
    let schema = registry.schema(1).await.unwrap();
    assert_eq!(schema.to_json(&[4]).unwrap(), br#"{"x":{"x":{"x":2}}}"#);
    // A chain without end, and a reference to what is gone.
    answers.set("/api/schemas/ids/2", 200, with(&record("A", "B"), "chain", 0));
    for version in 0..100 {
        let next = with(&record(&format!("N{version}"), "int"), "chain", version + 1);
        answers.set(&format!("/api/subjects/chain/versions/{version}?deleted=true"), 200, next);
    }
    let error = registry.schema(2).await.unwrap_err().to_string();
    assert!(error.contains("more than 64 others"), "{error}");
    answers.set("/api/schemas/ids/3", 200, with(&record("A", "B"), "gone", 1));
    assert!(matches!(registry.schema(3).await, Err(AvroError::Unknown { id: 3, .. })));
}

#[test]
fn a_ca_file_without_certificates_is_refused_at_the_start() {
    for pem in ["", "no certificate"] {
        let url = "https://localhost".parse().unwrap();
        let options =
            SchemaRegistryOptions { url, login: None, ca: Some(pem.into()), timeout: TIMEOUT, unknown_for: UNKNOWN_FOR };
        assert!(matches!(SchemaRegistry::new(options), Err(StartError::Ca)));
    }
}

const SUBJECT: &str = "/api/subjects/results-value?normalize=true";
const VERSIONS: &str = "/api/subjects/results-value/versions?normalize=true";

fn writer(registers: bool) -> Writer {
    Writer::new(RESULT_AVRO_SCHEMA, "results", SubjectNameStrategy::TopicName, registers).unwrap()
}

fn full_result() -> ResultMessage {
    ResultMessage {
        schema: RESULT_SCHEMA,
        kind: Kind::Video,
        id: "视频-1".to_owned(),
        version: i64::MAX as u64,
        operation: Operation::Upsert,
        outcome: Outcome::Applied,
        point_id: "p".to_owned(),
        collection: "videos-x".to_owned(),
        fingerprint: Fingerprint::try_from("0".repeat(64)).unwrap(),
        vectors: vec!["text".to_owned(), "image".to_owned()],
        embeddings: [("text".to_owned(), vec![0.1, -0.7, f32::MIN_POSITIVE])].into(),
        neighbours: [(Kind::Ad, vec![Neighbour { id: "a".to_owned(), version: 3, score: 0.3 }])].into(),
        frames: vec![FrameResult { time_ms: 40, point_id: "f".to_owned(), embedding: vec![1.0, 0.0] }],
        source: RecordPosition { topic: "t".to_owned(), partition: 7, offset: 1 << 40 },
    }
}

#[tokio::test]
async fn a_result_is_written_whole_and_a_bare_one_too_and_the_schema_is_registered_once() {
    let (answers, registry) = registry().await;
    answers.set(VERSIONS, 200, r#"{"id":258}"#);
    let bare = ResultMessage {
        embeddings: std::collections::BTreeMap::new(),
        neighbours: std::collections::BTreeMap::new(),
        frames: Vec::new(),
        operation: Operation::Delete,
        ..full_result()
    };
    let (writer, schema) = (writer(true), WriterSchema::parse(RESULT_AVRO_SCHEMA, &[]).unwrap());
    for message in [full_result(), bare] {
        let value = writer.value(&registry, &message).await.unwrap();
        let (id, datum) = split(&value).unwrap();
        assert_eq!(id, 258);
        let read: ResultMessage = serde_json::from_slice(&schema.to_json(datum).unwrap()).unwrap();
        assert_eq!(read, message);
    }
    assert_eq!(answers.asked(), 1);
    let asked = answers.last.lock().unwrap().clone();
    assert!(
        asked.starts_with("POST ") && asked.to_lowercase().contains("content-type: application/vnd.schemaregistry"),
        "{asked}"
    );
}

#[tokio::test]
async fn without_auto_register_schemas_nothing_is_registered_and_a_schema_that_is_there_is_found() {
    let (answers, registry) = registry().await;
    let writer = writer(false);
    let error = writer.id(&registry).await.unwrap_err();
    assert!(matches!(error, AvroError::Transient(_)) && error.to_string().contains("auto_register_schemas"), "{error}");
    assert!(answers.last.lock().unwrap().starts_with(&format!("POST {SUBJECT} ")));
    answers.set(SUBJECT, 200, r#"{"subject":"results-value","id":4,"version":1,"schema":"{}"}"#);
    assert_eq!(writer.id(&registry).await.unwrap(), 4);
    answers.set(SUBJECT, 500, "");
    assert_eq!(writer.id(&registry).await.unwrap(), 4, "remembered");
}

#[tokio::test]
async fn a_subject_that_takes_no_such_schema_says_so_and_may_take_it_later() {
    let (answers, registry) = registry().await;
    let writer = writer(true);
    answers.set(VERSIONS, 409, r#"{"error_code":409,"message":"READER_FIELD_MISSING_DEFAULT_VALUE"}"#);
    let error = writer.id(&registry).await.unwrap_err();
    let says = error.to_string();
    assert!(matches!(error, AvroError::Transient(_)), "{says}");
    assert!(says.contains("results-value") && says.contains("READER_FIELD_MISSING") && says.contains("fix: "), "{says}");
    answers.set(VERSIONS, 403, "");
    assert!(writer.id(&registry).await.unwrap_err().to_string().contains("check kafka.schema_registry.username"));
    answers.set(VERSIONS, 200, r#"{"id":9}"#);
    assert_eq!(writer.id(&registry).await.unwrap(), 9);
}

#[tokio::test]
async fn a_plan_asks_what_a_subject_has_or_would_take() {
    let (answers, registry) = registry().await;
    let (writer, compatibility) = (writer(true), "/api/compatibility/subjects/results-value/versions/latest?verbose=true");
    assert_eq!(registry.standing(writer.subject()).await.unwrap(), Standing::Acceptable, "there is no such subject");
    answers.set(compatibility, 200, r#"{"is_compatible":false,"messages":["TYPE_MISMATCH","at /fields/0"]}"#);
    let words = "TYPE_MISMATCH; at /fields/0".to_owned();
    assert_eq!(registry.standing(writer.subject()).await.unwrap(), Standing::Incompatible(words));
    answers.set(compatibility, 200, r#"{"is_compatible":true}"#);
    assert_eq!(registry.standing(writer.subject()).await.unwrap(), Standing::Acceptable);
    answers.set(SUBJECT, 200, r#"{"id":4}"#);
    assert_eq!(registry.standing(writer.subject()).await.unwrap(), Standing::Registered(4));
}

#[tokio::test]
async fn whether_a_registry_answers_is_asked_of_something_that_each_has() {
    let (answers, registry) = registry().await;
    assert!(registry.answers().await.unwrap_err().to_string().contains("not as a registry does"));
    answers.set("/api/schemas/types", 401, "");
    assert!(registry.answers().await.unwrap_err().to_string().contains("username and password_file"));
    answers.set("/api/schemas/types", 200, r#"["AVRO"]"#);
    registry.answers().await.unwrap();
}
