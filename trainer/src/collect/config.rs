//! What is collected.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use astromech_schemas::manifest::hex;
pub use astromech_schemas::record::VersionSource;
use astromech_schemas::{Kind, RecordLimits};
use astromech_settings::kinds::{choice, flag, float, int, list, path, plain_strings, text};
use astromech_settings::{Mistake, Section, SettingError, Value as _, defaults, settings};
use serde::{Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use super::error::CollectError;
use super::time;
use crate::files::file_error;
use crate::zero::clicks::ClickConfig;

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

impl Serialize for Bound {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_string())
    }
}

const KINDS: &[(&str, Kind)] = &[("article", Kind::Article), ("image", Kind::Image), ("ad", Kind::Ad), ("video", Kind::Video)];
const VERSIONS: &[(&str, VersionSource)] =
    &[("field", VersionSource::Field), ("timestamp", VersionSource::Timestamp), ("offset", VersionSource::Offset)];

settings! {
    /// How the broker is reached.
    #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
    pub struct BrokerConfig {
        /// `host:port`, several with commas.
        brokers: String = (required "localhost:9092") => text();
        /// Properties of librdkafka, such as `security.protocol`.
        properties: BTreeMap<String, String> = {} => plain_strings("\"security.protocol\" = \"SASL_SSL\"");
        /// Properties whose values are in files, such as `sasl.password`: secrets belong on no command line.
        property_files: BTreeMap<String, PathBuf> = {} => plain_strings("\"sasl.password\" = \"/run/secrets/kafka-password\"").map(paths);
    }

    /// A topic of items.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
    pub struct ItemTopic {
        /// Its name.
        topic: String = (required "astromech.changes") => text();
        /// Kind of every item; none where each message names its own.
        kind: Option<Kind> = optional => choice(KINDS).or_none();
        /// Where versions come from.
        version: VersionSource = "field" => choice(VERSIONS);
    }

    /// The topic of the click log.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
    pub struct ClickTopic {
        /// Its name.
        topic: String = (required "astromech.clicks") => text();
        /// Where to begin, where not at `from`: items are kept for ever, clicks age.
        from: Option<Bound> = optional => text().parsed(|text| bound(&text), Bound::default).or_none();
    }

    /// Everything a snapshot follows from.
    #[derive(Debug, Clone, PartialEq, Serialize)]
    pub struct CollectConfig {
        /// The broker; a section of its own in files, since announcements go to it too.
        broker: BrokerConfig = derived => BrokerConfig::default();
        /// Topics of items.
        items: Vec<ItemTopic>;
        /// The click log; without one each item stays with its own texts.
        clicks: Option<ClickTopic>;
        /// Where to begin.
        from: Bound = "earliest" => text().parsed(|text| bound(&text), Bound::default);
        /// Where to end, fixed at the start.
        to: Bound = "latest" => text().parsed(|text| bound(&text), Bound::default);
        /// Folders under which pictures by `file:` may lie; none refuses them.
        file_roots: Vec<PathBuf> = [] => list(path());
        /// Part of the records that may be refused; beyond it no snapshot is made.
        reject_share_max: f64 = 0.1 => float(0.0, 1.0);
        /// Pictures held out of training in shards of their own, at most a fifth of all: those with the smallest hashes, so that a
        /// picture that is held out once is not trained on later while it lives.
        held_out: usize = 500 => int(0, u64::MAX);
        /// Largest shard, bytes; one larger record has a shard to itself.
        shard_bytes: u64 = 1073741824 => int(1, u64::MAX);
        /// Seconds without a record after which the broker is given up.
        silence_seconds: u64 = 60 => int(1, u64::MAX);
        /// Items that no query was answered with yet stay, with their own texts.
        unshown: bool = true => flag();
        /// The click-log pipeline: thresholds, duplicates, sample, memory. `impressions`, `image_root`, `columns` and `unshown` are set
        /// by the command.
        filter: ClickConfig;
    }
}

fn paths(files: BTreeMap<String, String>) -> BTreeMap<String, PathBuf> {
    files.into_iter().map(|(name, file)| (name, file.into())).collect()
}

fn bound(written: &str) -> Result<Bound, Mistake> {
    let fix = "write earliest, latest, a time as 2026-01-31T00:00:00Z, or a snapshot's manifest.json";
    written.parse().map_err(|_| Mistake::new(format!("`{written}` is no position"), fix))
}

impl CollectConfig {
    /// A configuration with defaults for all but the broker and the topics.
    pub fn new(broker: BrokerConfig, items: Vec<ItemTopic>) -> Self {
        Self { broker, items, ..defaults() }
    }

    /// Notes what lies between the keys of `[collect]`: topics there must be, each once.
    pub(crate) fn check(&self, at: &<Self as Section>::Places, errors: &mut Vec<SettingError>) {
        if self.items.is_empty() {
            errors.push(at.items.header.error("no topic of items is given", "write items = [{ topic = \"…\" }]"));
        }
        let topics = self.items.iter().map(|topic| &topic.topic).zip(at.items.each.iter().map(|at| &at.topic));
        let clicks = self.clicks.iter().map(|topic| &topic.topic).zip(at.clicks.iter().map(|at| &at.topic));
        let mut seen: Vec<&String> = Vec::new();
        for (topic, at) in topics.chain(clicks).filter(|(topic, _)| !topic.is_empty()) {
            if seen.contains(&topic) {
                errors.push(at.error(format!("`{topic}` is there twice"), "name each topic once"));
            }
            seen.push(topic);
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
        let mut value = serde_json::to_value(self).unwrap_or_default();
        if let Some(fields) = value.as_object_mut() {
            // The order of the others is part of the digest.
            fields.shift_remove("broker");
        }
        let bytes = serde_json::to_vec(&value).unwrap_or_default();
        hex(&Sha256::digest(bytes))
    }
}

#[cfg(test)]
mod tests {
    use astromech_settings::{Document, checked};

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
        let read = |text: &str| {
            let (document, errors) = Document::parse(text);
            checked(&document, errors, "configs/refresh.toml", CollectConfig::check)
        };
        let text = "from = \"2026-11-26T07:18:36Z\"\n[[items]]\ntopic = \"t\"\nkind = \"ad\"\n[filter]\nscore_min = 0.1\n";
        let mut config = read(text).unwrap();
        assert!(config.validate().unwrap_err().to_string().contains("brokers"));
        let digest = config.digest();
        config.broker.brokers = "a:1".into();
        assert!(config.unshown && config.validate().is_ok());
        assert_eq!(config.digest(), digest, "the broker's address is no part of what is collected");
        let errors = read(&format!("shards = 1\nto = \"noon\"\n{text}[[items]]\ntopic = \"t\"\n")).unwrap_err();
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(errors.len(), 3, "{errors:?}");
        assert!(errors[0].contains("line 1: shards: unknown key"), "{errors:?}");
        assert!(errors[1].contains("line 2: to: `noon` is no position; fix: write earliest, latest"), "{errors:?}");
        assert!(errors[2].contains("line 10: items.topic: `t` is there twice"), "{errors:?}");
    }
}
