//! Signing: minisign's format, so that `minisign -V` checks it too.

#[cfg(feature = "sign")]
pub use with_minisign::{Signer, generate_key};

/// Nobody signs in a build without the feature `sign`.
#[cfg(not(feature = "sign"))]
#[derive(Debug)]
pub enum Signer {}

#[cfg(not(feature = "sign"))]
impl Signer {
    pub(crate) fn sign(&self, _release: &astromech_schemas::Release) -> Result<String, crate::RegistryError> {
        match *self {}
    }
}

#[cfg(feature = "sign")]
mod with_minisign {
    use std::fmt;
    use std::fs::File;
    use std::io::{Cursor, Write as _};
    use std::path::{Path, PathBuf};

    use astromech_schemas::Release;
    use minisign::{KeyPair, SecretKey, SecretKeyBox};

    use crate::RegistryError;

    /// A secret key that signs releases.
    pub struct Signer {
        key: SecretKey,
        what: String,
    }

    impl fmt::Debug for Signer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("Signer").field("key", &self.what).finish_non_exhaustive()
        }
    }

    impl Signer {
        /// The minisign secret key in `path`; `password` where it is encrypted.
        ///
        /// # Errors
        /// The file can't be read, is no secret key, or the password is missing or wrong.
        pub fn from_file(path: &Path, password: Option<&str>) -> Result<Self, RegistryError> {
            let text = std::fs::read_to_string(path).map_err(RegistryError::io(path))?;
            let what = path.display().to_string();
            let wrong = |problem: String| RegistryError::Key { what: what.clone(), problem };
            let sealed = SecretKeyBox::from_string(&text).map_err(|error| wrong(error.to_string()))?;
            // Without this the crate would ask at the terminal.
            let key = match password {
                Some(password) => sealed.into_secret_key(Some(password.to_owned())),
                None => sealed.into_unencrypted_secret_key(),
            };
            let key = key.map_err(|error| wrong(format!("{error} (is the password missing or wrong?)")))?;
            Ok(Self { key, what })
        }

        pub(crate) fn sign(&self, release: &Release) -> Result<String, RegistryError> {
            let comment = format!("astromech release {}", release.fingerprint.short());
            let statement = Cursor::new(release.statement());
            minisign::sign(None, &self.key, statement, Some(&comment), Some("signature of an astromech release"))
                .map(|signature| signature.to_string())
                .map_err(|error| RegistryError::Key { what: self.what.clone(), problem: error.to_string() })
        }
    }

    /// Makes a key pair: the secret key in `path`, readable by its owner alone, encrypted where a password is given; the public key
    /// beside it in `path` with `.pub` appended. Returns the place of the public key and its one line for a configuration.
    ///
    /// # Errors
    /// A file is there already, or can't be written.
    pub fn generate_key(path: &Path, password: Option<&str>) -> Result<(PathBuf, String), RegistryError> {
        let wrong = |error: minisign::PError| RegistryError::Key { what: path.display().to_string(), problem: error.to_string() };
        let pair = match password {
            Some(password) => KeyPair::generate_encrypted_keypair(Some(password.to_owned())),
            None => KeyPair::generate_unencrypted_keypair(),
        };
        let pair = pair.map_err(wrong)?;
        let secret = pair.sk.to_box(Some("astromech secret key")).map_err(wrong)?.into_string();
        let public = pair.pk.to_box().map_err(wrong)?.into_string();
        let mut public_path = path.as_os_str().to_owned();
        public_path.push(".pub");
        let public_path = PathBuf::from(public_path);
        write_new(path, &secret, 0o600)?;
        write_new(&public_path, &public, 0o644)?;
        Ok((public_path, pair.pk.to_base64()))
    }

    fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), RegistryError> {
        let mut options = File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
        let mut file = options.open(path).map_err(RegistryError::io(path))?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(RegistryError::io(path))
    }
}
