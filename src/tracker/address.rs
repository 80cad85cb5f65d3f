//! Which addresses may be handed to whom.

use std::net::{IpAddr, Ipv6Addr};

/// Lowest port that is handed out: below it live services that would take our datagrams for their own (S-29).
pub const PORT_MIN: u16 = 1024;

/// How far an address reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// This host only.
    Loopback,
    /// One link only.
    Link,
    /// One site: RFC 1918, RFC 6598, RFC 4193.
    Private,
    /// The internet.
    Public,
    /// Nowhere a peer could be: unspecified, multicast, broadcast, reserved.
    Never,
}

/// The scope of an address; an IPv4 address written as IPv6 counts as what it is.
pub const fn scope(ip: IpAddr) -> Scope {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [first, second, ..] = ip.octets();
            if ip.is_loopback() {
                Scope::Loopback
            } else if ip.is_link_local() {
                Scope::Link
            } else if ip.is_private() || (first == 100 && second & 0xc0 == 64) {
                Scope::Private
            } else if first == 0 || first >= 224 {
                Scope::Never
            } else {
                Scope::Public
            }
        }
        IpAddr::V6(ip) => {
            let first = ip.segments()[0];
            if ip.is_loopback() {
                Scope::Loopback
            } else if first & 0xffc0 == 0xfe80 {
                Scope::Link
            } else if first & 0xfe00 == 0xfc00 {
                Scope::Private
            } else if ip.is_unspecified() || ip.is_multicast() {
                Scope::Never
            } else {
                Scope::Public
            }
        }
    }
}

/// Whether an asker at `asker` may learn the address `ip`: nobody is sent to addresses inside a network that he is
/// not in (S-43).
///
/// An asker on the tracker's own host may have all but what is nowhere; addresses of a link stay on links.
pub const fn may_learn(asker: IpAddr, ip: IpAddr) -> bool {
    match (scope(ip), scope(asker)) {
        (Scope::Never, _) | (_, Scope::Never) => false,
        (Scope::Public, _) | (_, Scope::Loopback) => true,
        (Scope::Private, asker) => matches!(asker, Scope::Private),
        (Scope::Link, asker) => matches!(asker, Scope::Link),
        (Scope::Loopback, _) => false,
    }
}

/// What one customer of the internet holds: an IPv4 address, or the first 64 bits of an IPv6 address.
pub const fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn scopes() {
        for (text, expected) in [
            ("127.0.0.1", Scope::Loopback),
            ("::1", Scope::Loopback),
            ("::ffff:127.0.0.1", Scope::Loopback),
            ("169.254.1.1", Scope::Link),
            ("fe80::1", Scope::Link),
            ("10.1.2.3", Scope::Private),
            ("172.31.0.1", Scope::Private),
            ("192.168.0.1", Scope::Private),
            ("100.64.0.1", Scope::Private),
            ("fd00::1", Scope::Private),
            ("::ffff:10.0.0.1", Scope::Private),
            ("198.51.100.7", Scope::Public),
            ("2001:db8::1", Scope::Public),
            ("100.128.0.1", Scope::Public),
            ("0.0.0.0", Scope::Never),
            ("::", Scope::Never),
            ("224.0.0.1", Scope::Never),
            ("255.255.255.255", Scope::Never),
            ("ff02::1", Scope::Never),
        ] {
            assert_eq!(scope(ip(text)), expected, "{text}");
        }
    }

    #[test]
    fn who_may_learn_what() {
        let askers = ["127.0.0.1", "10.0.0.1", "fe80::1", "198.51.100.1"];
        for (address, expected) in [
            ("127.0.0.1", [true, false, false, false]),
            ("192.168.0.1", [true, true, false, false]),
            ("169.254.0.1", [true, false, true, false]),
            ("203.0.113.1", [true, true, true, true]),
            ("239.0.0.1", [false, false, false, false]),
        ] {
            let seen = askers.map(|asker| may_learn(ip(asker), ip(address)));
            assert_eq!(seen, expected, "{address}");
        }
    }

    #[test]
    fn networks() {
        assert_eq!(network(ip("2001:db8::1:2:3")), network(ip("2001:db8::9")));
        assert_ne!(network(ip("2001:db8:0:1::1")), network(ip("2001:db8::1")));
        assert_eq!(network(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
    }
}
