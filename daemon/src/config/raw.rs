//! The file as written: every value with its line, checked alone against [`super::keys`]. Checks between values are [`super::resolve`]'s.

use std::collections::{BTreeMap, BTreeSet};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::ConfigError;
use super::interpolate::interpolate;
use super::keys::{Key, KeyKind, Need, SECTIONS, Section, SectionForm, section};

/// A value of the right type and inside its range, `${…}` replaced.
#[derive(Debug, Clone, PartialEq)]
pub enum RawValue {
    /// A whole number.
    Integer(u64),
    /// A number.
    Float(f64),
    /// `true` or `false`.
    Bool(bool),
    /// A string.
    Text(String),
    /// An array of strings.
    List(Vec<String>),
}

/// Something and the line it is on, from 1; 0 for a default.
#[derive(Debug, Clone, PartialEq)]
pub struct Located<T> {
    /// What is there.
    pub value: T,
    /// Line, from 1.
    pub line: usize,
}

/// One `[section]` as written, with the defaults of keys that are not.
#[derive(Debug, Clone, Default)]
pub struct RawTable {
    /// Line of its header, or 0 where it is not written.
    pub line: usize,
    /// Values by key.
    pub values: BTreeMap<String, Located<RawValue>>,
    /// Keys that are written but wrong; their errors are reported already.
    pub broken: BTreeSet<String>,
}

/// The whole file as written.
#[derive(Debug, Clone, Default)]
pub struct RawConfig {
    /// Sections by name. One that is not written is here too, with line 0 and its defaults.
    pub tables: BTreeMap<&'static str, RawTable>,
    /// Sections that may be written any number of times.
    pub arrays: BTreeMap<&'static str, Vec<RawTable>>,
}

impl RawConfig {
    /// Reads `text`. Returns what could be read and every mistake.
    pub fn parse(text: &str, env: &dyn Fn(&str) -> Option<String>) -> (Self, Vec<ConfigError>) {
        let mut reader = Reader { text, env, errors: Vec::new(), raw: Self::default() };
        let (root, syntax) = DeTable::parse_recoverable(text);
        for error in syntax {
            let line = error.span().map_or(0, |span| reader.line(span.start));
            reader.errors.push(ConfigError::new(
                line,
                "",
                format!("not TOML: {}", error.message()),
                "correct the line, see toml.io",
            ));
        }
        reader.read_root(root.get_ref());
        reader.fill_defaults();
        (reader.raw, reader.errors)
    }
}

struct Reader<'a> {
    text: &'a str,
    env: &'a dyn Fn(&str) -> Option<String>,
    errors: Vec<ConfigError>,
    raw: RawConfig,
}

