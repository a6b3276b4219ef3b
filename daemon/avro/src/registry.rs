//! The registry: how it is called, and the schemas that records were written with, which are remembered.
//!
//! schema_registry_converter (6) keeps every schema and every error, and tells an unknown id from a registry that is down in the text of an
//! error only, so the calls are our own.

use std::collections::HashSet;
use std::error::Error as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Certificate, Client, Method, StatusCode, redirect};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Semaphore;
use url::Url;

use crate::error::{AvroError, Invalid, StartError};
use crate::schema::WriterSchema;

/// Most schemas that are remembered, and most unknown ids.
pub const SCHEMAS_MAX: usize = 1000;
/// How long an id stays unknown in the daemon.
pub const UNKNOWN_FOR: Duration = Duration::from_secs(10);
/// Largest answer of the registry, bytes.
pub const SCHEMA_BYTES_MAX: usize = 1024 * 1024;
/// Most schemas that one may refer to, through others included.
pub const REFERENCES_MAX: usize = 64;
/// Most requests at once.
const REQUESTS_MAX: usize = 8;
const REDIRECTS_MAX: usize = 3;
const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";
const MEDIA_TYPES: &str = "application/vnd.schemaregistry.v1+json, application/json";
const INVALID_FIX: &str = "register a schema in Avro that can be read, and write with that";

/// Where the registry is.
#[derive(Clone)]
pub struct SchemaRegistryOptions {
    /// Root of Confluent's API.
    pub url: Url,
    /// User and password.
    pub login: Option<(String, String)>,
    /// Certificates in PEM that are trusted beside the system's.
    pub ca: Option<Vec<u8>>,
    /// Longest time for one request.
    pub timeout: Duration,
    /// How long an id stays unknown before the registry is asked again: [`UNKNOWN_FOR`].
    pub unknown_for: Duration,
}

type Known = Result<Arc<WriterSchema>, Invalid>;

/// A schema registry.
pub struct SchemaRegistry {
    client: Client,
    url: Url,
    login: Option<(String, String)>,
    timeout: Duration,
    unknown_for: Duration,
    requests: Semaphore,
    /// Schemas, and why the others can't be read: an id stands for the same schema for ever.
    known: Cache<u32, Known>,
    /// Apart from the known ones, which a flood of unknown ids must not push out.
    unknown: Cache<u32, Instant>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    schema: String,
    schema_type: Option<String>,
    references: Option<Vec<Reference>>,
}

#[derive(Deserialize)]
struct Reference {
    subject: String,
    version: u32,
}

/// A registry's own error.
#[derive(Deserialize)]
pub(crate) struct Refusal {
    error_code: u32,
    message: Option<String>,
}

impl Refusal {
    pub(crate) fn of(body: &Body) -> Option<Self> {
        serde_json::from_slice(body.as_deref()?).ok()
    }

    /// Whether there is no such schema or subject. A 404 of a proxy, or of a wrong path, says no such thing, and must not turn whole topics
    /// into dead letters.
    pub(crate) fn is_unknown(&self) -> bool {
        (40400..=40499).contains(&self.error_code)
    }

    /// Its words, shortened.
    pub(crate) fn words(&self) -> String {
        self.message.as_deref().unwrap_or_default().chars().take(200).collect()
    }
}

/// What an answer says; `None` where it is over [`SCHEMA_BYTES_MAX`].
pub(crate) type Body = Option<Vec<u8>>;

impl SchemaRegistry {
    /// A client; the registry is not asked yet.
    ///
    /// # Errors
    /// Certificates that are none.
    pub fn new(options: SchemaRegistryOptions) -> Result<Self, StartError> {
        // Another provider that is installed already stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut client = Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::limited(REDIRECTS_MAX))
            .connect_timeout(options.timeout)
            .timeout(options.timeout)
            .user_agent(concat!("astromech/", env!("CARGO_PKG_VERSION")));
        if let Some(pem) = &options.ca {
            let certificates = Certificate::from_pem_bundle(pem).map_err(|_| StartError::Ca)?;
            if certificates.is_empty() {
                return Err(StartError::Ca);
            }
            client = client.tls_certs_merge(certificates);
        }
        Ok(Self {
            client: client.build().map_err(StartError::Client)?,
            url: options.url,
            login: options.login,
            timeout: options.timeout,
            unknown_for: options.unknown_for,
            requests: Semaphore::new(REQUESTS_MAX),
            known: Cache::new(SCHEMAS_MAX),
            unknown: Cache::new(SCHEMAS_MAX),
        })
    }

    /// The schema of `id`, remembered or asked for; of several callers for one id a single one asks.
    ///
    /// # Errors
    /// [`AvroError::Unknown`] where the registry has no such id, now or some seconds ago; [`AvroError::Invalid`] where the schema can't be
    /// read; [`AvroError::Transient`] for everything that may pass.
    pub async fn schema(&self, id: u32) -> Result<Arc<WriterSchema>, AvroError> {
        let known = self.known.get_or_insert_async(&id, async {
            // Another caller may have asked while this one waited.
            if self.unknown.get(&id).is_some_and(|since| since.elapsed() < self.unknown_for) {
                return Err(AvroError::Unknown { id, problem: "unknown to the registry a moment ago".to_owned() });
            }
            let asked = self.ask(id).await;
            match &asked {
                Err(AvroError::Unknown { .. }) => self.unknown.insert(id, Instant::now()),
                Err(AvroError::Transient(_)) => {}
                _ => drop(self.unknown.remove(&id)),
            }
            match asked {
                Ok(schema) => Ok(Ok(Arc::new(schema))),
                Err(AvroError::Invalid(invalid)) => Ok(Err(invalid)),
                Err(error) => Err(error),
            }
        });
        Ok(known.await??)
    }

