//! First start and every later one: the server is new enough, the collections are there and of this space, the aliases are set.

use std::collections::{BTreeMap, HashMap};

use astromech_schemas::Kind;
use futures::future::try_join_all;
use qdrant_client::qdrant::{
    self, BoolIndexParamsBuilder, CollectionInfo, CreateAliasBuilder, CreateCollectionBuilder, CreateFieldIndexCollectionBuilder,
    Distance, IntegerIndexParamsBuilder, KeywordIndexParamsBuilder, MultiVectorComparator, MultiVectorConfig,
    MultiVectorConfigBuilder, VectorParams, VectorParamsBuilder, VectorsConfigBuilder, vectors_config,
};
use qdrant_client::{Qdrant, QdrantError};
use serde_json::{Value, json};

use super::error::from_client;
use crate::book::collection_name;
use crate::payload::{FieldType, indexed_fields};
use crate::{IndexError, Space, VECTORS};

/// Oldest server that evaluates a condition per point on an upsert and keeps metadata with a collection.
pub(super) const SERVER_MIN: (u64, u64) = (1, 16);

/// Key of our metadata on a collection.
const METADATA_KEY: &str = "astromech";

/// What it takes to set up one server.
pub(super) struct Setup<'a> {
    pub(super) client: &'a Qdrant,
    pub(super) url: &'a str,
    pub(super) space: &'a Space,
    /// Whether another generation may be live: then the aliases are neither compared nor set.
    pub(super) beside: bool,
}

