//! Settings of the click-log pipeline. Zero's own filters and thresholds are not published (docs/R2D2.md §6.1, §11): every value here is our
//! choice unless it names a source.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::zero::columns::Columns;
use crate::zero::fault::{FaultLimits, ZeroError};

/// How clicks and impressions become a score. Both pull a rate of few impressions down, so that 1 of 1 is not above 900 of 1,000.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScoreMethod {
    /// Lower bound of Wilson's interval.
    #[default]
    Wilson,
    /// Mean of the rate with a beta prior.
    Beta,
}

/// What becomes of near-duplicates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NearDuplicates {
    /// The one with the best score stays.
    #[default]
    Drop,
    /// All stay and share a group, so that training takes them as positives of each other.
    Group,
}

/// Everything the pipeline follows from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClickConfig {
    /// Files, folders and patterns of the log: .jsonl, .tsv (also .gz), .parquet.
    pub impressions: Vec<String>,
    /// Folder that paths of pictures are relative to; none takes each file's own. Pictures that are there are hashed.
    pub image_root: Option<PathBuf>,
    /// Names of columns, where they differ from the usual ones.
    pub columns: Columns,
    /// Names of the columns of TSV files without a header.
    pub tsv_columns: Option<Vec<String>>,
    /// Pairs shown less often are left out.
    pub impressions_min: u64,
    /// Pairs without any impression pass, with the score 0: a picture that nobody was shown yet, with its own text for a query. It
    /// stays for that text where no query that users sent keeps it.
    pub unshown: bool,
    /// The score.
    pub score: ScoreMethod,
    /// Width of Wilson's interval in standard deviations (1.96: 95 %).
    pub wilson_z: f64,
    /// Clicks and non-clicks that the beta prior adds.
    pub beta_prior: [f64; 2],
    /// Pairs of a lower score are left out. That click-through rate is what Zero was filtered by is known (docs/R2D2.md §6.1), its
    /// threshold is not.
    pub score_min: f64,
    /// Pictures kept of one query, the best first.
    pub images_per_query: usize,
    /// Queries kept of one picture, the best first. Zero has one `ImageQuery` a picture (docs/R2D2.md §6.1).
    pub queries_per_image: usize,
    /// Pictures whose difference hashes (dHash, 64 bit) differ in at most this many bits are near-duplicates; at most 7.
    pub hamming_max: u32,
    /// Texts (title and content together) that share this part of their 3-grams are near-duplicates; above 1 switches the test off.
    pub text_similarity_min: f64,
    /// Bands of the MinHash signature: more find less similar texts.
    pub minhash_bands: usize,
    /// Hashes a band: more compare fewer texts.
    pub minhash_rows: usize,
    /// Texts of fewer letters and digits are not compared: short titles repeat by right.
    pub text_chars_min: usize,
    /// What becomes of near-duplicates.
    pub near_duplicates: NearDuplicates,
    /// Records that one record is compared with in a bucket; more find more and take longer, where many texts follow one template.
    pub compare_max: usize,
    /// Records of the sample; 0 keeps all. Zero's are 250M, 23M and 2.3M, the smaller ones said to be random samples of the larger
    /// (docs/R2D2.md §6.1): with one seed a smaller sample is a part of a larger one here, up to rounding in the strata.
    pub records: u64,
    /// Seed of the sample.
    pub seed: u64,
    /// Records a shard.
    pub shard_records: u64,
    /// Memory of the whole process, MiB: what does not fit goes through files. The program and its libraries take some 120 of it.
    pub memory_max_mib: u64,
    /// Faults borne in all; see [`FaultLimits`] for this and the next two.
    pub faults_max: u64,
    /// Part of the last `fault_window` rows that may be faulty.
    pub fault_fraction_max: f64,
    /// Rows that the fraction is taken over.
    pub fault_window: usize,
}

impl Default for ClickConfig {
    fn default() -> Self {
        let limits = FaultLimits::default();
        Self {
            impressions: Vec::new(),
            image_root: None,
            columns: Columns::default(),
            tsv_columns: None,
            impressions_min: 10,
            unshown: false,
            score: ScoreMethod::Wilson,
            wilson_z: 1.96,
            beta_prior: [1.0, 20.0],
            score_min: 0.02,
            images_per_query: 20,
            queries_per_image: 1,
            hamming_max: 3,
            text_similarity_min: 0.8,
            minhash_bands: 16,
            minhash_rows: 4,
            text_chars_min: 12,
            near_duplicates: NearDuplicates::Drop,
            compare_max: 100,
            records: 0,
            seed: 0,
            shard_records: 10_000,
            memory_max_mib: 2048,
            faults_max: limits.faults_max,
            fault_fraction_max: limits.fault_fraction_max,
            fault_window: limits.fault_window,
        }
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
