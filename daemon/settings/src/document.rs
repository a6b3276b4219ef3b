//! The file as written: a tree of values, each with its place. Overrides of the command line are put into it, so that they are read and
//! checked as if they stood in the file.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{SettingError, Spot};

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where it begins.
    pub spot: Spot,
    /// What it is.
    pub tree: Tree,
}

/// A value as written.
#[derive(Debug, Clone, PartialEq)]
pub enum Tree {
    /// A string.
    Text(String),
    /// A whole number.
    Integer(Whole),
    /// A number.
    Float(String),
    /// `true` or `false`.
    Bool(bool),
    /// A date or a time.
    Date(String),
    /// An array.
    List(Vec<Node>),
    /// A section.
    Table(BTreeMap<String, Written>),
}

/// A whole number as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    /// As in the file, with its radix.
    pub shown: String,
    /// Its value; `None` beyond 128 bits.
    pub value: Option<i128>,
}

/// A key and what is written for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// Where the key is.
    pub spot: Spot,
    /// Its value.
    pub node: Node,
}

impl Tree {
    /// What stands in errors: "a string".
    pub fn found(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Bool(_) => "true or false",
            Self::Date(_) => "a date",
            Self::List(_) => "an array",
            Self::Table(_) => "a section",
        }
    }
}

/// One file, with what overrides it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Document {
    pub(crate) root: BTreeMap<String, Written>,
}

impl Document {
    /// Reads TOML. Returns what could be read and every mistake.
    pub fn parse(text: &str) -> (Self, Vec<SettingError>) {
        let lines = Lines { text, set: false };
        let (root, syntax) = DeTable::parse_recoverable(text);
        let errors = syntax.iter().map(|error| {
            let spot = error.span().map_or_else(Spot::default, |span| lines.spot(span.start));
            SettingError::new(spot, "", format!("not TOML: {}", error.message()), "correct the line, see toml.io")
        });
        let errors = errors.collect();
        (Self { root: lines.table(root.get_ref()) }, errors)
    }

    /// Takes what a program wrote as JSON; what is `null` there is not written.
    pub fn from_json(value: &serde_json::Value) -> Self {
        match json(value) {
            Some(Node { tree: Tree::Table(root), .. }) => Self { root },
            _ => Self::default(),
        }
    }

    /// Puts `section.key=value` in the place of what the file says. The value is TOML; anything else is taken as a string, so that paths
    /// need no quotes. Returns the mistake with it.
    pub fn set(&mut self, given: &str) -> Option<SettingError> {
        let spot = Spot { line: 0, set: true };
        let fix = "write it as section.key=value";
        let Some((path, value)) = given.split_once('=') else {
            return Some(SettingError::new(spot, given, "there is no `=`", fix));
        };
        let Some((parents, key)) = path.rsplit_once('.') else {
            return Some(SettingError::new(spot, path, "the key has no section", fix));
        };
        let mut at = &mut self.root;
        for part in parents.split('.') {
            let empty = || Written { spot, node: Node { spot, tree: Tree::Table(BTreeMap::new()) } };
            let Tree::Table(inside) = &mut at.entry(part.to_owned()).or_insert_with(empty).node.tree else {
                return Some(SettingError::new(spot, path, format!("`{part}` is not a section"), fix));
            };
            at = inside;
        }
        at.insert(key.to_owned(), Written { spot, node: override_value(value, spot) });
        None
    }

    /// Leaves out all but these sections, for a program that shares a file with another.
    pub fn keep(&mut self, sections: &[&str]) {
        self.root.retain(|name, _| sections.contains(&name.as_str()));
    }

    /// The value at a dotted path.
    pub fn get(&self, path: &str) -> Option<&Node> {
        let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
        let mut node = &self.root.get(first)?.node;
        for part in rest.into_iter().flat_map(|rest| rest.split('.')) {
            let Tree::Table(inside) = &node.tree else { return None };
            node = &inside.get(part)?.node;
        }
        Some(node)
    }
}

