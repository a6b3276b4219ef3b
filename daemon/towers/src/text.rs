//! Text to the token ids of BERT's WordPiece, equal to the official tokenizer's (r2d2.md §1.3).

use std::path::Path;

use crate::TowersError;

/// A tokenised text at its true length, `[CLS]` and `[SEP]` included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreparedText {
    ids: Vec<i64>,
}

impl PreparedText {
    /// Token ids.
    pub fn ids(&self) -> &[i64] {
        &self.ids
    }
}

/// BERT WordPiece over a vocabulary.
pub struct Tokenizer {
    max_tokens: usize,
}

impl Tokenizer {
    /// Reads a `vocab.txt`: one token a line, the line's index is its id.
    ///
    /// # Errors
    /// The file can't be read, or lacks `[PAD]`, `[UNK]`, `[CLS]` or `[SEP]`.
    pub fn from_vocab_file(path: impl AsRef<Path>, max_tokens: usize) -> Result<Self, TowersError> {
        todo!("{:?} {max_tokens}", path.as_ref())
    }

    /// As [`Tokenizer::from_vocab_file`], from the file's bytes.
    ///
    /// # Errors
    /// The bytes are not UTF-8, or lack `[PAD]`, `[UNK]`, `[CLS]` or `[SEP]`.
    pub fn from_vocab_bytes(bytes: &[u8], max_tokens: usize) -> Result<Self, TowersError> {
        todo!("{} {max_tokens}", bytes.len())
    }

    /// Token ids of `text`: `[CLS]`, at most `max_tokens - 2` tokens, `[SEP]`. Never padded. The work is bounded by the text's
    /// first few thousand characters in all but contrived cases, however long it is.
    pub fn encode(&self, text: &str) -> Vec<i64> {
        todo!("{} {}", text.len(), self.max_tokens)
    }

    /// Longest result of [`Tokenizer::encode`].
    pub const fn max_tokens(&self) -> usize {
        self.max_tokens
    }
}
