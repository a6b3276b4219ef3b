//! One entry of `media.http_hosts`.

use std::str::FromStr;

use url::Host;

/// Ports that an entry without one allows.
const USUAL_PORTS: [u16; 2] = [80, 443];
/// The dots of names, as keyboards of the countries that use them type them (UTS #46).
const DOTS: [char; 4] = ['.', '。', '．', '｡'];

/// A host that pictures may be fetched from: `host`, `.domain` for a domain and everything under it, and behind it nothing (ports 80 and
/// 443), `:PORT` (that one alone) or `:*` (any). Names in any script are those that addresses have: `例子.中国` is `xn--fsqu00a.xn--fiqs8s`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedHost {
    /// As an address's host is written: in ASCII and lower case, without a dot at its end; an IPv6 address in brackets.
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
        let (host, ports) = match entry.rsplit_once(':') {
            Some((host, "*")) => (host, Ports::Any),
            // Inside brackets a colon is the address's own.
            Some((host, port)) if !port.ends_with(']') => (host, Ports::One(port.parse().map_err(|_| ())?)),
            _ => (entry, Ports::Usual),
        };
        let (name, under_it_too) = host.strip_prefix(DOTS).map_or((host, false), |name| (name, true));
        // Allowed in a host's name, and meant as a pattern.
        if name.contains('*') {
            return Err(());
        }
        // By the one parser that addresses are read by: what is written alike is alike.
        let name = Host::parse(name.trim_end_matches(DOTS)).map_err(|_| ())?.to_string();
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
    fn a_name_in_any_script_and_spelling_is_the_one_that_addresses_have() {
        for written in [
            "例子.中国",
            "例子。中国",
            "例子．中国",
            "例子｡中国。",
            "xn--fsqu00a.xn--fiqs8s",
            "XN--FSQU00A.xn--fiqs8s.",
            "例子.xn--fiqs8s:80",
        ] {
            assert!(entry(written).is_of("xn--fsqu00a.xn--fiqs8s"), "{written}");
        }
        for domain in [".例子.中国", "。例子。中国", "．xn--fsqu00a.中国:*"] {
            assert!(entry(domain).is_of("xn--fsqu00a.xn--fiqs8s") && entry(domain).is_of("a.xn--fsqu00a.xn--fiqs8s"), "{domain}");
            assert!(!entry(domain).is_of("axn--fsqu00a.xn--fiqs8s"), "{domain}");
        }
        assert!(entry("Bücher.Example").is_of("xn--bcher-kva.example") && entry("ＩＭＧ．example").is_of("img.example"));
        assert!(entry("127.1").is_of("127.0.0.1") && entry("example.com.").is_of("example.com"));
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
            "a%20b",
            "..",
            "xn--a",
            "xn--图",
            "1.2.3.256",
            "a\u{200b}\u{ad}\u{202e}b",
            "例子.中国：80",
            "\u{ad}",
        ] {
            assert_eq!(text.parse::<AllowedHost>(), Err(()), "{text}");
        }
    }
}
