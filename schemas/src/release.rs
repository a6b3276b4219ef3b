//! What the bundle registry says of a published bundle, and the record of the `models` topic that announces it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{DecodeError, from_json};
use crate::identity::Fingerprint;
use crate::manifest::{BundleFile, Manifest};

/// Current [`Release::schema`].
pub const RELEASE_SCHEMA: u32 = 1;

/// Current [`ModelAnnouncement::schema`].
pub const MODEL_ANNOUNCEMENT_SCHEMA: u32 = 1;

/// Longest [`Release::published_at`], in characters: an RFC 3339 time with nanoseconds and an offset.
const TIME_CHARS_MAX: usize = 40;

/// One published bundle: what a reader must know to fetch it and to trust it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Release {
    /// Schema version of this document.
    pub schema: u32,
    /// Name of the vector space, and of the release.
    pub fingerprint: Fingerprint,
    /// Name of the model, for people.
    pub name: String,
    /// Fingerprint of the bundle that this one was trained from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Fingerprint>,
    /// When it was first published: RFC 3339, for example `2026-11-26T07:00:00.000Z`.
    pub published_at: String,
    /// sha-256 of `manifest.json`, 64 lower-case hexadecimal digits. The manifest holds the sums of all other files.
    pub manifest_sha256: String,
    /// Bytes of all files together, the manifest's own not counted.
    pub bytes: u64,
    /// Every file but the manifest, as the manifest lists them.
    pub files: Vec<BundleFile>,
    /// A minisign signature (the text of a `.minisig` file) over [`Release::statement`]; none when it was published without a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

impl Release {
    /// The text that is signed. Through the manifest's sum it stands for every byte of the bundle.
    pub fn statement(&self) -> String {
        format!(
            "astromech release {}\nfingerprint {}\nmanifest_sha256 {}\npublished_at {}\n",
            self.schema, self.fingerprint, self.manifest_sha256, self.published_at
        )
    }

    /// Reads and checks a release. Neither its signature nor its files are checked here.
    ///
    /// # Errors
    /// A missing or wrong field, an unknown schema, a name that leaves the bundle's folder, a size that is not the files', or a
    /// fingerprint that is not the files'.
    pub fn from_json(bytes: &[u8]) -> Result<Self, DecodeError> {
        let release: Self = from_json(bytes)?;
        release.check()?;
        Ok(release)
    }

    /// What [`Release::from_json`] checks.
    ///
    /// # Errors
    /// As [`Release::from_json`].
    pub fn check(&self) -> Result<(), DecodeError> {
        let again = "publish the bundle again";
        check_schema("schema", self.schema, RELEASE_SCHEMA)?;
        let time = &self.published_at;
        let is_time = |c: char| c.is_ascii_digit() || "-:.+TZtz".contains(c);
        if time.is_empty() || time.len() > TIME_CHARS_MAX || !time.chars().all(is_time) {
            return Err(DecodeError::new("published_at", format!("`{}` is no RFC 3339 time", time.escape_debug()), again));
        }
        if Fingerprint::try_from(self.manifest_sha256.clone()).is_err() {
            return Err(DecodeError::new("manifest_sha256", "it is not 64 lower-case hexadecimal digits", again));
        }
        for (index, file) in self.files.iter().enumerate() {
            if !file.has_plain_name() {
                let problem = format!("`{}` leaves the bundle's folder", file.name);
                return Err(DecodeError::new(format!("files[{index}].name"), problem, again));
            }
        }
        let bytes = self.files.iter().fold(0_u64, |sum, file| sum.saturating_add(file.bytes));
        if bytes != self.bytes {
            return Err(DecodeError::new("bytes", format!("{} is not the sum of the files', {bytes}", self.bytes), again));
        }
        let computed = Manifest::compute_fingerprint(&self.files);
        if computed != self.fingerprint {
            let problem = format!("{} is not the fingerprint of the listed files, {computed}", self.fingerprint);
            return Err(DecodeError::new("fingerprint", problem, again));
        }
        Ok(())
    }
}

/// A record of the `models` topic, keyed by the fingerprint: this release can be fetched from that registry. It is a hint that saves
/// waiting for the next look at the registry: the registry's pointer decides which release is current.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelAnnouncement {
    /// Schema version of this message.
    pub schema: u32,
    /// The registry's address as the publisher wrote it, without credentials: `s3://bucket/prefix`, or a folder.
    pub registry: String,
    /// What was published.
    pub release: Release,
}

impl ModelAnnouncement {
    /// Reads and checks an announcement.
    ///
    /// # Errors
    /// A missing or wrong field, an unknown schema, or a release that [`Release::check`] refuses.
    pub fn from_json(bytes: &[u8]) -> Result<Self, DecodeError> {
        let announcement: Self = from_json(bytes)?;
        check_schema("schema", announcement.schema, MODEL_ANNOUNCEMENT_SCHEMA)?;
        announcement.release.check().map_err(|error| DecodeError { path: format!("release.{}", error.path), ..error })?;
        Ok(announcement)
    }
}

fn check_schema(path: &str, found: u32, known: u32) -> Result<(), DecodeError> {
    if found == known {
        return Ok(());
    }
    Err(DecodeError::new(path, format!("schema {found} is not read by this version, which reads {known}"), "upgrade astromech"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn release() -> Release {
        let files = vec![BundleFile { name: "image.onnx".to_owned(), bytes: 3, sha256: "0".repeat(64) }];
        Release {
            schema: RELEASE_SCHEMA,
            fingerprint: Manifest::compute_fingerprint(&files),
            name: "tiny".to_owned(),
            parent: None,
            published_at: "2026-11-26T07:00:00.000Z".to_owned(),
            manifest_sha256: "1".repeat(64),
            bytes: 3,
            files,
            signature: None,
        }
    }

    type Damage = fn(&mut Release);

    #[test]
    fn a_release_is_read_back_and_a_wrong_field_is_named() {
        let read = |release: &Release| Release::from_json(&serde_json::to_vec(release).unwrap());
        let good = release();
        assert_eq!(read(&good).unwrap(), good);
        let damages: [(&str, Damage); 6] = [
            ("schema", |release| release.schema = 9),
            ("published_at", |release| release.published_at = "now\nfingerprint x".to_owned()),
            ("manifest_sha256", |release| release.manifest_sha256 = "A".repeat(64)),
            ("files[0].name", |release| release.files[0].name = "../image.onnx".to_owned()),
            ("bytes", |release| release.bytes = 4),
            ("fingerprint", |release| release.files[0].sha256 = "2".repeat(64)),
        ];
        for (path, damage) in damages {
            let mut wrong = good.clone();
            damage(&mut wrong);
            assert_eq!(read(&wrong).unwrap_err().path, path);
        }
    }

    #[test]
    fn the_statement_is_bound_to_the_fingerprint_the_manifest_and_the_time() {
        let good = release();
        let text = good.statement();
        assert!(
            text.contains(good.fingerprint.as_str()) && text.contains(&good.manifest_sha256) && text.contains(&good.published_at)
        );
        assert_eq!(text, Release { signature: Some("x".to_owned()), ..good }.statement());
    }

    #[test]
    fn an_announcement_names_the_field_of_its_release_that_is_wrong() {
        let mut release = release();
        release.bytes = 4;
        let announcement = ModelAnnouncement { schema: MODEL_ANNOUNCEMENT_SCHEMA, registry: "s3://models".to_owned(), release };
        let error = ModelAnnouncement::from_json(&serde_json::to_vec(&announcement).unwrap()).unwrap_err();
        assert_eq!(error.path, "release.bytes");
    }
}
