//! A real schema registry, and records as Confluent's serializers write them.

use std::path::{Path, PathBuf};

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use base64::Engine as _;
use serde_json::{Value as Json, json};

use crate::authority::Authority;
use crate::paths;
use crate::servers::{fresh_folder, read_env, script, signal_pid};
use crate::wait::block_on;

/// A schema registry in memory. Stopped when dropped.
#[derive(Debug)]
pub struct SchemaRegistry {
    dir: PathBuf,
    /// Root of Confluent's API.
    pub url: String,
    /// Who vouches for it, PEM.
    ca: Option<String>,
}

impl SchemaRegistry {
    /// Starts a registry that has no schemas.
    pub fn start(dir: &Path) -> Self {
        Self::serving(dir, None)
    }

    /// As [`SchemaRegistry::start`], by TLS only, with a certificate of this authority.
    pub fn start_tls(dir: &Path, authority: &Authority) -> Self {
        authority.issue("localhost").write(&dir.join("secured"));
        Self::serving(dir, Some(authority.pem()))
    }

    fn serving(dir: &Path, ca: Option<String>) -> Self {
        fresh_folder(dir);
        script("registry.sh", "start", dir).unwrap_or_else(|e| panic!("the schema registry did not start: {e}"));
        let url = read_env(&dir.join("registry.env"))["REGISTRY_URL"].clone();
        Self { dir: dir.to_owned(), url, ca }
    }

    /// SIGSTOP or SIGCONT: the process freezes and its schemas stay, or it goes on.
    pub fn freeze(&self, frozen: bool) {
        signal_pid(&read_env(&self.dir.join("registry.env"))["REGISTRY_PID"], frozen);
    }

    /// Registers `schema` as the next version of `subject`.
    pub fn register(&self, subject: &str, schema: &Json) -> Writer {
        let answer = self.ask(&format!("subjects/{subject}/versions"), Some(&json!({"schema": schema.to_string()})));
        let id = answer["id"].as_u64().and_then(|id| u32::try_from(id).ok());
        let id = id.unwrap_or_else(|| panic!("{subject}: {answer}"));
        Writer { id, schema: Schema::parse_str(&schema.to_string()).unwrap_or_else(|e| panic!("{subject}: {e}")) }
    }

    /// Every subject.
    pub fn subjects(&self) -> Json {
        self.ask("subjects", None)
    }

    /// The message of a value in Confluent's wire format, read by the Avro library with the schema that the registry has.
    pub fn read(&self, value: &[u8]) -> Json {
        let (header, mut datum) = value.split_at(5);
        assert_eq!(header[0], 0, "Confluent's wire format");
        let id = u32::from_be_bytes(header[1..].try_into().expect("four bytes"));
        let answer = self.ask(&format!("schemas/ids/{id}"), None);
        let text = answer["schema"].as_str().unwrap_or_else(|| panic!("id {id}: {answer}"));
        let schema = Schema::parse_str(text).unwrap_or_else(|e| panic!("id {id}: {e}"));
        let reader = GenericDatumReader::builder(&schema).build().expect("a reader");
        let read = reader.read_value(&mut datum).unwrap_or_else(|e| panic!("id {id}: {e}"));
        assert!(datum.is_empty(), "{} bytes are left", datum.len());
        Json::try_from(read).unwrap_or_else(|e| panic!("id {id}: {e}"))
    }

    /// POST where something is said, GET where not.
    fn ask(&self, path: &str, said: Option<&Json>) -> Json {
        let url = format!("{}/{path}", self.url);
        block_on(async {
            let ca = self.ca.as_ref().map(|pem| reqwest::Certificate::from_pem(pem.as_bytes()).expect("a certificate"));
            let client = reqwest::Client::builder().no_proxy().tls_certs_merge(ca).build().expect("a client");
            let request = said.map_or_else(|| client.get(&url), |said| client.post(&url).json(said));
            let response = request.send().await.unwrap_or_else(|e| panic!("{url}: {e}"));
            response.json().await.unwrap_or_else(|e| panic!("{url}: {e}"))
        })
    }
}

impl Drop for SchemaRegistry {
    fn drop(&mut self) {
        if let Err(e) = script("registry.sh", "stop", &self.dir) {
            paths::message(&e);
        }
    }
}

/// One of the schemas in `schemas/avro`, as users register them.
pub fn schema_file(name: &str) -> Json {
    let path = paths::repository().join(format!("schemas/avro/{name}.avsc"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Writes records with a registered schema.
#[derive(Debug)]
pub struct Writer {
    /// Its id in the registry.
    pub id: u32,
    schema: Schema,
}

impl Writer {
    /// The value of a record that says in Avro what `message` says in JSON.
    pub fn value(&self, message: &Json) -> Vec<u8> {
        let resolved = avro(message).resolve(&self.schema).unwrap_or_else(|e| panic!("{message}: {e}"));
        let writer = GenericDatumWriter::builder(&self.schema).build().expect("a writer");
        let datum = writer.write_value_to_vec(resolved).unwrap_or_else(|e| panic!("{message}: {e}"));
        [&[0], &self.id.to_be_bytes()[..], &datum].concat()
    }
}

/// Base64 in a field `bytes` becomes the bytes themselves.
fn avro(message: &Json) -> Value {
    match message {
        Json::Null => Value::Null,
        Json::Bool(yes) => Value::Boolean(*yes),
        Json::Number(number) => number.as_i64().map_or_else(|| Value::Double(number.as_f64().unwrap_or_default()), Value::Long),
        Json::String(text) => Value::String(text.clone()),
        Json::Array(items) => Value::Array(items.iter().map(avro).collect()),
        Json::Object(fields) => {
            let field = |(name, value): (&String, &Json)| match value {
                Json::String(text) if name == "bytes" => {
                    let bytes = base64::engine::general_purpose::STANDARD.decode(text).expect("base64");
                    (name.clone(), Value::Bytes(bytes))
                }
                value => (name.clone(), avro(value)),
            };
            Value::Record(fields.iter().map(field).collect())
        }
    }
}
