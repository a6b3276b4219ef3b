//! Reading sections: every mistake is noted and reading goes on, with a stand-in for the value that is wrong.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::Path;

use crate::document::{Document, Node, Tree, Written, default_value};
use crate::error::{SettingError, SettingErrors, Spot, in_order};
use crate::nearest::nearest;
use crate::shape::{Entry, Need, Shape};
use crate::value::{At, Context, Cursor, Session, Value};

/// A struct that [`crate::settings!`] declared.
pub trait Section: Sized {
    /// Where each of its keys is written, by the same names.
    type Places: std::fmt::Debug + Clone;
    /// Its keys and the sections below it.
    fn entries() -> Vec<Entry>;
    /// Reads all of them.
    fn read(table: &mut Table<'_>) -> (Self, Self::Places);
}

/// Reads the whole of `document`. The value is good only where there is no mistake, here or in checks between values.
pub fn read<T: Section>(document: &Document, context: Context<'_>) -> (T, T::Places, Vec<SettingError>) {
    let session = Session { context, errors: RefCell::default() };
    let mut table = Table::new(String::new(), Some(&document.root), At::default(), &session);
    let (value, places) = T::read(&mut table);
    let missing = table.finish();
    let mut errors = session.errors.into_inner();
    errors.extend(missing);
    (value, places, errors)
}

/// Reads the TOML file at `path`, with `check` for what lies between its values. `example` is a file that shows every key.
///
/// # Errors
/// The file can't be read, or every mistake in it, in the order of their lines.
pub fn load<T: Section>(
    path: &Path,
    example: &str,
    check: impl FnOnce(&T, &T::Places, &mut Vec<SettingError>),
) -> Result<T, SettingErrors> {
    let of = |errors| SettingErrors { file: path.to_owned(), errors };
    let text = std::fs::read_to_string(path).map_err(|error| {
        of(vec![SettingError::of_file(error.to_string(), format!("give the path of a file such as {example}"))])
    })?;
    let (document, errors) = Document::parse(&text);
    checked(&document, errors, example, check).map_err(of)
}

/// As [`load`], of what is read already; `errors` is what was wrong with it. Strings are taken as they are.
///
/// # Errors
/// Every mistake, in the order of their lines.
pub fn checked<T: Section>(
    document: &Document,
    mut errors: Vec<SettingError>,
    example: &str,
    check: impl FnOnce(&T, &T::Places, &mut Vec<SettingError>),
) -> Result<T, Vec<SettingError>> {
    let reference = format!("{example} for the keys");
    let (value, places, wrong) = read::<T>(document, Context { env: None, folder: Path::new(""), reference: &reference });
    errors.extend(wrong);
    check(&value, &places, &mut errors);
    in_order(value, errors)
}

/// A section of which nothing is written. Keys that are required are blank.
pub fn defaults<T: Section>() -> T {
    read(&Document::default(), Context { env: None, folder: Path::new(""), reference: "" }).0
}

/// The place of a section and of its keys.
#[derive(Debug, Clone)]
pub struct SectionAt<P> {
    /// Of its header.
    pub header: At,
    keys: P,
}

impl<P> Deref for SectionAt<P> {
    type Target = P;

    fn deref(&self) -> &P {
        &self.keys
    }
}

/// The places of sections that may be written any number of times.
#[derive(Debug, Clone)]
pub struct TablesAt<P> {
    /// Of all of them.
    pub header: At,
    /// Of each.
    pub each: Vec<SectionAt<P>>,
}

/// A field that is a section, or made of sections.
pub trait Part: Sized {
    /// Where it is written.
    type Place: std::fmt::Debug + Clone;
    /// What documentation says of it.
    fn entry(name: &'static str, doc: &'static str) -> Entry;
    /// Reads it out of the section that it stands in.
    fn read_part(name: &'static str, table: &mut Table<'_>) -> (Self, Self::Place);
}

/// Keys that belong to the section that this stands in.
#[derive(Debug, Clone, PartialEq)]
pub struct Flat<T>(pub T);

/// A section whose required keys are missed only where something needs it.
#[derive(Debug, Clone, PartialEq)]
pub struct WhenUsed<T> {
    value: T,
    missing: Vec<SettingError>,
}

impl<T> WhenUsed<T> {
    /// The section, and into `errors` what is missing in it.
    pub fn used(self, errors: &mut Vec<SettingError>) -> T {
        errors.extend(self.missing);
        self.value
    }

