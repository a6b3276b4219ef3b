//! Texts: which one of a record's, and its tokens.

use std::path::Path;

use astromech_settings::kinds::float;
use astromech_settings::{defaults, settings};
use astromech_towers::Tokenizer;
use rand::Rng;
use rand::seq::SliceRandom;

use super::error::CorpusError;
use super::record::Record;

/// Opens the tokenizer that serves, on a vocabulary file; texts are cut to `tokens_max` including `[CLS]` and `[SEP]`.
///
/// # Errors
/// The file cannot be read or lacks a special token.
pub fn open_tokenizer(vocabulary: &Path, tokens_max: usize) -> Result<Tokenizer, CorpusError> {
    let fail = |error: astromech_towers::TowersError| CorpusError::Vocabulary {
        path: vocabulary.to_path_buf(),
        message: error.to_string(),
    };
    Tokenizer::from_vocab_file(vocabulary, tokens_max).map_err(fail)
}

settings! {
    /// How often each text of a record is chosen; weights need not sum to 1.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct TextKindWeights {
        /// The long text.
        content: f64 = 0.5 => float(0.0, f64::INFINITY);
        /// The title.
        title: f64 = 0.2 => float(0.0, f64::INFINITY);
        /// The query.
        query: f64 = 0.2 => float(0.0, f64::INFINITY);
        /// One of the further queries; the query where there is none.
        alt_query: f64 = 0.1 => float(0.0, f64::INFINITY);
        /// Probability of shuffling the keyword list inside a long text and dropping some of it.
        keyword_shuffle_p: f64 = 0.0 => float(0.0, 1.0);
    }
}

impl Default for TextKindWeights {
    fn default() -> Self {
        defaults()
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
