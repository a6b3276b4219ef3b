//! What differs between a checkpoint and a model.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// A key whose shape differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MisShaped {
    /// The key.
    pub name: String,
    /// Shape the model has.
    pub expected: Vec<i64>,
    /// Shape the checkpoint has.
    pub found: Vec<i64>,
}

/// Every difference between the keys of a checkpoint and of a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyReport {
    /// Keys that were read.
    pub loaded: usize,
    /// Keys of the model that the checkpoint lacks.
    pub missing: Vec<String>,
    /// Keys of the checkpoint that the model does not have.
    pub unexpected: Vec<String>,
    /// Keys of both with different shapes.
    pub mis_shaped: Vec<MisShaped>,
    /// Known buffers that carry no parameter (`position_ids`).
    pub ignored: Vec<String>,
}

impl KeyReport {
    /// Compares names and shapes; buffers named `position_ids` are set aside.
    pub fn compare<'a>(
        expected: impl Iterator<Item = (&'a str, &'a [i64])>,
        found: impl Iterator<Item = (&'a str, &'a [i64])>,
    ) -> Self {
        let found: std::collections::BTreeMap<&str, &[i64]> = found.collect();
        let mut report = Self::default();
        let mut known = std::collections::HashSet::new();
        for (name, shape) in expected {
            known.insert(name);
            match found.get(name) {
                None => report.missing.push(name.to_owned()),
                Some(own) if *own == shape => report.loaded += 1,
                Some(own) => {
                    report.mis_shaped.push(MisShaped { name: name.to_owned(), expected: shape.to_vec(), found: own.to_vec() });
                }
            }
        }
        for name in found.keys().filter(|name| !known.contains(*name)) {
            let list = if name.ends_with("position_ids") { &mut report.ignored } else { &mut report.unexpected };
            list.push((*name).to_owned());
        }
        report
    }

    /// True when every parameter of the model is there with its shape; unexpected keys do no harm.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.mis_shaped.is_empty()
    }
}

impl fmt::Display for KeyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        write!(
            f,
            "{} keys read; missing: {}; unexpected: {}; mis-shaped: ",
            self.loaded,
            list(&self.missing),
            list(&self.unexpected)
        )?;
        f.write_str(&shapes(&self.mis_shaped))
    }
}

/// What became of the keys of a file that fills a part of a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TowerReport {
    /// The file.
    pub path: PathBuf,
    /// What it was read as, such as `CLIP`.
    pub format: &'static str,
    /// Parameters of the model that were filled from it.
    pub taken: usize,
    /// Those among them that were changed on the way, each with how.
    pub adapted: Vec<String>,
    /// Parameters that the file should hold and does not.
    pub missing: Vec<String>,
    /// Parameters that files of this format may lack, and this one does: they keep their initial values.
    pub absent: Vec<String>,
    /// Keys of the file that the model has no place for.
    pub extra: Vec<String>,
    /// Keys of both with different shapes.
    pub mis_shaped: Vec<MisShaped>,
    /// Keys that carry no parameter of their own: `position_ids`, a decoder tied to the word table.
    pub ignored: Vec<String>,
    /// What a user has to know.
    pub notes: Vec<String>,
}

impl TowerReport {
    /// True when every parameter that the file should hold is there with its shape.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.mis_shaped.is_empty()
    }
}

impl fmt::Display for TowerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "read as {}: {} parameters taken; missing: {}; absent: {}; extra: {}; mis-shaped: {}; ignored: {}",
            self.format,
            self.taken,
            grouped(&self.missing),
            grouped(&self.absent),
            grouped(&self.extra),
            shapes(&self.mis_shaped),
            grouped(&self.ignored)
        )?;
        for note in self.adapted.iter().chain(&self.notes) {
            write!(f, "; {note}")?;
        }
        Ok(())
    }
}

/// Names in a readable length: those that differ in their layer's number only become one, with how many they are.
pub(super) fn grouped(names: &[String]) -> String {
    let mut groups: BTreeMap<String, (usize, &str)> = BTreeMap::new();
    for name in names {
        let parts: Vec<&str> =
            name.split('.').map(|part| if part.bytes().all(|byte| byte.is_ascii_digit()) { "*" } else { part }).collect();
        groups.entry(parts.join(".")).or_insert((0, name)).0 += 1;
    }
    if groups.is_empty() {
        return "none".to_owned();
    }
    let groups = groups.iter().map(|(pattern, (count, first))| match count {
        1 => (*first).to_owned(),
        count => format!("{pattern} ({count})"),
    });
    groups.collect::<Vec<_>>().join(", ")
}

fn shapes(mis_shaped: &[MisShaped]) -> String {
    if mis_shaped.is_empty() {
        return "none".to_owned();
    }
    let one = |key: &MisShaped| format!("{} (model {:?}, checkpoint {:?})", key.name, key.expected, key.found);
    mis_shaped.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_differ_in_their_layer_only_are_told_once_with_their_number() {
        let names = ["a.0.w", "a.11.w", "b.3.w", "c"].map(str::to_owned);
        assert_eq!(grouped(&names), "a.*.w (2), b.3.w, c");
        assert_eq!(grouped(&[]), "none");
    }

    #[test]
    fn the_report_names_every_missing_unexpected_and_mis_shaped_key() {
        let (a, b, c): (&[i64], &[i64], &[i64]) = (&[2, 3], &[4], &[]);
        let expected = [("a", a), ("b", b), ("temp", c)];
        let found = [("a", b), ("temp", c), ("queue", a), ("text_encoder.embeddings.position_ids", a)];
        let report = KeyReport::compare(expected.into_iter(), found.into_iter());
        assert_eq!(report.loaded, 1);
        assert_eq!(report.missing, ["b"]);
        assert_eq!(report.unexpected, ["queue"]);
        assert_eq!(report.ignored.len(), 1);
        assert_eq!(report.mis_shaped, [MisShaped { name: "a".into(), expected: vec![2, 3], found: vec![4] }]);
        assert!(!report.is_complete());
        let text = report.to_string();
        assert!(text.contains("missing: b") && text.contains("a (model [2, 3], checkpoint [4])"), "{text}");
    }
}
