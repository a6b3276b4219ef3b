//! Who calls, and what they may do: API keys, roles, and the layers that ask for them.
//!
//! The daemon keeps digests of the keys only. A key that is sent is digested too and compared with every digest in constant time, so
//! neither the answer nor its time tells how near a guess was; and it is taken out of the request before a handler or a log sees it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::AppState;
use super::limit::Rate;
use super::listener::Peer;
use super::problem::Problem;
use crate::config::{AuthConfig, Config, RateConfig, Role};

/// Header of a key, beside `authorization: Bearer`.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const BEARER: &str = "bearer";

/// Who may call, and how often.
#[derive(Debug)]
pub struct Access {
    keys: Vec<Key>,
    metrics_open: bool,
    rate: Option<Rate>,
}

impl Default for Access {
    /// Everybody, as often as they like.
    fn default() -> Self {
        Self { keys: Vec::new(), metrics_open: true, rate: None }
    }
}

struct Key {
    name: Arc<str>,
    role: Role,
    digest: [u8; 32],
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("name", &self.name).field("role", &self.role).finish_non_exhaustive()
    }
}

/// Who sent a request; among its extensions once it has passed [`identify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    /// Name of the key; `None` where there are no keys.
    pub(super) name: Option<Arc<str>>,
    /// What the caller may do.
    pub(super) role: Role,
}

impl Access {
    /// As configured.
    pub fn of(config: &Config) -> Self {
        Self::new(&config.http.auth, config.http.rate.as_ref())
    }

    /// With these keys, which themselves are not kept, and this rate of each caller.
    pub fn new(auth: &AuthConfig, rate: Option<&RateConfig>) -> Self {
        let key = |key: &crate::config::KeyConfig| Key {
            name: Arc::from(key.name.as_str()),
            role: key.role,
            digest: digest(key.key.reveal().as_bytes()),
        };
        let keys: Vec<Key> = auth.keys.iter().map(key).collect();
        let rate = rate.map(|rate| Rate::new(rate, keys.iter().map(|key| Arc::clone(&key.name))));
        Self { keys, metrics_open: auth.metrics_open, rate }
    }

    /// Whether `/v1` asks for a key.
    pub(super) const fn asks_for_keys(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Whether `/metrics` is answered to everybody.
    pub(super) fn metrics_are_open(&self) -> bool {
        self.metrics_open || self.keys.is_empty()
    }

    fn caller(&self, headers: &HeaderMap, peer: IpAddr) -> Result<Caller, Refused> {
        if self.keys.is_empty() {
            // A browser names the page that sends it in `origin`: no page of the web may administer through a visitor's browser.
            let here = peer.to_canonical().is_loopback() && !headers.contains_key(header::ORIGIN);
            return Ok(Caller { name: None, role: if here { Role::Write } else { Role::Read } });
        }
        let sent = digest(key_of(headers).ok_or(Refused::NoKey)?);
        let mut found = None;
        for key in &self.keys {
            // Every key is looked at, whichever fits.
            if bool::from(key.digest.ct_eq(&sent)) {
                found = Some(Caller { name: Some(Arc::clone(&key.name)), role: key.role });
            }
        }
        found.ok_or(Refused::WrongKey)
    }
}

fn digest(key: &[u8]) -> [u8; 32] {
    Sha256::digest(key).into()
}

/// The key that a request carries: that of a bearer, else that of `x-api-key`.
fn key_of(headers: &HeaderMap) -> Option<&[u8]> {
    let bearer = headers.get(header::AUTHORIZATION).map(header_bytes).and_then(|value| {
        let (scheme, key) = value.split_at_checked(BEARER.len())?;
        let key = key.trim_ascii();
        (scheme.eq_ignore_ascii_case(BEARER.as_bytes()) && !key.is_empty()).then_some(key)
    });
    bearer.or_else(|| headers.get(API_KEY).map(header_bytes).filter(|key| !key.is_empty()))
}

fn header_bytes(value: &axum::http::HeaderValue) -> &[u8] {
    value.as_bytes().trim_ascii()
}

/// Why a request is nobody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    NoKey,
    WrongKey,
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let problem = match refused {
            Refused::NoKey => "the request carries no API key",
            Refused::WrongKey => "the API key of the request is none of this daemon's",
        };
        let detail = format!("{problem}; fix: send `authorization: Bearer KEY` or `x-api-key: KEY` with a key of [http.auth]");
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "A key is needed", detail)
    }
}

/// Tells who calls, counts the request against their rate, and refuses who has no key where one is needed. A wrong key counts against
/// its peer's rate, so that guessing is slow.
pub(super) async fn identify(State(state): State<Arc<AppState>>, mut request: Request, next: Next) -> Response {
    let access = &state.access;
    let peer = Peer::of(request.extensions());
    let caller = access.caller(request.headers(), peer);
    for name in [header::AUTHORIZATION, API_KEY] {
        request.headers_mut().remove(name);
    }
    let name = caller.as_ref().ok().and_then(|caller| caller.name.clone());
    if let Some(rate) = &access.rate
        && let Err(problem) = rate.take(name.as_deref(), peer)
    {
        return problem.into_response();
    }
    match caller {
        Ok(caller) => {
            if let Some(name) = &name {
                tracing::Span::current().record("caller", &**name);
            }
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(refused) => Problem::from(refused).into_response(),
    }
}

/// `routes` for callers of at least `role` only; what surrounds them must [`identify`] the caller.
pub(super) fn require_role<S: Clone + Send + Sync + 'static>(role: Role, routes: Router<S>) -> Router<S> {
    routes.route_layer(from_fn_with_state(role, check_role))
}

