//! The book of generations: a table of the same database.

use std::path::Path;
use std::sync::Arc;

use astromech_schemas::Fingerprint;
use futures::future::{BoxFuture, FutureExt as _};
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::error::Failure;
use super::memory::GenerationId;
use super::store::{Lease, Store, blocking};
use super::writer::Writes;
use super::{folder, rows, schema};
use crate::book::{Backfill, Catalog, Noted, StoredGeneration};
use crate::{EmbeddedOptions, IndexError, Space};

/// The book in one folder. It can be read by any process; only the one that has the index open writes in it.
#[derive(Debug, Clone)]
pub struct EmbeddedCatalog {
    options: EmbeddedOptions,
}

impl EmbeddedCatalog {
    /// The book of an index; nothing is opened yet.
    pub fn new(options: &EmbeddedOptions) -> Self {
        Self { options: options.clone() }
    }

    /// Reads the book: through this process's own index where it has one open, else in a look from outside. `None` where there is none.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<Option<T>, IndexError> {
        let root = self.options.path.clone();
        blocking(move || read_book(&root, work)).await?
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection, &mut Writes<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, IndexError> {
        let lease = self.lease().await?;
        let done = write(lease.store(), work).await;
        // The last one out waits for the writing thread.
        blocking(move || drop(lease)).await?;
        done
    }

    async fn lease(&self) -> Result<Lease, IndexError> {
        let (root, most) = (self.options.path.clone(), self.options.vector_bytes_max);
        blocking(move || Lease::take(&root, most)).await?
    }

    /// Removes a generation's points a part at a time, then its row: a drop that was cut off is seen in the book and done again.
    async fn remove(&self, fingerprint: Fingerprint) -> Result<(), IndexError> {
        let lease = self.lease().await?;
        let done = async {
            loop {
                let fingerprint = fingerprint.clone();
                let more = write(lease.store(), move |connection, writes| drop_step(connection, &fingerprint, writes)).await?;
                if !more {
                    return Ok(());
                }
            }
        }
        .await;
        blocking(move || drop(lease)).await?;
        done
    }
}

async fn write<T: Send + 'static>(
    store: &Arc<Store>,
    work: impl FnOnce(&Connection, &mut Writes<'_>) -> Result<T, Failure> + Send + 'static,
) -> Result<T, IndexError> {
    store.write("writing the book of generations", work).await
}

/// See [`EmbeddedCatalog::read`]. Blocks.
pub(super) fn read_book<T>(root: &Path, work: impl FnOnce(&Connection) -> Result<T, Failure>) -> Result<Option<T>, IndexError> {
    let doing = "reading the book of generations";
    if let Some(lease) = Lease::join(root) {
        return lease.store().with_reader(doing, work).map(Some);
    }
    if !folder::has_database(root)? {
        return Ok(None);
    }
    let Some(connection) = schema::open_outside(root)? else { return Ok(None) };
    work(&connection).map(Some).map_err(|failure| failure.at(&folder::database(root), doing))
}

