//! What is asked about subjects: whether the registry answers, whether it has a schema, and, where it may, to take it.

use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use crate::error::AvroError;
use crate::registry::{Body, Refusal, SchemaRegistry, URL_HINT, refused};

/// A schema, and where it is registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Name of the subject.
    pub name: String,
    /// The schema's text.
    pub schema: String,
}

/// What a subject says to a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It has it, under this id.
    Registered(u32),
    /// It would take it as its next version, or its first.
    Acceptable,
    /// Not compatible with the subject's latest version: the registry's words.
    Incompatible(String),
}

#[derive(Deserialize)]
struct Registered {
    id: u32,
}

#[derive(Deserialize)]
struct Compatibility {
    is_compatible: bool,
    #[serde(default)]
    messages: Vec<String>,
}

impl SchemaRegistry {
    /// Asks for something that every registry has and that costs it nothing.
    ///
    /// # Errors
    /// [`AvroError::Transient`]: it does not answer, or not us.
    pub async fn answers(&self) -> Result<(), AvroError> {
        let url = self.address(&["schemas", "types"]);
        match self.call(Method::GET, &url, None).await? {
            (StatusCode::OK, _) => Ok(()),
            (status, body) => Err(refused(&url, status, &body)),
        }
    }

    /// Registers a schema; one that the subject has keeps its id.
    ///
    /// # Errors
    /// [`AvroError::Transient`]: the registry does not answer, or does not take it until somebody changes something there.
    pub(crate) async fn register(&self, subject: &Subject) -> Result<u32, AvroError> {
        let url = self.normalized(&["subjects", &subject.name, "versions"]);
        match self.call(Method::POST, &url, Some(&subject.body())).await? {
            (StatusCode::OK, body) => Ok(read::<Registered>(&url, &body)?.id),
            (status @ (StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY), body) => Err(AvroError::Transient(format!(
                "subject {} does not take our schema ({status}: {}); fix: change the subject's compatibility, or name another by \
                 subject_name_strategy or another topic",
                subject.name,
                Refusal::of(&body).map(|refusal| refusal.words()).unwrap_or_default()
            ))),
            (status, body) => Err(refused(&url, status, &body)),
        }
    }

    /// The id of a schema in its subject; `None` where that does not have it.
    ///
    /// # Errors
    /// [`AvroError::Transient`]: the registry does not answer, or not us.
    pub(crate) async fn find(&self, subject: &Subject) -> Result<Option<u32>, AvroError> {
        let url = self.normalized(&["subjects", &subject.name]);
        match self.call(Method::POST, &url, Some(&subject.body())).await? {
            (StatusCode::OK, body) => Ok(Some(read::<Registered>(&url, &body)?.id)),
            (StatusCode::NOT_FOUND, body) if Refusal::of(&body).is_some_and(|refusal| refusal.is_unknown()) => Ok(None),
            (status, body) => Err(refused(&url, status, &body)),
        }
    }

    /// Apicurio finds a schema by its exact text otherwise, and calls any schema compatible with a subject that it does not know, where
    /// Confluent's registry answers 404.
    /// Where a schema is compared, and kept, apart from its white space and the order of its keys: somebody else may have registered it.
    fn normalized(&self, path: &[&str]) -> Url {
        let mut url = self.address(path);
        url.set_query(Some("normalize=true"));
        url
    }

    /// What a subject says to a schema; changes nothing.
    ///
    /// # Errors
    /// As [`SchemaRegistry::answers`].
    pub async fn standing(&self, subject: &Subject) -> Result<Standing, AvroError> {
        if let Some(id) = self.find(subject).await? {
            return Ok(Standing::Registered(id));
        }
        let mut url = self.address(&["compatibility", "subjects", &subject.name, "versions", "latest"]);
        url.set_query(Some("verbose=true"));
        match self.call(Method::POST, &url, Some(&subject.body())).await? {
            (StatusCode::OK, body) => {
                let answer: Compatibility = read(&url, &body)?;
                let words = answer.messages.join("; ").chars().take(200).collect();
                Ok(if answer.is_compatible { Standing::Acceptable } else { Standing::Incompatible(words) })
            }
            // There is no such subject yet.
            (StatusCode::NOT_FOUND, body) if Refusal::of(&body).is_some_and(|refusal| refusal.is_unknown()) => {
                Ok(Standing::Acceptable)
            }
            (status, body) => Err(refused(&url, status, &body)),
        }
    }
}

impl Subject {
    fn body(&self) -> serde_json::Value {
        json!({"schema": self.schema})
    }
}

fn read<T: serde::de::DeserializeOwned>(url: &Url, body: &Body) -> Result<T, AvroError> {
    let text = body.as_deref().unwrap_or_default();
    serde_json::from_slice(text).map_err(|e| AvroError::Transient(format!("{url} answered with something else: {e}; {URL_HINT}")))
}
