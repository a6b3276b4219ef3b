//! What the towers give: vectors, states, match scores.

use std::sync::Arc;

/// A vector of the bundle's space.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    /// `embedding_dim` numbers of unit length.
    pub embedding: Vec<f32>,
}

/// A vector with the states that the cross tower takes.
#[derive(Debug, Clone)]
pub struct EmbeddedStates<S> {
    /// `embedding_dim` numbers of unit length.
    pub embedding: Vec<f32>,
    /// Hidden states of the tower's last layer.
    pub states: Arc<S>,
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

/// Probabilities that a picture and a text belong together, of both cross encoders (r2d2.md §4.1).
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
