//! `[kafka.schema_registry]`, `format` of `[[kafka.topics]]`, and `[kafka.results]`.

use astromech_avro::SubjectNameStrategy;

use super::{Resolver, View};
use crate::config::{RecordFormat, ResultsConfig, SchemaRegistryConfig};

impl Resolver<'_> {
    /// `None` where no registry is named.
    pub(super) fn schema_registry(&mut self) -> Option<SchemaRegistryConfig> {
        let view = self.view("kafka.schema_registry");
        let written = view.text("url");
        if written.is_empty() {
            return None;
        }
        let is_address = |url: &url::Url| {
            matches!(url.scheme(), "http" | "https") && url.has_host() && url.username().is_empty() && url.password().is_none()
        };
        let url = url::Url::parse(written).ok().filter(is_address);
        if url.is_none() {
            // Not repeated: it may carry a password.
            let fix = "write http://HOST:PORT or https://HOST:PORT; a password goes into password_file";
            self.error(view, "url", "the registry is no address, or has a user name in it", fix);
        }
        let ca = match view.text("ca_file") {
            "" => None,
            file => self.secret(view, "ca_file", file).map(|pem| pem.reveal().to_owned()),
        };
        let login = self.registry_login(view);
        Some(SchemaRegistryConfig { url: url?, login, ca, timeout: view.millis("timeout_ms") })
    }

    fn registry_login(&mut self, view: View<'_>) -> Option<(String, crate::config::Secret)> {
        match (view.text("username"), view.text("password_file")) {
            ("", "") => None,
            ("", _) => {
                self.error(view, "username", "a password without a user name", "write both, or neither");
                None
            }
            (_, "") => {
                self.error(view, "password_file", "a user name without a password", "write both, or neither");
                None
            }
            (user, file) => self.secret(view, "password_file", file).map(|password| (user.to_owned(), password)),
        }
    }

    pub(super) fn results(&mut self) -> ResultsConfig {
        let view = self.view("kafka.results");
        ResultsConfig {
            embeddings: view.flag("embeddings"),
            neighbours: view.integer("neighbours") as u32,
            format: self.record_format(view),
            subject_name_strategy: match view.text("subject_name_strategy") {
                "record_name" => SubjectNameStrategy::RecordName,
                "topic_record_name" => SubjectNameStrategy::TopicRecordName,
                _ => SubjectNameStrategy::TopicName,
            },
            auto_register_schemas: view.flag("auto_register_schemas"),
        }
    }

    pub(super) fn record_format(&mut self, view: View<'_>) -> RecordFormat {
        if view.text("format") != "avro" {
            return RecordFormat::Json;
        }
        if self.view("kafka.schema_registry").text("url").is_empty() {
            let problem = "\"avro\" needs a schema registry, and kafka.schema_registry.url is empty";
            self.error(
                view,
                "format",
                problem,
                "write url = \"http://HOST:PORT\" in [kafka.schema_registry], or format = \"json\"",
            );
        }
        RecordFormat::Avro
    }
}
