//! `configs/reference.toml`, printed from the table of keys.

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
            SectionForm::Table(keys) => {
                out.push_str(&format!("[{}]\n", section.name));
                keys.iter().for_each(|key| print(&mut out, key));
            }
            SectionForm::Array(keys) => {
                out.push_str(&format!("[[{}]]\n", section.name));
                keys.iter().for_each(|key| print(&mut out, key));
            }
            SectionForm::Map(example) => out.push_str(&format!("[{}]\n# {example}\n", section.name)),
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
    out.push_str(&format!("{} = {value}\n", key.name));
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
