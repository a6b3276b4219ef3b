//! `[record]` and `[pipeline]`.

use std::time::Duration;

use astromech_settings::kinds::{float, int, millis};
use astromech_settings::settings;

use crate::{GIB, KIB, MIB, MINUTE_MS};

const HOUR_SECONDS: f64 = 3600.0;

/// So many hours.
pub(crate) fn hours(hours: f64) -> Duration {
    Duration::from_secs_f64(hours * HOUR_SECONDS)
}

settings! {
    /// `[record]`
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct RecordSection {
        /// Longest title, body or caption, bytes of UTF-8.
        text_bytes_max: usize = 262144 => int(1, 16 * MIB);
        /// Longest id, bytes of UTF-8.
        id_bytes_max: usize = 512 => int(1, 64 * KIB);
        /// Most tags, and most attributes.
        labels_max: usize = 256 => int(0, 65_536);
        /// Most key frames of a video.
        frames_max: usize = 64 => int(1, 256);
    }

    /// `[pipeline]`
    #[derive(Debug, Clone, PartialEq)]
    pub struct PipelineConfig {
        /// Most records under way; beyond it reading waits.
        records_in_flight_max: usize = 1024 => int(1, 100_000);
        /// Most bytes of records under way; beyond it reading waits. One record larger than this goes alone.
        bytes_in_flight_max: usize = 268435456 => int(MIB, 1024 * GIB);
        /// First wait before something that may pass is tried again, milliseconds; it doubles from there, with jitter.
        retry_backoff_min as "retry_backoff_ms_min": Duration = 100 => millis(1, MINUTE_MS);
        /// Longest wait before something that may pass is tried again, milliseconds. It is tried for ever.
        retry_backoff_max as "retry_backoff_ms_max": Duration = 10000 => millis(1, 10 * MINUTE_MS);
        /// How many of the last records are looked at for poison.
        poison_window: usize = 200 => int(10, 100_000);
        /// Share of dead letters among them at which the daemon stops, because then the producer or the configuration is wrong.
        poison_share_max: f64 = 0.8 => float(0.01, 1.0);
    }
}