    /// The section as far as it is written, for checks that do not need it whole.
    pub fn peek(&self) -> &T {
        &self.value
    }
}

fn entry(name: &'static str, doc: &'static str, shape: Shape) -> Entry {
    Entry { name, doc, need: Need::Optional, shape }
}

impl<T: Section> Part for T {
    type Place = SectionAt<T::Places>;

    fn entry(name: &'static str, doc: &'static str) -> Entry {
        entry(name, doc, Shape::Section(T::entries()))
    }

    fn read_part(name: &'static str, table: &mut Table<'_>) -> (Self, Self::Place) {
        let (value, place, missing) = table.section(name);
        table.session.errors.borrow_mut().extend(missing);
        (value, place)
    }
}

impl<T: Section> Part for WhenUsed<T> {
    type Place = SectionAt<T::Places>;

    fn entry(name: &'static str, doc: &'static str) -> Entry {
        T::entry(name, doc)
    }

    fn read_part(name: &'static str, table: &mut Table<'_>) -> (Self, Self::Place) {
        let (value, place, missing) = table.section(name);
        (Self { value, missing }, place)
    }
}

impl<T: Section> Part for Flat<T> {
    type Place = T::Places;

    fn entry(name: &'static str, doc: &'static str) -> Entry {
        entry(name, doc, Shape::Flat(T::entries()))
    }

    fn read_part(_: &'static str, table: &mut Table<'_>) -> (Self, Self::Place) {
        let (value, places) = T::read(table);
        (Self(value), places)
    }
}

impl<T: Section> Part for Option<T> {
    type Place = Option<SectionAt<T::Places>>;

    fn entry(name: &'static str, doc: &'static str) -> Entry {
        T::entry(name, doc)
    }

    fn read_part(name: &'static str, table: &mut Table<'_>) -> (Self, Self::Place) {
        if table.written(name).is_none() {
            table.known.push(name);
            return (None, None);
        }
        let (value, place) = T::read_part(name, table);
        (Some(value), Some(place))
    }
}

impl<T: Section> Part for Vec<T> {
    type Place = TablesAt<T::Places>;

    fn entry(name: &'static str, doc: &'static str) -> Entry {
        entry(name, doc, Shape::Tables(T::entries()))
    }

    fn read_part(name: &'static str, table: &mut Table<'_>) -> (Self, Self::Place) {
        table.tables(name)
    }
}

/// One section that is being read.
pub struct Table<'a> {
    path: String,
    written: Option<&'a BTreeMap<String, Written>>,
    header: At,
    session: &'a Session<'a>,
    known: Vec<&'static str>,
    missing: Vec<SettingError>,
}

impl<'a> Table<'a> {
    fn new(path: String, written: Option<&'a BTreeMap<String, Written>>, header: At, session: &'a Session<'a>) -> Self {
        Self { path, written, header, session, known: Vec::new(), missing: Vec::new() }
    }

