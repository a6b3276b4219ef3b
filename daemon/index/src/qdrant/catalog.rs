//! The book of generations on a Qdrant server: collections with our metadata, and the aliases.

use std::collections::{BTreeMap, HashMap};

use astromech_schemas::{Fingerprint, Kind};
use futures::future::{BoxFuture, FutureExt as _, try_join_all};
use qdrant_client::qdrant::alias_operations::Action;
use qdrant_client::qdrant::collections_client::CollectionsClient;
use qdrant_client::qdrant::{AliasOperations, ChangeAliases, CollectionInfo, CreateAlias, DeleteAlias, UpdateCollectionBuilder};
use qdrant_client::{Qdrant, QdrantError};
use serde_json::{Value, json};
use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};

use super::QdrantOptions;
use super::error::from_client;
use super::setup::{Setup, metadata, metadata_of, text};
use crate::book::{Backfill, Catalog, Noted, StoredGeneration, collection_name};
use crate::{IndexError, Space};

/// Key of what is noted, in the metadata of a generation's collection of articles. Qdrant merges metadata key by key.
const NOTE_KEY: &str = "astromech_generation";

/// Key of how a generation is filled, there too.
const BACKFILL_KEY: &str = "astromech_backfill";

/// The book of generations on one server.
pub struct QdrantCatalog {
    client: Qdrant,
    options: QdrantOptions,
}

/// Sends the API key with each request.
#[derive(Clone)]
struct ApiKey(Option<AsciiMetadataValue>);

impl Interceptor for ApiKey {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(key) = &self.0 {
            request.metadata_mut().insert("api-key", key.clone());
        }
        Ok(request)
    }
}

impl QdrantCatalog {
    /// Makes a client; nothing is asked yet.
    ///
    /// # Errors
    /// [`IndexError::Mismatch`] for an address that is none.
    pub fn new(options: &QdrantOptions) -> Result<Self, IndexError> {
        Ok(Self { client: super::client(options)?, options: options.clone() })
    }

    fn error(&self, doing: &str) -> impl Fn(QdrantError) -> IndexError {
        move |error| from_client(doing, &self.options.url, error)
    }

    async fn info(&self, collection: &str) -> Result<CollectionInfo, IndexError> {
        let info = self.client.collection_info(collection).await.map_err(self.error("reading a collection"))?;
        Ok(info.result.unwrap_or_default())
    }

    /// Collection of each of our aliases.
    async fn aliases(&self) -> Result<BTreeMap<String, String>, IndexError> {
        let answer = self.client.list_aliases().await.map_err(self.error("listing the aliases"))?;
        let ours = |name: &str| Kind::ALL.iter().any(|kind| kind.collection() == name);
        let aliases = answer.aliases.into_iter().map(|alias| (alias.alias_name, alias.collection_name));
        Ok(aliases.filter(|(alias, _)| ours(alias)).collect())
    }

    async fn read_live(&self) -> Result<Option<Fingerprint>, IndexError> {
        let aliases = self.aliases().await?;
        let Some(collection) = aliases.get(Kind::Article.collection()) else { return Ok(None) };
        let info = self.info(collection).await?;
        let fingerprint = metadata(&info).and_then(|ours| fingerprint_in(&ours));
        let Some(fingerprint) = fingerprint else {
            return Err(IndexError::Mismatch(
                format!(
                    "alias `{}` at {} is on `{collection}`, which Astromech did not make: rename that alias",
                    Kind::Article.collection(),
                    self.options.url
                )
                .into(),
            ));
        };
        let split = Kind::ALL.into_iter().find(|kind| {
            aliases.get(kind.collection()).is_some_and(|collection| *collection != collection_name(*kind, &fingerprint))
        });
        match split {
            None => Ok(Some(fingerprint)),
            Some(kind) => Err(IndexError::Mismatch(
                format!(
                    "alias `{}` at {} is of another generation than `{}`: `astromech generations promote` sets them all",
                    kind.collection(),
                    self.options.url,
                    Kind::Article.collection()
                )
                .into(),
            )),
        }
    }

    async fn read_generations(&self) -> Result<Vec<StoredGeneration>, IndexError> {
        let answer = self.client.list_collections().await.map_err(self.error("listing the collections"))?;
        let prefix = format!("{}-", Kind::Article.collection());
        let names = answer.collections.into_iter().map(|collection| collection.name).filter(|name| name.starts_with(&prefix));
        let read = names.map(|name| async move {
            let info = match self.info(&name).await {
                Ok(info) => info,
                // It may have been dropped since it was listed.
                Err(IndexError::Mismatch(_)) => return Ok(None),
                Err(error) => return Err(error),
            };
            let Some(ours) = metadata(&info) else { return Ok(None) };
            let Some(fingerprint) = fingerprint_in(&ours) else { return Ok(None) };
            let noted = metadata_of(&info, NOTE_KEY).and_then(|note| serde_json::from_value(note).ok());
            Ok(Some(StoredGeneration { fingerprint, bundle: text(&ours, "bundle").to_owned(), noted }))
        });
        Ok(try_join_all(read).await?.into_iter().flatten().collect())
    }

    /// One request that takes the aliases away and sets them anew: Qdrant applies it whole.
    async fn set_aliases(&self, fingerprint: &Fingerprint) -> Result<(), IndexError> {
        let there = self.aliases().await?;
        let mut actions = Vec::new();
        for kind in Kind::ALL {
            let alias_name = kind.collection().to_owned();
            if there.contains_key(&alias_name) {
                actions.push(Action::DeleteAlias(DeleteAlias { alias_name: alias_name.clone() }));
            }
            actions.push(Action::CreateAlias(CreateAlias { collection_name: collection_name(kind, fingerprint), alias_name }));
        }
        let actions = actions.into_iter().map(|action| AliasOperations { action: Some(action) }).collect();
        let changed = self.raw_client().await?.update_aliases(ChangeAliases { actions, timeout: None }).await;
        changed.map_err(|status| self.error("changing the aliases")(status.into()))?;
        Ok(())
    }

