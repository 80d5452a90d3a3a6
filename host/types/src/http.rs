//! What an agent may reach over HTTP: destinations by name, and the addresses that a name may lead to.
//!
//! | the host of the request | addresses that a connection may go to |
//! | --- | --- |
//! | an address | that one: it was listed on purpose |
//! | `localhost` | loopback and public ones |
//! | a name | public ones |
//! | a name whose rule is `private` | public and private ones |
//!
//! An IPv6 address that carries an IPv4 address is judged by that one: packets go there in the end.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// What an agent may reach over HTTP. Empty: nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpPolicy {
    /// Allowed destinations.
    pub allow: Vec<HttpRule>,
    /// Names of the credentials that its requests may carry.
    pub secrets: Arc<[Arc<str>]>,
}

/// One allowed destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRule {
    /// Lower case. `*.example.com` stands for every name below `example.com`.
    pub host: String,
    /// `None` stands for 80 and 443.
    pub port: Option<u16>,
    /// The name may lead to private addresses.
    pub private: bool,
}

/// Why a text is no [`HttpRule`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no destination; write host, host:port, *.domain or [v6]:port")]
pub struct HttpRuleError {
    text: String,
}

impl HttpRule {
    /// Parses `host`, `host:port`, `*.domain` or `[v6]:port`. The rule is not private.
    pub fn parse(text: &str) -> Result<Self, HttpRuleError> {
        let error = || HttpRuleError { text: text.to_owned() };
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                (host, Some(port.parse().map_err(|_| error())?))
            }
            _ => (text, None),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let name = host.strip_prefix("*.").unwrap_or(&host);
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.' || c == '_';
        if name.is_empty() || !(name.chars().all(is_name) || name.parse::<Ipv6Addr>().is_ok()) {
            return Err(error());
        }
        Ok(Self { host, port, private: false })
    }

    /// The same rule for a name that may lead to private addresses.
    #[must_use]
    pub fn private(self) -> Self {
        Self { private: true, ..self }
    }

    fn covers(&self, host: &str, port: u16) -> bool {
        let port_fits = match self.port {
            Some(wanted) => wanted == port,
            None => port == 80 || port == 443,
        };
        let host_fits = match self.host.strip_prefix("*.") {
            Some(domain) => host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')),
            None => self.host == host,
        };
        port_fits && host_fits
    }
}

/// Why a request may not leave.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpDenied {
    /// No rule names the destination.
    #[error("{host}:{port} is not in the role's http_allow")]
    NotAllowed {
        /// Lower case, without brackets.
        host: String,
        /// Where the request wanted to go.
        port: u16,
    },
    /// A name leads to an address that it must not lead to.
    #[error("{host} leads to {}, {}", shown(*address), advice(host, *port, *address))]
    Address {
        /// The name of the request.
        host: String,
        /// Where the request wanted to go.
        port: u16,
        /// What the resolver said.
        address: IpAddr,
    },
}

/// An address, and the one that it carries.
fn shown(address: IpAddr) -> String {
    match carried(address) {
        Some(v4) => format!("{address} (which carries {v4})"),
        None => address.to_string(),
    }
}

/// What can be done about a denial: the setting.
fn advice(host: &str, port: u16, address: IpAddr) -> String {
    match AddressClass::of(address) {
        AddressClass::Special => "to which no name may lead; if it is meant, list the address \
                                  itself in the role's http_allow"
            .into(),
        AddressClass::Public | AddressClass::Private => format!(
            "which is private; if that is meant, write {{ host = \"{host}:{port}\", private = true \
             }} in the role's http_allow"
        ),
    }
}

impl HttpPolicy {
    /// May a request go to this host and port, as far as its name shows?
    pub fn admit_name(&self, host: &str, port: u16) -> Result<(), HttpDenied> {
        let host = plain(host);
        if self.rules(&host, port).next().is_some() {
            return Ok(());
        }
        Err(HttpDenied::NotAllowed { host, port })
    }

    /// May a connection for `host` and `port`, which were admitted, go to `address`?
    pub fn admit_address(&self, host: &str, port: u16, address: IpAddr) -> Result<(), HttpDenied> {
        let host = plain(host);
        let admitted = match AddressClass::of(address) {
            _ if host.parse::<IpAddr>().is_ok() => true,
            AddressClass::Public => true,
            _ if host == "localhost" && is_loopback(address) => true,
            AddressClass::Private => self.rules(&host, port).any(|rule| rule.private),
            AddressClass::Special => false,
        };
        match admitted {
            true => Ok(()),
            false => Err(HttpDenied::Address { host, port, address }),
        }
    }

