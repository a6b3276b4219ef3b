//! Documentation printed from the table of keys.

use std::fmt::{self, Write as _};

use crate::Section;
use crate::shape::{Entry, Form, Need, Shape, sections};

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

/// Every key that limits something, a number with a range, as a row of a Markdown table: name, default, range, unit, documentation.
pub fn limit_rows<T: Section>() -> String {
    let mut out = String::from("| name | default | range | unit | what it limits |\n|---|---|---|---|---|\n");
    for section in sections::<T>() {
        for key in &section.keys {
            let (Shape::Integer(..) | Shape::Float(..), Some(range)) = (&key.shape, key.shape.limits()) else { continue };
            let default = match key.need {
                Need::Default(value) => value,
                Need::Required(_) => "required",
                Need::Optional => "none",
            };
            let doc = key.doc.trim().replace('|', "\\|");
            let unit = unit(key.name, &doc);
            line(&mut out, format_args!("| `{}.{}` | {default} | {range} | {unit} | {doc} |", section.name, key.name));
        }
    }
    out
}

/// The unit that a key's name carries, else the one its documentation names, else none: a count or a share.
fn unit(name: &str, doc: &str) -> &'static str {
    const BY_NAME: [(&str, &str); 12] = [
        ("_per_s", "per s"),
        ("_per_second", "per s"),
        ("_per_second_busy", "per s"),
        ("_us", "µs"),
        ("_ms", "ms"),
        ("_s", "s"),
        ("_seconds", "s"),
        ("_hours", "h"),
        ("bytes", "bytes"),
        ("pixels", "pixels"),
        ("_px", "pixels"),
        ("_mib", "MiB"),
    ];
    let stem = name.trim_end_matches("_max").trim_end_matches("_min");
    let by_name = BY_NAME.iter().find(|(end, _)| stem.ends_with(end) || (!end.starts_with('_') && name.starts_with(end)));
    by_name.map(|(_, unit)| *unit).unwrap_or_else(|| if doc.contains(", pixels") { "pixels" } else { "" })
}
