//! The five tasks of Zero (docs/R2D2.md §6.2) in their published file formats.
//!
//! ICM, IQM, ICR and IQR are JSON Lines of `text`, `image_path` and, for matching, `label`; of a path only its last part is used, and
//! all four share one folder of pictures. Flickr30k-CNA is lines of `<flickr id>[#n]<TAB><caption>`. Names that no source gives are
//! settings whose defaults are our choice: the folder of Flickr30k's pictures, and where the shared folder lies.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::CorpusError;
use super::record::Record;
use super::rows::{label_field, object, read_rows, text_field};

/// Folder of the pictures of ICM, IQM, ICR and IQR (docs/R2D2.md §6.2); that it lies in the data folder is our choice.
pub const ZERO_IMAGES: &str = "IQR_IQM_ICR_ICM_images";
/// Folder of Flickr30k's pictures in the data folder: our choice, no source names it.
pub const FLICKR_IMAGES: &str = "flickr30k_images";
/// Shorter training captions of Flickr30k-CNA are left out, in characters (docs/R2D2.md §6.2).
const CAPTION_CHARS_MIN: usize = 3;

/// One of the five sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PublishedSet {
    /// Image-caption matching.
    Icm,
    /// Image-query matching.
    Iqm,
    /// Image-caption retrieval.
    Icr,
    /// Image-query retrieval.
    Iqr,
    /// Flickr30k with captions translated by linguists.
    Flickr30kCna,
}

impl PublishedSet {
    /// All five.
    pub const ALL: [Self; 5] = [Self::Icm, Self::Iqm, Self::Icr, Self::Iqr, Self::Flickr30kCna];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Icm => "icm",
            Self::Iqm => "iqm",
            Self::Icr => "icr",
            Self::Iqr => "iqr",
            Self::Flickr30kCna => "flickr30k-cna",
        }
    }

    /// The set of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|set| set.name().eq_ignore_ascii_case(name))
    }

    /// True for pairs with labels, false for retrieval.
    pub fn is_matching(self) -> bool {
        matches!(self, Self::Icm | Self::Iqm)
    }

    /// Candidates that the official evaluation re-ranks (docs/R2D2.md §3.1); 0 for matching.
    pub fn top_k(self) -> usize {
        match self {
            Self::Icm | Self::Iqm => 0,
            Self::Icr | Self::Iqr => 64,
            Self::Flickr30kCna => 128,
        }
    }

    /// Split that the official evaluation uses: the matching and retrieval sets have no released test split (docs/R2D2.md §6.2).
    pub fn split_default(self) -> &'static str {
        if self == Self::Flickr30kCna { "test" } else { "val" }
    }

    fn file(self, split: &str) -> PathBuf {
        let name = match self {
            Self::Icm => format!("long_itm_{split}.json"),
            Self::Iqm => format!("short_itm_{split}.json"),
            Self::Icr => format!("long_itr_{split}.json"),
            Self::Iqr => format!("short_itr_{split}.json"),
            Self::Flickr30kCna => format!("flickr30k_cna_{split}.txt"),
        };
        Path::new(split).join(name)
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Icm => "ICM",
            Self::Iqm => "IQM",
            Self::Icr => "ICR",
            Self::Iqr => "IQR",
            Self::Flickr30kCna => "Flickr30k-CNA",
        }
    }
}

/// Where a published set lies.
#[derive(Debug, Clone)]
pub struct PublishedSource {
    /// The set.
    pub set: PublishedSet,
    /// Folder that holds `<split>/<file>`, or a folder named as the set (`ICM`, …, `Flickr30k-CNA`) that does.
    pub folder: PathBuf,
    /// `train`, `val`, `test`.
    pub split: String,
    /// Folder of the pictures; else [`ZERO_IMAGES`] or [`FLICKR_IMAGES`] in `folder`.
    pub images: Option<PathBuf>,
    /// Leave out rows whose picture is not there, and name them; else such a row is an error.
    pub skip_missing: bool,
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedRow {
    /// Line, from 1.
    pub line: usize,
    /// The text.
    pub text: String,
    /// File name of the picture.
    pub image: String,
    /// 1 match, 0 no match; none in retrieval sets.
    pub label: Option<bool>,
}

/// The rows of one file.
#[derive(Debug)]
pub struct PublishedRows {
    /// The file.
    pub path: PathBuf,
    /// Folder of the pictures.
    pub images: PathBuf,
    /// Rows, in file order.
    pub rows: Vec<PublishedRow>,
    /// Rows left out, each named with its line and why.
    pub skipped: Vec<String>,
}

impl PublishedSource {
    /// The file of rows.
    pub fn file(&self) -> PathBuf {
        let file = self.set.file(&self.split);
        let own = self.folder.join(self.set.folder());
        if own.join(&file).exists() { own.join(file) } else { self.folder.join(file) }
    }

