//! Settings of the click-log pipeline. Zero's own filters and thresholds are not published (docs/R2D2.md §6.1, §11): every value here is our
//! choice unless it names a source.

use std::path::PathBuf;

use astromech_settings::kinds::{above_zero, array, choice, flag, float, int, list, path, text};
use astromech_settings::{Value as _, defaults, settings};
use serde::Serialize;

use crate::zero::columns::Columns;
use crate::zero::fault::{FaultLimits, ZeroError};

/// How clicks and impressions become a score. Both pull a rate of few impressions down, so that 1 of 1 is not above 900 of 1,000.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ScoreMethod {
    /// Lower bound of Wilson's interval.
    #[default]
    Wilson,
    /// Mean of the rate with a beta prior.
    Beta,
}

/// What becomes of near-duplicates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NearDuplicates {
    /// The one with the best score stays.
    #[default]
    Drop,
    /// All stay and share a group, so that training takes them as positives of each other.
    Group,
}

const METHODS: &[(&str, ScoreMethod)] = &[("wilson", ScoreMethod::Wilson), ("beta", ScoreMethod::Beta)];
const NEAR: &[(&str, NearDuplicates)] = &[("drop", NearDuplicates::Drop), ("group", NearDuplicates::Group)];

settings! {
    /// Everything the pipeline follows from.
    #[derive(Debug, Clone, PartialEq, Serialize)]
    pub struct ClickConfig {
        /// Files, folders and patterns of the log: .jsonl, .tsv (also .gz), .parquet.
        impressions: Vec<String> = [] => list(text());
        /// Folder that paths of pictures are relative to; none takes each file's own. Pictures that are there are hashed.
        image_root: Option<PathBuf> = optional => path().or_none();
        /// Names of columns, where they differ from the usual ones.
        columns: Columns;
        /// Names of the columns of TSV files without a header.
        tsv_columns: Option<Vec<String>> = optional => list(text()).or_none();
        /// Pairs shown less often are left out.
        impressions_min: u64 = 10 => int(0, u64::MAX);
        /// Pairs without any impression pass, with the score 0: a picture that nobody was shown yet, with its own text for a query. It
        /// stays for that text where no query that users sent keeps it.
        unshown: bool = false => flag();
        /// The score.
        score: ScoreMethod = "wilson" => choice(METHODS);
        /// Width of Wilson's interval in standard deviations (1.96: 95 %).
        wilson_z: f64 = 1.96 => float(0.0, f64::INFINITY);
        /// Clicks and non-clicks that the beta prior adds.
        beta_prior: [f64; 2] = [1.0, 20.0] => array(float(0.0, f64::INFINITY).parsed(above_zero, || 1.0));
        /// Pairs of a lower score are left out. That click-through rate is what Zero was filtered by is known (docs/R2D2.md §6.1), its
        /// threshold is not.
        score_min: f64 = 0.02 => float(0.0, 1.0);
        /// Pictures kept of one query, the best first.
        images_per_query: usize = 20 => int(1, u64::MAX);
        /// Queries kept of one picture, the best first. Zero has one `ImageQuery` a picture (docs/R2D2.md §6.1).
        queries_per_image: usize = 1 => int(1, u64::MAX);
        /// Pictures whose difference hashes (dHash, 64 bit) differ in at most this many bits are near-duplicates; at most 7.
        hamming_max: u32 = 3 => int(0, 7);
        /// Texts (title and content together) that share this part of their 3-grams are near-duplicates; above 1 switches the test off.
        text_similarity_min: f64 = 0.8 => float(0.0, f64::INFINITY).parsed(above_zero, || 1.0);
        /// Bands of the MinHash signature: more find less similar texts.
        minhash_bands: usize = 16 => int(1, 64);
        /// Hashes a band: more compare fewer texts.
        minhash_rows: usize = 4 => int(1, 64);
        /// Texts of fewer letters and digits are not compared: short titles repeat by right.
        text_chars_min: usize = 12 => int(0, u64::MAX);
        /// What becomes of near-duplicates.
        near_duplicates: NearDuplicates = "drop" => choice(NEAR);
        /// Records that one record is compared with in a bucket; more find more and take longer, where many texts follow one template.
        compare_max: usize = 100 => int(1, u64::MAX);
        /// Records of the sample; 0 keeps all. Zero's are 250M, 23M and 2.3M, the smaller ones said to be random samples of the larger
        /// (docs/R2D2.md §6.1): with one seed a smaller sample is a part of a larger one here, up to rounding in the strata.
        records: u64 = 0 => int(0, u64::MAX);
        /// Seed of the sample.
        seed: u64 = 0 => int(0, u64::MAX);
        /// Records a shard.
        shard_records: u64 = 10000 => int(1, u64::MAX);
        /// Memory of the whole process, MiB: what does not fit goes through files. The program and its libraries take some 120 of it.
        memory_max_mib: u64 = 2048 => int(0, u64::MAX);
        /// Faults borne in all; see [`FaultLimits`] for this and the next two.
        faults_max: u64 = 100000 => int(0, u64::MAX);
        /// Part of the last `fault_window` rows that may be faulty.
        fault_fraction_max: f64 = 0.1 => float(0.0, 1.0);
        /// Rows that the fraction is taken over.
        fault_window: usize = 2000 => int(0, u64::MAX);
    }
}

impl Default for ClickConfig {
    fn default() -> Self {
        defaults()
    }
}

impl ClickConfig {
    /// The faults that are borne.
    pub fn limits(&self) -> FaultLimits {
        FaultLimits { faults_max: self.faults_max, fault_fraction_max: self.fault_fraction_max, fault_window: self.fault_window }
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// The first value outside its range.
    pub fn validate(&self) -> Result<(), ZeroError> {
        let refuse = |field, value: String, limit| Err(ZeroError::Setting { field, value, limit });
        for (field, value) in [("images_per_query", self.images_per_query), ("queries_per_image", self.queries_per_image)] {
            if value == 0 {
                return refuse(field, "0".into(), "at least 1");
            }
        }
        for (field, value) in [("minhash_bands", self.minhash_bands), ("minhash_rows", self.minhash_rows)] {
            if !(1..=64).contains(&value) {
                return refuse(field, value.to_string(), "within 1 and 64");
            }
        }
        if self.hamming_max > 7 {
            return refuse("hamming_max", self.hamming_max.to_string(), "at most 7");
        }
        if self.shard_records == 0 || self.compare_max == 0 {
            return refuse("shard_records or compare_max", "0".into(), "at least 1");
        }
        if self.wilson_z < 0.0 || self.beta_prior.iter().any(|&value| value <= 0.0) {
            return refuse("wilson_z or beta_prior", "negative or 0".into(), "above 0");
        }
        if self.text_similarity_min <= 0.0 {
            return refuse("text_similarity_min", self.text_similarity_min.to_string(), "above 0");
        }
        Ok(())
    }
}
