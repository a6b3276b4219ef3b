//! `[media]`.

use super::{Resolver, View};
use crate::config::{AllowedHost, MediaConfig};

impl Resolver<'_> {
    pub(super) fn media(&mut self) -> MediaConfig {
        let view = self.view("media");
        for host in view.list("http_hosts") {
            if host.parse::<AllowedHost>().is_err() {
                let fix = "write a host such as \"img.example.com\" or a domain such as \".example.com\", without scheme or path, with \
                           `:PORT` or `:*` behind it where its ports are not 80 and 443";
                self.error(view, "http_hosts", format!("`{host}` is no host"), fix);
            }
        }
        MediaConfig {
            file_roots: view.list("file_roots").iter().map(|root| self.join(root)).collect(),
            http_hosts: view.list("http_hosts").iter().filter_map(|host| host.parse().ok()).collect(),
            proxy: self.proxy(view),
            allow_private_networks: view.flag("allow_private_networks"),
            bytes_max: view.size("bytes_max"),
            pixels_max: view.integer("pixels_max"),
            edge_max: u32::try_from(view.integer("edge_max")).unwrap_or(u32::MAX),
            timeout: view.millis("timeout_ms"),
            connect_timeout: view.millis("connect_timeout_ms"),
            redirects_max: view.size("redirects_max"),
            in_flight_max: view.size("in_flight_max"),
            host_in_flight_max: view.size("host_in_flight_max"),
            host_failures_max: view.size("host_failures_max"),
            host_pause: view.millis("host_pause_ms"),
        }
    }

    fn proxy(&mut self, view: View<'_>) -> Option<url::Url> {
        let written = view.text("proxy");
        if written.is_empty() {
            return None;
        }
        let is_proxy = |url: &url::Url| {
            matches!(url.scheme(), "http" | "https") && url.has_host() && url.username().is_empty() && url.password().is_none()
        };
        let proxy = url::Url::parse(written).ok().filter(is_proxy);
        if proxy.is_none() {
            // Not repeated: it may carry a password.
            let fix = "write http://HOST:PORT or https://HOST:PORT, without a user name or password";
            self.error(view, "proxy", "the proxy is no address".to_owned(), fix);
        }
        proxy
    }
}
