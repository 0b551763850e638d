//! Values of flags, read with a hint for whoever wrote them wrongly. Pure.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use jiff::SignedDuration;

use super::Source;
use crate::reference::Reference;
use crate::store::kube::Preference;

/// A duration such as `3s`, `1m30s` or `500ms`.
pub(crate) fn duration(written: &str) -> Result<Duration, String> {
    let parsed: SignedDuration = written.parse().map_err(|_| "write it like 3s, 1m30s or 500ms".to_owned())?;
    Duration::try_from(parsed).map_err(|_| "it may not be negative".to_owned())
}

/// A duration that is not zero.
pub(super) fn limit(written: &str) -> Result<Duration, String> {
    let parsed = duration(written)?;
    if parsed.is_zero() { Err("it may not be zero".to_owned()) } else { Ok(parsed) }
}

/// Units of sizes.
const UNITS: &[(&str, u64)] = &[
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("kB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("", 1),
];

/// A number of bytes such as `100GiB`, `1TB` or `5Gi`.
pub(super) fn bytes(written: &str) -> Result<u64, String> {
    let hint = || "write it like 500MiB, 100GiB or 1TB".to_owned();
    let digits = written.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let (_, unit) = UNITS.iter().find(|(name, _)| *name == &written[digits.len()..]).ok_or_else(hint)?;
    let whole: u64 = digits.trim_end().parse().map_err(|_| hint())?;
    whole.checked_mul(*unit).filter(|bytes| *bytes > 0).ok_or_else(hint)
}

/// A network such as `10.0.0.0/8`, or one address.
pub(super) fn network(written: &str) -> Result<IpNet, String> {
    let address = || written.parse::<IpAddr>().ok().map(IpNet::from);
    let network = written.parse().ok().or_else(address);
    network.ok_or_else(|| "write a network like 10.0.0.0/8 or fd00::/8, or an address".to_owned())
}

/// At least so long that certificates, whose times are in seconds, can be renewed in time.
const LIFETIME_MIN: Duration = Duration::from_secs(10);

pub(super) fn lifetime(written: &str) -> Result<Duration, String> {
    let parsed = duration(written)?;
    if parsed < LIFETIME_MIN { Err("it may not be less than 10s".to_owned()) } else { Ok(parsed) }
}

/// Registries should not be asked more often.
const INTERVAL_MIN: Duration = Duration::from_mins(1);

pub(super) fn interval(written: &str) -> Result<Duration, String> {
    let parsed = duration(written)?;
    if parsed < INTERVAL_MIN { Err("it may not be less than 1m".to_owned()) } else { Ok(parsed) }
}

pub(super) fn rate(written: &str) -> Result<f64, String> {
    let rate: f64 = written.parse().map_err(|_| "write a number such as 20 or 0.5".to_owned())?;
    if rate.is_finite() && rate >= 0.0 { Ok(rate) } else { Err("it may not be negative".to_owned()) }
}

pub(super) fn namespaced(written: &str) -> Result<(String, String), String> {
    match written.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok((namespace.to_owned(), name.to_owned()))
        }
        _ => Err("write NAMESPACE/NAME".to_owned()),
    }
}

pub(super) fn source(written: &str) -> Result<Source, String> {
    match written {
        "auto" => Ok(Source::Cluster(Preference::Auto)),
        "openshift" => Ok(Source::Cluster(Preference::OpenShift)),
        "pinstream" => Ok(Source::Cluster(Preference::Pinstream)),
        path if path.contains('/') || path == "." => Ok(Source::Directory(path.into())),
        other => Err(format!("write auto, openshift or pinstream, or a directory with a slash: ./{other}")),
    }
}

pub(super) fn registry_host(written: &str) -> Result<String, String> {
    let repository = format!("{written}/namespace/name");
    match Reference::parse(&repository) {
        Ok(parsed) if parsed.registry == Some(written) => Ok(written.to_owned()),
        _ => Err("write a host with a dot, a port or localhost, such as registry.example or registry:5000".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("3s", Some(3_000))]
    #[case("1m30s", Some(90_000))]
    #[case("0s", Some(0))]
    #[case("3", None)]
    #[case("-3s", None)]
    #[case("soon", None)]
    fn durations_are_read(#[case] written: &str, #[case] milliseconds: Option<u64>) {
        assert_eq!(duration(written).ok(), milliseconds.map(Duration::from_millis));
        assert_eq!(limit(written).is_ok(), milliseconds.is_some_and(|milliseconds| milliseconds > 0));
    }

    #[rstest]
    #[case("1", Some(1))]
    #[case("500MiB", Some(500 << 20))]
    #[case("100Gi", Some(100 << 30))]
    #[case("2 TB", Some(2_000_000_000_000))]
    #[case("0", None)]
    #[case("", None)]
    #[case("GiB", None)]
    #[case("1.5GiB", None)]
    #[case("1gb", None)]
    #[case("-1", None)]
    #[case("99999999999TiB", None)]
    fn sizes_are_read(#[case] written: &str, #[case] expected: Option<u64>) {
        assert_eq!(bytes(written).ok(), expected);
    }

    #[rstest]
    #[case("10s", true)]
    #[case("2160h", true)]
    #[case("9s", false)]
    #[case("90", false)]
    fn lifetimes_are_checked(#[case] written: &str, #[case] is_good: bool) {
        assert_eq!(lifetime(written).is_ok(), is_good);
    }

    #[rstest]
    #[case("1m", true)]
    #[case("15m", true)]
    #[case("59s", false)]
    fn intervals_are_at_least_a_minute(#[case] written: &str, #[case] is_good: bool) {
        assert_eq!(interval(written).is_ok(), is_good);
    }

    #[rstest]
    #[case("system/pinstream-tls", true)]
    #[case("pinstream-tls", false)]
    #[case("/pinstream-tls", false)]
    #[case("system/", false)]
    #[case("a/b/c", false)]
    fn secrets_have_a_namespace(#[case] written: &str, #[case] is_good: bool) {
        assert_eq!(namespaced(written).is_ok(), is_good);
    }

    #[rstest]
    #[case("auto", Some(Source::Cluster(Preference::Auto)))]
    #[case("openshift", Some(Source::Cluster(Preference::OpenShift)))]
    #[case("pinstream", Some(Source::Cluster(Preference::Pinstream)))]
    #[case("./auto", Some(Source::Directory("./auto".into())))]
    #[case("/streams", Some(Source::Directory("/streams".into())))]
    #[case(".", Some(Source::Directory(".".into())))]
    #[case("Auto", None)]
    #[case("", None)]
    fn sources_are_words_or_paths(#[case] written: &str, #[case] expected: Option<Source>) {
        assert_eq!(source(written).ok(), expected);
    }

    #[rstest]
    #[case("registry.example", true)]
    #[case("registry:5000", true)]
    #[case("localhost", true)]
    #[case("registry", false)]
    #[case("https://registry.example", false)]
    #[case("registry.example/path", false)]
    #[case("", false)]
    fn registry_hosts_are_checked(#[case] written: &str, #[case] is_host: bool) {
        assert_eq!(registry_host(written).is_ok(), is_host);
    }
}
