//! What is collected.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use astromech_schemas::manifest::hex;
pub use astromech_schemas::record::VersionSource;
use astromech_schemas::{Kind, RecordLimits};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use super::error::CollectError;
use super::time;
use crate::files::file_error;
use crate::zero::clicks::ClickConfig;

/// How the broker is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokerConfig {
    /// `host:port`, several with commas.
    pub brokers: String,
    /// Properties of librdkafka, such as `security.protocol`.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
    /// Properties whose values are in files, such as `sasl.password`: secrets belong on no command line.
    #[serde(default)]
    pub property_files: BTreeMap<String, PathBuf>,
}

impl BrokerConfig {
    /// All properties but the brokers, those in files read.
    ///
    /// # Errors
    /// A file can't be read.
    pub fn all_properties(&self) -> Result<Vec<(String, String)>, CollectError> {
        let mut all: Vec<_> = self.properties.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        for (name, path) in &self.property_files {
            let value = std::fs::read_to_string(path).map_err(file_error(path))?;
            all.push((name.clone(), value.trim_end_matches(['\r', '\n']).to_owned()));
        }
        Ok(all)
    }
}

/// An end of the window.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Bound {
    /// The first record that the broker still has.
    #[default]
    Earliest,
    /// The end as it is at the start of the command.
    Latest,
    /// The first record of this time or later, milliseconds since 1970 UTC.
    Time(i64),
    /// Where an earlier snapshot ended: its manifest.
    Offsets(PathBuf),
}

impl FromStr for Bound {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            path if std::path::Path::new(path).extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json")) => {
                Ok(Self::Offsets(path.into()))
            }
            time => time::parse(time).map(Self::Time).ok_or_else(|| {
                format!("{time:?} is no position; give earliest, latest, a time as 2026-01-31T00:00:00Z, or a snapshot's manifest.json")
            }),
        }
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Earliest => f.write_str("earliest"),
            Self::Latest => f.write_str("latest"),
            Self::Time(ms) => f.write_str(&time::text(*ms)),
            Self::Offsets(path) => write!(f, "{}", path.display()),
        }
    }
}

impl<'de> Deserialize<'de> for Bound {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Bound {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_string())
    }
}

/// A topic of items.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemTopic {
    /// Its name.
    pub topic: String,
    /// Kind of every item; none where each message names its own.
    #[serde(default)]
    pub kind: Option<Kind>,
    /// Where versions come from.
    #[serde(default)]
    pub version: VersionSource,
}

/// The topic of the click log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClickTopic {
    /// Its name.
    pub topic: String,
    /// Where to begin, where not at `from`: items are kept for ever, clicks age.
    #[serde(default)]
    pub from: Option<Bound>,
}

/// Everything a snapshot follows from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollectConfig {
    /// The broker; a section of its own in files, since announcements go to it too.
    #[serde(skip)]
    pub broker: BrokerConfig,
    /// Topics of items.
    pub items: Vec<ItemTopic>,
    /// The click log; without one each item stays with its own texts.
    #[serde(default)]
    pub clicks: Option<ClickTopic>,
    /// Where to begin.
    #[serde(default)]
    pub from: Bound,
    /// Where to end, fixed at the start.
    #[serde(default = "latest")]
    pub to: Bound,
    /// Folders under which pictures by `file:` may lie; none refuses them.
    #[serde(default)]
    pub file_roots: Vec<PathBuf>,
    /// Part of the records that may be refused; beyond it no snapshot is made.
    #[serde(default = "reject_share_max_default")]
    pub reject_share_max: f64,
    /// Pictures held out of training in shards of their own, at most a fifth of all: those with the smallest hashes, so that a picture
    /// that is held out once is not trained on later while it lives.
    #[serde(default = "held_out_default")]
    pub held_out: usize,
    /// Largest shard, bytes; one larger record has a shard to itself.
    #[serde(default = "shard_bytes_default")]
    pub shard_bytes: u64,
    /// Seconds without a record after which the broker is given up.
    #[serde(default = "silence_default")]
    pub silence_seconds: u64,
    /// Items that no query was answered with yet stay, with their own texts.
    #[serde(default = "yes")]
    pub unshown: bool,
    /// The click-log pipeline: thresholds, duplicates, sample, memory. `impressions`, `image_root`, `columns` and `unshown` are set by
    /// the command.
    #[serde(default)]
    pub filter: ClickConfig,
}

