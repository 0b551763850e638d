//! The target of values of flags.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::parse;
use crate::fuzzing::first_line;
use crate::registry::Addresses;
use crate::workload::Kind;

/// A value and an address, a line each. A value of a flag is refused or means what is written when it is printed again; of an
/// address that is blocked no spelling can be asked.
pub(crate) fn flags(input: &[u8]) {
    let Some((written, address)) = first_line(input) else { return };
    if let Ok(kind) = Kind::parse(written) {
        assert_eq!(Kind::parse(&kind.to_string()), Ok(kind));
    }
    if let Ok(bytes) = parse::bytes(written) {
        assert!(bytes > 0 && parse::bytes(&bytes.to_string()) == Ok(bytes));
    }
    if let Ok(duration) = parse::duration(written) {
        assert_eq!(parse::limit(written).is_ok(), duration > Duration::ZERO);
        assert!(
            parse::interval(written).is_ok_and(|interval| interval == duration) || duration < Duration::from_mins(1)
        );
        let again = format!("{}s{}ns", duration.as_secs(), duration.subsec_nanos());
        assert_eq!(parse::duration(&again), Ok(duration), "{again}");
    }
    assert!(parse::rate(written).is_ok_and(|rate| rate.is_finite() && rate >= 0.0) || parse::rate(written).is_err());
    if let Ok((namespace, name)) = parse::namespaced(written) {
        assert_eq!(format!("{namespace}/{name}"), written);
    }
    if let Ok(host) = parse::registry_host(written) {
        assert!(host == written && !host.contains('/'));
    }
    let _ = parse::source(written);
    if let Ok(network) = parse::network(written) {
        assert_eq!(parse::network(&network.to_string()), Ok(network));
        addresses(network, address);
    }
}

/// What is in a network, by its bits, is blocked; also as the IPv6 address that stands for an IPv4 one.
fn addresses(network: IpNet, address: &str) {
    let Ok(address) = address.parse::<IpAddr>() else { return };
    let blocked = Addresses::default().with(&[], &[network]);
    let is_in = same_bits(network, address);
    assert!(!(is_in && blocked.permit(address)), "{address} of {network}");
    if let IpAddr::V4(short) = address {
        let long = short.to_ipv6_mapped().into();
        assert_eq!(blocked.permit(long), blocked.permit(address) && !same_bits(network, long));
        // The network as it is written in IPv6, and addresses that stand for this one.
        let wide = |network: Ipv4Net| Ipv6Net::new(network.addr().to_ipv6_mapped(), 96 + network.prefix_len());
        if let IpNet::V4(network) = network
            && let Ok(wide) = wide(network)
        {
            let same = Addresses::default().with(&[], &[wide.into()]);
            assert_eq!(same.permit(address), blocked.permit(address), "{address} of {wide}");
        }
        let [a, b, c, d] = short.octets().map(u16::from);
        let (high, low) = (a << 8 | b, c << 8 | d);
        let others = [
            [0, 0, 0, 0, 0, 0, high, low],
            [0, 0, 0, 0, 0xffff, 0, high, low],
            [0x64, 0xff9b, 0, 0, 0, 0, high, low],
            [0x2002, high, low, 0, 0, 0, 0, 1],
        ];
        for other in others.map(Ipv6Addr::from).into_iter().filter(|other| other.to_bits() > 1) {
            assert!(blocked.permit(address) || !blocked.permit(other.into()), "{other} of {network}");
        }
    }
    let single = Addresses::default().with(&[IpNet::from(address)], &[network]);
    assert!(single.permit(address) || !blocked.permit(address));
}

fn same_bits(network: IpNet, address: IpAddr) -> bool {
    let differ = match (network.addr(), address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        _ => return false,
    };
    differ >= network.prefix_len().into()
}
