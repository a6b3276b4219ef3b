//! What differs between a checkpoint and a model.

use std::fmt;

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
        if self.mis_shaped.is_empty() {
            return write!(f, "none");
        }
        let shapes: Vec<String> = self
            .mis_shaped
            .iter()
            .map(|key| format!("{} (model {:?}, checkpoint {:?})", key.name, key.expected, key.found))
            .collect();
        write!(f, "{}", shapes.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
