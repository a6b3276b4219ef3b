//! What the towers give: vectors, states, match scores.

use std::sync::Arc;

/// A vector of the bundle's space.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    /// `embedding_dim` numbers of unit length.
    pub embedding: Vec<f32>,
    /// Unit vectors of the item's tokens, one after another; only of a bundle of late interaction.
    pub tokens: Option<Box<[f32]>>,
}

impl Embedded {
    /// The vectors that the item is compared by, one after another: its tokens' in a bundle of late interaction, else its embedding.
    pub fn vectors(&self) -> &[f32] {
        self.tokens.as_deref().unwrap_or(&self.embedding)
    }
}

/// A vector with the states that the cross tower takes.
#[derive(Debug, Clone)]
pub struct EmbeddedStates<S> {
    /// `embedding_dim` numbers of unit length.
    pub embedding: Vec<f32>,
    /// Unit vectors of the item's tokens, one after another; only of a bundle of late interaction.
    pub tokens: Option<Box<[f32]>>,
    /// Hidden states of the tower's last layer.
    pub states: Arc<S>,
}

impl<S> EmbeddedStates<S> {
    /// As [`Embedded::vectors`].
    pub fn vectors(&self) -> &[f32] {
        self.tokens.as_deref().unwrap_or(&self.embedding)
    }
}

/// How well `item` answers `query`, each some unit vectors of `dim` numbers one after another ([`Embedded::vectors`]): the mean over the
/// query's vectors of the best cosine among the item's, from -1 to 1. Of one vector each that is their cosine. The two sides are not
/// alike: a text's view of a picture is another than the picture's of the text.
pub fn similarity(query: &[f32], item: &[f32], dim: usize) -> f32 {
    let dim = dim.max(1);
    let cosine = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let best = |token: &[f32]| item.chunks_exact(dim).map(|other| cosine(token, other)).fold(f32::NEG_INFINITY, f32::max);
    query.chunks_exact(dim).map(best).sum::<f32>() / (query.len() / dim).max(1) as f32
}

/// Hidden states of one picture, `[tokens, width]`.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageStates {
    /// Tokens: patches and the class token.
    pub tokens: usize,
    /// Width of the image tower.
    pub width: usize,
    /// `tokens * width` numbers.
    pub data: Box<[f32]>,
}

/// Hidden states of one text at its true length, `[tokens, width]`.
#[derive(Debug, Clone, PartialEq)]
pub struct TextStates {
    /// Tokens, `[CLS]` and `[SEP]` included.
    pub tokens: usize,
    /// Width of the text tower.
    pub width: usize,
    /// `tokens * width` numbers.
    pub data: Box<[f32]>,
}

/// Probabilities that a picture and a text belong together, of both cross encoders (docs/R2D2.md §4.1).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MatchScore {
    /// Of the text-image encoder (text queries).
    pub itm_text: f32,
    /// Of the image-text encoder (image queries).
    pub itm_image: f32,
}

impl MatchScore {
    /// The match score: mean of both probabilities.
    pub fn score(self) -> f32 {
        f32::midpoint(self.itm_text, self.itm_image)
    }
}

#[cfg(test)]
mod tests {
    use super::similarity;

    #[test]
    fn similarity_is_the_mean_over_the_query_of_the_best_of_the_item_and_the_cosine_of_one_vector_each() {
        let half = 0.5_f32.sqrt();
        let (query, item) = ([1.0, 0.0, 0.0, 1.0], [1.0, 0.0, half, half, half, -half]);
        assert!((similarity(&query, &item, 2) - f32::midpoint(1.0, half)).abs() < 1e-6);
        assert!((similarity(&item, &query, 2) - (1.0 + half + half) / 3.0).abs() < 1e-6);
        assert!((similarity(&[1.0, 0.0], &[half, half], 2) - half).abs() < 1e-6);
    }
}
