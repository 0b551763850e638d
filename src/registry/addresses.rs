//! Which network addresses registries are asked at. Names are looked up here, so that what is checked is what is connected
//! to, whatever another look-up says a moment later.
//!
//! Whoever may write a stream chooses whom this process connects to. So what only the machine itself should talk to, such as
//! the metadata of a cloud with its credentials, is out of reach unless an administrator says otherwise.

use std::error::Error as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use ipnet::{IpNet, Ipv4Net};
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Where nobody has a registry: link-local addresses, at which clouds tell machines their credentials, and those that some
/// of them use in place of one.
const MACHINES_ONLY: [&str; 11] = [
    "169.254.0.0/16",
    "fe80::/10",
    // Amazon, over IPv6.
    "fd00:ec2::/32",
    // Google, over IPv6.
    "fd20:ce::254/128",
    // Scaleway, over IPv6.
    "fd00:42::42/128",
    // Akamai, over IPv6.
    "fd00:a9fe:a9fe::1/128",
    // Alibaba.
    "100.100.100.200/32",
    "fd00:100::100:200/128",
    // Azure.
    "168.63.129.16/32",
    // Oracle.
    "192.0.0.192/32",
    "fd00:c1::a9fe:a9fe/128",
];

/// IPv6 addresses that stand for IPv4 ones in ways that cannot be seen from here: those of translators of one's own
/// (RFC 8215), and of Teredo (RFC 4380).
const UNTOLD: [&str; 2] = ["64:ff9b:1::/48", "2001::/32"];

/// This machine, or what systems take for it.
const LOOPBACK: [&str; 4] = ["127.0.0.0/8", "0.0.0.0/8", "::1/128", "::/128"];

/// Which addresses may be connected to. Of the networks that have an address the smallest counts, and all else may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    allow: Vec<IpNet>,
    block: Vec<IpNet>,
    /// Those of this machine are blocked, each by itself, whatever networks it is in.
    without_own: bool,
}

/// All addresses that a name has are blocked; this is one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the address {0} may not be asked")]
pub(super) struct Blocked(pub(super) IpAddr);

impl Default for Addresses {
    /// Blocks what only machines themselves should talk to.
    fn default() -> Self {
        Self { allow: Vec::new(), block: [networks(&MACHINES_ONLY), networks(&UNTOLD)].concat(), without_own: false }
    }
}

impl Addresses {
    /// The same, without this machine: in a cluster that is a Pod, which has no registry of its users.
    #[must_use]
    pub fn without_this_machine(mut self) -> Self {
        self.block.extend(networks(&LOOPBACK));
        self.without_own = true;
        self
    }

    /// The same with further networks. What is in one of each, and of the same size, is allowed.
    #[must_use]
    pub fn with(mut self, allow: &[IpNet], block: &[IpNet]) -> Self {
        self.allow.extend(allow.iter().map(canonical));
        self.block.extend(block.iter().map(canonical));
        self
    }

    /// It may be connected to.
    #[must_use]
    pub fn permit(&self, address: IpAddr) -> bool {
        [address, embedded(address)].into_iter().all(|address| self.permit_written(address, is_own))
    }

    fn permit_written(&self, address: IpAddr, is_own: impl Fn(IpAddr) -> bool) -> bool {
        let smallest = |networks: &[IpNet]| {
            networks.iter().filter(|network| network.contains(&address)).map(IpNet::prefix_len).max()
        };
        let allowed = smallest(&self.allow);
        let has_exception = allowed == Some(IpNet::from(address).prefix_len());
        let may_be_own = self.without_own && !has_exception && !address.is_loopback();
        allowed >= smallest(&self.block) && !(may_be_own && is_own(address))
    }

    /// The host of a URL, if it is an address: those are not looked up.
    pub(super) fn check(&self, url: &Url) -> Result<(), Blocked> {
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        match host.parse() {
            Ok(address) if !self.permit(address) => Err(Blocked(address)),
            _ => Ok(()),
        }
    }

    /// Those of the addresses of a name that may be connected to.
    fn select(&self, found: impl Iterator<Item = SocketAddr>) -> Result<Vec<SocketAddr>, Blocked> {
        let (permitted, blocked): (Vec<_>, Vec<_>) = found.partition(|address| self.permit(address.ip()));
        match blocked.first() {
            Some(address) if permitted.is_empty() => Err(Blocked(address.ip())),
            _ => Ok(permitted),
        }
    }
}

/// Looks names up as the system does, without the addresses that are blocked.
#[derive(Clone, Debug)]
pub(super) struct Lookup(pub(super) Addresses);