fn drop_step(connection: &Connection, fingerprint: &Fingerprint, writes: &mut Writes<'_>) -> Result<bool, Failure> {
    let sql = "SELECT generation, live IS NOT NULL FROM generations WHERE fingerprint = ?";
    let found = connection.query_row(sql, [fingerprint.as_str()], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let Some((generation, is_live)): Option<(GenerationId, bool)> = found else { return Ok(false) };
    if is_live {
        let problem = format!("generation {} is live: promote another first", fingerprint.short());
        return Err(IndexError::Mismatch(problem.into()).into());
    }
    if rows::drop_some(connection, generation, writes)? {
        return Ok(true);
    }
    connection.execute("DELETE FROM generations WHERE generation = ?", [generation])?;
    writes.touched = true;
    Ok(false)
}

fn fingerprint_of(text: String) -> Result<Fingerprint, Failure> {
    let foreign = |error| format!("the book of generations names something that is no fingerprint ({error}): restore a backup");
    Ok(Fingerprint::try_from(text).map_err(|error| IndexError::Mismatch(foreign(error).into()))?)
}

/// What a column of JSON holds.
fn parsed<T: DeserializeOwned>(column: &str, json: Option<String>) -> Result<Option<T>, Failure> {
    let unreadable = |error| {
        let fix = "drop that generation, or go on with the version that wrote it";
        IndexError::mismatch(format!("`{column}` of a generation is not readable: {fix}"), error)
    };
    Ok(json.map(|json| serde_json::from_str(&json)).transpose().map_err(unreadable)?)
}

/// The live generation.
pub(super) fn live(connection: &Connection) -> Result<Option<Fingerprint>, Failure> {
    let sql = "SELECT fingerprint FROM generations WHERE live = 1";
    let found: Option<String> = connection.query_row(sql, [], |row| row.get(0)).optional()?;
    found.map(fingerprint_of).transpose()
}

fn generations(connection: &Connection) -> Result<Vec<StoredGeneration>, Failure> {
    let mut select = connection.prepare_cached("SELECT fingerprint, bundle, noted FROM generations ORDER BY generation")?;
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    rows.map(|row| {
        let (fingerprint, bundle, noted): (String, String, Option<String>) = row?;
        Ok(StoredGeneration { fingerprint: fingerprint_of(fingerprint)?, bundle, noted: parsed("noted", noted)? })
    })
    .collect()
}

fn backfill(connection: &Connection, fingerprint: &Fingerprint) -> Result<Option<Backfill>, Failure> {
    let sql = "SELECT backfill FROM generations WHERE fingerprint = ?";
    let found: Option<Option<String>> = connection.query_row(sql, [fingerprint.as_str()], |row| row.get(0)).optional()?;
    parsed("backfill", found.flatten())
}

/// Writes one column of a generation that must be there.
fn set(
    connection: &Connection,
    fingerprint: &Fingerprint,
    sql: &str,
    value: Option<&str>,
    writes: &mut Writes<'_>,
) -> Result<(), Failure> {
    writes.touched = true;
    if connection.execute(sql, params![value, fingerprint.as_str()])? > 0 {
        return Ok(());
    }
    let problem = format!("the index holds no generation {}: open it first", fingerprint.short());
    Err(IndexError::Mismatch(problem.into()).into())
}

/// Makes the row of a generation unless it is there.
pub(super) fn ensure(
    connection: &Connection,
    space: &Space,
    backfill: Option<&Backfill>,
    writes: &mut Writes<'_>,
) -> Result<(), Failure> {
    let sql = "INSERT INTO generations (fingerprint, bundle, embedding_dim, similarity, backfill) VALUES (?, ?, ?, ?, ?) \
               ON CONFLICT (fingerprint) DO NOTHING";
    let (similarity, backfill) = (json!(space.similarity).to_string(), backfill.map(|plan| json!(plan).to_string()));
    let values = params![space.fingerprint.as_str(), space.bundle, space.embedding_dim, similarity, backfill];
    writes.touched |= connection.execute(sql, values)? > 0;
    Ok(())
}

/// Makes a generation live that must be there.
pub(super) fn promote(connection: &Connection, fingerprint: &Fingerprint, writes: &mut Writes<'_>) -> Result<(), Failure> {
    connection.execute("UPDATE generations SET live = NULL WHERE live = 1 AND fingerprint <> ?", [fingerprint.as_str()])?;
    set(connection, fingerprint, "UPDATE generations SET live = ? WHERE fingerprint = ?", Some("1"), writes)
}

impl Catalog for EmbeddedCatalog {
    fn live(&self) -> BoxFuture<'_, Result<Option<Fingerprint>, IndexError>> {
        async move { Ok(self.read(live).await?.flatten()) }.boxed()
    }

    fn generations(&self) -> BoxFuture<'_, Result<Vec<StoredGeneration>, IndexError>> {
        async move { Ok(self.read(generations).await?.unwrap_or_default()) }.boxed()
    }

    fn promote<'a>(&'a self, fingerprint: &'a Fingerprint) -> BoxFuture<'a, Result<(), IndexError>> {
        let fingerprint = fingerprint.clone();
        self.write(move |connection, writes| promote(connection, &fingerprint, writes)).boxed()
    }

    fn note<'a>(&'a self, fingerprint: &'a Fingerprint, noted: Option<Noted>) -> BoxFuture<'a, Result<(), IndexError>> {
        let (fingerprint, value) = (fingerprint.clone(), noted.map(|noted| json!(noted).to_string()));
        let sql = "UPDATE generations SET noted = ? WHERE fingerprint = ?";
        self.write(move |connection, writes| set(connection, &fingerprint, sql, value.as_deref(), writes)).boxed()
    }

    fn begin<'a>(&'a self, space: &'a Space, plan: &'a Backfill) -> BoxFuture<'a, Result<Option<Backfill>, IndexError>> {
        let (space, plan) = (space.clone(), plan.clone());
        let begin = move |connection: &Connection, writes: &mut Writes<'_>| {
            ensure(connection, &space, Some(&plan), writes)?;
            backfill(connection, &space.fingerprint)
        };
        self.write(begin).boxed()
    }

    fn backfill<'a>(&'a self, fingerprint: &'a Fingerprint) -> BoxFuture<'a, Result<Option<Backfill>, IndexError>> {
        let fingerprint = fingerprint.clone();
        async move { Ok(self.read(move |connection| backfill(connection, &fingerprint)).await?.flatten()) }.boxed()
    }

    fn note_backfill<'a>(&'a self, fingerprint: &'a Fingerprint, state: &'a Backfill) -> BoxFuture<'a, Result<(), IndexError>> {
        let (fingerprint, value) = (fingerprint.clone(), Some(json!(state).to_string()));
        let sql = "UPDATE generations SET backfill = ? WHERE fingerprint = ?";
        self.write(move |connection, writes| set(connection, &fingerprint, sql, value.as_deref(), writes)).boxed()
    }

    fn drop_generation<'a>(&'a self, fingerprint: &'a Fingerprint) -> BoxFuture<'a, Result<(), IndexError>> {
        self.remove(fingerprint.clone()).boxed()
    }
}

