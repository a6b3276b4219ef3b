//! How often one caller may ask: a token bucket for each key, and for each peer address that comes without one.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use quick_cache::sync::Cache;

use super::problem::Problem;
use crate::config::RateConfig;

/// Bits of an IPv6 address that name a customer's network; the rest is the customer's to choose.
const IPV6_NETWORK_BITS: u32 = 64;

/// The buckets of all callers.
pub(super) struct Rate {
    requests_per_s: f64,
    quota: Quota,
    keys: HashMap<Arc<str>, DefaultDirectRateLimiter>,
    /// At most `http.rate.callers_max`: the least recently used fall out, and begin anew with a full bucket.
    peers: Cache<IpAddr, Arc<DefaultDirectRateLimiter>>,
    clock: DefaultClock,
}

impl std::fmt::Debug for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rate").field("requests_per_s", &self.requests_per_s).finish_non_exhaustive()
    }
}

impl Rate {
    /// A full bucket for each of `keys`, by name.
    pub(super) fn new(config: &RateConfig, keys: impl Iterator<Item = Arc<str>>) -> Self {
        let period = Duration::from_secs_f64((1.0 / config.requests_per_s).clamp(1e-9, 1e9));
        // A period of zero is the only one that is none.
        let quota = Quota::with_period(period).unwrap_or_else(|| Quota::per_second(config.burst)).allow_burst(config.burst);
        Self {
            requests_per_s: config.requests_per_s,
            quota,
            keys: keys.map(|name| (name, RateLimiter::direct(quota))).collect(),
            peers: Cache::new(config.callers_max),
            clock: DefaultClock::default(),
        }
    }

    /// Takes one request out of the bucket of the key of that name, else of the peer.
    pub(super) fn take(&self, key: Option<&str>, peer: IpAddr) -> Result<(), Problem> {
        let taken = match key.and_then(|name| self.keys.get(name)) {
            Some(bucket) => bucket.check(),
            None => self.peer(peer).check(),
        };
        taken.map_err(|until| self.refused(until.wait_time_from(self.clock.now())))
    }

    fn peer(&self, peer: IpAddr) -> Arc<DefaultDirectRateLimiter> {
        let new = || Ok::<_, Infallible>(Arc::new(RateLimiter::direct(self.quota)));
        match self.peers.get_or_insert_with(&network(peer), new) {
            Ok(bucket) => bucket,
            Err(never) => match never {},
        }
    }

    fn refused(&self, wait: Duration) -> Problem {
        let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(u32::from(wait.subsec_nanos() > 0)).max(1);
        let detail = format!(
            "the caller sends more than http.rate.requests_per_s = {} requests a second; fix: send them more slowly, the next after \
             {seconds} s",
            self.requests_per_s
        );
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "The caller sends too many requests", detail)
            .retry_after(seconds)
    }
}

/// The address that a bucket belongs to.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            let mask = u128::MAX << (u128::BITS - IPV6_NETWORK_BITS);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    const SLOW: RateConfig = RateConfig { requests_per_s: 0.01, burst: NonZeroU32::new(2).unwrap(), callers_max: 16 };

    fn peer(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_caller_has_a_bucket_of_its_own() {
        let rate = Rate::new(&SLOW, ["a".into(), "b".into()].into_iter());
        let take = |key, from: &str| rate.take(key, peer(from)).is_ok();
        assert_eq!([(); 3].map(|()| take(Some("a"), "192.0.2.1")), [true, true, false]);
        assert_eq!([(); 3].map(|()| take(Some("b"), "192.0.2.1")), [true, true, false], "another key");
        assert_eq!([(); 3].map(|()| take(None, "192.0.2.1")), [true, true, false], "the peer itself");
        assert!(take(None, "::ffff:192.0.2.2"));
        assert_eq!([(); 2].map(|()| take(None, "192.0.2.2")), [true, false], "one address in two notations");
        assert!(take(None, "2001:db8::1") && take(None, "2001:db8::ffff:1"));
        assert!(!take(None, "2001:db8::2"), "one customer's network");
        assert!(take(None, "2001:db8:0:1::1"));
    }

    #[test]
    fn a_refusal_says_when_the_next_request_will_be_taken() {
        let rate = Rate::new(&SLOW, std::iter::empty());
        let from = peer("192.0.2.1");
        assert!(rate.take(None, from).is_ok() && rate.take(None, from).is_ok());
        let problem = rate.take(None, from).unwrap_err();
        assert_eq!(problem.clone().into_document().status, 429);
        let detail = problem.into_document().detail;
        assert!(detail.contains("http.rate.requests_per_s = 0.01") && detail.contains("the next after 100 s"), "{detail}");
    }

    #[test]
    fn the_callers_that_are_remembered_are_bounded() {
        let rate = Rate::new(&SLOW, std::iter::empty());
        for last in 0..=255_u8 {
            for third in 0..4 {
                let _ = rate.take(None, IpAddr::from([192, 0, third, last]));
            }
        }
        assert!(rate.peers.len() <= SLOW.callers_max * 2, "{}", rate.peers.len());
    }
}