    async fn ask(&self, id: u32) -> Result<WriterSchema, AvroError> {
        let unreadable = |problem: String| Invalid::new(format!("the schema of id {id}: {problem}"), INVALID_FIX);
        let answer: Answer = self.get(id, &["schemas", "ids", &id.to_string()]).await?;
        if let Some(other) = answer.schema_type.filter(|kind| kind != "AVRO") {
            return Err(unreadable(format!("its type is {other}")).into());
        }
        let mut waiting = answer.references.unwrap_or_default();
        let (mut seen, mut texts) = (HashSet::new(), Vec::new());
        while let Some(Reference { subject, version }) = waiting.pop() {
            if !seen.insert((subject.clone(), version)) {
                continue;
            }
            if seen.len() > REFERENCES_MAX {
                return Err(unreadable(format!("it refers to more than {REFERENCES_MAX} others")).into());
            }
            let path = ["subjects", &subject, "versions", &version.to_string()];
            let referred: Answer = self.get(id, &path).await?;
            waiting.extend(referred.references.unwrap_or_default());
            if !texts.contains(&referred.schema) {
                texts.push(referred.schema);
            }
        }
        WriterSchema::parse(&answer.schema, &texts).map_err(|problem| unreadable(problem).into())
    }

    /// One request for a schema. `id` is what the caller wants in the end.
    async fn get<T: DeserializeOwned>(&self, id: u32, path: &[&str]) -> Result<T, AvroError> {
        let mut url = self.address(path);
        if path[0] == "subjects" {
            // A version that is marked deleted is still what others were written with.
            url.set_query(Some("deleted=true"));
        }
        let (status, body) = self.call(Method::GET, &url, None).await?;
        if let Some(refusal) = Refusal::of(&body).filter(|refusal| status == StatusCode::NOT_FOUND && refusal.is_unknown()) {
            return Err(AvroError::Unknown { id, problem: format!("the registry does not know it ({})", refusal.words()) });
        }
        let Some(text) = &body else {
            let problem = format!("the schema of id {id}: an answer of more than {SCHEMA_BYTES_MAX} bytes");
            return Err(Invalid::new(problem, INVALID_FIX).into());
        };
        if status != StatusCode::OK {
            return Err(refused(&url, status, &body));
        }
        serde_json::from_slice(text).map_err(|e| AvroError::Transient(format!("{url} answered with no schema: {e}; {URL_HINT}")))
    }

    /// The address of a resource.
    pub(crate) fn address(&self, path: &[&str]) -> Url {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    /// One request; its answer is read up to [`SCHEMA_BYTES_MAX`].
    ///
    /// # Errors
    /// [`AvroError::Transient`]: no answer.
    pub(crate) async fn call(&self, method: Method, url: &Url, said: Option<&Value>) -> Result<(StatusCode, Body), AvroError> {
        let failed = |e: &reqwest::Error| AvroError::Transient(self.failed(url, e));
        let _place = self.requests.acquire().await.map_err(|e| AvroError::Transient(e.to_string()))?;
        let mut request = self.client.request(method, url.clone()).header(ACCEPT, MEDIA_TYPES);
        if let Some((user, password)) = &self.login {
            request = request.basic_auth(user, Some(password));
        }
        if let Some(said) = said {
            request = request.header(CONTENT_TYPE, MEDIA_TYPE).body(said.to_string());
        }
        let mut response = request.send().await.map_err(|e| failed(&e))?;
        let (status, mut body) = (response.status(), Vec::new());
        while let Some(chunk) = response.chunk().await.map_err(|e| failed(&e))? {
            if body.len() + chunk.len() > SCHEMA_BYTES_MAX {
                return Ok((status, None));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((status, Some(body)))
    }

    fn failed(&self, url: &Url, error: &reqwest::Error) -> String {
        if error.is_timeout() {
            return format!("{url} took longer than kafka.schema_registry.timeout_ms = {}", self.timeout.as_millis());
        }
        let mut cause = error.source();
        let mut said = "the request failed".to_owned();
        while let Some(inner) = cause {
            said = inner.to_string();
            cause = inner.source();
        }
        format!("{url}: {said}")
    }
}

pub(crate) const URL_HINT: &str = "is kafka.schema_registry.url the root of Confluent's API?";

/// What an answer that nobody asked for means.
pub(crate) fn refused(url: &Url, status: StatusCode, body: &Body) -> AvroError {
    let hint = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ": check kafka.schema_registry.username and password_file".to_owned(),
        StatusCode::NOT_FOUND => format!(", not as a registry does; {URL_HINT}"),
        _ => Refusal::of(body).map(|refusal| format!(": {}", refusal.words())).unwrap_or_default(),
    };
    AvroError::Transient(format!("{url} answered {status}{hint}"))
}
