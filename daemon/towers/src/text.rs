//! Text to the token ids of BERT's WordPiece, equal to the official tokenizer's (docs/R2D2.md §1.3).

use std::collections::HashMap;
use std::path::Path;

use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{AddedToken, DecoderWrapper, PostProcessorWrapper, TokenizerImpl};

use crate::TowersError;

/// Words longer than this are `[UNK]` (docs/R2D2.md §1.3).
const WORD_CHARS_MAX: usize = 100;
/// First guess, in bytes for each token wanted, of how much of a long text is needed.
const FIRST_BYTES_PER_TOKEN: usize = 16;
/// By how much the guess grows when it gave too few tokens.
const GROWTH: usize = 4;

/// A tokenised text at its true length, `[CLS]` and `[SEP]` included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreparedText {
    ids: Vec<i64>,
}

impl PreparedText {
    /// A text that was tokenised elsewhere with the same vocabulary, `[CLS]` and `[SEP]` included; ids beyond it fail in the tower.
    pub fn from_ids(ids: Vec<i64>) -> Self {
        Self { ids }
    }

    /// Token ids.
    pub fn ids(&self) -> &[i64] {
        &self.ids
    }
}

type WordPieceTokenizer = TokenizerImpl<WordPiece, BertNormalizer, BertPreTokenizer, PostProcessorWrapper, DecoderWrapper>;

/// BERT WordPiece over a vocabulary.
pub struct Tokenizer {
    inner: WordPieceTokenizer,
    max_tokens: usize,
    vocabulary: usize,
    cls: i64,
    sep: i64,
    mask: i64,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("max_tokens", &self.max_tokens)
            .field("vocabulary", &self.vocabulary)
            .finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Reads a `vocab.txt`: one token a line, the line's index is its id.
    ///
    /// # Errors
    /// The file can't be read, or lacks `[PAD]`, `[UNK]`, `[CLS]`, `[SEP]` or `[MASK]`; or `max_tokens` is below 2.
    pub fn from_vocab_file(path: impl AsRef<Path>, max_tokens: usize) -> Result<Self, TowersError> {
        let bytes = std::fs::read(path.as_ref()).map_err(|error| TowersError::read(path.as_ref(), error))?;
        Self::from_vocab_bytes(&bytes, max_tokens)
    }

    /// As [`Tokenizer::from_vocab_file`], from the file's bytes.
    ///
    /// # Errors
    /// The bytes are not UTF-8, or lack `[PAD]`, `[UNK]`, `[CLS]`, `[SEP]` or `[MASK]`; or `max_tokens` is below 2.
    pub fn from_vocab_bytes(bytes: &[u8], max_tokens: usize) -> Result<Self, TowersError> {
        let vocabulary_error = |problem: String| TowersError::Vocabulary { problem };
        if max_tokens < 2 {
            return Err(vocabulary_error(format!("max_tokens is {max_tokens}; [CLS] and [SEP] alone are 2")));
        }
        let text = std::str::from_utf8(bytes).map_err(|error| vocabulary_error(format!("not UTF-8: {error}")))?;
        let ids: HashMap<String, u32> = text.lines().zip(0..).map(|(token, id)| (token.to_owned(), id)).collect();
        let id = |token: &str| {
            ids.get(token)
                .map(|id| i64::from(*id))
                .ok_or_else(|| vocabulary_error(format!("no line is {token}: not a BERT vocabulary")))
        };
        let (cls, sep, mask) = (id("[CLS]")?, id("[SEP]")?, id("[MASK]")?);
        let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
        for token in special {
            id(token)?;
        }
        let vocabulary = text.lines().count();
        // The crate's own reader trims white space off tokens, which the official one does not; its map type has no other public maker.
        let mut map = WordPiece::read_bytes(b"").map_err(|error| vocabulary_error(error.to_string()))?;
        map.extend(ids);
        let model = WordPiece::builder()
            .vocab(map)
            .unk_token("[UNK]".to_owned())
            .continuing_subword_prefix("##".to_owned())
            .max_input_chars_per_word(WORD_CHARS_MAX)
            .build()
            .map_err(|error| vocabulary_error(error.to_string()))?;
        let mut inner = WordPieceTokenizer::new(model);
        inner
            .with_normalizer(Some(BertNormalizer::new(true, true, Some(true), true)))
            .map_err(|error| vocabulary_error(error.to_string()))?;
        inner.with_pre_tokenizer(Some(BertPreTokenizer));
        // As the official tokenizer does, a special token written out in a text is that token.
        inner
            .add_special_tokens(special.map(|token| AddedToken::from(token, true)))
            .map_err(|error| vocabulary_error(error.to_string()))?;
        Ok(Self { inner, max_tokens, vocabulary, cls, sep, mask })
    }