    fn rules(&self, host: &str, port: u16) -> impl Iterator<Item = &HttpRule> {
        self.allow.iter().filter(move |rule| rule.covers(host, port))
    }
}

/// A host as rules have it.
fn plain(host: &str) -> String {
    host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase()
}

fn is_loopback(address: IpAddr) -> bool {
    carried(address).map_or(address, IpAddr::V4).is_loopback()
}

/// What an address is for, by the special-purpose registries of IANA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressClass {
    /// Somebody's on the internet.
    Public,
    /// This machine, or the operator's own network: loopback, private, shared (CGNAT), benchmarking, unique local,
    /// the local prefix of NAT64.
    Private,
    /// Nobody's that a name should lead to: link-local, where clouds keep credentials, multicast, reserved.
    Special,
}

impl AddressClass {
    /// Of an address, or of the IPv4 address that it carries.
    pub fn of(address: IpAddr) -> Self {
        match (address, carried(address)) {
            (_, Some(v4)) | (IpAddr::V4(v4), None) => Self::of_v4(v4),
            (IpAddr::V6(v6), None) => Self::of_v6(v6),
        }
    }

    fn of_v4(v4: Ipv4Addr) -> Self {
        let [a, b, c, _] = v4.octets();
        let shared = a == 100 && (64..128).contains(&b);
        let benchmarking = a == 198 && (b == 18 || b == 19);
        if v4.is_loopback() || v4.is_private() || shared || benchmarking {
            return Self::Private;
        }
        let protocol_assignments = a == 192 && b == 0 && c == 0;
        let special = v4.is_link_local()
            || v4.is_multicast()
            || v4.is_broadcast()
            || v4.is_documentation()
            || a == 0
            || a >= 240
            || protocol_assignments;
        if special { Self::Special } else { Self::Public }
    }

    fn of_v6(v6: Ipv6Addr) -> Self {
        let segments = v6.segments();
        let [first, second, third, ..] = segments;
        // fec0::/10 was site-local; 64:ff9b:1::/48 is for NAT64 within a network.
        let site_local = first & 0xffc0 == 0xfec0;
        let local_nat64 = first == 0x64 && second == 0xff9b && third == 1;
        if v6.is_loopback() || v6.is_unique_local() || site_local || local_nat64 {
            return Self::Private;
        }
        // 2001::/32 (Teredo) and the deprecated ::/96 hide an IPv4 address; 100::/64 discards;
        // 2001:db8::/32 and 3fff::/20 are for documents.
        let hidden = (first == 0x2001 && second == 0) || segments[..6] == [0; 6];
        let nobodys = first == 0x100
            || (first == 0x2001 && second == 0xdb8)
            || (first == 0x3fff && second < 0x1000)
            || first == 0x64;
        let special = v6.is_unspecified() || v6.is_multicast() || v6.is_unicast_link_local();
        if special || hidden || nobodys { Self::Special } else { Self::Public }
    }
}

