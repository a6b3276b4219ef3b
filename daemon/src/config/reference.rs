//! `configs/reference.toml`, printed from the table of keys.

use std::fmt::{self, Write as _};

use super::keys::{Key, KeyKind, Need, SECTIONS, SectionForm};

const WIDTH: usize = 118;

/// The commented reference: every section and key with its documentation, range and default. Required keys carry an example.
pub fn reference_toml() -> String {
    let mut out = String::from(
        "# Astromech: every key of the configuration, with its default. Printed from the table of keys in daemon/src/config/keys.rs;\n\
         # a test holds the two together. A file needs only what it changes.\n\
         # Strings may hold ${NAME} and ${NAME:-default} from the environment; $$ stands for a dollar sign.\n\
         # `astromech check-config --config FILE` lists every mistake with its line and fix.\n",
    );
    for section in SECTIONS {
        out.push('\n');
        comment(&mut out, section.doc);
        match section.form {
            SectionForm::Table(_) => line(&mut out, format_args!("[{}]", section.name)),
            SectionForm::Array(_) => line(&mut out, format_args!("[[{}]]", section.name)),
            SectionForm::Map(example) => line(&mut out, format_args!("[{}]\n# {example}", section.name)),
        }
        for key in section.keys() {
            print(&mut out, key);
        }
    }
    out
}

fn print(out: &mut String, key: &Key) {
    let limits = match key.kind {
        KeyKind::Integer(min, max) => format!(" {min} to {max}."),
        KeyKind::Float(min, max) => format!(" {min} to {max}."),
        KeyKind::Choice(choices) => {
            let listed: Vec<_> = choices.iter().map(|choice| format!("\"{choice}\"")).collect();
            format!(" One of {}.", listed.join(", "))
        }
        KeyKind::Bool | KeyKind::Text | KeyKind::TextList => String::new(),
    };
    let (value, required) = match key.need {
        Need::Required(example) => (example, " Required."),
        Need::Default(value) => (value, ""),
    };
    comment(out, &format!("{}{limits}{required}", key.doc));
    line(out, format_args!("{} = {value}", key.name));
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
