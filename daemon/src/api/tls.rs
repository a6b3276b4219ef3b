//! TLS of the HTTP interface: a certificate and its key from files, read again when they change, so that a certificate that is renewed
//! in place (cert-manager, certbot) is served without a restart; and, where it is asked for, the certificates of clients.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::config::{Config, TlsConfig};

/// How often the files are looked at.
const RELOAD_INTERVAL: Duration = Duration::from_secs(10);

/// Why TLS can't be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("{key}: {} can't be read: {source}; fix: name a file that this user may read", .path.display())]
    Unreadable {
        /// Key of the configuration.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not what it should be. Never shows what is in it.
    #[error("{key}: {}: {problem}; fix: {fix}", .path.display())]
    Invalid {
        /// Key of the configuration.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
        /// What helps.
        fix: &'static str,
    },
}

/// What the files held, to tell whether they changed.
#[derive(PartialEq, Eq)]
struct Material {
    certificates: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// The certificate that is served now.
pub struct Tls {
    files: TlsConfig,
    served: RwLock<(Material, Arc<ServerConfig>)>,
}

impl Tls {
    /// The certificate of the configuration, where it names one.
    ///
    /// # Errors
    /// As [`Tls::load`].
    pub fn of(config: &Config) -> Result<Option<Arc<Self>>, TlsError> {
        config.http.tls.as_ref().map(|files| Self::load(files).map(Arc::new)).transpose()
    }

    /// Reads the files of the configuration.
    ///
    /// # Errors
    /// A file can't be read or is no PEM of what it should be; the key is not the certificate's.
    pub fn load(files: &TlsConfig) -> Result<Self, TlsError> {
        let material = Material::read(files)?;
        let config = material.server_config(files)?;
        Ok(Self { files: files.clone(), served: RwLock::new((material, config)) })
    }

    /// What accepts the next connection.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let served = self.served.read().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(&served.1))
    }

    /// Reads the files again; connections after this one get what they hold now. Returns whether they had changed. What is served stays
    /// where they are broken.
    ///
    /// # Errors
    /// As [`Tls::load`].
    pub fn reload(&self) -> Result<bool, TlsError> {
        let material = Material::read(&self.files)?;
        if self.served.read().unwrap_or_else(PoisonError::into_inner).0 == material {
            return Ok(false);
        }
        let config = material.server_config(&self.files)?;
        *self.served.write().unwrap_or_else(PoisonError::into_inner) = (material, config);
        Ok(true)
    }

    /// Looks at the files now and then, for ever.
    pub(super) async fn watch(self: Arc<Self>) {
        let mut said = String::new();
        loop {
            tokio::time::sleep(RELOAD_INTERVAL).await;
            let this = Arc::clone(&self);
            match tokio::task::spawn_blocking(move || this.reload()).await {
                Ok(Ok(changed)) => {
                    said.clear();
                    if changed {
                        tracing::info!(certificate = %self.files.certificate_file.display(), "a new certificate is served");
                    }
                }
                Ok(Err(error)) => {
                    // A pair of files is not renewed at one instant: said once, and again only when it is another problem.
                    let problem = error.to_string();
                    if problem != said {
                        tracing::warn!(%problem, "the certificate was not renewed; the one before is served");
                        said = problem;
                    }
                }
                Err(_) => return,
            }
        }
    }
}

impl Material {
    fn read(files: &TlsConfig) -> Result<Self, TlsError> {
        let client_ca = files.client_ca_file.as_deref().map(|path| read("http.tls.client_ca_file", path)).transpose()?;
        Ok(Self {
            certificates: read("http.tls.certificate_file", &files.certificate_file)?,
            key: read("http.tls.key_file", &files.key_file)?,
            client_ca,
        })
    }

    fn server_config(&self, files: &TlsConfig) -> Result<Arc<ServerConfig>, TlsError> {
        let chain = certificates("http.tls.certificate_file", &files.certificate_file, &self.certificates)?;
        // The parser's own words could quote the file.
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| TlsError::Invalid {
            key: "http.tls.key_file",
            path: files.key_file.clone(),
            problem: "holds no private key in PEM".to_owned(),
            fix: "write the key unencrypted, as PKCS #8, PKCS #1 or SEC 1",
        })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let of_pair = |error: rustls::Error| TlsError::Invalid {
            key: "http.tls.certificate_file",
            path: files.certificate_file.clone(),
            problem: format!("can't be served with the key of http.tls.key_file: {error}"),
            fix: "name the certificate of that key first, then those that vouch for it",
        };
        let builder = builder.map_err(of_pair)?;
        let builder = match (&self.client_ca, &files.client_ca_file) {
            (Some(pem), Some(path)) => {
                let invalid = |problem: String| TlsError::Invalid {
                    key: "http.tls.client_ca_file",
                    path: path.clone(),
                    problem,
                    fix: "name a file of the certificates in PEM that vouch for clients",
                };
                let mut roots = RootCertStore::empty();
                for certificate in certificates("http.tls.client_ca_file", path, pem)? {
                    roots.add(certificate).map_err(|error| invalid(error.to_string()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| invalid(error.to_string()))?)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(of_pair)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Unreadable { key, path: path.to_owned(), source })
}

fn certificates(key: &'static str, path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    found.ok().filter(|found| !found.is_empty()).ok_or_else(|| TlsError::Invalid {
        key,
        path: path.to_owned(),
        problem: "holds no certificate in PEM".to_owned(),
        fix: "write certificates in PEM: -----BEGIN CERTIFICATE-----",
    })
}
