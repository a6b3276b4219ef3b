//! `[rescore]` and the sections below it.

use std::path::PathBuf;
use std::time::Duration;

use astromech_settings::kinds::{choice, flag, float, int, list, millis, path_or_none, text};
use astromech_settings::{Value as _, defaults, settings};

use crate::kafka::{KafkaConfig, RecordFormat, TopicConfig, VersionSource};
use crate::{GIB, MIB, MINUTE_MS};

/// How states are kept in the feature cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatesForm {
    /// In 16 bits.
    F16,
    /// In 32 bits, as the towers give them.
    F32,
}

/// The feature cache's tier on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskConfig {
    /// Its folder.
    pub path: PathBuf,
    /// Bytes that it takes of the disk.
    pub bytes_max: u64,
}

settings! {
    /// `[rescore]`
    #[derive(Debug, Clone, PartialEq)]
    pub struct RescoreConfig {
        /// Whether the cross tower is loaded and re-scoring is served; a bundle without a cross tower needs false.
        enabled: bool = true => flag();
        /// Most candidates of one request; beyond it the answer is 422.
        candidates_max: usize = 200 => int(1, 10_000);
        /// Most requests that re-score at once; beyond it the answer is 503.
        requests_in_flight_max: usize = 32 => int(1, 65_536);
        /// Time of a request that names none, milliseconds; what is not scored by then is answered as a problem of its own.
        deadline as "deadline_ms": Duration = 2000 => millis(1, 10 * MINUTE_MS);
        /// Most time that a request may ask for, milliseconds. Over HTTP it ends after 0.9 of http.timeout_ms in any case.
        deadline_max as "deadline_ms_max": Duration = 10000 => millis(1, 10 * MINUTE_MS);
        /// Weights of the blend.
        weights: WeightsConfig = derived => defaults();
        /// The feature cache.
        cache: CacheConfig = derived => defaults();
        /// Requests out of a topic; `None` takes them over HTTP only.
        topics: Option<RescoreTopics> = derived => None;
    }

    /// Weights of the blend.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct WeightsConfig {
        /// Weight of the match score in the blend.
        itm as "weight_itm": f32 = 1.0 => float(-1000.0, 1000.0).map(|weight| weight as f32);
        /// Weight of the cosine in the blend.
        itc as "weight_itc": f32 = 1.0 => float(-1000.0, 1000.0).map(|weight| weight as f32);
        /// Weight of ln(prior) in the blend, in the mode ads: 0.1 adds 0.07 for a doubled prior.
        prior as "weight_prior": f32 = 0.1 => float(-1000.0, 1000.0).map(|weight| weight as f32);
        /// Weight of ln(bid) in the blend, in the mode ads: 0.1 adds 0.07 for a doubled bid.
        bid as "weight_bid": f32 = 0.1 => float(-1000.0, 1000.0).map(|weight| weight as f32);
    }

    /// `[rescore.cache]`
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct CacheConfig {
        /// Most bytes held, the least used fall out; 0 keeps nothing. A picture of R2D2-L takes 0.5 MiB in f16, of the demo 10 KiB.
        bytes_max: u64 = 268435456 => int(0, 1024 * GIB);
        /// How states are kept: f16 takes half the bytes and changes scores by less than 0.001.
        states: StatesForm = "f16" => choice(&[("f16", StatesForm::F16), ("f32", StatesForm::F32)]);
        /// Whether indexing puts the states of each picture and text there. It copies them out of the towers, which costs little
        /// on a CPU and some bandwidth on a GPU.
        warm: bool = false => flag();
        /// A tier on disk; `None` keeps states in memory only.
        disk: Option<DiskConfig> = derived => None;
    }

    /// `[rescore.cache]` as written.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct CacheSection {
        /// The tier in memory.
        memory: astromech_settings::Flat<CacheConfig>;
        /// Folder for states on disk, of one process alone; they outlive a restart. Empty keeps them in memory only, as does a disk
        /// without the room.
        disk_path: Option<PathBuf> = "" => path_or_none();
        /// Bytes taken of the disk, all at the start; when they are used up the oldest entries fall out.
        disk_bytes_max: u64 = 1073741824 => int(64 * MIB, 16 * 1024 * GIB);
    }

    /// `[rescore.topics]`, where it names a request topic.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct RescoreTopics {
        /// Topic of the requests; empty takes them over HTTP only.
        request: String = "" => text();
        /// Topic of the replies.
        reply: String = "astromech.rescore-replies" => text();
        /// Further topics that a request may name in its header reply-to; replies go nowhere else.
        reply_to: Vec<String> = [] => list(text());
        /// Consumer group of the requests; empty takes that of [kafka] with .rescore behind it.
        group: String = "" => text();
        /// Most requests at once; beyond it they stay in the topic.
        requests_in_flight_max: usize = 16 => int(1, 65_536);
    }
}

impl RescoreTopics {
    /// What reads the requests: the brokers of `kafka`, a group and a topic of their own.
    pub fn source(&self, kafka: &KafkaConfig) -> KafkaConfig {
        let request =
            TopicConfig { name: self.request.clone(), kind: None, format: RecordFormat::Json, version: VersionSource::Offset };
        KafkaConfig { group: self.group.clone(), topics: vec![request], ..kafka.clone() }
    }
}
