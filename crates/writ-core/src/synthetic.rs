//! Synthetic addresses: what a governed run gets for a name. They are stand-ins that lead nowhere; the kernel takes
//! every connection to one, and the relay looks the real address up. No service may list one, and none is dialled.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The IPv4 range: 198.18.0.0/15, set aside for benchmarks and never routed (RFC 2544, RFC 6890 section 2.2.2).
pub const V4_NETWORK: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
/// The length of the IPv4 range's prefix.
pub const V4_PREFIX: u8 = 15;
/// The IPv6 range: a unique local /64 of our own (RFC 4193 section 3.1). Its 40-bit global id is the head of
/// SHA-256 of `writ synthetic addresses`, its subnet is zero.
pub const V6_NETWORK: Ipv6Addr = Ipv6Addr::new(0xfdb8, 0x728, 0x2d80, 0, 0, 0, 0, 0);
/// The length of the IPv6 range's prefix.
pub const V6_PREFIX: u8 = 64;

/// Whether the address is a stand-in; IPv4-mapped IPv6 counts as IPv4.
pub fn contains(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let shift = 32 - u32::from(V4_PREFIX);
            address.to_bits() >> shift == V4_NETWORK.to_bits() >> shift
        }
        IpAddr::V6(address) => {
            let shift = 128 - u32::from(V6_PREFIX);
            address.to_bits() >> shift == V6_NETWORK.to_bits() >> shift
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_own() {
        let network = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"writ synthetic addresses");
        let mut bytes = [0; 16];
        bytes[0] = 0xfd;
        bytes[1..6].copy_from_slice(&network.as_ref()[..5]);
        assert_eq!(V6_NETWORK, Ipv6Addr::from(bytes));
        let inside = ["198.18.0.0", "198.19.255.255", "::ffff:198.18.0.1", &format!("{V6_NETWORK}1")];
        let outside = ["198.17.255.255", "198.20.0.0", "10.0.0.1", "fd00::1", "::1"];
        assert!(inside.iter().all(|text| contains(text.parse().unwrap())));
        assert!(!outside.iter().any(|text| contains(text.parse().unwrap())));
    }
}
