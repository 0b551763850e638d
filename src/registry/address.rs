//! Where an image is asked for, and whether it may be. Pure.

use reqwest::Url;

use crate::glob::glob;
use crate::reference::{HUB, HUB_HOST, Reference, ReferenceError, is_hub, registry_name};

/// Where an image is asked for. Docker's defaults are filled in; what the user wrote stays with the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The registry as references name it, in the one spelling that a URL has: `127.0.0.1:5000` for `127.1:05000`.
    pub registry: String,
    /// Host, and port if there is one.
    pub host: String,
    /// Repository in it.
    pub repository: String,
    /// Digest if there is one, else tag, else `latest`.
    pub version: String,
}

impl Address {
    /// Where that reference leads.
    ///
    /// # Errors
    /// If it is no reference, or names only a registry.
    pub fn of(reference: &str) -> Result<Self, ReferenceError> {
        let parsed = Reference::parse(reference)?;
        let (registry, repository) = parsed.with_defaults().ok_or(ReferenceError::Name)?;
        let registry = as_asked(&registry).ok_or(ReferenceError::Registry)?;
        Ok(Self {
            host: if registry == HUB { HUB_HOST.to_owned() } else { registry.clone() },
            registry,
            repository,
            version: parsed.digest.or(parsed.tag).unwrap_or("latest").to_owned(),
        })
    }

    /// The digest that is asked for, if it is one.
    #[must_use]
    pub fn digest(&self) -> Option<&str> {
        self.version.contains(':').then_some(&self.version)
    }
}

/// Which registries may be asked. Patterns are hosts with `*` and `?`, and with a port if it is not 443.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registries {
    /// None means all.
    pub allow: Vec<String>,
    /// Win over those that are allowed.
    pub block: Vec<String>,
}

impl Registries {
    /// The registry, as references name it, may be asked. The same registry by another spelling is the same.
    #[must_use]
    pub fn permit(&self, registry: &str) -> bool {
        let registry = normal(registry);
        let bare = without_default_port(&registry);
        let bare = if is_hub(bare) { HUB } else { bare };
        let with_port = format!("{bare}:443");
        let matches = |pattern: &String| {
            // What has no stars is a registry.
            let pattern = if pattern.contains(['*', '?']) { registry_name(pattern) } else { normal(pattern) };
            let pattern = if is_hub(without_default_port(&pattern)) { HUB } else { &pattern };
            glob(pattern, bare) || !bare.contains(':') && glob(pattern, &with_port)
        };
        (self.allow.is_empty() || self.allow.iter().any(matches)) && !self.block.iter().any(matches)
    }
}

/// A registry that users may write in several ways, as its URLs have it.
pub(super) fn server(registry: &str) -> String {
    let registry = normal(registry);
    let bare = without_default_port(&registry);
    if is_hub(bare) { HUB_HOST.to_owned() } else { bare.to_owned() }
}

/// The one spelling of a registry, as far as there is one.
fn normal(registry: &str) -> String {
    as_asked(registry).unwrap_or_else(|| registry_name(registry))
}

/// A registry with its host as URLs have it, whatever way an address in it is written. `None` if no URL can have it.
fn as_asked(registry: &str) -> Option<String> {
    let name = registry_name(registry);
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte)) {
        return None;
    }
    let url = Url::parse(&format!("https://{name}/")).ok()?;
    let host = url.host_str()?;
    // The default port stays where it was written: it is that of HTTPS, and not of HTTP.
    Some(name.split_once(':').map_or_else(|| host.to_owned(), |(_, port)| format!("{host}:{port}")))
}

