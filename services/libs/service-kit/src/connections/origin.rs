//! Whom a connection is counted for: an address, of which one party can hold as many ports as it likes.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// An IPv4 address, or the /64 of an IPv6 one: that is what one customer is given whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Origin(IpAddr);

impl Origin {
    pub(crate) fn of(addr: SocketAddr) -> Self {
        Self(match addr.ip().to_canonical() {
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
            ip => ip,
        })
    }
}

/// How much of `whole` one origin may hold: at least one.
pub(crate) fn share(whole: usize, percent: u8) -> usize {
    (whole / 100 * usize::from(percent) + whole % 100 * usize::from(percent) / 100).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_party_is_one_origin() {
        let of = |addr: &str| Origin::of(addr.parse().unwrap());
        assert_eq!(of("192.0.2.1:1"), of("192.0.2.1:2"));
        assert_ne!(of("192.0.2.1:1"), of("192.0.2.2:1"));
        assert_eq!(of("192.0.2.1:1"), of("[::ffff:192.0.2.1]:1"));
        assert_eq!(of("[2001:db8:1:2::1]:1"), of("[2001:db8:1:2:ffff::9]:1"));
        assert_ne!(of("[2001:db8:1:2::1]:1"), of("[2001:db8:1:3::1]:1"));
    }

    #[test]
    fn a_share_is_never_nothing_and_never_more_than_all() {
        assert_eq!(share(4096, 75), 3072);
        assert_eq!(share(1, 75), 1);
        assert_eq!(share(7, 100), 7);
        assert_eq!(share(usize::MAX, 100), usize::MAX);
    }
}
