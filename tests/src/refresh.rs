//! A refresh job at tiny size: its configuration, and that of its training.

use std::fmt::Write as _;
use std::path::Path;

use crate::bundle;

/// Where a job reads and writes.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// Brokers.
    pub brokers: &'a str,
    /// Topic of the items.
    pub items: &'a str,
    /// Topic of the click log.
    pub clicks: &'a str,
    /// Topic of the announcements.
    pub announcements: &'a str,
    /// Registry: a folder, or an `s3://` address.
    pub registry: &'a str,
    /// More keys of `[registry]`, lines of TOML.
    pub registry_keys: &'a str,
    /// Seconds of its lease.
    pub lease_seconds: u32,
    /// More keys of `[collect]`, lines of TOML.
    pub collect: &'a str,
}

impl Job<'_> {
    /// Writes refresh.toml in `folder`, with `more` at its end.
    pub fn write(&self, folder: &Path, more: &str) {
        let Self { brokers, items, clicks, announcements, registry, registry_keys, lease_seconds, collect } = self;
        let mut text = format!(
            "[job]\nwork = \"work\"\nlease_seconds = {lease_seconds}\nmetrics_file = \"refresh.prom\"\nrecords_min = 20\n[kafka]\nbrokers = {brokers:?}\n"
        );
        write!(text, "[collect]\nheld_out = 12\nitems = [{{ topic = {items:?} }}]\n{collect}").expect("a String takes it");
        writeln!(text, "clicks = {{ topic = {clicks:?} }}").expect("a String takes it");
        text += "[collect.filter]\nhamming_max = 0\ntext_similarity_min = 1.1\n[train]\nconfig = \"train.toml\"\n";
        text += "[export]\nname = \"refreshed\"\nprecisions = [\"f32\"]\nlicence = \"Apache-2.0\"\n";
        write!(text, "[registry]\nurl = {registry:?}\n{registry_keys}[announce]\ntopic = {announcements:?}\n{more}")
            .expect("a String takes it");
        std::fs::write(folder.join("refresh.toml"), text).expect("a file in the test's folder");
    }
}

/// Writes train.toml in `folder`: a model of some thousand weights, six steps.
pub fn write_training(folder: &Path) {
    std::fs::write(folder.join("train.toml"), training()).expect("a file in the test's folder");
}

fn training() -> String {
    let vocabulary = bundle::path().join("vocab.txt");
    format!("{MODEL}{}", TRAIN.replace("VOCABULARY", &vocabulary.display().to_string()))
}

/// Writes student.toml in `folder`: half as wide, taught by whatever the job has trained.
pub fn write_student(folder: &Path) {
    let student = training().replace("width = 32", "width = 16").replace("mlp = 64", "mlp = 32")
        + "[distil]\nteacher = \"set by the job\"\n";
    std::fs::write(folder.join("student.toml"), student).expect("a file in the test's folder");
}

/// The model that the trainer's own tests have.
const MODEL: &str = include_str!("../../trainer/tests/tiny_model.toml");
const TRAIN: &str = r#"
[data]
vocabulary = "VOCABULARY"
working_px = 32
max_tokens = 16
batch = 8
[loss]
itm_every = 2
itm_pairs_max = 12
[optim]
warmup_steps = 2
steps = 6
[run]
out = "unused"
seed = 7
threads = 1
"#;
