//! A certificate authority of the harness's own, and certificates that it issues.

use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Issues certificates. Its key is in this process only.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, PEM.
#[derive(Clone)]
pub struct Certified {
    /// The certificate.
    pub certificate: String,
    /// Its private key, PKCS #8.
    pub key: String,
}

impl Default for Authority {
    fn default() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Astromech's tests");
        let key = KeyPair::generate().expect("a key is made");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate is signed"))
    }
}

impl Authority {
    /// Its own certificate, PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate of `name`, valid now.
    pub fn issue(&self, name: &str) -> Certified {
        self.sign(name, |_| {})
    }

    /// A certificate of `name` that was valid once.
    pub fn issue_expired(&self, name: &str) -> Certified {
        self.sign(name, |params| {
            (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        })
    }

    fn sign(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Certified {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        let key = KeyPair::generate().expect("a key is made");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate is signed");
        Certified { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

impl Certified {
    /// Writes `certificate.pem` and `key.pem` into `folder`.
    pub fn write(&self, folder: &Path) {
        std::fs::create_dir_all(folder).expect("the folder is made");
        std::fs::write(folder.join("certificate.pem"), &self.certificate).expect("the certificate is written");
        std::fs::write(folder.join("key.pem"), &self.key).expect("the key is written");
    }

    /// Serves it, asking clients for nothing.
    pub(crate) fn server_config(&self) -> Arc<ServerConfig> {
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes()).expect("PEM of ours");
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("PEM of ours");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("ring's versions");
        Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key).expect("the key of the certificate"))
    }
}