    /// Makes the collection of articles, which carries the plan; opening the generation makes the others.
    async fn make_first(&self, space: &Space, plan: &Backfill) -> Result<(), IndexError> {
        let name = collection_name(Kind::Article, &space.fingerprint);
        let setup = Setup { client: &self.client, url: &self.options.url, space, beside: true };
        if setup.exists(&name).await? {
            return Ok(());
        }
        match setup.create_collection(&name, Some((BACKFILL_KEY, json!(plan)))).await {
            // Another daemon was faster.
            Err(_) if setup.exists(&name).await? => Ok(()),
            made => made,
        }
    }

    async fn write_metadata(&self, fingerprint: &Fingerprint, key: &str, value: Value) -> Result<(), IndexError> {
        let name = collection_name(Kind::Article, fingerprint);
        let request = UpdateCollectionBuilder::new(name).metadata(HashMap::<String, Value>::from([(key.to_owned(), value)]));
        self.client.update_collection(request).await.map_err(self.error("noting a generation"))?;
        Ok(())
    }

    /// The service itself: the client of the crate changes one alias a request, which is not all of them at once.
    async fn raw_client(&self) -> Result<CollectionsClient<InterceptedService<Channel, ApiKey>>, IndexError> {
        let options = &self.options;
        let unusable =
            |error: tonic::transport::Error| IndexError::Transient(format!("connecting to {}: {error}", options.url).into());
        let endpoint = Endpoint::from_shared(options.url.clone()).map_err(unusable)?;
        let mut endpoint = endpoint.timeout(options.timeout).connect_timeout(options.connect_timeout);
        if options.url.starts_with("https") {
            endpoint = endpoint.tls_config(ClientTlsConfig::new().with_native_roots()).map_err(unusable)?;
        }
        let key = options.api_key.as_ref().map(|key| key.reveal().parse().map_err(|_| self.no_key())).transpose()?;
        let channel = endpoint.connect().await.map_err(unusable)?;
        Ok(CollectionsClient::with_interceptor(channel, ApiKey(key)))
    }

    fn no_key(&self) -> IndexError {
        IndexError::Mismatch(
            format!("the API key for {} has characters that no header may have: check its file", self.options.url).into(),
        )
    }
}

fn fingerprint_in(ours: &Value) -> Option<Fingerprint> {
    Fingerprint::try_from(text(ours, "fingerprint").to_owned()).ok()
}

impl Catalog for QdrantCatalog {
    fn live(&self) -> BoxFuture<'_, Result<Option<Fingerprint>, IndexError>> {
        self.read_live().boxed()
    }

    fn generations(&self) -> BoxFuture<'_, Result<Vec<StoredGeneration>, IndexError>> {
        self.read_generations().boxed()
    }

    fn promote<'a>(&'a self, fingerprint: &'a Fingerprint) -> BoxFuture<'a, Result<(), IndexError>> {
        self.set_aliases(fingerprint).boxed()
    }

    fn note<'a>(&'a self, fingerprint: &'a Fingerprint, noted: Option<Noted>) -> BoxFuture<'a, Result<(), IndexError>> {
        let note = noted.map_or_else(|| json!({}), |noted| json!(noted));
        self.write_metadata(fingerprint, NOTE_KEY, note).boxed()
    }

    fn begin<'a>(&'a self, space: &'a Space, plan: &'a Backfill) -> BoxFuture<'a, Result<Option<Backfill>, IndexError>> {
        async move {
            self.make_first(space, plan).await?;
            self.backfill(&space.fingerprint).await
        }
        .boxed()
    }

    fn backfill<'a>(&'a self, fingerprint: &'a Fingerprint) -> BoxFuture<'a, Result<Option<Backfill>, IndexError>> {
        async move {
            let name = collection_name(Kind::Article, fingerprint);
            if !self.client.collection_exists(&name).await.map_err(self.error("looking for a collection"))? {
                return Ok(None);
            }
            let Some(state) = metadata_of(&self.info(&name).await?, BACKFILL_KEY) else { return Ok(None) };
            serde_json::from_value(state).map(Some).map_err(|error| {
                let fix = "drop that generation, or go on with the version that wrote it";
                IndexError::Mismatch(
                    format!("metadata `{BACKFILL_KEY}` of collection `{name}` is not readable ({error}): {fix}").into(),
                )
            })
        }
        .boxed()
    }

    fn note_backfill<'a>(&'a self, fingerprint: &'a Fingerprint, state: &'a Backfill) -> BoxFuture<'a, Result<(), IndexError>> {
        self.write_metadata(fingerprint, BACKFILL_KEY, json!(state)).boxed()
    }

    fn drop_generation<'a>(&'a self, fingerprint: &'a Fingerprint) -> BoxFuture<'a, Result<(), IndexError>> {
        async move {
            if self.read_live().await?.as_ref() == Some(fingerprint) {
                return Err(IndexError::Mismatch(
                    format!("generation {} is live: promote another first", fingerprint.short()).into(),
                ));
            }
            // Articles last: they carry the note, so a drop that was cut off is seen and done again.
            for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Article).chain([Kind::Article]) {
                let name = collection_name(kind, fingerprint);
                self.client.delete_collection(name).await.map_err(self.error("deleting a collection"))?;
            }
            Ok(())
        }
        .boxed()
    }
}
