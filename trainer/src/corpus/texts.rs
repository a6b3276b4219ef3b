//! Texts: which one of a record's, and its tokens.

use std::path::Path;

use rand::Rng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;

use super::error::CorpusError;
use super::record::Record;

/// Characters a single word may have before it becomes [UNK] (r2d2.md §1.3).
const WORD_CHARS_MAX: usize = 100;

/// BERT WordPiece as the official tokenizer splits (r2d2.md §1.3).
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    cls: i64,
    sep: i64,
    tokens_max: usize,
}

impl Tokenizer {
    /// Loads a vocabulary file; texts are cut to `tokens_max` including [CLS] and [SEP].
    ///
    /// # Errors
    /// The file cannot be read or lacks a special token.
    pub fn from_vocabulary(path: &Path, tokens_max: usize) -> Result<Self, CorpusError> {
        let fail = |message: String| CorpusError::Vocabulary { path: path.to_path_buf(), message };
        let name = path.to_str().ok_or_else(|| fail("its path is not UTF-8".into()))?;
        let model = WordPiece::from_file(name)
            .unk_token("[UNK]".into())
            .max_input_chars_per_word(WORD_CHARS_MAX)
            .build()
            .map_err(|error| fail(error.to_string()))?;
        let mut inner = tokenizers::Tokenizer::new(model);
        let _ = inner.with_normalizer(Some(BertNormalizer::new(true, true, None, true)));
        let _ = inner.with_pre_tokenizer(Some(BertPreTokenizer));
        let special =
            |token: &str| inner.token_to_id(token).map(i64::from).ok_or_else(|| fail(format!("token {token} is missing")));
        let (cls, sep) = (special("[CLS]")?, special("[SEP]")?);
        Ok(Self { inner, cls, sep, tokens_max })
    }

    /// Token ids with [CLS] and [SEP], at most `tokens_max`.
    pub fn encode(&self, text: &str) -> Vec<i64> {
        // WordPiece maps what it does not know to [UNK], so encoding cannot fail; were it to, an empty text is the honest stand-in.
        let content = self.inner.encode(text, false).map(|encoding| encoding.get_ids().to_vec()).unwrap_or_default();
        let kept = content.iter().take(self.tokens_max.saturating_sub(2)).map(|id| i64::from(*id));
        std::iter::once(self.cls).chain(kept).chain(std::iter::once(self.sep)).collect()
    }
}

/// How often each text of a record is chosen; weights need not sum to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TextKindWeights {
    /// The long text.
    pub content: f64,
    /// The title.
    pub title: f64,
    /// The query.
    pub query: f64,
    /// One of the further queries; the query where there is none.
    pub alt_query: f64,
    /// Probability of shuffling the keyword list inside a long text and dropping some of it.
    pub keyword_shuffle_p: f64,
}

impl Default for TextKindWeights {
    fn default() -> Self {
        Self { content: 0.5, title: 0.2, query: 0.2, alt_query: 0.1, keyword_shuffle_p: 0.0 }
    }
}

/// Chooses one text of a record.
pub fn choose_text(record: &Record, weights: &TextKindWeights, rng: &mut impl Rng) -> String {
    let total = weights.content + weights.title + weights.query + weights.alt_query;
    let mut at = rng.random::<f64>() * total;
    at -= weights.content;
    if at < 0.0 {
        let shuffle = weights.keyword_shuffle_p > 0.0 && rng.random_bool(weights.keyword_shuffle_p.min(1.0));
        return if shuffle { shuffle_keywords(&record.content, rng) } else { record.content.clone() };
    }
    at -= weights.title;
    if at < 0.0 {
        return record.title.clone();
    }
    at -= weights.query;
    if at < 0.0 || record.alt_queries.is_empty() {
        return record.query.clone();
    }
    record.alt_queries[rng.random_range(0..record.alt_queries.len())].clone()
}

/// Shuffles the `、` list of the first sentence after its `：` and keeps a random, non-empty part of it.
fn shuffle_keywords(content: &str, rng: &mut impl Rng) -> String {
    let Some((name, rest)) = content.split_once('：') else { return content.to_owned() };
    let (list, tail) = rest.split_once('。').unwrap_or((rest, ""));
    let mut keywords: Vec<&str> = list.split('、').collect();
    keywords.shuffle(rng);
    keywords.truncate(rng.random_range(1..=keywords.len()));
    format!("{name}：{}。{tail}", keywords.join("、"))
}
