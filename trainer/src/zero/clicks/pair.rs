//! A query and a picture that was shown for it, with what users did.

use serde::{Deserialize, Serialize};

use super::config::{ClickConfig, ScoreMethod};
use crate::zero::columns::{Field, Lookup, Row};
use crate::zero::fault::{FaultKind, ShardFault};

/// One pair; first as a row of the log, then summed over the rows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Pair {
    pub query: String,
    /// Path or URL.
    pub image: String,
    /// Folder that the path is relative to; empty for a URL.
    pub root: String,
    /// SHA-256 as the log has it, or of the file; empty where neither is.
    pub hash: String,
    pub title: String,
    pub content: String,
    pub url: String,
    pub impressions: u64,
    pub clicks: u64,
    pub score: f64,
    /// Impressions of the query over all its pictures.
    pub query_impressions: u64,
    /// Difference hash of the picture, where it could be read.
    pub dhash: Option<u64>,
}

/// What a pair takes in memory beside its texts.
const PAIR_BYTES: usize = 288;

impl Pair {
    /// Takes a row of the log.
    pub(super) fn from_row(mut row: Row, lookup: &Lookup) -> Result<Self, ShardFault> {
        for field in [Field::Query, Field::Image, Field::Impressions, Field::Clicks] {
            let hash_instead = field == Field::Image && row.has(Field::ImageHash);
            if !(row.has(field) || hash_instead) {
                let message = format!("none of the columns {} is there; name it in [columns]", lookup.names(field));
                return Err(row.fault(FaultKind::WrongColumn, message));
            }
        }
        let texts = [Field::Query, Field::Image, Field::ImageHash, Field::Title, Field::Content, Field::Url];
        let [query, image, hash, title, content, url] = texts.map(|field| row.text(field, lookup));
        let (query, image, hash) = (query?, image?, hash?.to_ascii_lowercase());
        if query.is_empty() {
            return Err(row.fault(FaultKind::EmptyText, "the query is empty"));
        }
        if image.is_empty() && hash.is_empty() {
            return Err(row.fault(FaultKind::NoPicture, "neither picture nor its hash is named"));
        }
        let counts = [Field::Impressions, Field::Clicks].map(|field| row.number(field, lookup));
        let [impressions, clicks] = counts;
        let (Some(impressions), Some(clicks)) = (impressions?, clicks?) else {
            return Err(row.fault(FaultKind::WrongColumn, "impressions or clicks are empty"));
        };
        if clicks > impressions {
            return Err(row.fault(FaultKind::BadRow, format!("{clicks} clicks of {impressions} impressions")));
        }
        let root = row.shard.parent().map(|folder| folder.display().to_string()).unwrap_or_default();
        let pair = Self {
            query,
            image,
            root,
            hash,
            title: title?,
            content: content?,
            url: url?,
            impressions,
            clicks,
            ..Self::default()
        };
        Ok(pair)
    }

    /// What tells its picture from others before any file is read.
    pub(super) fn image_key(&self) -> &str {
        if self.hash.is_empty() { &self.image } else { &self.hash }
    }

    /// Bytes in memory, about.
    pub(super) fn bytes(&self) -> i64 {
        let texts = [&self.query, &self.image, &self.root, &self.hash, &self.title, &self.content, &self.url];
        (PAIR_BYTES + texts.iter().map(|text| text.len()).sum::<usize>()) as i64
    }

    /// Adds another row of the same pair; the longer text stays, by alphabet where both are as long, so that the order of rows does
    /// not matter.
    pub(super) fn add(&mut self, other: Self) {
        let fuller = |own: &mut String, other: String| {
            if (other.len(), &other) > (own.len(), &*own) {
                *own = other;
            }
        };
        self.impressions = self.impressions.saturating_add(other.impressions);
        self.clicks = self.clicks.saturating_add(other.clicks);
        fuller(&mut self.title, other.title);
        fuller(&mut self.content, other.content);
        fuller(&mut self.url, other.url);
        if (&other.image, &other.root) > (&self.image, &self.root) {
            (self.image, self.root) = (other.image, other.root);
        }
        fuller(&mut self.hash, other.hash);
        fuller(&mut self.query, other.query);
    }

    /// Better first: by score, then by impressions, then by name.
    pub(super) fn better(&self, other: &Self) -> std::cmp::Ordering {
        let by_score = other.score.total_cmp(&self.score).then(other.impressions.cmp(&self.impressions));
        by_score.then_with(|| (&self.query, &self.image).cmp(&(&other.query, &other.image)))
    }
}

/// The click-through rate as the configuration rates it, 0..1.
pub(super) fn score(config: &ClickConfig, clicks: u64, impressions: u64) -> f64 {
    let (clicks, shown) = (clicks as f64, impressions as f64);
    match config.score {
        ScoreMethod::Beta => (clicks + config.beta_prior[0]) / (shown + config.beta_prior[0] + config.beta_prior[1]),
        ScoreMethod::Wilson if shown == 0.0 => 0.0,
        // Wilson 1927, the lower bound.
        ScoreMethod::Wilson => {
            let (rate, z2) = (clicks / shown, config.wilson_z * config.wilson_z);
            let spread = config.wilson_z * ((rate * (1.0 - rate) + z2 / (4.0 * shown)) / shown).sqrt();
            ((rate + z2 / (2.0 * shown) - spread) / (1.0 + z2 / shown)).max(0.0)
        }
    }
}

/// Puts a pair into a list that is cut to the best `most` whenever it has grown to twice as many; answers how its bytes changed.
pub(super) fn insert_best(list: &mut Vec<Pair>, pair: Pair, most: usize) -> i64 {
    /// Shorter lists are not worth a cut.
    const SLACK: usize = 8;
    let added = pair.bytes();
    list.push(pair);
    if list.len() >= 2 * most + SLACK { added - keep_best(list, most) } else { added }
}

/// Sorts a list, the best first, and cuts it to `most`; answers the bytes that fell out.
pub(super) fn keep_best(list: &mut Vec<Pair>, most: usize) -> i64 {
    list.sort_by(Pair::better);
    list.drain(most.min(list.len())..).map(|pair| pair.bytes()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_ranks_many_impressions_above_few_at_the_same_rate() {
        let config = ClickConfig::default();
        assert!(score(&config, 1, 1) < score(&config, 90, 100));
        assert!((score(&config, 10, 100) - 0.0552).abs() < 1e-3, "{}", score(&config, 10, 100));
        assert!(score(&config, 0, 10).abs() < 1e-12);
        let beta = ClickConfig { score: ScoreMethod::Beta, ..config };
        assert!((score(&beta, 9, 79) - 0.1).abs() < 1e-12);
    }

    #[test]
    fn a_list_keeps_the_best_only() {
        let mut list = Vec::new();
        for (name, score) in [("a", 0.1), ("b", 0.3), ("c", 0.2), ("d", 0.3)] {
            let pair = Pair { image: name.into(), score, ..Pair::default() };
            insert_best(&mut list, pair, 2);
        }
        keep_best(&mut list, 2);
        assert_eq!(list.iter().map(|pair| pair.image.as_str()).collect::<Vec<_>>(), ["b", "d"]);
    }
}
