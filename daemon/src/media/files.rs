//! Pictures by `file:`, only under allowed folders, every link resolved.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use url::Url;

use super::MediaError;

/// The folders under which `file:` addresses may lie.
#[derive(Debug, Clone, Default)]
pub struct FileRoots {
    /// As configured, and with every link resolved.
    roots: Vec<(PathBuf, PathBuf)>,
}

impl FileRoots {
    /// Resolves the folders.
    ///
    /// # Errors
    /// The folder that can't be resolved, and why.
    pub fn open(roots: &[PathBuf]) -> Result<Self, (PathBuf, io::Error)> {
        let resolve = |root: &PathBuf| {
            let written = std::path::absolute(root)?;
            let resolved = written.canonicalize()?;
            Ok((written, resolved))
        };
        let roots: Result<Vec<_>, _> = roots.iter().map(|root| resolve(root).map_err(|e| (root.clone(), e))).collect();
        Ok(Self { roots: roots? })
    }

    /// The file that `address` names. `file:/a/b` and `file:///a/b` are absolute; `file:a/b` is looked up under each folder in turn, so
    /// that records need not know where their pictures lie. Blocks on the file system.
    ///
    /// # Errors
    /// Forbidden outside the folders, also through `..` and links; not found; transient for other faults of the file system.
    pub fn resolve(&self, address: &str) -> Result<PathBuf, MediaError> {
        let forbidden = || {
            let fix = "fix: add its folder to media.file_roots, or send the picture's bytes";
            MediaError::Forbidden(format!("`{address}` is not under a folder of media.file_roots; {fix}"))
        };
        let rest = address
            .get(..5)
            .filter(|scheme| scheme.eq_ignore_ascii_case("file:"))
            .map(|_| &address[5..])
            .ok_or_else(forbidden)?;
        let mut candidates = Vec::new();
        // By the text: `Url` reads `file:a/b` as `/a/b`.
        if rest.starts_with('/') {
            candidates.extend(Url::parse(address).ok().and_then(|url| url.to_file_path().ok()));
        } else {
            let under =
                |(written, _): &(PathBuf, PathBuf)| Url::from_directory_path(written).ok()?.join(rest).ok()?.to_file_path().ok();
            candidates.extend(self.roots.iter().filter_map(under));
        }
        // `..` is resolved by now. Outside the folders nothing is looked at, so that nothing can be learnt about it.
        candidates
            .retain(|path| self.roots.iter().any(|(written, resolved)| path.starts_with(written) || path.starts_with(resolved)));
        let mut last = forbidden();
        for path in candidates {
            match path.canonicalize() {
                Ok(real) if self.holds(&real) => return Ok(real),
                Ok(_) => last = forbidden(),
                Err(e) => last = file_error(address, &e),
            }
        }
        Err(last)
    }

    /// The bytes of the file that `address` names, at most `bytes_max`. Blocks on the file system.
    ///
    /// # Errors
    /// As [`FileRoots::resolve`]; too large; forbidden where it is no plain file.
    pub fn read(&self, address: &str, bytes_max: usize) -> Result<Vec<u8>, MediaError> {
        let path = self.resolve(address)?;
        // Looked at before it is opened, because opening a pipe waits for its writer.
        let before = path.metadata().map_err(|e| file_error(address, &e))?;
        if !before.is_file() {
            return Err(MediaError::Forbidden(format!("`{address}` is no plain file")));
        }
        let too_large = || MediaError::TooLarge(format!("`{address}` has more than media.bytes_max = {bytes_max} bytes"));
        if before.len() > bytes_max as u64 {
            return Err(too_large());
        }
        let file = File::open(&path).map_err(|e| file_error(address, &e))?;
        let mut bytes = Vec::with_capacity(before.len() as usize);
        // The file may grow while it is read.
        file.take(bytes_max as u64 + 1).read_to_end(&mut bytes).map_err(|e| file_error(address, &e))?;
        if bytes.len() > bytes_max { Err(too_large()) } else { Ok(bytes) }
    }

    fn holds(&self, real: &Path) -> bool {
        self.roots.iter().any(|(_, resolved)| real.starts_with(resolved))
    }
}

fn file_error(address: &str, error: &io::Error) -> MediaError {
    let detail = format!("`{address}` can't be read: {error}");
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename => MediaError::NotFound(detail),
        io::ErrorKind::PermissionDenied => MediaError::Forbidden(detail),
        _ => MediaError::Transient(detail),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn folders() -> (tempfile::TempDir, FileRoots) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("root/sub")).unwrap();
        std::fs::write(dir.path().join("root/sub/a b.png"), b"picture").unwrap();
        std::fs::write(dir.path().join("secret"), b"secret").unwrap();
        symlink(dir.path().join("secret"), dir.path().join("root/escape")).unwrap();
        symlink(dir.path().join("root/sub"), dir.path().join("root/link")).unwrap();
        symlink(dir.path().join("root"), dir.path().join("alias")).unwrap();
        let roots = FileRoots::open(&[dir.path().join("alias")]).unwrap();
        (dir, roots)
    }

    #[test]
    fn files_under_a_root_are_read_by_absolute_and_relative_addresses() {
        let (dir, roots) = folders();
        let base = dir.path().display();
        for address in [
            format!("file://{base}/alias/sub/a%20b.png"),
            format!("file:{base}/root/sub/a%20b.png"),
            format!("FILE://{base}/root/link/a%20b.png"),
            "file:sub/a%20b.png".to_owned(),
            "file:sub/../link/a b.png".to_owned(),
        ] {
            assert_eq!(roots.read(&address, 7).as_deref(), Ok(&b"picture"[..]), "{address}");
        }
    }

    #[test]
    fn nothing_outside_the_roots_is_read_by_dots_or_links_or_names() {
        let (dir, roots) = folders();
        let base = dir.path().display();
        for address in [
            format!("file://{base}/secret"),
            format!("file://{base}/root/../secret"),
            format!("file://{base}/root/%2e%2e/secret"),
            format!("file://{base}/root/escape"),
            format!("file://{base}/root2/x"),
            "file:///etc/passwd".to_owned(),
            "file:///no/such/file".to_owned(),
            "file:../secret".to_owned(),
            "file:escape".to_owned(),
            "file://host/etc/passwd".to_owned(),
            "file:".to_owned(),
            "https://example.com".to_owned(),
        ] {
            assert!(
                matches!(roots.read(&address, 100), Err(MediaError::Forbidden(_))),
                "{address}: {:?}",
                roots.read(&address, 100)
            );
        }
    }

    #[test]
    fn missing_and_large_files_are_told_apart() {
        let (_dir, roots) = folders();
        assert!(matches!(roots.read("file:sub/none.png", 100), Err(MediaError::NotFound(_))));
        assert!(matches!(roots.read("file:sub/a b.png/x", 100), Err(MediaError::NotFound(_))));
        assert!(matches!(roots.read("file:sub/a b.png", 6), Err(MediaError::TooLarge(_))));
    }

    #[test]
    fn without_roots_everything_is_forbidden() {
        let (dir, _) = folders();
        let address = format!("file://{}/secret", dir.path().display());
        assert!(matches!(FileRoots::default().read(&address, 100), Err(MediaError::Forbidden(_))));
        assert!(matches!(FileRoots::default().read("file:a", 100), Err(MediaError::Forbidden(_))));
    }
}