impl Reader<'_> {
    fn line(&self, byte: usize) -> usize {
        self.text.as_bytes().iter().take(byte).filter(|b| **b == b'\n').count() + 1
    }

    fn error(&mut self, line: usize, field: &str, problem: impl Into<String>, fix: impl Into<String>) {
        self.errors.push(ConfigError::new(line, field, problem, fix));
    }

    fn fill_defaults(&mut self) {
        for section in SECTIONS {
            let tables: Vec<RawTable> = match section.form {
                SectionForm::Array(_) => self.raw.arrays.remove(section.name).unwrap_or_default(),
                _ => vec![self.raw.tables.remove(section.name).unwrap_or_default()],
            };
            for mut table in tables {
                for key in section.keys() {
                    self.fill_default(section, key, &mut table);
                }
                match section.form {
                    SectionForm::Array(_) => self.raw.arrays.entry(section.name).or_default().push(table),
                    _ => drop(self.raw.tables.insert(section.name, table)),
                }
            }
        }
    }

    fn fill_default(&mut self, section: &Section, key: &Key, table: &mut RawTable) {
        let Need::Default(text) = key.need else { return };
        if table.values.contains_key(key.name) {
            return;
        }
        // A test reads every default of the table of keys, so one that is no TOML can't get here.
        if let Ok(value) = DeValue::parse(text)
            && let Some(value) = self.read_value(&format!("{}.{}", section.name, key.name), key, &value)
        {
            table.values.insert(key.name.to_owned(), Located { value, line: 0 });
        }
    }

    fn read_root(&mut self, table: &DeTable<'_>) {
        for (key, value) in table {
            self.read_entry("", None, key, value, &mut RawTable::default());
        }
    }

    /// One `key = value` or `[prefix.key]` inside the section `prefix`, whose keys are `keys`.
    fn read_entry(
        &mut self,
        prefix: &str,
        known: Option<&'static Section>,
        key: &Spanned<toml::de::DeString<'_>>,
        value: &Spanned<DeValue<'_>>,
        into: &mut RawTable,
    ) {
        let name = key.get_ref().as_ref();
        let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
        let line = self.line(key.span().start);
        if let Some(found) = known.and_then(|section| section.keys().iter().find(|k| k.name == name)) {
            match self.read_value(&path, found, value) {
                Some(read) => drop(into.values.insert(name.to_owned(), Located { value: read, line })),
                None => drop(into.broken.insert(name.to_owned())),
            }
        } else if let Some(found) = section(&path) {
            self.read_section(found, line, value);
        } else if SECTIONS.iter().any(|s| s.name.starts_with(&format!("{path}."))) {
            self.read_parent(&path, line, value);
        } else {
            self.unknown(prefix, known, name, &path, line);
        }
    }

    /// A table that has no keys of its own, for example `[towers]`.
    fn read_parent(&mut self, path: &str, line: usize, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::Table(table) => {
                for (key, value) in table {
                    self.read_entry(path, None, key, value, &mut RawTable::default());
                }
            }
            other => self.wrong_type(path, line, "a section", other),
        }
    }

    fn read_section(&mut self, found: &'static Section, line: usize, value: &Spanned<DeValue<'_>>) {
        match (found.form, value.get_ref()) {
            (SectionForm::Table(_), DeValue::Table(table)) => {
                let read = self.read_table(found, line, table);
                self.raw.tables.insert(found.name, read);
            }
            (SectionForm::Array(_), DeValue::Array(array)) => {
                for element in array {
                    let line = self.line(element.span().start);
                    match element.get_ref() {
                        DeValue::Table(table) => {
                            let read = self.read_table(found, line, table);
                            self.raw.arrays.entry(found.name).or_default().push(read);
                        }
                        other => self.wrong_type(found.name, line, "a table", other),
                    }
                }
            }
            (SectionForm::Array(_), other) => {
                self.wrong_type(found.name, line, &format!("an array of tables, written [[{}]]", found.name), other);
            }
            (SectionForm::Map(_), DeValue::Table(table)) => {
                let read = self.read_map(found, line, table);
                self.raw.tables.insert(found.name, read);
            }
            (_, other) => self.wrong_type(found.name, line, "a section", other),
        }
    }

    fn read_table(&mut self, found: &'static Section, line: usize, table: &DeTable<'_>) -> RawTable {
        let mut read = RawTable { line, ..RawTable::default() };
        for (key, value) in table {
            self.read_entry(found.name, Some(found), key, value, &mut read);
        }
        read
    }

    fn read_map(&mut self, found: &'static Section, line: usize, table: &DeTable<'_>) -> RawTable {
        let mut read = RawTable { line, ..RawTable::default() };
        for (key, value) in table {
            let name = key.get_ref().to_string();
            let path = format!("{}.\"{name}\"", found.name);
            let line = self.line(key.span().start);
            let text = match value.get_ref() {
                DeValue::String(text) => self.text(&path, line, text),
                DeValue::Integer(number) => Some(number.to_string()),
                DeValue::Boolean(flag) => Some(flag.to_string()),
                DeValue::Table(_) => {
                    self.error(
                        line,
                        &path,
                        "a dotted key without quotes",
                        "put the whole name in quotes: \"security.protocol\" = …",
                    );
                    None
                }
                other => {
                    self.wrong_type(&path, line, "a string", other);
                    None
                }
            };
            match text {
                Some(text) => drop(read.values.insert(name, Located { value: RawValue::Text(text), line })),
                None => drop(read.broken.insert(name)),
            }
        }
        read
    }

    fn text(&mut self, path: &str, line: usize, text: &str) -> Option<String> {
        match interpolate(text, self.env) {
            Ok(text) => Some(text),
            Err((problem, fix)) => {
                self.error(line, path, problem, fix);
                None
            }
        }
    }

    fn read_value(&mut self, path: &str, key: &Key, value: &Spanned<DeValue<'_>>) -> Option<RawValue> {
        let line = self.line(value.span().start);
        match (key.kind, value.get_ref()) {
            (KeyKind::Integer(min, max), DeValue::Integer(number)) => {
                let clean = number.as_str().replace('_', "");
                let parsed = u64::from_str_radix(&clean, number.radix()).ok();
                self.integer(path, line, &number.to_string(), parsed, min, max)
            }
            // A variable is always a string; `threads = "${THREADS:-0}"` must work all the same.
            (KeyKind::Integer(min, max), DeValue::String(text)) if text.contains("${") => {
                let text = self.text(path, line, text)?;
                self.integer(path, line, &format!("`{text}`"), text.trim().parse().ok(), min, max)
            }
            (KeyKind::Float(min, max), DeValue::Float(number)) => self.float(path, line, number.as_str(), min, max),
            (KeyKind::Float(min, max), DeValue::Integer(number)) => self.float(path, line, number.as_str(), min, max),
            (KeyKind::Bool, DeValue::Boolean(flag)) => Some(RawValue::Bool(*flag)),
            (KeyKind::Bool, DeValue::String(text)) if text.contains("${") => match self.text(path, line, text)?.as_str() {
                "true" => Some(RawValue::Bool(true)),
                "false" => Some(RawValue::Bool(false)),
                other => {
                    self.error(line, path, format!("`{other}` is neither true nor false"), "set the variable to true or false");
                    None
                }
            },
            (KeyKind::Text, DeValue::String(text)) => self.text(path, line, text).map(RawValue::Text),
            (KeyKind::Choice(choices), DeValue::String(text)) => {
                let text = self.text(path, line, text)?;
                self.choice(path, line, text, choices)
            }
            (KeyKind::TextList, DeValue::Array(array)) => {
                let mut list = Vec::with_capacity(array.len());
                for element in array {
                    let line = self.line(element.span().start);
                    match element.get_ref() {
                        DeValue::String(text) => list.push(self.text(path, line, text)?),
                        other => {
                            self.wrong_type(path, line, "an array of strings", other);
                            return None;
                        }
                    }
                }
                Some(RawValue::List(list))
            }
            (kind, other) => {
                self.wrong_type(path, line, expected(kind), other);
                None
            }
        }
    }

    fn integer(&mut self, path: &str, line: usize, written: &str, parsed: Option<u64>, min: u64, max: u64) -> Option<RawValue> {
        match parsed {
            Some(number) if (min..=max).contains(&number) => Some(RawValue::Integer(number)),
            _ => {
                self.error(
                    line,
                    path,
                    format!("{written} is outside {min} to {max}"),
                    format!("write a whole number from {min} to {max}"),
                );
                None
            }
        }
    }

    fn float(&mut self, path: &str, line: usize, written: &str, min: f64, max: f64) -> Option<RawValue> {
        match written.replace('_', "").parse::<f64>() {
            Ok(number) if (min..=max).contains(&number) => Some(RawValue::Float(number)),
            _ => {
                self.error(
                    line,
                    path,
                    format!("{written} is outside {min} to {max}"),
                    format!("write a number from {min} to {max}"),
                );
                None
            }
        }
    }

    fn choice(&mut self, path: &str, line: usize, text: String, choices: &'static [&'static str]) -> Option<RawValue> {
        if choices.contains(&text.as_str()) {
            return Some(RawValue::Text(text));
        }
        let listed: Vec<_> = choices.iter().filter(|c| !c.is_empty()).map(|c| format!("\"{c}\"")).collect();
        let problem = format!("`{text}` is not one of {}", listed.join(", "));
        let fix = match nearest(&text, choices.iter().copied()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => "write one of them".to_owned(),
        };
        self.error(line, path, problem, fix);
        None
    }

    fn wrong_type(&mut self, path: &str, line: usize, expected: &str, found: &DeValue<'_>) {
        let found = match found {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a section",
        };
        self.error(line, path, format!("expected {expected}, found {found}"), format!("write {expected}"));
    }

    fn unknown(&mut self, prefix: &str, known: Option<&'static Section>, name: &str, path: &str, line: usize) {
        let keys = known.into_iter().flat_map(Section::keys).map(|key| key.name);
        let inside = |section: &'static Section| {
            if prefix.is_empty() { Some(section.name) } else { section.name.strip_prefix(prefix)?.strip_prefix('.') }
        };
        let sections = SECTIONS.iter().filter_map(inside).map(|rest| rest.split('.').next().unwrap_or(rest));
        let fix = match nearest(name, keys.chain(sections)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "remove it, or see configs/reference.toml for every key".to_owned(),
        };
        self.error(line, path, "unknown key", fix);
    }
}

