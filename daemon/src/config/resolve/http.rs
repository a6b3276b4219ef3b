//! `[http]` and the sections below it.

use std::num::NonZeroU32;

use super::{Resolver, View};
use crate::config::types::{AuthConfig, HttpConfig, KeyConfig, RateConfig, Role, Secret, TlsConfig};

/// Shortest API key, characters: what is shorter could be guessed.
const KEY_CHARS_MIN: usize = 16;
/// Longest API key, characters: it has to fit into a request's headers.
const KEY_CHARS_MAX: usize = 1024;
/// Where keys are written, and what they allow.
const KEY_SECTIONS: [(&str, Role); 2] = [("http.auth.read_keys", Role::Read), ("http.auth.write_keys", Role::Write)];

impl Resolver<'_> {
    pub(super) fn http(&mut self) -> HttpConfig {
        let view = self.view("http");
        let listen = view.text("listen").parse().unwrap_or_else(|_| {
            let problem = format!("`{}` is no address and port", view.text("listen"));
            self.error(view, "listen", problem, "write \"127.0.0.1:8080\", or \"0.0.0.0:8080\" for every interface");
            std::net::SocketAddr::from(([127, 0, 0, 1], 0))
        });
        HttpConfig {
            listen,
            body_bytes_max: view.size("body_bytes_max"),
            requests_in_flight_max: view.size("requests_in_flight_max"),
            timeout: view.millis("timeout_ms"),
            read_timeout: view.millis("read_timeout_ms"),
            rate: self.http_rate(),
            auth: AuthConfig { keys: self.http_keys(), metrics_open: self.view("http.auth").flag("metrics_open") },
            tls: self.http_tls(),
        }
    }

    fn http_tls(&mut self) -> Option<TlsConfig> {
        let view = self.view("http.tls");
        let file = |key: &str| Some(view.text(key)).filter(|text| !text.is_empty()).map(|text| self.join(text));
        let (certificate, key, client_ca) = (file("certificate_file"), file("key_file"), file("client_ca_file"));
        match (certificate, key) {
            (Some(certificate_file), Some(key_file)) => {
                return Some(TlsConfig { certificate_file, key_file, client_ca_file: client_ca });
            }
            (Some(_), None) => {
                self.error(view, "key_file", "missing beside certificate_file", "name the file of its private key");
            }
            (None, Some(_)) => {
                self.error(view, "certificate_file", "missing beside key_file", "name the file of the key's certificate");
            }
            (None, None) if client_ca.is_some() => {
                let problem = "clients show certificates over TLS only, and there is none";
                self.error(view, "client_ca_file", problem, "name certificate_file and key_file too");
            }
            (None, None) => {}
        }
        None
    }

    fn http_rate(&self) -> Option<RateConfig> {
        let view = self.view("http.rate");
        let requests_per_s = view.float("requests_per_s");
        // The range of both keys keeps the product far below what f64 holds exactly.
        let burst = (requests_per_s * view.float("burst_s")).min(f64::from(u32::MAX)) as u32;
        (requests_per_s > 0.0).then(|| RateConfig {
            requests_per_s,
            burst: NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN),
            callers_max: view.size("callers_max"),
        })
    }

    fn http_keys(&mut self) -> Vec<KeyConfig> {
        let mut keys: Vec<KeyConfig> = Vec::new();
        for (section, role) in KEY_SECTIONS {
            let view = self.view(section);
            for name in view.table.values.keys() {
                let Some(key) = self.secret(view, name, view.text(name)).filter(|key| self.is_usable_key(view, name, key)) else {
                    continue;
                };
                if let Some(other) = keys.iter().find(|other| other.name == *name || other.key == key) {
                    let problem = format!("the same name or key as `{}`: nobody could tell the two apart", other.name);
                    self.error(view, name, problem, "give each caller a name and a key of its own, under one role");
                    continue;
                }
                keys.push(KeyConfig { name: name.clone(), role, key });
            }
        }
        keys
    }

    fn is_usable_key(&mut self, view: View<'_>, name: &str, key: &Secret) -> bool {
        let (key, fix) = (key.reveal(), "write a random one into the file: openssl rand -hex 32");
        if !(KEY_CHARS_MIN..=KEY_CHARS_MAX).contains(&key.len()) {
            let problem = format!("the key has {} characters, outside {KEY_CHARS_MIN} to {KEY_CHARS_MAX}", key.len());
            self.error(view, name, problem, fix);
            return false;
        }
        if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            self.error(view, name, "the key holds a character that no header may carry", fix);
            return false;
        }
        true
    }
}
