//! `${NAME}` and `${NAME:-default}` in strings of the configuration. `$$` stands for one dollar sign.

/// Replaces every `${…}` in `text` by what `env` knows.
///
/// # Errors
/// (problem, fix) of the first variable that is unset and has no default, or of an unclosed or empty `${`.
pub fn interpolate(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, (String, String)> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let Some(end) = after.find('}') else {
                return Err((
                    "`${` is not closed".to_owned(),
                    "write `${NAME}` or `${NAME:-default}`, or `$$` for a dollar sign".to_owned(),
                ));
            };
            out.push_str(&look_up(&after[..end], env)?);
            rest = &after[end + 1..];
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn look_up(inside: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, (String, String)> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let valid =
        name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && name.bytes().next().is_some_and(|b| !b.is_ascii_digit());
    if !valid {
        return Err((
            format!("`{name}` is no name of an environment variable"),
            "use letters, digits and underscores".to_owned(),
        ));
    }
    // As in a shell, `:-` also stands in for an empty variable.
    match (env(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => {
            Err((format!("environment variable {name} is not set"), format!("set {name}, or write `${{{name}:-default}}`")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("broker".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn variables_and_defaults_are_replaced_as_in_a_shell() {
        for (text, expected) in [
            ("plain", "plain"),
            ("${HOST}:9092", "broker:9092"),
            ("${HOST}${HOST}", "brokerbroker"),
            ("${NONE:-local}:9092", "local:9092"),
            ("${NONE:-}", ""),
            ("${EMPTY:-x}", "x"),
            ("${EMPTY}", ""),
            ("${NONE:-a:-b}", "a:-b"),
            ("$$HOME 5$", "$HOME 5$"),
            ("汽车${HOST}", "汽车broker"),
        ] {
            assert_eq!(interpolate(text, &env).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn an_unset_variable_and_a_malformed_one_are_named() {
        for (text, part) in
            [("${NONE}", "NONE"), ("${HOST", "not closed"), ("${}", "no name"), ("${A-B}", "A-B"), ("${1A}", "1A")]
        {
            let (problem, fix) = interpolate(text, &env).unwrap_err();
            assert!(problem.contains(part), "{text}: {problem}");
            assert!(!fix.is_empty());
        }
    }
}
