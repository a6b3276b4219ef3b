//! Names to addresses, without the forbidden ones. The connection is opened to exactly the addresses that were checked here, so a name that
//! answers differently the second time (rebinding) gains nothing.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::address::AddressRules;

/// Looks a name up: the system's resolver, or a test's.
pub type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// The system's resolver.
pub fn system_lookup() -> Lookup {
    Arc::new(|name| Box::pin(async move { Ok(tokio::net::lookup_host((name.as_str(), 0)).await?.collect()) }))
}

/// Every address of the name is private.
#[derive(Debug)]
pub(super) struct ForbiddenAddress {
    name: String,
}

impl fmt::Display for ForbiddenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host `{}` has private addresses only; fix: set media.allow_private_networks if it is yours", self.name)
    }
}

impl std::error::Error for ForbiddenAddress {}

/// The name could not be looked up.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct LookupFailed(io::Error);

/// The resolver that the client uses.
pub(super) struct FilteringResolver {
    pub(super) rules: AddressRules,
    pub(super) lookup: Lookup,
    /// The configured proxy: whoever configured it may have it inside. With a proxy no other name is resolved here.
    pub(super) proxy_host: Option<String>,
}

impl Resolve for FilteringResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (rules, looked_up) = (self.rules.clone(), (self.lookup)(name.as_str().to_owned()));
        let is_proxy = self.proxy_host.as_deref() == Some(name.as_str());
        Box::pin(async move {
            let found = looked_up.await.map_err(LookupFailed)?;
            let (any, allowed): (bool, Vec<SocketAddr>) =
                (!found.is_empty(), found.into_iter().filter(|address| is_proxy || rules.may_connect(address.ip())).collect());
            if any && allowed.is_empty() {
                return Err(ForbiddenAddress { name: name.as_str().to_owned() }.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}