impl Resolve for Lookup {
    fn resolve(&self, name: Name) -> Resolving {
        let Self(addresses) = self.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(Box::new(addresses.select(found)?.into_iter()) as Addrs)
        })
    }
}

impl Blocked {
    /// That it was blocked, if that is why a request failed.
    pub(super) fn cause_of(error: &reqwest::Error) -> Option<Self> {
        let mut source = error.source();
        while let Some(cause) = source {
            if let Some(blocked) = cause.downcast_ref() {
                return Some(*blocked);
            }
            source = cause.source();
        }
        None
    }
}

/// It is an address of this machine: to no other can one bind.
fn is_own(address: IpAddr) -> bool {
    let (any, nobodys): (IpAddr, IpAddr) = match address {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into()),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()),
    };
    let can_be_bound_to = |address: IpAddr| UdpSocket::bind((address, 0)).is_ok();
    if !can_be_bound_to(nobodys) {
        return can_be_bound_to(address);
    }
    // Where a system binds to any address, one's own is where packets to it would come from. None is sent.
    let from = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((address, 9))?;
        socket.local_addr()
    });
    from.is_ok_and(|from| from.ip() == address)
}

/// The IPv4 address that an IPv6 address stands for: mapped and compatible ones (RFC 4291), and those of translators
/// (RFC 2765 and 6052) and of 6to4 (RFC 3056).
fn embedded(address: IpAddr) -> IpAddr {
    let IpAddr::V6(long) = address else { return address };
    let short = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match long.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => address,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => short(high, low),
        _ => address,
    }
}

/// A network of mapped IPv4 addresses is the IPv4 network.
fn canonical(network: &IpNet) -> IpNet {
    let IpNet::V6(long) = network else { return *network };
    let short = long.addr().to_ipv4_mapped().zip(long.prefix_len().checked_sub(96));
    short.and_then(|(address, length)| Ipv4Net::new(address, length).ok()).map_or(*network, IpNet::V4)
}

