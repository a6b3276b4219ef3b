//! What the table says of a key, for readers and for printed documentation.

use crate::document::Tree;

/// Whether a key must be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Must be written where its section is needed; the text is an example, as TOML.
    Required(&'static str),
    /// May be left out; the text is the default, as TOML.
    Default(&'static str),
    /// May be left out, and then there is no value.
    Optional,
}

/// What a key's value may be, or what lies below a section's name.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// A whole number in a range, both ends included.
    Integer(u64, u64),
    /// A number in a range, both ends included.
    Float(f64, f64),
    /// `true` or `false`.
    Bool,
    /// A string.
    Text,
    /// One of these strings.
    Choice(Vec<&'static str>),
    /// An array.
    List(Box<Shape>),
    /// An array of so many.
    Array(usize, Box<Shape>),
    /// Something whose reader tells its form by itself; the text says what is expected.
    Other(&'static str),
    /// `[name]` with keys of the user's own and strings as values; the text is an example line.
    Map(&'static str),
    /// `[name]` with these.
    Section(Vec<Entry>),
    /// `[[name]]`, any number of times, with these.
    Tables(Vec<Entry>),
    /// These belong to the section that this stands in.
    Flat(Vec<Entry>),
}

/// One key, or a section below the section that it stands in.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Name inside its section.
    pub name: &'static str,
    /// What it does: complete sentences.
    pub doc: &'static str,
    /// Whether it must be written.
    pub need: Need,
    /// What it may be.
    pub shape: Shape,
}

impl Shape {
    /// What stands in errors: "a string".
    pub fn expected(&self) -> String {
        match self {
            Self::Integer(..) => "a whole number".to_owned(),
            Self::Float(..) => "a number".to_owned(),
            Self::Bool => "true or false".to_owned(),
            Self::Text | Self::Choice(_) => "a string".to_owned(),
            Self::List(inner) => format!("an array of {}", inner.plural()),
            Self::Array(count, inner) => format!("an array of {count} {}", inner.plural()),
            Self::Other(text) => (*text).to_owned(),
            Self::Map(_) | Self::Section(_) | Self::Tables(_) | Self::Flat(_) => "a section".to_owned(),
        }
    }

    fn plural(&self) -> &'static str {
        match self {
            Self::Integer(..) => "whole numbers",
            Self::Float(..) => "numbers",
            Self::Text | Self::Choice(_) => "strings",
            _ => "values",
        }
    }

    /// Whether a value of this form can be read from `tree`; elements are not looked at.
    pub(crate) fn accepts(&self, tree: &Tree) -> bool {
        match (self, tree) {
            // A variable is always a string; `threads = "${THREADS:-0}"` must work all the same.
            (Self::Integer(..) | Self::Float(..) | Self::Bool, Tree::Text(text)) => text.contains("${"),
            (Self::Integer(..), Tree::Integer(_))
            | (Self::Float(..), Tree::Float(_) | Tree::Integer(_))
            | (Self::Bool, Tree::Bool(_))
            | (Self::Text | Self::Choice(_), Tree::Text(_))
            | (Self::List(_), Tree::List(_))
            | (Self::Map(_), Tree::Table(_))
            | (Self::Other(_), _) => true,
            (Self::Array(count, _), Tree::List(list)) => list.len() == *count,
            _ => false,
        }
    }

    /// What a reader must know of the values: their range or their names.
    pub fn limits(&self) -> Option<String> {
        match self {
            Self::Integer(min, max) => Some(range(min, (*max < u64::MAX).then_some(max))),
            Self::Float(min, max) => Some(range(min, max.is_finite().then_some(max))),
            Self::Choice(choices) => {
                let listed: Vec<_> = choices.iter().map(|choice| format!("\"{choice}\"")).collect();
                Some(format!("One of {}", listed.join(", ")))
            }
            Self::List(inner) | Self::Array(_, inner) => inner.limits(),
            _ => None,
        }
    }
}

/// "1 to 5", or "1 or more" where there is no end.
pub(crate) fn range<T: std::fmt::Display>(min: T, max: Option<T>) -> String {
    max.map_or_else(|| format!("{min} or more"), |max| format!("{min} to {max}"))
}

/// A section as it is written in a file.
#[derive(Debug, Clone, PartialEq)]
pub struct SectionDoc {
    /// Dotted name; empty for the keys before the first section.
    pub name: String,
    /// What it is for.
    pub doc: &'static str,
    /// How it is written.
    pub form: Form,
    /// Its keys; none for a map, whose keys are the user's.
    pub keys: Vec<Entry>,
}

/// How a section is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `[name]`.
    Table,
    /// `[[name]]`, any number of times.
    Array,
    /// `[name]` with keys of the user's own; the text is an example line.
    Map(&'static str),
}

/// Every section of `T` and below it, in the order of the reference file.
pub fn sections<T: crate::Section>() -> Vec<SectionDoc> {
    let mut all = Vec::new();
    collect("", "", Form::Table, T::entries(), &mut all);
    all
}

fn collect(name: &str, doc: &'static str, form: Form, entries: Vec<Entry>, all: &mut Vec<SectionDoc>) {
    let (below, keys): (Vec<Entry>, Vec<Entry>) = flattened(entries)
        .into_iter()
        .partition(|entry| matches!(entry.shape, Shape::Section(_) | Shape::Tables(_) | Shape::Map(_)));
    if !keys.is_empty() || matches!(form, Form::Map(_)) {
        all.push(SectionDoc { name: name.to_owned(), doc, form, keys });
    }
    for entry in below {
        let name = if name.is_empty() { entry.name.to_owned() } else { format!("{name}.{}", entry.name) };
        let (form, entries) = match entry.shape {
            Shape::Tables(entries) => (Form::Array, entries),
            Shape::Map(example) => (Form::Map(example), Vec::new()),
            Shape::Section(entries) => (Form::Table, entries),
            _ => continue,
        };
        collect(&name, entry.doc, form, entries, all);
    }
}

fn flattened(entries: Vec<Entry>) -> Vec<Entry> {
    let mut flat = Vec::with_capacity(entries.len());
    for entry in entries {
        match entry.shape {
            Shape::Flat(inner) => flat.extend(flattened(inner)),
            _ => flat.push(entry),
        }
    }
    flat
}
