//! Articles and images made of the corpus, as records of the changes topic, and the state that they must lead to.

use std::collections::{BTreeMap, BTreeSet};

use astromech_schemas::dead_letter::{HEADER_KIND, HEADER_VERSION};
use astromech_schemas::item::Common;
use astromech_schemas::{Article, Image, ImageSource, Kind};

use crate::corpus::{Corpus, Entry};
use crate::http_server::PictureHost;
use crate::kafka::Record;

/// One upsert.
#[derive(Debug, Clone)]
pub struct Item {
    /// Kind.
    pub kind: Kind,
    /// Id.
    pub id: String,
    /// Source version.
    pub version: u64,
    /// Title or caption.
    pub title: String,
    /// Names of the vectors that its point must have.
    pub vectors: BTreeSet<&'static str>,
    /// The message.
    pub message: serde_json::Value,
}

impl Item {
    /// The record that carries it, keyed by its id.
    pub fn record(&self) -> Record {
        let value = serde_json::to_vec(&self.message).expect("JSON is written");
        Record { key: Some(self.id.clone().into_bytes()), value: Some(value), ..Record::default() }
    }

    /// The same item as another version under another title.
    #[must_use]
    pub fn at_version(&self, version: u64, title: &str) -> Self {
        let mut other = self.clone();
        other.version = version;
        title.clone_into(&mut other.title);
        other.message["version"] = version.into();
        let field = if self.kind == Kind::Article { "title" } else { "caption" };
        other.message[field] = title.into();
        other
    }

    /// The record that deletes it at `version`.
    pub fn delete(&self, version: u64) -> Record {
        let headers = [(HEADER_VERSION, version.to_string()), (HEADER_KIND, self.kind.to_string())];
        Record {
            key: Some(self.id.clone().into_bytes()),
            value: None,
            headers: headers.map(|(key, value)| (key.to_owned(), value.into_bytes())).to_vec(),
            partition: None,
        }
    }
}

fn common(id: &str, version: u64) -> Common {
    Common { id: Some(id.to_owned()), version: Some(version), ..Common::default() }
}

/// An article about `entry`, with or without its picture.
pub fn article(entry: &Entry, version: u64, image: Option<ImageSource>) -> Item {
    let id = format!("article-{}", entry.id);
    let vectors = if image.is_some() { BTreeSet::from(["text", "image"]) } else { BTreeSet::from(["text"]) };
    let common = common(&id, version);
    let article = Article { kind: Some(Kind::Article), title: entry.title.clone(), body: entry.body.clone(), image, common };
    let message = serde_json::to_value(article).expect("JSON is written");
    Item { kind: Kind::Article, id, version, title: entry.title.clone(), vectors, message }
}

/// The picture of `entry` with its title as caption.
pub fn image(entry: &Entry, version: u64, image: ImageSource) -> Item {
    let id = format!("image-{}", entry.id);
    let common = common(&id, version);
    let image = Image { kind: Some(Kind::Image), image, caption: Some(entry.title.clone()), common };
    let message = serde_json::to_value(image).expect("JSON is written");
    Item { kind: Kind::Image, id, version, title: entry.title.clone(), vectors: BTreeSet::from(["text", "image"]), message }
}

/// `count` items, articles and images in turn, each of an entry of its own as far as there are enough. Every fourth article has a
/// picture. Pictures travel inline, as files and over HTTP in turn.
pub fn mixed(corpus: &Corpus, host: &PictureHost, count: usize, version: u64) -> Vec<Item> {
    let entry = |i: usize| {
        let mut entry = corpus.entries[i % corpus.entries.len()].clone();
        if i >= corpus.entries.len() {
            entry.id = format!("{}-{}", entry.id, i / corpus.entries.len());
        }
        entry
    };
    let source = |i: usize, entry: &Entry| match i % 3 {
        0 => ImageSource::from_bytes(entry.bytes()),
        1 => ImageSource::from_url(format!("file://{}", entry.picture.display())),
        _ => ImageSource::from_url(host.serve(&format!("/{}.jpg", entry.id), entry.bytes())),
    };
    let one = |i: usize| {
        let entry = entry(i);
        match i % 2 {
            0 => image(&entry, version, source(i / 2, &entry)),
            _ => article(&entry, version, (i % 8 == 1).then(|| source(i / 8, &entry))),
        }
    };
    (0..count).map(one).collect()
}

/// `count` images with inline pictures.
pub fn inline_images(corpus: &Corpus, count: usize, version: u64) -> Vec<Item> {
    corpus.entries.iter().cycle().take(count).map(|entry| image(entry, version, ImageSource::from_bytes(entry.bytes()))).collect()
}

/// The state that a set of changes must lead to, whatever the order they arrive in: the highest version of each item.
#[derive(Debug, Clone, Default)]
pub struct Expected(pub(crate) BTreeMap<(Kind, String), Wanted>);

/// What must be stored of one item.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) version: u64,
    /// Offset of the record, which decides between records of one version in one partition.
    offset: i64,
    /// Absent where it is deleted.
    pub(crate) item: Option<Item>,
}

impl Expected {
    /// Of `items`.
    pub fn of<'a>(items: impl IntoIterator<Item = &'a Item>) -> Self {
        let mut expected = Self::default();
        for item in items {
            expected.upsert(item);
        }
        expected
    }

    /// An upsert.
    pub fn upsert(&mut self, item: &Item) {
        self.upsert_at(item, 0);
    }

    /// An upsert by the record at `offset`.
    pub fn upsert_at(&mut self, item: &Item, offset: i64) {
        self.change(item, (item.version, offset), Some(item.clone()));
    }

    /// A delete at `version`.
    pub fn delete(&mut self, item: &Item, version: u64) {
        self.delete_at(item, version, 0);
    }

    /// A delete at `version` by the record at `offset`.
    pub fn delete_at(&mut self, item: &Item, version: u64, offset: i64) {
        self.change(item, (version, offset), None);
    }

    fn change(&mut self, item: &Item, (version, offset): (u64, i64), wanted: Option<Item>) {
        let new = Wanted { version, offset, item: wanted };
        let stored = self.0.entry((item.kind, item.id.clone())).or_insert_with(|| new.clone());
        if (version, offset) > (stored.version, stored.offset) {
            *stored = new;
        }
    }
}