/// The IPv4 address that packets to an IPv6 address go to: `::ffff:0:0/96` (mapped), `64:ff9b::/96` (NAT64),
/// `2002::/16` (6to4).
fn carried(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(v6) = address else { return None };
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match v6.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] => Some(v4(high, low)),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(v4(high, low)),
        [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(rules: &[&str]) -> HttpPolicy {
        let allow = rules.iter().map(|rule| HttpRule::parse(rule).unwrap()).collect();
        HttpPolicy { allow, ..HttpPolicy::default() }
    }

    #[track_caller]
    fn class(address: &str) -> AddressClass {
        AddressClass::of(address.parse().unwrap())
    }

    #[test]
    fn an_empty_policy_lets_nothing_out() {
        assert!(HttpPolicy::default().admit_name("example.com", 443).is_err());
    }

    #[test]
    fn a_rule_without_port_stands_for_the_web_ports_only() {
        let policy = policy(&["example.com", "127.0.0.1:9100"]);
        assert!(policy.admit_name("Example.COM", 443).is_ok());
        assert!(policy.admit_name("example.com", 8443).is_err());
        assert!(policy.admit_name("127.0.0.1", 9100).is_ok());
        assert!(policy.admit_name("127.0.0.1", 80).is_err());
    }

    #[test]
    fn a_wildcard_covers_names_below_and_not_lookalikes() {
        let policy = policy(&["*.example.com"]);
        assert!(policy.admit_name("api.example.com", 443).is_ok());
        assert!(policy.admit_name("example.com", 443).is_err());
        assert!(policy.admit_name("evilexample.com", 443).is_err());
    }

    #[test]
    fn addresses_are_distinguished() {
        for private in [
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "198.18.0.1",
            "::1",
            "fd00::1",
            "fec0::1",
            "64:ff9b:1::1",
        ] {
            assert_eq!(class(private), AddressClass::Private, "{private}");
        }
        for special in [
            "0.0.0.0",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "192.0.2.1",
            "192.0.0.8",
            "::",
            "fe80::1",
            "ff02::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "::10.0.0.1",
            "64:ff9b:2::1",
        ] {
            assert_eq!(class(special), AddressClass::Special, "{special}");
        }
        for public in ["93.184.216.34", "100.128.0.1", "2606:2800:220::1", "2001:4860::8888"] {
            assert_eq!(class(public), AddressClass::Public, "{public}");
        }
    }

    #[test]
    fn what_carries_an_ipv4_address_is_judged_by_it() {
        for (v4, class_of_it) in [
            ("93.184.216.34", AddressClass::Public),
            ("10.0.0.1", AddressClass::Private),
            ("100.100.1.1", AddressClass::Private),
            ("127.0.0.1", AddressClass::Private),
            ("169.254.169.254", AddressClass::Special),
        ] {
            assert_eq!(class(v4), class_of_it, "{v4}");
            for prefix in ["::ffff:", "64:ff9b::"] {
                assert_eq!(class(&format!("{prefix}{v4}")), class_of_it, "{prefix}{v4}");
            }
            let [a, b, c, d] = v4.parse::<Ipv4Addr>().unwrap().octets();
            let six_to_four = format!("2002:{a:02x}{b:02x}:{c:02x}{d:02x}::1");
            assert_eq!(class(&six_to_four), class_of_it, "{six_to_four}");
        }
    }

    #[test]
    fn a_listed_name_leads_inside_only_where_its_rule_says_so() {
        let plain = policy(&["example.com", "localhost:1"]);
        let private = HttpPolicy {
            allow: vec![HttpRule::parse("Example.com").unwrap().private()],
            ..HttpPolicy::default()
        };
        let admits = |policy: &HttpPolicy, host: &str, port, address: &str| {
            policy.admit_address(host, port, address.parse().unwrap()).is_ok()
        };
        for inside in ["10.0.0.1", "100.64.0.1", "::1", "fd00::1", "64:ff9b::10.0.0.1"] {
            assert!(!admits(&plain, "example.com", 443, inside), "{inside}");
            assert!(admits(&private, "example.com", 443, inside), "{inside}");
            assert!(!admits(&private, "example.com", 8443, inside), "another port: {inside}");
            assert!(!admits(&private, "other.com", 443, inside), "another name: {inside}");
        }
        for never in ["169.254.169.254", "fe80::1", "64:ff9b::169.254.169.254", "0.0.0.0"] {
            assert!(!admits(&private, "example.com", 443, never), "{never}");
        }
        for public in ["93.184.216.34", "64:ff9b::93.184.216.34"] {
            assert!(admits(&plain, "example.com", 443, public), "{public}");
        }
        assert!(
            admits(&plain, "localhost", 1, "127.0.0.1") && admits(&plain, "LocalHost", 1, "::1")
        );
        assert!(!admits(&plain, "localhost", 1, "10.0.0.1"));
        assert!(admits(&plain, "127.0.0.1", 1, "127.0.0.1"));
        assert!(admits(&plain, "169.254.169.254", 1, "169.254.169.254"), "it was listed itself");
    }

    #[test]
    fn a_denial_names_the_address_and_the_setting() {
        let denied = |address: &str| {
            let policy = policy(&["h.example:8080"]);
            policy.admit_address("h.example", 8080, address.parse().unwrap()).unwrap_err()
        };
        assert_eq!(
            denied("64:ff9b::10.0.0.1").to_string(),
            "h.example leads to 64:ff9b::a00:1 (which carries 10.0.0.1), which is private; if that \
             is meant, write { host = \"h.example:8080\", private = true } in the role's http_allow"
        );
        let special = denied("169.254.169.254").to_string();
        assert!(special.contains("169.254.169.254") && special.contains("http_allow"), "{special}");
    }

    #[test]
    fn nonsense_is_no_rule() {
        for text in ["", "http://x", "x:y", "a b", "*.", "x:99999"] {
            assert!(HttpRule::parse(text).is_err(), "{text:?}");
        }
        let v6 = HttpRule::parse("[::1]:80").unwrap();
        assert_eq!((v6.host.as_str(), v6.port, v6.private), ("::1", Some(80), false));
    }
}