/// `quay.io` of `quay.io:443`.
fn without_default_port(registry: &str) -> &str {
    registry.strip_suffix(":443").unwrap_or(registry)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("mysql", "docker.io", "registry-1.docker.io", "library/mysql", "latest")]
    #[case("team/app:1", "docker.io", "registry-1.docker.io", "team/app", "1")]
    #[case("docker.io/app:1", "docker.io", "registry-1.docker.io", "library/app", "1")]
    #[case("index.docker.io/a/b", "docker.io", "registry-1.docker.io", "a/b", "latest")]
    #[case("quay.io/a/b/c:1", "quay.io", "quay.io", "a/b/c", "1")]
    #[case("host:5000/x", "host:5000", "host:5000", "x", "latest")]
    #[case("QUAY.io/a/b", "quay.io", "quay.io", "a/b", "latest")]
    #[case("127.1:05000/a", "127.0.0.1:5000", "127.0.0.1:5000", "a", "latest")]
    #[case("0x7f000001:80/a", "127.0.0.1:80", "127.0.0.1:80", "a", "latest")]
    #[case("0177.0.0.1:0/a", "127.0.0.1:0", "127.0.0.1:0", "a", "latest")]
    #[case("docker.io:0443/app", "docker.io", "registry-1.docker.io", "library/app", "latest")]
    #[case("quay.io:443/a", "quay.io:443", "quay.io:443", "a", "latest")]
    #[case("Registry-1.docker.io:443/app", "docker.io", "registry-1.docker.io", "library/app", "latest")]
    fn docker_defaults_are_filled_in(
        #[case] reference: &str,
        #[case] registry: &str,
        #[case] host: &str,
        #[case] repository: &str,
        #[case] version: &str,
    ) {
        let found = Address::of(reference).unwrap();
        assert_eq!((found.registry.as_str(), found.host.as_str()), (registry, host));
        assert_eq!((found.repository.as_str(), found.version.as_str()), (repository, version));
        assert_eq!(found.digest(), None);
    }

    #[test]
    fn digest_wins_over_tag() {
        let digest = format!("sha256:{:064x}", 1);
        let found = Address::of(&format!("q.io/a:1@{digest}")).unwrap();
        assert_eq!(found.digest(), Some(digest.as_str()));
        assert!(Address::of("my.registry:5000").is_err() && Address::of("A b").is_err());
        for no_url in ["q.io:65536/a", "1.2.3.256/a", "1.2.3.4.5/a", "0x100000000:1/a"] {
            assert_eq!(Address::of(no_url), Err(ReferenceError::Registry), "{no_url}");
        }
    }

    #[rstest]
    #[case(&[], &[], "quay.io", true)]
    #[case(&["quay.io"], &[], "quay.io", true)]
    #[case(&["quay.io"], &[], "quay.io.evil.example", false)]
    #[case(&["quay.io"], &[], "quay.io:5000", false)]
    #[case(&["*.example.com:*"], &[], "a.example.com:5000", true)]
    #[case(&["*.example.com"], &["b.*"], "b.example.com", false)]
    #[case(&[], &["registry-1.docker.io"], "docker.io", false)]
    #[case(&["regist?y"], &[], "registry", true)]
    #[case(&[], &["quay.io"], "QUAY.io", false)]
    #[case(&[], &["Quay.io"], "quay.io:443", false)]
    #[case(&[], &["quay.io:443"], "quay.io", false)]
    #[case(&[], &["docker.io"], "registry-1.docker.io:443", false)]
    #[case(&["*.example.com:*"], &[], "a.example.com", true)]
    #[case::zeros(&[], &["quay.io"], "quay.io:0443", false)]
    #[case::zeros_of_hub(&[], &["docker.io"], "index.docker.io:000443", false)]
    #[case::zeros_elsewhere(&[], &["localhost:5000"], "localhost:05000", false)]
    #[case::zeros_in_the_pattern(&[], &["*.io:05000"], "q.io:5000", false)]
    #[case::other_port(&[], &["localhost:5000"], "localhost:50000", true)]
    #[case::dot(&[], &["quay.io"], "quay.io.", false)]
    #[case::dot_and_port(&[], &["quay.io:5000"], "quay.io.:5000", false)]
    #[case::dot_in_the_pattern(&[], &["quay.io."], "quay.io", false)]
    #[case::short(&[], &["127.0.0.1:5000"], "127.1:5000", false)]
    #[case::number(&[], &["127.0.0.1:5000"], "2130706433:5000", false)]
    #[case::hex(&[], &["127.0.0.*:*"], "0x7f.0.0.1:5000", false)]
    #[case::octal(&["127.0.0.1"], &[], "0177.1", true)]
    #[case::number_in_the_pattern(&[], &["127.1"], "127.0.0.1", false)]
    fn registries_are_permitted(
        #[case] allow: &[&str],
        #[case] block: &[&str],
        #[case] registry: &str,
        #[case] expected: bool,
    ) {
        let owned = |patterns: &[&str]| patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        assert_eq!(Registries { allow: owned(allow), block: owned(block) }.permit(registry), expected);
    }
}
