//! What values may be. Each kind gives a key's form in documentation, and its reader.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::document::{Node, Tree};
use crate::nearest::nearest;
use crate::shape::{Shape, range};
use crate::value::{At, Cursor, Mapped, Mistake, Value};

/// Reads a whole number, see [`int`].
pub struct Integer<T> {
    min: u64,
    max: u64,
    of: std::marker::PhantomData<T>,
}

/// A whole number from `min` to `max`; `u64::MAX` is no end.
pub const fn int<T>(min: u64, max: u64) -> Integer<T> {
    Integer { min, max, of: std::marker::PhantomData }
}

impl<T: TryFrom<u64> + Default> Value for Integer<T> {
    type Out = T;

    fn shape(&self) -> Shape {
        Shape::Integer(self.min, self.max)
    }

    fn read(&self, node: &Node, at: &Cursor<'_>) -> Option<T> {
        let (shown, value) = match &node.tree {
            Tree::Integer(number) => (number.shown.clone(), number.value.and_then(|value| u64::try_from(value).ok())),
            Tree::Text(text) => {
                let text = at.text(node.spot, text)?;
                (format!("`{text}`"), text.trim().parse().ok())
            }
            _ => return None,
        };
        let read = value.filter(|value| (self.min..=self.max).contains(value)).and_then(|value| T::try_from(value).ok());
        if read.is_none() {
            let (range, from) = ranges(self.min, (self.max < u64::MAX).then_some(self.max));
            at.error(node.spot, format!("{shown} is outside {range}"), format!("write a whole number {from}"));
        }
        read
    }

    fn blank(&self) -> T {
        T::try_from(self.min).unwrap_or_default()
    }
}

/// Milliseconds from `min` to `max`.
pub fn millis(min: u64, max: u64) -> Mapped<Integer<u64>, Duration> {
    int(min, max).map(Duration::from_millis)
}

/// A range for a problem, and for its fix.
fn ranges<T: std::fmt::Display + Copy>(min: T, max: Option<T>) -> (String, String) {
    let fix = if max.is_some() { format!("from {}", range(min, max)) } else { format!("of at least {min}") };
    (range(min, max), fix)
}

/// Reads a number, see [`float`].
pub struct Float {
    min: f64,
    max: f64,
}

/// A number from `min` to `max`; infinity is no end.
pub const fn float(min: f64, max: f64) -> Float {
    Float { min, max }
}

impl Value for Float {
    type Out = f64;

    fn shape(&self) -> Shape {
        Shape::Float(self.min, self.max)
    }

    fn read(&self, node: &Node, at: &Cursor<'_>) -> Option<f64> {
        let shown = match &node.tree {
            Tree::Float(text) => text.clone(),
            Tree::Integer(number) => number.value.map_or_else(|| number.shown.clone(), |value| value.to_string()),
            Tree::Text(text) => at.text(node.spot, text)?,
            _ => return None,
        };
        let number = shown.trim().replace('_', "").parse::<f64>().ok();
        // What is not a number, or infinite, is in no range.
        let read = number.filter(|number| number.is_finite() && (self.min..=self.max).contains(number));
        if read.is_none() {
            let (range, from) = ranges(self.min, self.max.is_finite().then_some(self.max));
            at.error(node.spot, format!("{shown} is outside {range}"), format!("write a number {from}"));
        }
        read
    }

    fn blank(&self) -> f64 {
        self.min
    }
}

/// Refuses 0 and less, for [`Value::parsed`].
///
/// # Errors
/// The number is not above 0.
pub fn above_zero(number: f64) -> Result<f64, Mistake> {
    if number > 0.0 { Ok(number) } else { Err(Mistake::new(format!("{number} is not above 0"), "write a number above 0")) }
}

/// Reads `true` or `false`, see [`flag`].
pub struct Flag;

/// `true` or `false`.
pub const fn flag() -> Flag {
    Flag
}

impl Value for Flag {
    type Out = bool;

    fn shape(&self) -> Shape {
        Shape::Bool
    }

    fn read(&self, node: &Node, at: &Cursor<'_>) -> Option<bool> {
        let text = match &node.tree {
            Tree::Bool(flag) => return Some(*flag),
            Tree::Text(text) => at.text(node.spot, text)?,
            _ => return None,
        };
        let read = text.parse().ok();
        if read.is_none() {
            at.error(node.spot, format!("`{text}` is neither true nor false"), "set the variable to true or false");
        }
        read
    }

    fn blank(&self) -> bool {
        false
    }
}

/// Reads a string, see [`text`].
pub struct Text;

/// A string, its `${…}` replaced.
pub const fn text() -> Text {
    Text
}

impl Value for Text {
    type Out = String;

    fn shape(&self) -> Shape {
        Shape::Text
    }

    fn read(&self, node: &Node, at: &Cursor<'_>) -> Option<String> {
        let Tree::Text(text) = &node.tree else { return None };
        at.text(node.spot, text)
    }

    fn blank(&self) -> String {
        String::new()
    }
}

/// Reads a path, see [`path`].
pub struct FilePath;

/// A path, joined to the folder that relative ones are relative to.
pub const fn path() -> FilePath {
    FilePath
}

impl Value for FilePath {
    type Out = PathBuf;

    fn shape(&self) -> Shape {
        Shape::Text
    }

    fn read(&self, node: &Node, at: &Cursor<'_>) -> Option<PathBuf> {
        Text.read(node, at).map(|text| at.folder().join(text))
    }

