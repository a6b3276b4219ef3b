//! `[http]` and the sections below it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use astromech_settings::kinds::{flag, float, int, millis, path_or_none, strings, text};
use astromech_settings::{Mistake, Named, Value as _, defaults, settings};

use crate::secret::Secret;
use crate::{GIB, KIB, MINUTE_MS};

/// What a caller of the HTTP interface may do. The later includes the earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Search, re-score and embed.
    Read,
    /// Administer the daemon too.
    Write,
}

impl Role {
    /// The word in errors.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// One API key of `[http.auth.read_keys]` or `[http.auth.write_keys]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyConfig {
    /// Name of its holder, for logs and limits.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// The key, read from the file that the configuration names.
    pub key: Secret,
}

/// `[http.auth]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthConfig {
    /// Keys; with none everybody may call.
    pub keys: Vec<KeyConfig>,
    /// Whether metrics are answered without a key.
    pub metrics_open: bool,
}

/// `[http.rate]`, where it limits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateConfig {
    /// Requests a second of one caller, for long.
    pub requests_per_s: f64,
    /// Requests at once after a pause.
    pub burst: std::num::NonZeroU32,
    /// Most peer addresses that are remembered.
    pub callers_max: usize,
}

/// `[http.tls]`, where it names a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// The certificate and those that vouch for it, PEM.
    pub certificate_file: PathBuf,
    /// Its private key, PEM.
    pub key_file: PathBuf,
    /// Certificates that vouch for clients, PEM; `None` asks clients for none.
    pub client_ca_file: Option<PathBuf>,
}

settings! {
    /// `[http]`
    #[derive(Debug, Clone, PartialEq)]
    pub struct HttpConfig {
        /// Address and port to listen on; port 0 picks a free one.
        listen: SocketAddr = "127.0.0.1:8080" => text().parsed(|text| address(&text), || SocketAddr::from(([127, 0, 0, 1], 0)));
        /// Largest request body, bytes; of one sent with content-encoding: gzip after it is unpacked.
        body_bytes_max: usize = 20971520 => int(KIB, GIB);
        /// Most requests at once; beyond it the answer is 503.
        requests_in_flight_max: usize = 64 => int(1, 65_536);
        /// Longest time for one request, milliseconds.
        timeout as "timeout_ms": Duration = 10000 => millis(1, 10 * MINUTE_MS);
        /// Longest time for the headers of a request, and for its body, to arrive, milliseconds. The headers' time begins when the
        /// connection opens or the last answer is sent; when it is over the connection is closed. A late body is answered 408.
        read_timeout as "read_timeout_ms": Duration = 8000 => millis(1, 10 * MINUTE_MS);
        /// After SIGTERM, how long requests are still served, new ones too, while /readyz already says `running`: longer than balancers
        /// take to notice, milliseconds. After SIGINT none are.
        drain_grace as "drain_grace_ms": Duration = 5000 => millis(0, 10 * MINUTE_MS);
        /// How often one caller may ask; `None` where that is not limited.
        rate: Option<RateConfig> = derived => None;
        /// Who may call.
        auth: AuthConfig = derived => AuthConfig { keys: Vec::new(), metrics_open: false };
        /// The certificate to serve with; `None` serves plain HTTP.
        tls: Option<TlsConfig> = derived => None;
    }

    /// `[http.rate]` as written.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct RateSection {
        /// Requests a second that a caller may send for long; beyond it the answer is 429. 0 sets no limit.
        requests_per_s: f64 = 0.0 => float(0.0, 1_000_000.0);
        /// How many seconds' worth of requests a caller may send at once after a pause, seconds; always at least one request.
        burst_s: f64 = 2.0 => float(0.0, 3600.0);
        /// Most peer addresses that are remembered; beyond it the least recently used begin anew with a full bucket.
        callers_max: usize = 10000 => int(16, 10_000_000);
    }

    /// `[http.tls]` as written.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct TlsSection {
        /// File of the certificate, then of those that vouch for it, in PEM; empty serves plain HTTP.
        certificate_file: Option<PathBuf> = "" => path_or_none();
        /// File of its private key, unencrypted, in PEM.
        key_file: Option<PathBuf> = "" => path_or_none();
        /// File of the certificates in PEM that vouch for clients: who shows none of theirs is cut off, health checks included. Empty
        /// asks for none.
        client_ca_file: Option<PathBuf> = "" => path_or_none();
    }

    /// `[http.auth]` as written.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct AuthSection {
        /// Whether /metrics is answered without a key too; false asks for one of either role.
        metrics_open: bool = true => flag();
        /// Name of a caller and the file that holds its key, at least 16 characters: may search, re-score and embed. The name is what
        /// logs show.
        read_keys: BTreeMap<String, Named> = {} => strings("\"editor\" = \"/run/secrets/editor-key\"");
        /// As http.auth.read_keys, for callers that may administer the daemon too. Without any key in either section, only callers
        /// on this machine may.
        write_keys: BTreeMap<String, Named> = {} => strings("\"operator\" = \"/run/secrets/operator-key\"");
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        defaults()
    }
}

fn address(written: &str) -> Result<SocketAddr, Mistake> {
    written.parse().map_err(|_| {
        let fix = "write \"127.0.0.1:8080\", or \"0.0.0.0:8080\" for every interface";
        Mistake::new(format!("`{written}` is no address and port"), fix)
    })
}