fn latest() -> Bound {
    Bound::Latest
}
fn reject_share_max_default() -> f64 {
    0.1
}
fn held_out_default() -> usize {
    500
}
fn shard_bytes_default() -> u64 {
    1 << 30
}
fn silence_default() -> u64 {
    60
}
fn yes() -> bool {
    true
}

impl CollectConfig {
    /// A configuration with defaults for all but the broker and the topics.
    pub fn new(broker: BrokerConfig, items: Vec<ItemTopic>) -> Self {
        Self {
            broker,
            items,
            clicks: None,
            from: Bound::Earliest,
            to: latest(),
            file_roots: Vec::new(),
            reject_share_max: reject_share_max_default(),
            held_out: held_out_default(),
            shard_bytes: shard_bytes_default(),
            silence_seconds: silence_default(),
            unshown: true,
            filter: ClickConfig::default(),
        }
    }

    /// Limits of one record: the daemon's defaults.
    pub fn limits() -> RecordLimits {
        RecordLimits::default()
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// The first value outside its range.
    pub fn validate(&self) -> Result<(), CollectError> {
        let refuse = |field, value: String, limit| Err(CollectError::Setting { field, value, limit });
        if self.broker.brokers.trim().is_empty() {
            return refuse("brokers", "empty".into(), "host:port, several with commas");
        }
        if self.items.is_empty() {
            return refuse("items", "empty".into(), "one topic of items or more");
        }
        let mut names: Vec<&str> = self.items.iter().map(|topic| topic.topic.as_str()).collect();
        names.extend(self.clicks.as_ref().map(|topic| topic.topic.as_str()));
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return refuse("items", pair[0].to_owned(), "each topic once");
        }
        if !(0.0..=1.0).contains(&self.reject_share_max) {
            return refuse("reject_share_max", self.reject_share_max.to_string(), "within 0 and 1");
        }
        if self.shard_bytes == 0 || self.silence_seconds == 0 {
            return refuse("shard_bytes or silence_seconds", "0".into(), "at least 1");
        }
        Ok(self.filter.validate()?)
    }

    /// Sha-256 over the configuration without the broker's address and secrets, which may change between two calls that make the same
    /// snapshot.
    pub fn digest(&self) -> String {
        // Plain data: it is always JSON.
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        hex(&Sha256::digest(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_words_times_or_manifests() {
        for (text, bound) in [
            ("earliest", Bound::Earliest),
            ("latest", Bound::Latest),
            ("2026-11-26T07:18:36Z", Bound::Time(1_795_677_516_000)),
            ("runs/1/manifest.json", Bound::Offsets("runs/1/manifest.json".into())),
        ] {
            assert_eq!(text.parse(), Ok(bound.clone()), "{text}");
            assert_eq!(bound.to_string().parse(), Ok(bound), "{text}");
        }
        assert!("yesterday".parse::<Bound>().unwrap_err().contains("2026-01-31T00:00:00Z"));
    }

    #[test]
    fn a_configuration_is_read_and_unknown_keys_are_refused() {
        let text = "from = \"2026-11-26T07:18:36Z\"\n[[items]]\ntopic = \"t\"\nkind = \"ad\"\n[filter]\nscore_min = 0.1\n";
        let mut config: CollectConfig = toml::from_str(text).unwrap();
        assert!(config.validate().unwrap_err().to_string().contains("brokers"));
        let digest = config.digest();
        config.broker.brokers = "a:1".into();
        assert!(config.unshown && config.validate().is_ok());
        assert_eq!(config.digest(), digest, "the broker's address is no part of what is collected");
        let error = toml::from_str::<CollectConfig>(&format!("shards = 1\n{text}")).unwrap_err().to_string();
        assert!(error.contains("shards"), "{error}");
    }
}