    fn blank(&self) -> PathBuf {
        PathBuf::new()
    }
}

/// Reads a path that may be empty, see [`path_or_none`].
pub struct FilePathOrNone;

/// As [`path`]; empty is none.
pub const fn path_or_none() -> FilePathOrNone {
    FilePathOrNone
}

impl Value for FilePathOrNone {
    type Out = Option<PathBuf>;

    fn shape(&self) -> Shape {
        Shape::Text
    }

    fn read(&self, node: &Node, at: &Cursor<'_>) -> Option<Option<PathBuf>> {
        Text.read(node, at).map(|text| (!text.is_empty()).then(|| at.folder().join(text)))
    }

    fn blank(&self) -> Option<PathBuf> {
        None
    }
}

/// Reads one of a few words, see [`choice`].
pub struct Choice<T: 'static>(&'static [(&'static str, T)]);

/// One of these words, and what each stands for.
pub const fn choice<T>(choices: &'static [(&'static str, T)]) -> Choice<T> {
    Choice(choices)
}

impl<T: Clone> Value for Choice<T> {
    type Out = T;

    fn shape(&self) -> Shape {
        Shape::Choice(self.0.iter().map(|(word, _)| *word).collect())
    }

    fn read(&self, node: &Node, at: &Cursor<'_>) -> Option<T> {
        let text = Text.read(node, at)?;
        if let Some((_, value)) = self.0.iter().find(|(word, _)| *word == text) {
            return Some(value.clone());
        }
        let words = || self.0.iter().map(|(word, _)| *word).filter(|word| !word.is_empty());
        let listed: Vec<_> = words().map(|word| format!("\"{word}\"")).collect();
        let fix = match nearest(&text, words()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => "write one of them".to_owned(),
        };
        at.error(node.spot, format!("`{text}` is not one of {}", listed.join(", ")), fix);
        None
    }

    fn blank(&self) -> T {
        self.0[0].1.clone()
    }
}

/// Reads an array, see [`list`].
pub struct List<V>(V);

/// An array of any length.
pub const fn list<V>(of: V) -> List<V> {
    List(of)
}

impl<V: Value> Value for List<V> {
    type Out = Vec<V::Out>;

    fn shape(&self) -> Shape {
        Shape::List(Box::new(self.0.shape()))
    }

    fn read(&self, node: &Node, at: &Cursor<'_>) -> Option<Self::Out> {
        let Tree::List(list) = &node.tree else { return None };
        let read: Vec<_> = list.iter().map(|element| at.read(&self.0, element)).collect();
        read.into_iter().collect()
    }

    fn blank(&self) -> Self::Out {
        Vec::new()
    }
}

/// Reads an array of a length, see [`array()`].
pub struct Array<V, const N: usize>(V);

/// An array of `N`.
pub const fn array<V, const N: usize>(of: V) -> Array<V, N> {
    Array(of)
}

impl<V: Value, const N: usize> Value for Array<V, N> {
    type Out = [V::Out; N];

    fn shape(&self) -> Shape {
        Shape::Array(N, Box::new(self.0.shape()))
    }

    fn read(&self, node: &Node, at: &Cursor<'_>) -> Option<Self::Out> {
        let Tree::List(list) = &node.tree else { return None };
        let read: Vec<_> = list.iter().map(|element| at.read(&self.0, element)).collect();
        read.into_iter().collect::<Option<Vec<_>>>()?.try_into().ok()
    }

    fn blank(&self) -> Self::Out {
        std::array::from_fn(|_| self.0.blank())
    }
}

/// One entry of a map, and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its value.
    pub text: String,
    /// Where it is.
    pub at: At,
}

/// Reads a section whose keys are the user's, see [`strings`].
pub struct Strings(&'static str);

/// A section with keys of the user's own and strings as values; `example` is a line of it.
pub const fn strings(example: &'static str) -> Strings {
    Strings(example)
}

impl Value for Strings {
    type Out = BTreeMap<String, Named>;

    fn shape(&self) -> Shape {
        Shape::Map(self.0)
    }

    fn read(&self, node: &Node, at: &Cursor<'_>) -> Option<Self::Out> {
        let Tree::Table(table) = &node.tree else { return None };
        let mut read = BTreeMap::new();
        for (name, written) in table {
            // As it is written: the name may hold dots.
            let text = at.quoted(name, |at| entry_of_map(&written.node, written.spot, at));
            if let Some(text) = text {
                read.insert(name.clone(), Named { text, at: at.below(name, written.spot) });
            }
        }
        Some(read)
    }

    fn blank(&self) -> Self::Out {
        BTreeMap::new()
    }
}

fn entry_of_map(node: &Node, spot: crate::Spot, at: &Cursor<'_>) -> Option<String> {
    match &node.tree {
        Tree::Text(text) => return at.text(spot, text),
        Tree::Integer(number) => return Some(number.shown.clone()),
        Tree::Bool(flag) => return Some(flag.to_string()),
        Tree::Table(_) => {
            at.error(spot, "a dotted key without quotes", "put the whole name in quotes: \"security.protocol\" = …");
        }
        other => at.wrong_type(spot, "a string", other),
    }
    None
}

/// A section of strings without their places, see [`strings`].
pub fn plain_strings(example: &'static str) -> Mapped<Strings, BTreeMap<String, String>> {
    strings(example).map(|map| map.into_iter().map(|(name, named)| (name, named.text)).collect())
}