impl Setup<'_> {
    /// Everything, in an order that leaves nothing behind when it is refused: versions, aliases and collections that are there are looked at
    /// before a collection is made.
    pub(super) async fn run(&self) -> Result<(), IndexError> {
        self.check_server().await?;
        let aliases = self.aliases().await?;
        for kind in Kind::ALL.into_iter().filter(|_| !self.beside) {
            self.check_alias(kind, &aliases).await?;
            self.check_name(kind, &aliases).await?;
        }
        try_join_all(Kind::ALL.map(|kind| self.check_present(kind))).await?;
        try_join_all(Kind::ALL.map(|kind| self.ensure_collection(kind))).await?;
        // What is live gets the alias of a kind that is newer than it.
        let live = aliases.get(Kind::Article.collection()) == Some(&collection_name(Kind::Article, &self.space.fingerprint));
        if self.beside && !live {
            return Ok(());
        }
        for kind in Kind::ALL {
            self.ensure_alias(kind, &aliases).await?;
        }
        Ok(())
    }

    pub(super) fn error(&self, doing: &str) -> impl Fn(QdrantError) -> IndexError {
        move |error| from_client(doing, self.url, error)
    }

    pub(super) async fn check_server(&self) -> Result<(), IndexError> {
        let answer = self.client.health_check().await.map_err(|error| match self.error("asking for the version")(error) {
            IndexError::Transient(text) => IndexError::Transient(
                format!("{text}; is the server up, and is this its gRPC port (usually 6334, not 6333)?").into(),
            ),
            other => other,
        })?;
        if parse_version(&answer.version).is_some_and(|found| found >= SERVER_MIN) {
            return Ok(());
        }
        let (major, minor) = SERVER_MIN;
        Err(IndexError::Mismatch(format!(
            "the Qdrant server at {} is version {}, at least {major}.{minor} is needed (conditional upserts): upgrade the server",
            self.url, answer.version
        ).into()))
    }

    /// Collection of each alias of the server.
    pub(super) async fn aliases(&self) -> Result<BTreeMap<String, String>, IndexError> {
        let answer = self.client.list_aliases().await.map_err(self.error("listing the aliases"))?;
        Ok(answer.aliases.into_iter().map(|alias| (alias.alias_name, alias.collection_name)).collect())
    }

    /// Refuses an alias that serves another space: moving it is a rollout's business, never a start's.
    pub(super) async fn check_alias(&self, kind: Kind, aliases: &BTreeMap<String, String>) -> Result<(), IndexError> {
        let alias = kind.collection();
        let Some(live) = aliases.get(alias) else { return Ok(()) };
        if *live == collection_name(kind, &self.space.fingerprint) {
            return Ok(());
        }
        let info = self.client.collection_info(live.as_str()).await.map_err(self.error("reading the live collection"))?;
        let of = match metadata(&info.result.unwrap_or_default()) {
            Some(found) => format!("bundle {} ({})", text(&found, "bundle"), text(&found, "fingerprint")),
            None => "something that Astromech did not make".to_owned(),
        };
        Err(IndexError::Mismatch(format!(
            "alias `{alias}` is live on collection `{live}` of {of}, this daemon's bundle is {} ({}): start it with the live bundle, or \
             release this one as a new generation; to give the live index up, delete the alias",
            self.space.bundle, self.space.fingerprint
        ).into()))
    }

    /// Refuses a collection that has the name of an alias.
    async fn check_name(&self, kind: Kind, aliases: &BTreeMap<String, String>) -> Result<(), IndexError> {
        let alias = kind.collection();
        if aliases.contains_key(alias) || !self.exists(alias).await? {
            return Ok(());
        }
        Err(IndexError::Mismatch(
            format!(
                "the server at {} has a collection called `{alias}`, which must be an alias: rename or delete that collection",
                self.url
            )
            .into(),
        ))
    }

    /// Refuses a collection that is there in another form.
    async fn check_present(&self, kind: Kind) -> Result<(), IndexError> {
        let name = collection_name(kind, &self.space.fingerprint);
        if !self.exists(&name).await? {
            return Ok(());
        }
        self.check_collection(&name, &self.info(&name).await?)
    }

    async fn info(&self, name: &str) -> Result<CollectionInfo, IndexError> {
        let answer = self.client.collection_info(name).await.map_err(self.error("reading the collection"))?;
        Ok(answer.result.unwrap_or_default())
    }

    async fn ensure_collection(&self, kind: Kind) -> Result<(), IndexError> {
        let name = collection_name(kind, &self.space.fingerprint);
        if !self.exists(&name).await?
            && let Err(error) = self.create_collection(&name, None).await
            && !self.exists(&name).await?
        {
            return Err(error);
        }
        // From here on it exists, made by us or by another daemon that starts at the same time.
        let info = self.info(&name).await?;
        self.check_collection(&name, &info)?;
        let missing: Vec<_> = indexed_fields(kind).filter(|(field, _)| !info.payload_schema.contains_key(*field)).collect();
        for (i, (field, field_type)) in missing.iter().enumerate() {
            // A shard works its operations off in order: waiting for the last is waiting for all.
            self.index_field(&name, field, *field_type, i + 1 == missing.len()).await?;
        }
        Ok(())
    }

    /// The graph gets no extra links for these fields: the guard picks points by id, and readers filter few enough.
    async fn index_field(&self, name: &str, field: &str, field_type: FieldType, wait: bool) -> Result<(), IndexError> {
        let request = match field_type {
            FieldType::Integer => CreateFieldIndexCollectionBuilder::new(name, field, qdrant::FieldType::Integer)
                .field_index_params(IntegerIndexParamsBuilder::new(true, true).enable_hnsw(false)),
            FieldType::Keyword => CreateFieldIndexCollectionBuilder::new(name, field, qdrant::FieldType::Keyword)
                .field_index_params(KeywordIndexParamsBuilder::default().enable_hnsw(false)),
            FieldType::Bool => CreateFieldIndexCollectionBuilder::new(name, field, qdrant::FieldType::Bool)
                .field_index_params(BoolIndexParamsBuilder::new().enable_hnsw(false)),
        };
        self.client.create_field_index(request.wait(wait)).await.map_err(self.error("indexing a payload field"))?;
        Ok(())
    }

    pub(super) async fn exists(&self, name: &str) -> Result<bool, IndexError> {
        self.client.collection_exists(name).await.map_err(self.error("looking for the collection"))
    }

    /// Makes the collection with our metadata, and `more` under a key of its own, in one request: of several daemons one's is taken.
    pub(super) async fn create_collection(&self, name: &str, more: Option<(&str, Value)>) -> Result<(), IndexError> {
        let mut vectors = VectorsConfigBuilder::default();
        for vector in VECTORS {
            let params = VectorParamsBuilder::new(u64::from(self.space.embedding_dim), Distance::Cosine);
            let max_sim = || MultiVectorConfigBuilder::new(MultiVectorComparator::MaxSim);
            let params = if self.space.similarity.is_cosine() { params } else { params.multivector_config(max_sim()) };
            vectors.add_named_vector_params(vector, params);
        }
        let mut ours = json!({
            "fingerprint": self.space.fingerprint,
            "embedding_dim": self.space.embedding_dim,
            "bundle": self.space.bundle,
        });
        if !self.space.similarity.is_cosine() {
            ours["similarity"] = json!(self.space.similarity);
        }
        let mut metadata = HashMap::from([(METADATA_KEY.to_owned(), ours)]);
        metadata.extend(more.map(|(key, value)| (key.to_owned(), value)));
        let request = CreateCollectionBuilder::new(name).vectors_config(vectors).metadata(metadata);
        self.client.create_collection(request).await.map_err(self.error("creating the collection"))?;
        tracing::info!(collection = name, "created the collection");
        Ok(())
    }

    /// Fingerprint, dimension, similarity, distance and vector names, each as this daemon would have made it.
    pub(super) fn check_collection(&self, name: &str, info: &CollectionInfo) -> Result<(), IndexError> {
        let refuse = |what: String| {
            let fix = "start with the bundle that it was made for, or delete the collection to build it anew";
            Err(IndexError::Mismatch(format!("collection `{name}` at {}: {what}: {fix}", self.url).into()))
        };
        let Some(found) = metadata(info) else {
            return refuse(format!("its metadata has no `{METADATA_KEY}`, so Astromech did not make it"));
        };
        let fingerprint = text(&found, "fingerprint");
        if fingerprint != self.space.fingerprint.as_str() {
            let bundle = text(&found, "bundle");
            return refuse(format!("it holds vectors of bundle {bundle} ({fingerprint}), not of {}", self.space.fingerprint));
        }
        let params = named_vectors(info);
        let mut names: Vec<&str> = params.keys().map(String::as_str).collect();
        names.sort_unstable();
        let mut wanted = VECTORS;
        wanted.sort_unstable();
        if names != wanted {
            return refuse(format!("its vectors are {names:?}, not {wanted:?}"));
        }
        for (vector, params) in params {
            let dim = self.space.embedding_dim;
            if params.size != u64::from(dim) {
                return refuse(format!("vector `{vector}` has {} numbers, not {dim}", params.size));
            }
            if params.distance() != Distance::Cosine {
                return refuse(format!("vector `{vector}` is compared by {:?}, not by Cosine", params.distance()));
            }
            let found = params.multivector_config.as_ref().map(MultiVectorConfig::comparator);
            let wanted = (!self.space.similarity.is_cosine()).then_some(MultiVectorComparator::MaxSim);
            if found != wanted {
                let form = |form: Option<MultiVectorComparator>| match form {
                    None => "one vector an item".to_owned(),
                    Some(comparator) => format!("a multivector of tokens compared by {comparator:?}"),
                };
                return refuse(format!("vector `{vector}` is {}, this bundle's is {}", form(found), form(wanted)));
            }
        }
        Ok(())
    }

    /// Sets an alias that is not there; one that is there is never moved.
    async fn ensure_alias(&self, kind: Kind, aliases: &BTreeMap<String, String>) -> Result<(), IndexError> {
        let alias = kind.collection();
        if aliases.contains_key(alias) {
            return Ok(());
        }
        let collection = collection_name(kind, &self.space.fingerprint);
        let made = self.client.create_alias(CreateAliasBuilder::new(collection, alias)).await;
        let now = self.aliases().await?;
        if now.contains_key(alias) {
            // Ours, or another daemon's that starts at the same time: it must be of this space.
            return self.check_alias(kind, &now).await;
        }
        self.check_name(kind, &now).await?;
        match made.map_err(self.error("setting the alias")) {
            Err(error) => Err(error),
            Ok(_) => Err(IndexError::Transient(format!("alias `{alias}` was set and is not there yet").into())),
        }
    }
}

