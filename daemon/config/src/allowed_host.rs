//! One entry of `media.http_hosts`.

use std::net::Ipv6Addr;
use std::str::FromStr;

/// Ports that an entry without one allows.
const USUAL_PORTS: [u16; 2] = [80, 443];

/// A host that pictures may be fetched from: `host`, `.domain` for a domain and everything under it, and behind it nothing (ports 80 and
/// 443), `:PORT` (that one alone) or `:*` (any).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedHost {
    /// Lower case; an IPv6 address in brackets, in its shortest form.
    name: String,
    under_it_too: bool,
    ports: Ports,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ports {
    Usual,
    One(u16),
    Any,
}

impl FromStr for AllowedHost {
    type Err = ();

    fn from_str(entry: &str) -> Result<Self, ()> {
        let entry = entry.to_ascii_lowercase();
        let (host, ports) = match entry.rsplit_once(':') {
            Some((host, "*")) => (host, Ports::Any),
            // Inside brackets a colon is the address's own.
            Some((host, port)) if !port.ends_with(']') => (host, Ports::One(port.parse().map_err(|_| ())?)),
            _ => (entry.as_str(), Ports::Usual),
        };
        let (name, under_it_too) = host.strip_prefix('.').map_or((host, false), |name| (name, true));
        let bracketed = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        let name = match bracketed {
            Some(address) => format!("[{}]", address.parse::<Ipv6Addr>().map_err(|_| ())?),
            None if name.is_empty() || name.contains(['/', '@', '*', ' ', ':', '[', ']']) => return Err(()),
            None => name.to_owned(),
        };
        Ok(Self { name, under_it_too, ports })
    }
}

impl AllowedHost {
    /// Stands in for an entry that is wrong.
    pub(crate) fn nowhere() -> Self {
        Self { name: String::new(), under_it_too: false, ports: Ports::Usual }
    }

    /// Whether `name`, lower case and without a dot at its end, is this host or under it.
    pub fn is_of(&self, name: &str) -> bool {
        let under = || name.strip_suffix(self.name.as_str()).is_some_and(|rest| rest.ends_with('.'));
        name == self.name || (self.under_it_too && under())
    }

    /// Whether `port` may be spoken to.
    pub fn allows_port(&self, port: u16) -> bool {
        match self.ports {
            Ports::Usual => USUAL_PORTS.contains(&port),
            Ports::One(only) => port == only,
            Ports::Any => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str) -> AllowedHost {
        text.parse().unwrap()
    }

    #[test]
    fn an_entry_is_a_host_or_a_domain_with_the_usual_one_or_any_port() {
        assert!(entry("IMG.example.com").is_of("img.example.com") && !entry("img.example.com").is_of("a.img.example.com"));
        assert!(entry(".example.com").is_of("example.com") && entry(".example.com").is_of("a.b.example.com"));
        assert!(!entry(".example.com").is_of("evilexample.com"));
        assert!(entry("[0:0::1]:8080").is_of("[::1]") && entry("[::1]").is_of("[::1]"));
        let of = |text: &str| [80, 443, 8080].map(|port| entry(text).allows_port(port));
        assert_eq!(of("h"), [true, true, false]);
        assert_eq!(of("h:8080"), [false, false, true]);
        assert_eq!(of("[::1]:8080"), [false, false, true]);
        assert_eq!(of(".h:*"), [true, true, true]);
    }

    #[test]
    fn what_is_no_host_is_no_entry() {
        for text in [
            "",
            ".",
            "*.example.com",
            "https://example.com",
            "a/b",
            "user@host",
            "h:0x50",
            "h:99999",
            "h:",
            "::1",
            "[::g]",
            "a b",
        ] {
            assert_eq!(text.parse::<AllowedHost>(), Err(()), "{text}");
        }
    }
}
