//! Pictures under the sha-256 of their bytes.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use astromech_schemas::dead_letter::Reason;
use astromech_schemas::manifest::hex;
use astromech_towers::{ImageLimits, decode_and_squash};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use url::Url;

use super::error::CollectError;
use crate::files::file_error;

/// Side that pictures are decoded at, only to know that they can be.
const PROBE_PX: u32 = 16;
/// Largest picture, bytes: what the decoder takes (`ImageLimits`).
const PICTURE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Reason of a picture that is only a web address.
const URL_NOT_FETCHED: &str = "url_not_fetched";

/// Where an item's picture is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PictureRef {
    /// In the store.
    Stored { name: String },
    /// At an address.
    At { url: String },
}

/// Why a picture is refused: a word and a sentence.
pub(super) type Refusal = (&'static str, String);

/// The store, and the folders that `file:` may read from.
#[derive(Debug)]
pub(super) struct PictureStore {
    folder: PathBuf,
    /// As configured, and with every link resolved.
    roots: Vec<(PathBuf, PathBuf)>,
}

impl PictureStore {
    /// Opens the store in `work`.
    ///
    /// # Errors
    /// A folder of `roots` is not there, or the store can't be made.
    pub(super) fn open(work: &Path, roots: &[PathBuf]) -> Result<Self, CollectError> {
        let folder = work.join("pictures");
        std::fs::create_dir_all(&folder).map_err(file_error(&folder))?;
        let resolve = |root: &PathBuf| {
            let resolved = std::path::absolute(root).and_then(|written| Ok((written.clone(), written.canonicalize()?)));
            resolved.map_err(|error| CollectError::Damaged {
                path: root.clone(),
                message: error.to_string(),
                fix: "name folders that are there in file_roots",
            })
        };
        Ok(Self { folder, roots: roots.iter().map(resolve).collect::<Result<_, _>>()? })
    }

    /// Puts a picture in, whole or not at all; its name.
    ///
    /// # Errors
    /// It can't be written.
    pub(super) fn put(&self, bytes: &[u8]) -> Result<String, CollectError> {
        let hash = hex(&Sha256::digest(bytes));
        let ending = image::guess_format(bytes).ok().and_then(|format| format.extensions_str().first().copied());
        let name = format!("{}/{hash}.{}", &hash[..2], ending.unwrap_or("img"));
        let path = self.folder.join(&name);
        if path.exists() {
            return Ok(name);
        }
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(file_error(parent))?;
        }
        // Of threads that put the same picture each has a file of its own.
        let temporary = path.with_extension(format!("{:?}.tmp", std::thread::current().id()));
        let put = std::fs::write(&temporary, bytes).and_then(|()| std::fs::rename(&temporary, &path));
        put.map_err(file_error(&path))?;
        Ok(name)
    }

    /// Brings a picture into the store and looks at it; its name in the store. The outer error is the store's, the inner one the
    /// picture's.
    ///
    /// # Errors
    /// A file of the store can't be read or written.
    pub(super) fn bring(&self, picture: &PictureRef) -> Result<Result<String, Refusal>, CollectError> {
        let (name, bytes) = match picture {
            PictureRef::Stored { name } => {
                let path = self.folder.join(name);
                let bytes = std::fs::read(&path).map_err(file_error(&path))?;
                (Some(name.clone()), bytes)
            }
            PictureRef::At { url } => match self.read(url) {
                Ok(bytes) => (None, bytes),
                Err(refusal) => return Ok(Err(refusal)),
            },
        };
        if let Err(error) = decode_and_squash(&bytes, PROBE_PX, &ImageLimits::default()) {
            return Ok(Err((Reason::InvalidImage.as_str(), format!("image: {error}; fix: send a whole picture"))));
        }
        Ok(Ok(match name {
            Some(name) => name,
            None => self.put(&bytes)?,
        }))
    }

    /// The file that an address names, only under the roots, every link resolved.
    fn read(&self, url: &str) -> Result<Vec<u8>, Refusal> {
        let is_file = url.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("file:"));
        if !is_file {
            let fix = "fix: send the picture's bytes, or lay it under a folder of file_roots";
            return Err((URL_NOT_FETCHED, format!("image.url: `{url}` is not fetched; {fix}")));
        }
        let forbidden = || (Reason::UrlForbidden.as_str(), format!("image.url: `{url}` is not under a folder of file_roots"));
        let rest = &url[5..];
        let mut candidates: Vec<PathBuf> = if rest.starts_with('/') {
            Url::parse(url).ok().and_then(|url| url.to_file_path().ok()).into_iter().collect()
        } else {
            let under =
                |(written, _): &(PathBuf, PathBuf)| Url::from_directory_path(written).ok()?.join(rest).ok()?.to_file_path().ok();
            self.roots.iter().filter_map(under).collect()
        };
        // Outside the folders nothing is looked at, so that nothing can be learnt about it.
        candidates.retain(|path| self.roots.iter().any(|(written, real)| path.starts_with(written) || path.starts_with(real)));
        let mut last = forbidden();
        for path in candidates {
            match path.canonicalize() {
                Ok(real) if real.is_file() && self.roots.iter().any(|(_, root)| real.starts_with(root)) => {
                    return bytes_of(url, &real);
                }
                Ok(_) => last = forbidden(),
                Err(error) => last = (Reason::UrlNotFound.as_str(), format!("image.url: `{url}`: {error}")),
            }
        }
        Err(last)
    }
}

fn bytes_of(url: &str, path: &Path) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(PICTURE_BYTES_MAX + 1).read_to_end(&mut bytes));
    read.map_err(|error| (Reason::UrlNotFound.as_str(), format!("image.url: `{url}`: {error}")))?;
    if bytes.len() as u64 > PICTURE_BYTES_MAX {
        return Err((Reason::UrlTooLarge.as_str(), format!("image.url: `{url}` has more than {PICTURE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png() -> Vec<u8> {
        let mut bytes = std::io::Cursor::new(Vec::new());
        image::RgbImage::from_pixel(8, 8, image::Rgb([9, 8, 7])).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn pictures_come_from_bytes_and_from_files_under_the_roots_only() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("root")).unwrap();
        std::fs::write(at("root/a.png"), png()).unwrap();
        std::fs::write(at("secret.png"), png()).unwrap();
        std::os::unix::fs::symlink(at("secret.png"), at("root/link.png")).unwrap();
        std::fs::write(at("root/broken.png"), &png()[..20]).unwrap();
        let store = PictureStore::open(dir.path(), &[at("root")]).unwrap();
        let stored = PictureRef::Stored { name: store.put(&png()).unwrap() };
        let of = |address: &str| PictureRef::At { url: address.to_owned() };
        let name = store.bring(&stored).unwrap().unwrap();
        assert!(Path::new(&name).extension().is_some_and(|end| end == "png") && at("pictures").join(&name).is_file(), "{name}");
        for address in ["file:a.png".to_owned(), format!("file://{}", at("root/a.png").display())] {
            assert_eq!(store.bring(&of(&address)).unwrap().as_ref(), Ok(&name), "{address}");
        }
        for (address, reason) in [
            (format!("file://{}", at("secret.png").display()), "url_forbidden"),
            ("file:../secret.png".to_owned(), "url_forbidden"),
            ("file:link.png".to_owned(), "url_forbidden"),
            ("file:none.png".to_owned(), "url_not_found"),
            ("file:broken.png".to_owned(), "invalid_image"),
            ("https://example.com/a.png".to_owned(), "url_not_fetched"),
        ] {
            assert_eq!(store.bring(&of(&address)).unwrap().unwrap_err().0, reason, "{address}");
        }
    }
}