async fn check_role(State(role): State<Role>, request: Request, next: Next) -> Response {
    match allowed(request.extensions().get::<Caller>(), role) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn allowed(caller: Option<&Caller>, role: Role) -> Result<(), Problem> {
    let forbidden = |detail: String| {
        Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", "The caller may not do this", format!("{detail} in [http.auth]")))
    };
    let wanted = role.as_str();
    match caller {
        Some(caller) if caller.role >= role => Ok(()),
        Some(Caller { name: Some(name), role }) => {
            forbidden(format!("the key `{name}` is for {}, and this asks for {wanted}; fix: use a {wanted} key", role.as_str()))
        }
        _ => forbidden(format!("without keys only callers on this machine, and no page, may {wanted}; fix: set a {wanted} key")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use axum::http::HeaderValue;
    use tower::ServiceExt as _;

    use super::*;
    use crate::config::{KeyConfig, Secret};

    const READ: &str = "0123456789abcdef-read";
    const WRITE: &str = "0123456789abcdef-write";
    const FAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 7));
    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn access() -> Access {
        let key = |name: &str, role, key: &str| KeyConfig { name: name.to_owned(), role, key: Secret::new(key) };
        let keys = vec![key("editor", Role::Read, READ), key("operator", Role::Write, WRITE)];
        Access::new(&AuthConfig { keys, metrics_open: false }, None)
    }

    fn headers(of: &[(&'static str, &str)]) -> HeaderMap {
        of.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn a_key_is_taken_from_either_header_and_names_its_caller() {
        let of =
            |of: &[(&'static str, &str)]| access().caller(&headers(of), FAR).map(|caller| (caller.name.unwrap(), caller.role));
        let editor = Ok(("editor".into(), Role::Read));
        assert_eq!(of(&[("authorization", &format!("Bearer {READ}"))]), editor);
        assert_eq!(of(&[("authorization", &format!("bearer   {READ} "))]), editor);
        assert_eq!(of(&[("x-api-key", READ)]), editor);
        assert_eq!(of(&[("authorization", "Basic dTpw"), ("x-api-key", WRITE)]), Ok(("operator".into(), Role::Write)));
        for none in [&[][..], &[("authorization", "Bearer")], &[("authorization", READ)], &[("x-api-key", "")]] {
            assert_eq!(of(none), Err(Refused::NoKey), "{none:?}");
        }
        for wrong in [&READ[1..], &format!("{READ}x"), "%00"] {
            assert_eq!(of(&[("x-api-key", wrong)]), Err(Refused::WrongKey));
            assert_eq!(of(&[("authorization", &format!("Bearer {wrong}")), ("x-api-key", READ)]), Err(Refused::WrongKey));
        }
    }

    #[test]
    fn no_key_is_in_what_is_shown_of_an_access() {
        let shown = format!("{:?}", access());
        assert!(shown.contains("editor") && !shown.contains(READ) && !shown.contains("digest"), "{shown}");
    }

    #[test]
    fn without_keys_only_programs_on_this_machine_may_administer() {
        let open = Access::default();
        let role = |peer, of: &[(&'static str, &str)]| open.caller(&headers(of), peer).unwrap().role;
        assert_eq!(role(HERE, &[]), Role::Write);
        assert_eq!(role("::ffff:127.0.0.1".parse().unwrap(), &[]), Role::Write);
        assert_eq!(role(HERE, &[("origin", "https://example.com")]), Role::Read);
        assert_eq!(role(FAR, &[]), Role::Read);
    }

    #[tokio::test]
    async fn a_route_that_administers_is_answered_to_writers_only() {
        for (role, status) in [(Some(Role::Write), 200), (Some(Role::Read), 403), (None, 403)] {
            let route = Router::new().route("/", axum::routing::post(|| async { "done" }));
            let mut request = Request::post("/").body(axum::body::Body::empty()).unwrap();
            if let Some(role) = role {
                request.extensions_mut().insert(Caller { name: Some("editor".into()), role });
            }
            let answer = require_role(Role::Write, route).oneshot(request).await.unwrap();
            assert_eq!(answer.status(), status, "{role:?}");
        }
    }

    #[test]
    fn a_role_includes_those_before_it_and_a_refusal_names_the_key_by_name_only() {
        let caller = |role| Caller { name: Some("editor".into()), role };
        assert_eq!(allowed(Some(&caller(Role::Write)), Role::Read), Ok(()));
        assert_eq!(allowed(Some(&caller(Role::Write)), Role::Write), Ok(()));
        let refused = allowed(Some(&caller(Role::Read)), Role::Write).unwrap_err().into_document();
        assert_eq!((refused.status, refused.kind.as_str()), (403, "urn:astromech:problem:forbidden"));
        assert!(refused.detail.contains("`editor`") && refused.detail.contains("fix: use a write key"), "{}", refused.detail);
        let nobody = Caller { name: None, role: Role::Read };
        for caller in [None, Some(&nobody)] {
            assert_eq!(allowed(caller, Role::Write).unwrap_err().into_document().status, 403);
        }
    }
}