const fn expected(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::Integer(..) => "a whole number",
        KeyKind::Float(..) => "a number",
        KeyKind::Bool => "true or false",
        KeyKind::Text | KeyKind::Choice(_) => "a string",
        KeyKind::TextList => "an array of strings",
    }
}

/// The candidate that `name` most likely was meant to be: a part of it or at most a third of its letters away.
fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = name.chars().count().div_ceil(3).max(1);
    let by_distance = candidates.filter(|c| !c.is_empty()).map(|candidate| {
        let contained = name.len() >= 4 && (candidate.starts_with(name) || name.starts_with(candidate));
        (if contained { 1 } else { edit_distance(name, candidate) }, candidate)
    });
    by_distance.min_by_key(|(distance, _)| *distance).filter(|(distance, _)| *distance <= limit).map(|(_, candidate)| candidate)
}

/// Edits from `a` to `b` in characters: insertions, deletions, substitutions and swaps of two neighbours (optimal string alignment).
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let substituted = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = substituted.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested_only_when_it_is_near() {
        let names = ["batch_max", "queue_max", "wait_us_max"];
        assert_eq!(nearest("batch_mx", names.into_iter()), Some("batch_max"));
        assert_eq!(nearest("batch", names.into_iter()), Some("batch_max"));
        assert_eq!(nearest("colour", names.into_iter()), None);
    }

    #[test]
    fn edit_distance_counts_insertions_deletions_substitutions_and_swaps() {
        for (a, b, distance) in [("", "", 0), ("a", "", 1), ("kitten", "sitting", 3), ("topic", "topics", 1), ("cdua", "cuda", 1)]
        {
            assert_eq!(edit_distance(a, b), distance, "{a} {b}");
        }
    }
}
