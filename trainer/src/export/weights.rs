//! Weights as a plain map, so that the export depends on no framework.

use std::collections::BTreeMap;

use super::ExportError;

/// One weight.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightTensor {
    /// Shape, outermost first.
    pub shape: Vec<usize>,
    /// Elements in row-major order.
    pub values: Vec<f32>,
}

/// Official key (docs/R2D2.md §5.3) → weight.
#[derive(Debug, Clone, Default)]
pub struct WeightMap(BTreeMap<String, WeightTensor>);

impl WeightMap {
    /// An empty map.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces one weight.
    pub fn insert(&mut self, key: impl Into<String>, shape: Vec<usize>, values: Vec<f32>) {
        self.0.insert(key.into(), WeightTensor { shape, values });
    }

    /// The values of `key`, which must have `shape` and be finite.
    ///
    /// # Errors
    /// Missing, of another shape, or not finite.
    pub fn get(&self, key: &str, shape: &[usize]) -> Result<&[f32], ExportError> {
        let tensor = self.0.get(key).ok_or_else(|| ExportError::Missing { key: key.to_owned() })?;
        if tensor.shape != shape {
            return Err(ExportError::Shape { key: key.to_owned(), found: tensor.shape.clone(), expected: shape.to_vec() });
        }
        if let Some(&value) = tensor.values.iter().find(|value| !value.is_finite()) {
            return Err(ExportError::NotFinite { key: key.to_owned(), value });
        }
        Ok(&tensor.values)
    }

    /// The first `rows` rows of the table `key`, which must be `width` wide and at least as long.
    ///
    /// # Errors
    /// As [`WeightMap::get`].
    pub fn rows(&self, key: &str, rows: usize, width: usize) -> Result<&[f32], ExportError> {
        let tensor = self.0.get(key).ok_or_else(|| ExportError::Missing { key: key.to_owned() })?;
        let stored = match tensor.shape.as_slice() {
            &[stored, stored_width] if stored_width == width && stored >= rows => stored,
            _ => {
                return Err(ExportError::Shape { key: key.to_owned(), found: tensor.shape.clone(), expected: vec![rows, width] });
            }
        };
        Ok(&self.get(key, &[stored, width])?[..rows * width])
    }

    /// Every key with its weight, in the order of keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &WeightTensor)> {
        self.0.iter().map(|(key, tensor)| (key.as_str(), tensor))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn a_missing_misshaped_or_broken_weight_is_named() {
        let mut map = WeightMap::new();
        map.insert("a", vec![2, 2], vec![1.0, 2.0, 3.0, 4.0]);
        map.insert("n", vec![1], vec![f32::NAN]);
        assert_eq!(map.get("a", &[2, 2]).unwrap(), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(map.rows("a", 1, 2).unwrap(), [1.0, 2.0]);
        assert!(matches!(map.get("b", &[1]), Err(ExportError::Missing { key }) if key == "b"));
        assert!(matches!(map.get("a", &[4]), Err(ExportError::Shape { key, .. }) if key == "a"));
        assert!(matches!(map.rows("a", 3, 2), Err(ExportError::Shape { .. })));
        assert!(matches!(map.get("n", &[1]), Err(ExportError::NotFinite { .. })));
    }
}