    /// Folder of the pictures.
    pub fn images(&self) -> PathBuf {
        let name = if self.set == PublishedSet::Flickr30kCna { FLICKR_IMAGES } else { ZERO_IMAGES };
        self.images.clone().unwrap_or_else(|| self.folder.join(name))
    }

    /// Reads the rows.
    ///
    /// # Errors
    /// The file can't be read, a row is bad, or a picture is missing and `skip_missing` is not set.
    pub fn read(&self) -> Result<PublishedRows, CorpusError> {
        let (path, images) = (self.file(), self.images());
        let mut rows = PublishedRows { path: path.clone(), images: images.clone(), rows: Vec::new(), skipped: Vec::new() };
        let parsed = read_rows(&path, |line| match self.set {
            PublishedSet::Flickr30kCna => flickr_row(line).map(Some),
            set => json_row(line, set.is_matching()).map(Some),
        })?;
        for (line, (text, image, label)) in parsed {
            let drops_short = self.set == PublishedSet::Flickr30kCna && self.split == "train";
            if drops_short && text.chars().count() < CAPTION_CHARS_MIN {
                rows.skipped.push(format!("line {line}: a caption shorter than {CAPTION_CHARS_MIN} characters"));
                continue;
            }
            if !images.join(&image).is_file() {
                let message = missing_picture(&images, &image);
                if !self.skip_missing {
                    return Err(CorpusError::Row { path, line, message });
                }
                rows.skipped.push(format!("line {line}: {message}"));
                continue;
            }
            rows.rows.push(PublishedRow { line, text, image, label });
        }
        Ok(rows)
    }

    /// The rows of a retrieval set as records to train on, and the folder of their pictures. Rows of one picture are each other's
    /// positives, as in the official training (docs/R2D2.md §2.1).
    ///
    /// # Errors
    /// As [`PublishedSource::read`].
    pub fn records(&self) -> Result<(PathBuf, Vec<Record>), CorpusError> {
        let read = self.read()?;
        if !read.skipped.is_empty() {
            tracing::warn!(rows = read.skipped.len(), first = read.skipped[0], "rows of {} are left out", read.path.display());
        }
        let record = |row: PublishedRow| Record {
            id: format!("{}:{}", self.set.name(), row.line),
            title: row.text.clone(),
            query: row.text.clone(),
            content: row.text,
            alt_queries: Vec::new(),
            concept: row.image.clone(),
            image: row.image,
            domain: self.set.name().to_owned(),
            vendor: String::new(),
            licence: String::new(),
            split: self.split.clone(),
        };
        Ok((read.images, read.rows.into_iter().map(record).collect()))
    }
}

/// What is wrong with a row whose picture is not there.
pub(super) fn missing_picture(images: &Path, image: &str) -> String {
    format!(
        "field `image_path` names {image}, which is not in {}; unpack the pictures there, give another folder of pictures, or leave \
         such rows out",
        images.display()
    )
}

type Parsed = (String, String, Option<bool>);

/// `{"text", "image_path"}` and, for matching, `label`.
pub(super) fn json_row(line: &str, with_label: bool) -> Result<Parsed, String> {
    let row = object(line)?;
    let image = text_field(&row, "image_path")?;
    // Only the last part of the path counts (docs/R2D2.md §6.2).
    let name = Path::new(&image).file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| format!("field `image_path` is {image:?}, which names no file"))?;
    let label = if with_label { Some(label_field(&row, "label")?) } else { None };
    Ok((text_field(&row, "text")?, name.to_owned(), label))
}

fn flickr_row(line: &str) -> Result<Parsed, String> {
    let (key, caption) = line.split_once('\t').ok_or("there is no tab between picture and caption")?;
    let id = key.split('#').next().unwrap_or(key).trim().trim_end_matches(".jpg");
    if id.is_empty() || id.contains(['/', '\\']) {
        return Err(format!("field `flickr id` is {key:?}; it must be <id> or <id>#<n>"));
    }
    let caption = caption.trim();
    if caption.is_empty() {
        return Err("field `caption` is empty".to_owned());
    }
    Ok((caption.to_owned(), format!("{id}.jpg"), None))
}
