//! Reading one value: what every kind of value has, and what its reader may ask for.

use std::cell::{Cell, RefCell};
use std::path::Path;

use crate::document::{Node, Tree};
use crate::error::{SettingError, Spot};
use crate::interpolate::interpolate;
use crate::shape::Shape;

/// Looks up an environment variable.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What reading needs to know beside the file.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Looks up `${NAME}`; `None` takes strings as they are.
    pub env: Option<Env<'a>>,
    /// What relative paths are relative to.
    pub folder: &'a Path,
    /// What to do about an unknown key that resembles none.
    pub reference: &'a str,
}

/// One reading of one file.
pub(crate) struct Session<'a> {
    pub(crate) context: Context<'a>,
    pub(crate) errors: RefCell<Vec<SettingError>>,
}

/// The place of a key or a section.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct At {
    pub(crate) path: String,
    pub(crate) spot: Spot,
    pub(crate) written: bool,
    pub(crate) given: bool,
}

impl At {
    /// Whether it is written, and what is written can be read.
    pub fn is_written(&self) -> bool {
        self.written
    }

    /// Whether it is written, right or wrong.
    pub fn is_given(&self) -> bool {
        self.given
    }

    /// A mistake here: on the line of the key, or of its section where the key is not written.
    pub fn error(&self, problem: impl Into<String>, fix: impl Into<String>) -> SettingError {
        SettingError::new(self.spot, &self.path, problem, fix)
    }
}

/// The key that is being read, for readers of values.
pub struct Cursor<'a> {
    path: &'a str,
    session: &'a Session<'a>,
    /// Whether the string that was read last is empty.
    pub(crate) empty: Cell<bool>,
}

impl<'a> Cursor<'a> {
    pub(crate) fn of(path: &'a str, session: &'a Session<'a>) -> Self {
        Self { path, session, empty: Cell::new(false) }
    }

    /// What relative paths are relative to.
    pub fn folder(&self) -> &Path {
        self.session.context.folder
    }

    /// Notes a mistake.
    pub fn error(&self, spot: Spot, problem: impl Into<String>, fix: impl Into<String>) {
        self.session.errors.borrow_mut().push(SettingError::new(spot, self.path, problem, fix));
    }

    /// Notes a value of another type.
    pub fn wrong_type(&self, spot: Spot, expected: &str, found: &Tree) {
        self.error(spot, format!("expected {expected}, found {}", found.found()), format!("write {expected}"));
    }

    /// Reads a value of `kind`, after a look at its type.
    pub fn read<V: Value>(&self, kind: &V, node: &Node) -> Option<V::Out> {
        self.is_of(&kind.shape(), node).then(|| kind.read(node, self))?
    }

    fn is_of(&self, shape: &Shape, node: &Node) -> bool {
        if !shape.accepts(&node.tree) {
            self.wrong_type(node.spot, &shape.expected(), &node.tree);
            return false;
        }
        let (Shape::List(inner) | Shape::Array(_, inner), Tree::List(list)) = (shape, &node.tree) else { return true };
        let wrong = list.iter().find(|element| !inner.accepts(&element.tree));
        if let Some(element) = wrong {
            self.wrong_type(element.spot, &shape.expected(), &element.tree);
        }
        wrong.is_none()
    }

    /// A string with its variables replaced.
    pub fn text(&self, spot: Spot, text: &str) -> Option<String> {
        let env = self.session.context.env;
        match env.map_or_else(|| Ok(text.to_owned()), |env| interpolate(text, env)) {
            Ok(text) => {
                self.empty.set(text.trim().is_empty());
                Some(text)
            }
            Err((problem, fix)) => {
                self.error(spot, problem, fix);
                None
            }
        }
    }

    /// The same key's entry `name`, of a map.
    pub(crate) fn below(&self, name: &str, spot: Spot) -> At {
        At { path: format!("{}.{name}", self.path), spot, written: true, given: true }
    }

    pub(crate) fn quoted<T>(&self, name: &str, read: impl FnOnce(&Cursor<'_>) -> Option<T>) -> Option<T> {
        read(&Cursor::of(&format!("{}.\"{name}\"", self.path), self.session))
    }
}

/// Reads one value.
pub trait Value: Sized {
    /// What the program gets.
    type Out;
    /// What may be written.
    fn shape(&self) -> Shape;
    /// Reads a value whose type is right. `None`, after its mistake is noted, where it is wrong all the same.
    fn read(&self, node: &Node, at: &Cursor<'_>) -> Option<Self::Out>;
    /// Stands in for a value that is wrong or missing, so that reading goes on; nobody ever gets it.
    fn blank(&self) -> Self::Out;

    /// The same value in another type.
    fn map<O>(self, change: fn(Self::Out) -> O) -> Mapped<Self, O> {
        Mapped { inner: self, change }
    }

    /// A value that is understood further, or refused with problem and fix; `blank` stands in.
    fn parsed<O>(self, parse: fn(Self::Out) -> Result<O, Mistake>, blank: fn() -> O) -> Parsed<Self, O> {
        Parsed { inner: self, parse, blank }
    }

    /// A value that may be absent, of a key that is `optional`.
    fn or_none(self) -> OrNone<Self> {
        OrNone(self)
    }
}

/// The form of a `kind` that gives a `T`.
pub fn shape_of<T>(kind: &impl Value<Out = T>) -> Shape {
    kind.shape()
}

/// What is wrong with a value, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub fix: String,
}

impl Mistake {
    /// A problem and its fix.
    pub fn new(problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { problem: problem.into(), fix: fix.into() }
    }
}

/// See [`Value::map`].
pub struct Mapped<V: Value, O> {
    inner: V,
    change: fn(V::Out) -> O,
}

impl<V: Value, O> Value for Mapped<V, O> {
    type Out = O;

    fn shape(&self) -> Shape {
        self.inner.shape()
    }

    fn read(&self, node: &Node, at: &Cursor<'_>) -> Option<O> {
        self.inner.read(node, at).map(self.change)
    }

    fn blank(&self) -> O {
        (self.change)(self.inner.blank())
    }
}

/// See [`Value::parsed`].
pub struct Parsed<V: Value, O> {
    inner: V,
    parse: fn(V::Out) -> Result<O, Mistake>,
    blank: fn() -> O,
}

impl<V: Value, O> Value for Parsed<V, O> {
    type Out = O;

    fn shape(&self) -> Shape {
        self.inner.shape()
    }

    fn read(&self, node: &Node, at: &Cursor<'_>) -> Option<O> {
        match (self.parse)(self.inner.read(node, at)?) {
            Ok(value) => Some(value),
            Err(Mistake { problem, fix }) => {
                at.error(node.spot, problem, fix);
                None
            }
        }
    }

    fn blank(&self) -> O {
        (self.blank)()
    }
}

/// See [`Value::or_none`].
pub struct OrNone<V>(V);

impl<V: Value> Value for OrNone<V> {
    type Out = Option<V::Out>;

    fn shape(&self) -> Shape {
        self.0.shape()
    }

    fn read(&self, node: &Node, at: &Cursor<'_>) -> Option<Option<V::Out>> {
        self.0.read(node, at).map(Some)
    }

    fn blank(&self) -> Option<V::Out> {
        None
    }
}
