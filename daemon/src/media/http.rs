//! Pictures by `http:` and `https:`: listed hosts, public addresses, a limit on bytes, time and redirects.

use std::error::Error;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, Proxy, Response, StatusCode, header};
use url::Url;

use super::MediaError;
use super::address::AddressRules;
use super::resolver::{FilteringResolver, ForbiddenAddress, Lookup, LookupFailed};
use crate::config::MediaConfig;

/// Connections that are kept open to one host, and how long.
const POOL_PER_HOST_MAX: usize = 8;
const POOL_IDLE: Duration = Duration::from_secs(30);

/// The client and its limits.
pub(super) struct HttpFetcher {
    client: Client,
    rules: AddressRules,
    bytes_max: usize,
    timeout: Duration,
    redirects_max: usize,
}

impl HttpFetcher {
    pub(super) fn new(config: &MediaConfig, lookup: Lookup) -> Result<Self, reqwest::Error> {
        install_ring();
        let rules = AddressRules::new(config.http_hosts.clone(), config.allow_private_networks);
        // A proxy resolves names itself, where nothing of ours can check them: one that the environment happens to name is ignored.
        let (client, proxy_host) = match &config.proxy {
            Some(proxy) => (Client::builder().proxy(Proxy::all(proxy.clone())?), proxy.host_str().map(str::to_owned)),
            None => (Client::builder().no_proxy(), None),
        };
        let client = client
            .dns_resolver(Arc::new(FilteringResolver { rules: rules.clone(), lookup, proxy_host }))
            // Nothing is ever unpacked, whatever features another crate turns on: what was sent is what is counted.
            .no_gzip()
            .no_brotli()
            .no_deflate()
            .no_zstd()
            // Redirects are followed here, each checked.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(config.connect_timeout)
            .pool_max_idle_per_host(POOL_PER_HOST_MAX)
            .pool_idle_timeout(POOL_IDLE)
            .user_agent(concat!("astromech/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let MediaConfig { bytes_max, timeout, redirects_max, .. } = *config;
        Ok(Self { client, rules, bytes_max, timeout, redirects_max })
    }

    /// Whether `url` may be fetched at all.
    pub(super) fn check(&self, url: &Url) -> Result<(), MediaError> {
        self.rules.check(url)
    }

    /// The picture at `url`.
    pub(super) async fn fetch(&self, url: &Url) -> Result<Vec<u8>, MediaError> {
        // The first address is checked outside the time limit, so that a forbidden one is forbidden however slow the machine is.
        self.rules.check(url)?;
        match tokio::time::timeout(self.timeout, self.follow(url.clone())).await {
            Ok(result) => result,
            Err(_) => {
                Err(MediaError::Transient(format!("{url} took longer than media.timeout_ms = {}", self.timeout.as_millis())))
            }
        }
    }

    async fn follow(&self, mut url: Url) -> Result<Vec<u8>, MediaError> {
        for _ in 0..=self.redirects_max {
            self.rules.check(&url)?;
            let response = self.client.get(url.clone()).send().await.map_err(|e| request_error(&url, &e))?;
            match redirect_target(&url, &response)? {
                Some(next) => url = next,
                None => return self.read(&url, response).await,
            }
        }
        Err(MediaError::Forbidden(format!("more than media.redirects_max = {} redirects, the last to {url}", self.redirects_max)))
    }

    async fn read(&self, url: &Url, mut response: Response) -> Result<Vec<u8>, MediaError> {
        check_status(url, response.status())?;
        check_encoding(url, &response)?;
        let too_large = || MediaError::TooLarge(format!("{url} has more than media.bytes_max = {} bytes", self.bytes_max));
        let declared = response.content_length().unwrap_or(0);
        if declared > self.bytes_max as u64 {
            return Err(too_large());
        }
        // A declared length is a claim: it may spare reallocations but not decide on memory.
        let mut bytes = Vec::with_capacity(declared as usize);
        while let Some(chunk) = response.chunk().await.map_err(|e| request_error(url, &e))? {
            if bytes.len() + chunk.len() > self.bytes_max {
                return Err(too_large());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

/// Makes ring the process's TLS provider; another that is installed already stays.
fn install_ring() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Where the response sends on to, if it does.
fn redirect_target(url: &Url, response: &Response) -> Result<Option<Url>, MediaError> {
    let redirects = matches!(
        response.status(),
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    if !redirects {
        return Ok(None);
    }
    let nowhere = |what: String| MediaError::NotFound(format!("{url} redirects to nowhere ({}): {what}", response.status()));
    let location = response.headers().get(header::LOCATION).map(|value| ascii_location(value.as_bytes()));
    let location = location.filter(|location| !location.trim().is_empty()).ok_or_else(|| nowhere("no Location".to_owned()))?;
    url.join(&location).map(Some).map_err(|error| nowhere(format!("the Location `{location}` is no address: {error}")))
}

/// A Location may have bytes beyond ASCII, of UTF-8 or of an older encoding: each is sent back as it came, percent-encoded, as browsers
/// and curl do. In a host's name only UTF-8 gives a name.
fn ascii_location(location: &[u8]) -> String {
    location.iter().fold(String::with_capacity(location.len()), |mut ascii, byte| {
        if byte.is_ascii() {
            ascii.push(char::from(*byte));
        } else {
            // Writing to a String can't fail.
            let _ = write!(ascii, "%{byte:02X}");
        }
        ascii
    })
}

fn check_status(url: &Url, status: StatusCode) -> Result<(), MediaError> {
    let detail = format!("{url} answered {status}");
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS => {
            Err(MediaError::Forbidden(detail))
        }
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => Err(MediaError::Transient(detail)),
        status if status.is_success() => Ok(()),
        status if status.is_server_error() => Err(MediaError::Transient(detail)),
        _ => Err(MediaError::NotFound(detail)),
    }
}

/// A picture is compressed already. What is packed once more was not asked for, and unpacking it is what a bomb waits for.
fn check_encoding(url: &Url, response: &Response) -> Result<(), MediaError> {
    match response.headers().get(header::CONTENT_ENCODING) {
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => Err(MediaError::Forbidden(format!(
            "{url} answered with content-encoding {}, which was not asked for and is never unpacked; fix: serve the picture as it is",
            String::from_utf8_lossy(encoding.as_bytes())
        ))),
        _ => Ok(()),
    }
}

/// A failed connection or a broken body may pass; a name that has private addresses only does not.
fn request_error(url: &Url, error: &reqwest::Error) -> MediaError {
    let (mut reasons, mut what) = (Vec::new(), None);
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    while let Some(inner) = cause {
        if let Some(forbidden) = inner.downcast_ref::<ForbiddenAddress>() {
            return MediaError::Forbidden(forbidden.to_string());
        }
        what = what.or_else(|| named(inner));
        reasons.push(inner.to_string());
        cause = inner.source();
    }
    let what = what.unwrap_or(match (error.is_connect(), error.is_timeout()) {
        (true, true) => "connecting took longer than media.connect_timeout_ms",
        (true, false) => "no connection",
        _ if error.is_body() || error.is_decode() => "the body broke off",
        _ => "no valid answer",
    });
    let reason = reasons.last().cloned().unwrap_or_else(|| error.to_string());
    MediaError::Transient(format!("{url} can't be fetched now: {what}: {reason}"))
}

/// What only the cause itself tells. An input error may carry another inside, TLS's own in the end, which is no `source` of it.
fn named(cause: &(dyn Error + 'static)) -> Option<&'static str> {
    if cause.is::<rustls::Error>() {
        return Some("TLS");
    }
    if cause.is::<LookupFailed>() {
        return Some("its name can't be resolved");
    }
    let inside = cause.downcast_ref::<std::io::Error>()?.get_ref()?;
    named(inside)
}
