//! `[http]` and the sections below it.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use astromech_settings::{At, Named};

use super::Checks;
use crate::file::Http;
use crate::http::{RateSection, TlsSection};
use crate::secret::secret;
use crate::{AuthConfig, HttpConfig, KeyConfig, RateConfig, Role, Secret, TlsConfig};

/// Shortest API key, characters: what is shorter could be guessed.
const KEY_CHARS_MIN: usize = 16;
/// Longest API key, characters: it has to fit into a request's headers.
const KEY_CHARS_MAX: usize = 1024;

impl Checks<'_> {
    pub(super) fn http(&mut self, http: Http) -> HttpConfig {
        let mut keys = Vec::new();
        self.keys(Role::Read, http.auth.read_keys, &mut keys);
        self.keys(Role::Write, http.auth.write_keys, &mut keys);
        let auth = AuthConfig { keys, metrics_open: http.auth.metrics_open };
        HttpConfig { rate: rate(&http.rate), auth, tls: self.tls(http.tls), ..http.own.0 }
    }

    fn tls(&mut self, tls: TlsSection) -> Option<TlsConfig> {
        let (at, client_ca_file) = (&self.at.http.tls, tls.client_ca_file);
        match (tls.certificate_file, tls.key_file) {
            (Some(certificate_file), Some(key_file)) => {
                return Some(TlsConfig { certificate_file, key_file, client_ca_file });
            }
            (Some(_), None) => {
                self.error(&at.key_file, "missing beside certificate_file", "name the file of its private key");
            }
            (None, Some(_)) => {
                self.error(&at.certificate_file, "missing beside key_file", "name the file of the key's certificate");
            }
            (None, None) if client_ca_file.is_some() => {
                let problem = "clients show certificates over TLS only, and there is none";
                self.error(&at.client_ca_file, problem, "name certificate_file and key_file too");
            }
            (None, None) => {}
        }
        None
    }

    fn keys(&mut self, role: Role, section: BTreeMap<String, Named>, keys: &mut Vec<KeyConfig>) {
        for (name, Named { text, at }) in section {
            let Some(key) = secret(&at, &self.folder.join(text), self.errors).filter(|key| self.is_usable_key(&at, key)) else {
                continue;
            };
            if let Some(other) = keys.iter().find(|other| other.name == name || other.key == key) {
                let problem = format!("the same name or key as `{}`: nobody could tell the two apart", other.name);
                self.error(&at, problem, "give each caller a name and a key of its own, under one role");
                continue;
            }
            keys.push(KeyConfig { name, role, key });
        }
    }

    fn is_usable_key(&mut self, at: &At, key: &Secret) -> bool {
        let (key, fix) = (key.reveal(), "write a random one into the file: openssl rand -hex 32");
        if !(KEY_CHARS_MIN..=KEY_CHARS_MAX).contains(&key.len()) {
            let problem = format!("the key has {} characters, outside {KEY_CHARS_MIN} to {KEY_CHARS_MAX}", key.len());
            self.error(at, problem, fix);
            return false;
        }
        if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            self.error(at, "the key holds a character that no header may carry", fix);
            return false;
        }
        true
    }
}

fn rate(rate: &RateSection) -> Option<RateConfig> {
    let requests_per_s = rate.requests_per_s;
    // The range of both keys keeps the product far below what f64 holds exactly.
    let burst = (requests_per_s * rate.burst_s).min(f64::from(u32::MAX)) as u32;
    (requests_per_s > 0.0).then(|| RateConfig {
        requests_per_s,
        burst: NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN),
        callers_max: rate.callers_max,
    })
}