/// Major and minor of a version such as `1.16.3` or `1.17.0-dev`.
fn parse_version(version: &str) -> Option<(u64, u64)> {
    let mut parts = version.trim_start_matches('v').split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Our metadata on a collection.
pub(super) fn metadata(info: &CollectionInfo) -> Option<Value> {
    metadata_of(info, METADATA_KEY)
}

/// What a collection's metadata holds under `key`.
pub(super) fn metadata_of(info: &CollectionInfo, key: &str) -> Option<Value> {
    info.config.as_ref()?.metadata.get(key).cloned().map(Value::from)
}

pub(super) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or("unknown")
}

fn named_vectors(info: &CollectionInfo) -> BTreeMap<String, VectorParams> {
    let config = info.config.as_ref().and_then(|config| config.params.as_ref()).and_then(|params| params.vectors_config.as_ref());
    match config.and_then(|config| config.config.as_ref()) {
        Some(vectors_config::Config::ParamsMap(map)) => map.map.clone().into_iter().collect(),
        Some(vectors_config::Config::Params(params)) => BTreeMap::from([(String::new(), *params)]),
        None => BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number_and_what_is_no_version_is_refused() {
        assert_eq!(parse_version("1.16.3"), Some((1, 16)));
        assert!(parse_version("1.9.7") < Some(SERVER_MIN));
        assert!(parse_version("v2.0.0-rc1") > Some(SERVER_MIN));
        assert_eq!(parse_version("unknown"), None);
    }
}
