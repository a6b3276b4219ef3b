//! What [`Setup::run`] would do, without doing it.

use std::collections::BTreeMap;

use astromech_schemas::Kind;

use super::setup::Setup;
use crate::book::collection_name;
use crate::payload::indexed_fields;
use crate::{Finding, IndexError, Verdict};

impl Setup<'_> {
    /// The collections with their payload indexes, and the aliases.
    pub(super) async fn survey(&self) -> Result<Vec<Finding>, IndexError> {
        self.check_server().await?;
        let aliases = self.aliases().await?;
        let mut findings = Vec::new();
        for kind in Kind::ALL {
            self.survey_collection(kind, &mut findings).await?;
            if !self.beside {
                findings.push(self.survey_alias(kind, &aliases).await?);
            }
        }
        Ok(findings)
    }

    async fn survey_collection(&self, kind: Kind, findings: &mut Vec<Finding>) -> Result<(), IndexError> {
        let name = collection_name(kind, &self.space.fingerprint);
        let subject = format!("collection {name}");
        if !self.exists(&name).await? {
            let fields: Vec<&str> = indexed_fields(kind).map(|(field, _)| field).collect();
            let detail = format!(
                "made for bundle {} with {} numbers a vector, and indexes on {}",
                self.space.bundle,
                self.space.embedding_dim,
                fields.join(", ")
            );
            findings.push(Finding::new(subject, Verdict::Create, detail));
            return Ok(());
        }
        let info = self.client.collection_info(name.as_str()).await.map_err(self.error("reading the collection"))?;
        let info = info.result.unwrap_or_default();
        let checked = self.check_collection(&name, &info).map(|()| Verdict::Right);
        let is_right = checked.is_ok();
        findings.push(Finding::of(
            subject,
            checked,
            &format!("{} points and tombstones", info.points_count.unwrap_or_default()),
        )?);
        let missing: Vec<&str> =
            indexed_fields(kind).map(|(field, _)| field).filter(|field| !info.payload_schema.contains_key(*field)).collect();
        if is_right && !missing.is_empty() {
            findings.push(Finding::new(format!("indexes of {name}"), Verdict::Change, format!("made on {}", missing.join(", "))));
        }
        Ok(())
    }

    async fn survey_alias(&self, kind: Kind, aliases: &BTreeMap<String, String>) -> Result<Finding, IndexError> {
        let (alias, collection) = (kind.collection(), collection_name(kind, &self.space.fingerprint));
        let subject = format!("alias {alias}");
        if aliases.contains_key(alias) {
            return Finding::of(
                subject,
                self.check_alias(kind, aliases).await.map(|()| Verdict::Right),
                &format!("on {collection}"),
            );
        }
        if self.exists(alias).await? {
            let problem = format!("the server has a collection called `{alias}`, which must be an alias: rename or delete it");
            return Ok(Finding::new(subject, Verdict::Wrong, problem));
        }
        Ok(Finding::new(subject, Verdict::Create, format!("set on {collection}")))
    }
}
