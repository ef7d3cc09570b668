//! Client addresses: who a caller without a listed key is.

use std::net::IpAddr;

/// What is counted together: an IPv4 address, or the /64 of an IPv6 address, since one host can take any address of its /64.
#[must_use]
pub fn network(source: &[u8]) -> Vec<u8> {
    let parsed = std::str::from_utf8(source).ok().and_then(address);
    match parsed {
        Some(IpAddr::V4(address)) => address.octets().to_vec(),
        Some(IpAddr::V6(address)) => address.octets().get(..8).unwrap_or_default().to_vec(),
        // A pipe's name, or whatever else the host has for a source.
        None => source.to_vec(),
    }
}

/// The address of `1.2.3.4:5`, `[::1]:5`, `1.2.3.4` or `::1`; IPv4-mapped IPv6 is IPv4.
fn address(source: &str) -> Option<IpAddr> {
    let address = match source.parse::<std::net::SocketAddr>() {
        Ok(socket) => socket.ip(),
        Err(_) => source.trim_start_matches('[').trim_end_matches(']').parse().ok()?,
    };
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_the_lower_half_of_ipv6_do_not_count() {
        let same = |one: &str, other: &str| network(one.as_bytes()) == network(other.as_bytes());
        assert!(same("203.0.113.7:0", "203.0.113.7:4711"));
        assert!(same("203.0.113.7:1", "[::ffff:203.0.113.7]:2"));
        assert!(same("203.0.113.7", "::ffff:203.0.113.7"));
        assert!(same("[2001:db8:1:2::1]:1", "[2001:db8:1:2:ffff:ffff:ffff:ffff]:2"));
        assert!(same("[2001:db8:1:2::1]:1", "2001:db8:1:2::7"));
        assert!(!same("[2001:db8:1:2::1]:1", "[2001:db8:1:3::1]:1"));
        assert!(!same("203.0.113.7:1", "203.0.113.8:1"));
        assert_eq!(network(b"/run/envoy.sock"), b"/run/envoy.sock");
        assert_eq!(network(b"\xff"), b"\xff");
    }
}