fn override_value(value: &str, spot: Spot) -> Node {
    let line = format!("value = {value}");
    let parsed = DeTable::parse(&line).ok();
    let node = parsed.and_then(|table| {
        let mut read = Lines { text: &line, set: true }.table(table.get_ref());
        read.remove("value").filter(|_| read.is_empty())
    });
    node.map_or_else(|| Node { spot, tree: Tree::Text(value.to_owned()) }, |written| written.node)
}

struct Lines<'a> {
    text: &'a str,
    set: bool,
}

impl Lines<'_> {
    fn spot(&self, byte: usize) -> Spot {
        let line = self.text.as_bytes().iter().take(byte).filter(|b| **b == b'\n').count() + 1;
        Spot { line: if self.set { 0 } else { line }, set: self.set }
    }

    fn table(&self, table: &DeTable<'_>) -> BTreeMap<String, Written> {
        let written = |key: &Spanned<_>, value| Written { spot: self.spot(key.span().start), node: self.node(value) };
        table.iter().map(|(key, value)| (key.get_ref().to_string(), written(key, value))).collect()
    }

    fn node(&self, value: &Spanned<DeValue<'_>>) -> Node {
        let tree = match value.get_ref() {
            DeValue::String(text) => Tree::Text(text.to_string()),
            DeValue::Integer(number) => {
                let digits = number.as_str().replace('_', "");
                Tree::Integer(Whole { shown: number.to_string(), value: i128::from_str_radix(&digits, number.radix()).ok() })
            }
            DeValue::Float(number) => Tree::Float(number.as_str().to_owned()),
            DeValue::Boolean(flag) => Tree::Bool(*flag),
            DeValue::Datetime(date) => Tree::Date(date.to_string()),
            DeValue::Array(array) => Tree::List(array.iter().map(|element| self.node(element)).collect()),
            DeValue::Table(table) => Tree::Table(self.table(table)),
        };
        Node { spot: self.spot(value.span().start), tree }
    }
}

fn json(value: &serde_json::Value) -> Option<Node> {
    let tree = match value {
        serde_json::Value::Null => return None,
        serde_json::Value::Bool(flag) => Tree::Bool(*flag),
        serde_json::Value::Number(number) => match number.to_string() {
            text if number.is_f64() => Tree::Float(text),
            text => Tree::Integer(Whole { value: text.parse().ok(), shown: text }),
        },
        serde_json::Value::String(text) => Tree::Text(text.clone()),
        serde_json::Value::Array(list) => Tree::List(list.iter().filter_map(json).collect()),
        serde_json::Value::Object(fields) => {
            let written =
                |(name, value): (&String, &_)| Some((name.clone(), Written { spot: Spot::default(), node: json(value)? }));
            Tree::Table(fields.iter().filter_map(written).collect())
        }
    };
    Some(Node { spot: Spot::default(), tree })
}

/// A value as TOML text, for a default of the table of keys.
pub(crate) fn default_value(text: &str) -> Option<Node> {
    let value = DeValue::parse(text).ok()?;
    let mut node = Lines { text, set: false }.node(&value);
    node.spot = Spot::default();
    Some(node)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn an_override_takes_the_place_of_what_the_file_says_and_is_told_from_it() {
        let (mut document, errors) = Document::parse("[a]\nb = 1\n");
        assert_eq!(errors, []);
        assert_eq!(document.set("a.b=2.5"), None);
        assert_eq!(document.set("new.one=some/path"), None);
        let set = document.get("a.b").unwrap();
        assert_eq!((&set.tree, set.spot), (&Tree::Float("2.5".to_owned()), Spot { line: 0, set: true }));
        assert_eq!(document.get("new.one").unwrap().tree, Tree::Text("some/path".to_owned()));
    }

    #[test]
    fn an_override_that_is_none_says_how_to_write_it() {
        let (mut document, _) = Document::parse("[a]\nb = 1\n");
        for (given, says) in [("a.b", "no `=`"), ("b=1", "no section"), ("a.b.c=1", "`b` is not a section")] {
            let error = document.set(given).unwrap().to_string();
            assert!(error.starts_with("--set: ") && error.contains(says), "{error}");
        }
    }
}