    /// Token ids of `text`: `[CLS]`, at most `max_tokens - 2` tokens, `[SEP]`. Never padded.
    ///
    /// Of a long text only as much is tokenised as gives the tokens wanted. It is cut where words are apart in any case, before
    /// white space or a Chinese character, so the result is the whole text's; the work is bounded by the length of the text.
    pub fn encode(&self, text: &str) -> Vec<i64> {
        let wanted = self.max_tokens - 2;
        let mut ids = Vec::with_capacity(self.max_tokens.min(text.len() + 2));
        ids.push(self.cls);
        let mut bytes_max = (wanted * FIRST_BYTES_PER_TOKEN).max(1);
        loop {
            let cut = if bytes_max < text.len() { word_border_before(text, bytes_max) } else { Some(text.len()) };
            if let Some(cut) = cut {
                // WordPiece has no failing path for a text: unknown words are [UNK], which was checked to be there.
                let tokens = self.inner.encode_fast(&text[..cut], false).expect("every text has a WordPiece encoding");
                if tokens.get_ids().len() >= wanted || cut == text.len() {
                    ids.extend(tokens.get_ids().iter().take(wanted).map(|id| i64::from(*id)));
                    ids.push(self.sep);
                    return ids;
                }
            }
            bytes_max = bytes_max.saturating_mul(GROWTH);
        }
    }

    /// [`Tokenizer::encode`] in the form that the text tower takes.
    pub fn prepare(&self, text: &str) -> PreparedText {
        PreparedText::from_ids(self.encode(text))
    }

    /// Longest result of [`Tokenizer::encode`].
    pub const fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Id of `[MASK]`, which pre-training hides tokens behind.
    pub const fn mask_id(&self) -> i64 {
        self.mask
    }

    /// Tokens of the vocabulary: every id is below.
    pub const fn vocabulary(&self) -> usize {
        self.vocabulary
    }
}

/// The last place at or before `limit` where a word ends in any case: before a CJK ideograph, or before white space that the normaliser
/// keeps. Such characters are never taken out or joined to what is before them by it.
fn word_border_before(text: &str, limit: usize) -> Option<usize> {
    let limit = (0..=limit).rev().find(|index| text.is_char_boundary(*index))?;
    text[..limit]
        .char_indices()
        .rev()
        .find(|(_, c)| is_break(*c) || is_ideograph(*c))
        .map(|(index, _)| index)
        .filter(|cut| *cut > 0)
}

/// White space to BERT's cleaning. Of the control characters it keeps these three and drops the others before it looks for white space:
/// U+000B, U+000C and U+0085 join what they stand between.
fn is_break(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r') || (c.is_whitespace() && !c.is_control())
}

/// The blocks that BERT's normaliser sets apart and that no decomposition touches.
const fn is_ideograph(c: char) -> bool {
    matches!(c, '\u{4e00}'..='\u{9fff}' | '\u{3400}'..='\u{4dbf}' | '\u{20000}'..='\u{2a6df}')
}

#[cfg(test)]
mod tests;
