//! `[media]`.

use std::path::PathBuf;
use std::time::Duration;

use astromech_settings::kinds::{flag, int, list, millis, path, text};
use astromech_settings::{Mistake, Value as _, settings};
use url::Url;

use crate::{AllowedHost, GIB, MINUTE_MS};

settings! {
    /// `[media]`
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct MediaConfig {
        /// Folders under which `file:` addresses may lie, links followed. `file:name` without a slash is looked up in each of them.
        file_roots: Vec<PathBuf> = [] => list(path());
        /// Hosts of `http:` and `https:` addresses: "host", or ".domain" for a domain and everything under it, on ports 80 and 443;
        /// "host:8443" for another port, "host:*" for any; a name in Chinese is its punycode. Redirects are checked too.
        http_hosts: Vec<AllowedHost> = [] => list(text().parsed(|text| host(&text), AllowedHost::nowhere));
        /// Proxy for `http:` and `https:` addresses, for example http://proxy.internal:3128; empty for none. The environment
        /// (HTTP_PROXY) is never asked. A proxy resolves names itself: it must keep private addresses out, for nothing here can.
        proxy: Option<Url> = "" => text().parsed(|text| proxy(&text), || None);
        /// Whether those hosts may have private, loopback or link-local addresses.
        allow_private_networks: bool = false => flag();
        /// Largest encoded picture, bytes.
        bytes_max: usize = 16777216 => int(1, GIB);
        /// Most pixels of a picture, width by height as its header declares, checked before it is decoded.
        pixels_max: u64 = 50000000 => int(1, 4_000_000_000);
        /// Longest edge of a picture, pixels.
        edge_max: u32 = 30000 => int(1, 1_000_000);
        /// Longest time for one picture, redirects and body included, milliseconds.
        timeout as "timeout_ms": Duration = 10000 => millis(1, 10 * MINUTE_MS);
        /// Longest time for a connection to open, milliseconds.
        connect_timeout as "connect_timeout_ms": Duration = 3000 => millis(1, 10 * MINUTE_MS);
        /// Most redirects that are followed.
        redirects_max: usize = 3 => int(0, 20);
        /// Most fetched pictures at once, until they are prepared.
        in_flight_max: usize = 16 => int(1, 4096);
        /// Most pictures fetched from one host at once.
        host_in_flight_max: usize = 8 => int(1, 4096);
        /// Failures of one host in a row after which it is left alone: its pictures wait, other hosts' go on, nothing becomes a dead
        /// letter.
        host_failures_max: usize = 8 => int(1, 1_000_000);
        /// How long a host is left alone before one picture is tried again, milliseconds.
        host_pause as "host_pause_ms": Duration = 5000 => millis(1, 10 * MINUTE_MS);
    }
}

fn host(written: &str) -> Result<AllowedHost, Mistake> {
    written.parse().map_err(|()| {
        let fix = "write a host such as \"img.example.com\" or a domain such as \".example.com\", without scheme or path, with \
                   `:PORT` or `:*` behind it where its ports are not 80 and 443";
        Mistake::new(format!("`{written}` is no host"), fix)
    })
}

fn proxy(written: &str) -> Result<Option<Url>, Mistake> {
    if written.is_empty() {
        return Ok(None);
    }
    let proxy = web_address(written).map(Some);
    // Not repeated: it may carry a password.
    proxy.ok_or_else(|| {
        Mistake::new("the proxy is no address", "write http://HOST:PORT or https://HOST:PORT, without a user name or password")
    })
}

/// An address of HTTP without a user name or a password in it.
pub(crate) fn web_address(written: &str) -> Option<Url> {
    let is_address = |url: &Url| {
        matches!(url.scheme(), "http" | "https") && url.has_host() && url.username().is_empty() && url.password().is_none()
    };
    Url::parse(written).ok().filter(is_address)
}
