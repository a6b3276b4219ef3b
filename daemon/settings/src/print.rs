//! Documentation printed from the table of keys.

use std::fmt::{self, Write as _};

use crate::Section;
use crate::shape::{Entry, Form, Need, sections};

const WIDTH: usize = 118;

/// The commented reference: every section and key with its documentation, range and default. Required keys carry an example.
pub fn reference_toml<T: Section>(heading: &str) -> String {
    let mut out = String::from(heading);
    for section in sections::<T>() {
        if !section.name.is_empty() {
            out.push('\n');
            comment(&mut out, section.doc);
        }
        match section.form {
            Form::Table if section.name.is_empty() => {}
            Form::Table => line(&mut out, format_args!("[{}]", section.name)),
            Form::Array => line(&mut out, format_args!("[[{}]]", section.name)),
            Form::Map(example) => line(&mut out, format_args!("[{}]\n# {example}", section.name)),
        }
        for key in &section.keys {
            print(&mut out, key);
        }
    }
    out
}

fn print(out: &mut String, key: &Entry) {
    let limits = key.shape.limits().map_or_else(String::new, |limits| format!(" {limits}."));
    let required = if matches!(key.need, Need::Required(_)) { " Required." } else { "" };
    comment(out, &format!("{}{limits}{required}", key.doc));
    match key.need {
        Need::Required(value) | Need::Default(value) => line(out, format_args!("{} = {value}", key.name)),
        Need::Optional => line(out, format_args!("# {} =", key.name)),
    }
}

fn line(out: &mut String, text: fmt::Arguments<'_>) {
    // Writing to a String can't fail.
    let _ = writeln!(out, "{text}");
}

fn comment(out: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            out.push_str(&line);
            out.push('\n');
            "#".clone_into(&mut line);
        }
        line.push(' ');
        line.push_str(word);
    }
    out.push_str(&line);
    out.push('\n');
}

/// A Markdown table of limits with the cells that the table of keys knows, default and range, written anew. A row names its keys in its
/// first cell, in back ticks: `` `a.b_ms`, `c` `` and `` `a.b_ms` / `_max` `` take section and beginning from the first.
///
/// # Errors
/// The row whose keys are not all in the table.
pub fn fill_limits<T: Section>(table: &str) -> Result<String, String> {
    let sections = sections::<T>();
    let key = |name: &str| {
        let (section, key) = name.rsplit_once('.')?;
        sections.iter().find(|known| known.name == section)?.keys.iter().find(|known| known.name == key)
    };
    let mut out = String::new();
    for row in table.lines() {
        let cells: Vec<&str> = row.split('|').collect();
        let named = cells.get(1).is_some_and(|cell| cell.contains('`'));
        if !named || cells.len() < 5 {
            line(&mut out, format_args!("{row}"));
            continue;
        }
        let unknown = || format!("{row}\n  names a key that is not in the table; fix: correct it, or take the row out");
        let separator = if cells[1].contains("` / `") { " / " } else { ", " };
        let keys: Option<Vec<&Entry>> =
            full_names(cells[1]).iter().map(|names| names.iter().find_map(|name| key(name))).collect();
        let keys = keys.ok_or_else(unknown)?;
        let joined = |cell: fn(&Entry) -> String| keys.iter().map(|key| cell(key)).collect::<Vec<_>>().join(separator);
        let (default, range) = (joined(default_cell), joined(range_cell));
        line(&mut out, format_args!("|{}| {default} | {range} |{}", cells[1], cells[4..].join("|")));
    }
    Ok(out)
}

/// What each back-ticked name of a cell may stand for, the likeliest first.
fn full_names(cell: &str) -> Vec<Vec<String>> {
    let names: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
    let first = names.first().copied().unwrap_or_default();
    let (section, stem) =
        (first.rsplit_once('.').map_or("", |(section, _)| section), first.rsplit_once('_').map_or("", |(stem, _)| stem));
    let full = |name: &&str| match name.strip_prefix('_') {
        Some(end) => vec![format!("{first}_{end}"), format!("{stem}_{end}")],
        None => vec![(*name).to_owned(), format!("{section}.{name}")],
    };
    names.iter().map(full).collect()
}

fn default_cell(key: &Entry) -> String {
    match key.need {
        Need::Default(value) => thousands(value),
        Need::Required(_) => "required".to_owned(),
        Need::Optional => "none".to_owned(),
    }
}

fn range_cell(key: &Entry) -> String {
    let limits = key.shape.limits().unwrap_or_default();
    limits.split(' ').map(thousands).collect::<Vec<_>>().join(" ")
}

/// "1,024" for "1024"; what is no whole number stays.
fn thousands(number: &str) -> String {
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return number.to_owned();
    }
    let mut out = String::new();
    for (at, digit) in number.chars().enumerate() {
        if at > 0 && (number.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
