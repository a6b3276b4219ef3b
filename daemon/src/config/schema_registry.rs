//! Topics that are not JSON, and where their schemas are.

use std::time::Duration;

use super::types::Secret;

/// What the values of a topic are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RecordFormat {
    /// JSON text.
    #[default]
    Json,
    /// Avro in Confluent's wire format.
    Avro,
}

/// `[kafka.schema_registry]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaRegistryConfig {
    /// Root of Confluent's API.
    pub url: url::Url,
    /// User name and password.
    pub login: Option<(String, Secret)>,
    /// Certificates in PEM that are trusted beside the system's.
    pub ca: Option<String>,
    /// Longest time for one request.
    pub timeout: Duration,
}