/// Whether the generation that is stored under `space`'s fingerprint is of its form; `None` where there is none.
pub(super) fn find(connection: &Connection, root: &Path, space: &Space) -> Result<Option<GenerationId>, Failure> {
    let sql = "SELECT generation, embedding_dim, similarity FROM generations WHERE fingerprint = ?";
    let found = connection.query_row(sql, [space.fingerprint.as_str()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    let found: Option<(GenerationId, u32, String)> = found.optional()?;
    let Some((generation, dim, similarity)) = found else { return Ok(None) };
    let refuse = |what: String| {
        let fix = "start with the bundle that it was made for, give another folder, or move this one away to index anew";
        Err(IndexError::Mismatch(format!("the index in {}: {what}: {fix}", root.display()).into()).into())
    };
    if dim != space.embedding_dim {
        return refuse(format!("its vectors have {dim} numbers, not {}", space.embedding_dim));
    }
    let similarity = parsed("similarity", Some(similarity))?.unwrap_or_default();
    if space.similarity != similarity {
        return refuse(format!("its similarity is {similarity:?}, this bundle's is {:?}", space.similarity));
    }
    Ok(Some(generation))
}

/// Refuses where another generation is live.
pub(super) fn check_live(connection: &Connection, root: &Path, space: &Space) -> Result<Option<Fingerprint>, Failure> {
    let sql = "SELECT fingerprint, bundle FROM generations WHERE live = 1";
    let found: Option<(String, String)> = connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let Some((fingerprint, bundle)) = found else { return Ok(None) };
    if fingerprint == space.fingerprint.as_str() {
        return Ok(Some(space.fingerprint.clone()));
    }
    Err(IndexError::Mismatch(
        format!(
            "the index in {}: it holds vectors of bundle {bundle} ({fingerprint}), not of {} ({}): start with the bundle that it was made for, \
             release this one as a new generation, or move the folder away to index anew",
            root.display(),
            space.bundle,
            space.fingerprint
        )
        .into(),
    )
    .into())
}
