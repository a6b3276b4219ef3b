//! Which hosts and addresses may be spoken to: the allow list, and no private networks (server-side request forgery).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

use super::MediaError;
use crate::config::AllowedHost;

/// The allow list.
#[derive(Debug, Clone)]
pub struct AddressRules {
    hosts: Vec<AllowedHost>,
    allow_private_networks: bool,
}

impl AddressRules {
    /// The hosts that may be spoken to, and whether in private networks too.
    pub fn new(hosts: Vec<AllowedHost>, allow_private_networks: bool) -> Self {
        Self { hosts, allow_private_networks }
    }

    /// Checks an address before anything is resolved or connected. Redirects come through here too.
    ///
    /// # Errors
    /// [`MediaError::Forbidden`] with what to change.
    pub fn check(&self, url: &Url) -> Result<(), MediaError> {
        let forbidden = |problem: String| Err(MediaError::Forbidden(problem));
        if !matches!(url.scheme(), "http" | "https") {
            return forbidden(format!("scheme `{}` is not fetched; fix: use https, http or file", url.scheme()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return forbidden("the address carries a user name or password; fix: send it without".to_owned());
        }
        let Some(host) = url.host() else {
            return forbidden("the address has no host".to_owned());
        };
        let literal = match host {
            Host::Domain(_) => None,
            Host::Ipv4(ip) => Some(IpAddr::V4(ip)),
            Host::Ipv6(ip) => Some(IpAddr::V6(ip)),
        };
        if let Some(ip) = literal.filter(|ip| !self.may_connect(*ip)) {
            return forbidden(format!("{ip} is a private address; fix: use a public one, or set media.allow_private_networks"));
        }
        let name = host.to_string().trim_end_matches('.').to_ascii_lowercase();
        let listed: Vec<_> = self.hosts.iter().filter(|allowed| allowed.is_of(&name)).collect();
        if listed.is_empty() {
            return forbidden(format!(
                "host `{name}` is not in media.http_hosts; fix: add it there, or send the picture's bytes"
            ));
        }
        let port = url.port_or_known_default().unwrap_or_default();
        if !listed.iter().any(|allowed| allowed.allows_port(port)) {
            return forbidden(format!(
                "port {port} of host `{name}` is not allowed; fix: write `{name}:{port}` into media.http_hosts"
            ));
        }
        Ok(())
    }

    /// Whether a connection to `ip` may be opened.
    pub fn may_connect(&self, ip: IpAddr) -> bool {
        self.allow_private_networks || is_public(ip)
    }
}

/// Whether `ip` is an address of the public internet. `IpAddr::is_global` is not stable; the list is IANA's special-purpose registries.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_documentation()
        || a == 0
        || a >= 240 // reserved, and broadcast
        || (a == 100 && (64..128).contains(&b)) // shared by carriers
        || (a == 192 && b == 0 && c == 0) // protocol assignments
        || (a == 192 && b == 88 && c == 99) // 6to4 relays
        || (a == 198 && (18..20).contains(&b)); // benchmarks
    !special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let segments = ip.segments();
    // Addresses that carry an IPv4 one reach that one.
    let low = Ipv4Addr::from((u32::from(segments[6]) << 16) | u32::from(segments[7]));
    if let Some(mapped) = ip.to_ipv4_mapped() {
        return is_public_v4(mapped);
    }
    match segments {
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] => return is_public_v4(low), // NAT64
        [0x2002, high, mid, ..] => return is_public_v4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(mid))), // 6to4
        _ => {}
    }
    let global_unicast = segments[0] & 0xe000 == 0x2000; // 2000::/3
    // Protocol assignments with Teredo, and documentation.
    let special = (segments[0] == 0x2001 && (segments[1] < 0x200 || segments[1] == 0xdb8))
        || (segments[0] == 0x3fff && segments[1] < 0x1000); // documentation
    global_unicast && !special
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(hosts: &[&str], private: bool, url: &str) -> Result<(), MediaError> {
        let hosts = hosts.iter().map(|host| host.parse().unwrap()).collect();
        AddressRules::new(hosts, private).check(&Url::parse(url).unwrap())
    }

    #[test]
    fn only_listed_hosts_and_domains_are_fetched() {
        let hosts = ["img.example.com", ".cdn.example.org"];
        for url in [
            "https://img.example.com/a.jpg",
            "http://IMG.example.com./a.jpg",
            "https://img.example.com:443/a",
            "https://cdn.example.org/a",
            "https://eu.cdn.example.org/a",
        ] {
            assert_eq!(check(&hosts, false, url), Ok(()), "{url}");
        }
        for url in [
            "https://example.com/a",
            "https://evil-img.example.com/a",
            "https://evilcdn.example.org/a",
            "https://img.example.com.evil.net/a",
            "https://img.example.com@evil.net/a",
            "https://user:pass@img.example.com/a",
            "ftp://img.example.com/a",
            "data:image/png;base64,AA==",
        ] {
            assert!(matches!(check(&hosts, false, url), Err(MediaError::Forbidden(_))), "{url}");
        }
    }

    #[test]
    fn literal_private_addresses_are_refused_in_every_spelling_even_when_listed() {
        let hosts = ["127.0.0.1", "10.0.0.1", "[::1]", "[::ffff:7f00:1]", "169.254.169.254", "0.0.0.0"];
        for url in [
            "http://127.0.0.1/a",
            "http://2130706433/a",
            "http://0x7f.1/a",
            "http://017700000001/a",
            "http://10.0.0.1/a",
            "http://[::1]/a",
            "http://[::ffff:127.0.0.1]/a",
            "http://169.254.169.254/latest/meta-data",
            "http://0.0.0.0/a",
        ] {
            let error = check(&hosts, false, url).unwrap_err();
            assert!(error.to_string().contains("private address"), "{url}: {error}");
        }
        assert_eq!(check(&hosts, true, "http://127.0.0.1/a"), Ok(()));
        assert_eq!(check(&hosts, true, "http://[::1]/a"), Ok(()));
    }

    #[test]
    fn special_addresses_are_not_public() {
        for ip in [
            "0.1.2.3",
            "10.1.1.1",
            "100.64.0.1",
            "127.9.9.9",
            "169.254.0.1",
            "172.16.0.1",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "203.0.113.9",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "fc00::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "64:ff9b::a00:1",
            "2002:7f00:1::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in [
            "1.1.1.1",
            "8.8.8.8",
            "172.15.0.1",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700::1111",
            "64:ff9b::101:101",
            "::ffff:1.1.1.1",
        ] {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
    }
}