    fn written(&self, name: &str) -> Option<&'a Written> {
        self.written?.get(name)
    }

    /// Notes a mistake, for parts that check what they are made of.
    pub fn report(&mut self, error: SettingError) {
        self.session.errors.borrow_mut().push(error);
    }

    fn child(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Reads one key: what is written, else its default, else a stand-in. What is wrong is noted.
    pub fn value<V: Value>(&mut self, name: &'static str, need: Need, kind: &V) -> (V::Out, At) {
        self.known.push(name);
        let path = self.child(name);
        let written = self.written(name);
        let unwritten = At { path: path.clone(), spot: self.header.spot, written: false, given: written.is_some() };
        let cursor = Cursor::of(&path, self.session);
        if let Some(written) = written
            && let Some(value) = cursor.read(kind, &written.node)
        {
            let at = At { path: path.clone(), spot: written.spot, written: true, given: true };
            if cursor.empty.get() {
                self.miss(name, need, &at, "empty");
            }
            return (value, at);
        }
        // A test reads every default of a table, so one that is no TOML can't get here.
        let default = match need {
            Need::Default(text) => default_value(text).and_then(|node| cursor.read(kind, &node)),
            Need::Required(_) if written.is_none() => {
                self.miss(name, need, &unwritten, "missing");
                None
            }
            Need::Required(_) | Need::Optional => None,
        };
        (default.unwrap_or_else(|| kind.blank()), unwritten)
    }

    fn miss(&mut self, name: &str, need: Need, at: &At, problem: &str) {
        let Need::Required(example) = need else { return };
        let within = if self.path.is_empty() { String::new() } else { format!(" in [{}]", self.path) };
        self.missing.push(at.error(problem, format!("write {name} = {example}{within}")));
    }

    /// Reads `[name]`: with it come the mistakes of keys that are required and missing.
    fn section<T: Section>(&mut self, name: &'static str) -> (T, SectionAt<T::Places>, Vec<SettingError>) {
        self.known.push(name);
        let path = self.child(name);
        let header = self.header_of(name, &path, Spot::default());
        let written = match self.written(name).map(|written| &written.node) {
            Some(Node { tree: Tree::Table(inside), .. }) => Some(inside),
            Some(node) => {
                Cursor::of(&path, self.session).wrong_type(header.spot, "a section", &node.tree);
                None
            }
            None => None,
        };
        self.read_section(path, header, written)
    }

    fn read_section<T: Section>(
        &self,
        path: String,
        header: At,
        written: Option<&'a BTreeMap<String, Written>>,
    ) -> (T, SectionAt<T::Places>, Vec<SettingError>) {
        let mut inside = Table::new(path, written, header.clone(), self.session);
        let (value, keys) = T::read(&mut inside);
        let missing = inside.finish();
        (value, SectionAt { header, keys }, missing)
    }

    fn tables<T: Section>(&mut self, name: &'static str) -> (Vec<T>, TablesAt<T::Places>) {
        self.known.push(name);
        let path = self.child(name);
        // Where there is none, that is a mistake of the section which they would stand in.
        let header = self.header_of(name, &path, self.header.spot);
        let cursor = Cursor::of(&path, self.session);
        let (mut all, mut each) = (Vec::new(), Vec::new());
        let list = match self.written(name).map(|written| &written.node.tree) {
            Some(Tree::List(list)) => list.as_slice(),
            Some(other) => {
                cursor.wrong_type(header.spot, &format!("an array of tables, written [[{path}]]"), other);
                &[]
            }
            None => &[],
        };
        for element in list {
            let Tree::Table(inside) = &element.tree else {
                cursor.wrong_type(element.spot, "a table", &element.tree);
                continue;
            };
            let at = At { path: path.clone(), spot: element.spot, written: true, given: true };
            let (value, place, missing) = self.read_section(path.clone(), at, Some(inside));
            self.session.errors.borrow_mut().extend(missing);
            all.push(value);
            each.push(place);
        }
        (all, TablesAt { header, each })
    }

    fn header_of(&self, name: &str, path: &str, unwritten: Spot) -> At {
        let written = self.written(name);
        let (spot, written) = (written.map_or(unwritten, |written| written.spot), written.is_some());
        At { path: path.to_owned(), spot, written, given: written }
    }

    /// Notes every key that nothing has read.
    fn finish(self) -> Vec<SettingError> {
        for (name, written) in self.written.into_iter().flatten() {
            if self.known.contains(&name.as_str()) {
                continue;
            }
            let fix = match nearest(name, self.known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("remove it, or see {}", self.session.context.reference),
            };
            Cursor::of(&self.child(name), self.session).error(written.spot, "unknown key", fix);
        }
        self.missing
    }
}