fn networks(written: &[&str]) -> Vec<IpNet> {
    written.iter().map(|network| network.parse().expect("the constant is a network")).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn nets(written: &[&str]) -> Vec<IpNet> {
        networks(written)
    }

    #[rstest]
    #[case("169.254.169.254")]
    #[case("169.254.170.2")]
    #[case("fe80::1")]
    #[case("febf::1")]
    #[case("fd00:ec2::254")]
    #[case("fd00:ec2::23")]
    #[case("fd00:ec2:1::253")]
    #[case("fd00:a9fe:a9fe::1")]
    #[case("fd00:c1::a9fe:a9fe")]
    #[case("fd00:100::100:200")]
    #[case("fd00:42::42")]
    #[case("fd20:ce::254")]
    #[case("100.100.100.200")]
    #[case("168.63.129.16")]
    #[case("192.0.0.192")]
    #[case::mapped("::ffff:169.254.169.254")]
    #[case::nat64("64:ff9b::a9fe:a9fe")]
    #[case::compatible("::169.254.169.254")]
    #[case::translated("::ffff:0:169.254.169.254")]
    #[case::nat64_of_ones_own("64:ff9b:1::a9fe:a9fe")]
    #[case::nat64_of_ones_own_and_a_shorter_prefix("64:ff9b:1:a9fe:a9:fe00::")]
    #[case::six_to_four("2002:a9fe:a9fe::1")]
    #[case::teredo("2001:0:4136:e378:8000:63bf:5601:5601")]
    fn metadata_of_machines_is_out_of_reach(#[case] address: &str) {
        assert!(!Addresses::default().permit(address.parse().unwrap()), "{address}");
    }

    #[rstest]
    #[case("192.0.2.1")]
    #[case("10.0.0.1")]
    #[case("fd00::1")]
    #[case("2001:db8::1")]
    #[case("64:ff9b::c000:201")]
    #[case("127.0.0.1")]
    #[case("::1")]
    fn all_else_may_be_asked(#[case] address: &str) {
        assert!(Addresses::default().permit(address.parse().unwrap()), "{address}");
    }

    #[rstest]
    #[case("127.0.0.1")]
    #[case("0.0.0.0")]
    #[case("::1")]
    #[case("::")]
    #[case("::ffff:127.9.9.9")]
    #[case("::127.0.0.1")]
    fn a_pod_does_not_ask_itself(#[case] address: &str) {
        assert!(!Addresses::default().without_this_machine().permit(address.parse().unwrap()), "{address}");
    }

    #[test]
    fn a_pod_does_not_ask_itself_by_its_address_in_the_cluster() {
        let (own, other): (IpAddr, IpAddr) = ("10.1.2.3".parse().unwrap(), "10.1.2.4".parse().unwrap());
        let permitted = |addresses: &Addresses| [own, other].map(|one| addresses.permit_written(one, |one| one == own));
        let pod = Addresses::default().without_this_machine();
        assert_eq!(permitted(&Addresses::default()), [true, true]);
        assert_eq!(permitted(&pod), [false, true]);
        assert_eq!(permitted(&pod.clone().with(&nets(&["10.1.0.0/16"]), &[])), [false, true]);
        assert_eq!(permitted(&pod.with(&nets(&["10.1.2.3/32"]), &[])), [true, true]);
    }

    #[test]
    fn addresses_of_this_machine_are_told_from_others() {
        // Whatever the machine has beside loopback is where its packets would come from.
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let own = socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr()).map(|address| address.ip());
        assert!(is_own("127.0.0.1".parse().unwrap()) && own.map_or(true, is_own));
        assert!(!is_own("192.0.2.1".parse().unwrap()) && !is_own("2001:db8::2".parse().unwrap()));
    }

    #[rstest]
    #[case("::ffff:10.0.0.0/104", "10.0.0.1", false)]
    #[case("::ffff:10.0.0.0/104", "::ffff:10.0.0.1", false)]
    #[case("::ffff:10.0.0.0/104", "11.0.0.1", true)]
    #[case("::ffff:0:0/96", "192.0.2.1", false)]
    #[case("::/0", "192.0.2.1", true)]
    #[case("10.0.0.0/8", "::10.0.0.1", false)]
    #[case("10.0.0.0/8", "::ffff:0:10.0.0.1", false)]
    #[case("10.0.0.0/8", "64:ff9b::10.0.0.1", false)]
    #[case("10.0.0.0/8", "2002:a00:1::1", false)]
    fn networks_and_addresses_mean_the_same_in_both_notations(
        #[case] network: &str,
        #[case] address: &str,
        #[case] expected: bool,
    ) {
        let addresses = Addresses::default().with(&[], &nets(&[network]));
        assert_eq!(addresses.permit(address.parse().unwrap()), expected);
        let both = addresses.with(&nets(&[network]), &[]);
        assert!(both.permit(address.parse().unwrap()), "allowing wins a tie");
    }

    #[test]
    fn the_smallest_network_counts_and_allowing_wins_a_tie() {
        let addresses = Addresses::default().with(&nets(&["10.1.0.0/16"]), &nets(&["10.0.0.0/8", "10.1.2.3/32"]));
        let permitted = |address: &str| addresses.permit(address.parse().unwrap());
        assert_eq!(["10.2.0.1", "10.1.0.1", "10.1.2.3"].map(permitted), [false, true, false]);
        let translated = Addresses::default().with(&[], &nets(&["64:ff9b::/96"]));
        assert!(
            !translated.permit("64:ff9b::a00:1".parse().unwrap()) && translated.permit("10.0.0.1".parse().unwrap())
        );
        let metadata = "169.254.169.254".parse().unwrap();
        assert!(!Addresses::default().with(&nets(&["0.0.0.0/0"]), &[]).permit(metadata));
        assert!(Addresses::default().with(&nets(&["169.254.0.0/16"]), &[]).permit(metadata));
    }

    #[rstest]
    #[case("http://169.254.169.254/v2/")]
    #[case("http://[::ffff:169.254.169.254]:80/v2/")]
    #[case("http://2852039166/v2/")]
    #[case("http://0xa9.0xfe.0xa9.0xfe/v2/")]
    #[case("http://0251.0376.0251.0376/v2/")]
    #[case("http://169.254.169.254./v2/")]
    fn an_address_is_known_in_every_spelling(#[case] url: &str) {
        assert!(Addresses::default().check(&url.parse().unwrap()).is_err(), "{url}");
    }

    #[test]
    fn of_a_name_only_the_addresses_that_may_be_are_connected_to() {
        let sockets = |written: &[&str]| written.iter().map(|one| one.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let select = |written: &[&str]| Addresses::default().select(sockets(written).into_iter());
        assert_eq!(select(&["169.254.169.254:0", "192.0.2.1:0"]), Ok(sockets(&["192.0.2.1:0"])));
        assert_eq!(select(&["169.254.169.254:0"]), Err(Blocked("169.254.169.254".parse().unwrap())));
        assert_eq!(select(&[]), Ok(Vec::new()));
    }
}
