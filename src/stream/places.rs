//! Where images of tags with reference policy `Local` are pulled from in place of their source: a pull-through cache that
//! somebody else runs, or the registry of the streams. Pure.

use super::pullspec;
use super::types::{ImageStream, ReferencePolicyType, SpecTag, TagEvent};
use crate::reference::Reference;

/// What is replaced by the registry that an image comes from.
const REGISTRY: &str = "{registry}";
/// What is replaced by the repository that an image comes from.
const REPOSITORY: &str = "{repository}";
/// The sources of a cache that has everything.
const EVERYTHING: &str = "*";

/// Where images are pulled from if not from their source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Host of the registry that serves the streams' images, if one does.
    pub registry_host: Option<String>,
    /// Pull-through caches of others. The first that has an image's source counts, and goes before the registry.
    pub caches: Vec<Cache>,
}

/// A pull-through cache: whose images it has, and where it has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// A registry, `registry/path`, or [`EVERYTHING`].
    source: String,
    /// A repository with [`REGISTRY`] and [`REPOSITORY`] in it.
    template: String,
}

impl Places {
    /// No caches; a registry at that host, if there is one.
    #[must_use]
    pub fn at_host(registry_host: Option<&str>) -> Self {
        Self { registry_host: registry_host.map(str::to_owned), caches: Vec::new() }
    }

    /// The repository under which the registry of the streams serves a stream.
    #[must_use]
    pub fn repository(&self, stream: &ImageStream) -> Option<String> {
        pullspec::repository(stream, self.registry_host.as_deref())
    }

    /// The pull spec at which a cache has the image of a tag with policy `Local`.
    #[must_use]
    pub fn cached(&self, spec: Option<&SpecTag>, event: &TagEvent) -> Option<String> {
        spec.filter(|tag| tag.reference_policy.kind == ReferencePolicyType::Local)?;
        let source = Source::of(&Reference::parse(&event.docker_image_reference).ok()?)?;
        let is_served = self.registry_host.as_deref() == Some(&source.registry);
        let repository = self.caches.iter().filter(|_| !is_served).find_map(|cache| cache.repository(&source))?;
        Reference::parse(&repository).ok()?.at_digest(&event.image)
    }
}

/// Where an image comes from, with what Docker fills in.
struct Source {
    registry: String,
    repository: String,
}

impl Source {
    fn of(reference: &Reference<'_>) -> Option<Self> {
        let (registry, repository) = reference.with_defaults()?;
        Some(Self { registry, repository })
    }
}

impl Cache {
    /// Reads `SOURCE=TEMPLATE`.
    ///
    /// # Errors
    /// A hint for whoever wrote it wrongly.
    pub fn parse(written: &str) -> Result<Self, String> {
        let (source, template) =
            written.split_once('=').ok_or("write SOURCE=TEMPLATE, such as docker.io=harbor.example/hub")?;
        let template = template.trim_end_matches('/');
        let template =
            if template.contains(REPOSITORY) { template.to_owned() } else { format!("{template}/{REPOSITORY}") };
        let cache = Self { source: canonical(source)?, template };
        let example = Source { registry: "registry.example".to_owned(), repository: "a/b".to_owned() };
        let tried = cache.filled(&example);
        let has_registry = Reference::parse(&tried).is_ok_and(|parsed| {
            parsed.registry.is_some_and(|registry| registry != example.registry)
                && (parsed.tag, parsed.digest) == (None, None)
        });
        if has_registry {
            Ok(cache)
        } else {
            Err(format!(
                "{template:?} is no place in a registry; write HOST/PATH, with {REGISTRY} and {REPOSITORY} where those of \
                 the image are to stand",
                template = cache.template
            ))
        }
    }

    /// The repository that has the images of a source, if it is one of the cache's. What is in the cache itself is not.
    fn repository(&self, source: &Source) -> Option<String> {
        let place = format!("{}/{}", source.registry, source.repository);
        let below = place.strip_prefix(&self.source);
        let is_one = self.source == EVERYTHING || below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let repository = is_one.then(|| self.filled(source))?;
        let parsed = Reference::parse(&repository).ok()?;
        (parsed.registry != Some(&source.registry)).then_some(repository)
    }

    fn filled(&self, source: &Source) -> String {
        self.template.replace(REGISTRY, &source.registry).replace(REPOSITORY, &source.repository)
    }
}

/// A registry or a part of one, as sources are compared with it.
fn canonical(written: &str) -> Result<String, String> {
    if written == EVERYTHING {
        return Ok(written.to_owned());
    }
    let wrong = || format!("{written:?} is no source; write a registry such as quay.io, a part of one, or *");
    let written = written.trim_end_matches('/');
    let any = format!("{written}/any");
    let parsed = Reference::parse(&any).map_err(|_| wrong())?;
    let registry = parsed.registry.ok_or_else(wrong)?;
    let path = &written[registry.len()..];
    Ok(format!("{}{path}", crate::reference::registry_name(registry)))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    const D: &str = "sha256:87fbabfd7d6add32fe8c9cce0d829e1257a1398a1850fcd45f8fd0e659b5a46c";

    fn stream(policy: &str, source: &str, image: &str) -> ImageStream {
        serde_json::from_value(json!({"metadata": {"name": "app", "namespace": "demo"},
            "spec": {"lookupPolicy": {"local": true}, "tags": [{"name": "1", "referencePolicy": {"type": policy}}]},
            "status": {"tags": [{"tag": "1", "items": [{"dockerImageReference": source, "image": image}]}]}}))
        .unwrap()
    }

    fn places(host: Option<&str>, caches: &[&str]) -> Places {
        let caches = caches.iter().map(|cache| Cache::parse(cache).unwrap()).collect();
        Places { caches, ..Places::at_host(host) }
    }

    fn admitted(policy: &str, source: &str, places: &Places) -> String {
        let stream = stream(policy, &format!("{source}@{D}"), D);
        match pullspec::admitted(&stream, places, "1") {
            pullspec::Admitted::Pinned(image) => image.strip_suffix(&format!("@{D}")).unwrap().to_owned(),
            pullspec::Admitted::Pending(place) => panic!("{place:?}"),
        }
    }

    #[rstest]
    #[case::harbor("docker.io=harbor.example/hub", "docker.io/team/app", "harbor.example/hub/team/app")]
    #[case::ecr(
        "quay.io=1.dkr.ecr.eu-west-1.amazonaws.com/quay",
        "quay.io/a/b/c",
        "1.dkr.ecr.eu-west-1.amazonaws.com/quay/a/b/c"
    )]
    #[case::zot("quay.io=zot.example:5000", "quay.io/a/b", "zot.example:5000/a/b")]
    #[case::artifactory("docker.io=acme.jfrog.io/docker-remote", "mysql", "acme.jfrog.io/docker-remote/library/mysql")]
    #[case::docker_hub_by_another_name("index.docker.io=h.io/hub", "docker.io/mysql", "h.io/hub/library/mysql")]
    #[case::no_registry("docker.io=h.io/hub", "team/app", "h.io/hub/team/app")]
    #[case::port("r.io:5000=h.io/r", "r.io:5000/a/b", "h.io/r/a/b")]
    #[case::everything("*=h.io/{registry}", "ghcr.io/a/b", "h.io/ghcr.io/a/b")]
    #[case::template("*=h.io/all/{registry}/x/{repository}", "mysql", "h.io/all/docker.io/x/library/mysql")]
    #[case::part_of_a_registry("quay.io/team=h.io/q", "quay.io/team/app", "h.io/q/team/app")]
    #[case::other_part("quay.io/team=h.io/q", "quay.io/teams/app", "quay.io/teams/app")]
    #[case::other_registry("quay.io=h.io/q", "quay.io.evil.example/a", "quay.io.evil.example/a")]
    #[case::port_in_a_path("*=h.io/{registry}", "r.io:5000/a/b", "r.io:5000/a/b")]
    #[case::in_the_cache_already("*=h.io/{registry}", "h.io/docker.io/a/b", "h.io/docker.io/a/b")]
    fn local_tags_are_pulled_from_the_cache_of_their_source(
        #[case] cache: &str,
        #[case] source: &str,
        #[case] expected: &str,
    ) {
        assert_eq!(admitted("Local", source, &places(None, &[cache])), expected);
        assert_eq!(admitted("Source", source, &places(None, &[cache])), source);
    }

    #[rstest]
    #[case::cache_before_host("quay.io/a/b", "h.io/q/a/b")]
    #[case::first_cache("quay.io/first/b", "h.io/first/first/b")]
    #[case::host_for_the_rest("ghcr.io/a/b", "reg.io/demo/app")]
    #[case::in_the_registry_already("reg.io/demo/app", "reg.io/demo/app")]
    fn cache_of_the_source_goes_before_the_registry_of_the_streams(#[case] source: &str, #[case] expected: &str) {
        let places = places(Some("reg.io"), &["quay.io/first=h.io/first", "quay.io=h.io/q"]);
        assert_eq!(admitted("Local", source, &places), expected);
    }

    #[test]
    fn image_without_a_digest_is_in_no_cache() {
        let stream = stream("Local", "quay.io/a/b:1", "");
        let expected = pullspec::Admitted::Pending(None);
        assert_eq!(pullspec::admitted(&stream, &places(None, &["*=h.io/all"]), "1"), expected);
    }

    #[rstest]
    #[case("quay.io", "write SOURCE=TEMPLATE")]
    #[case("quay=h.io/q", "\"quay\" is no source")]
    #[case("=h.io/q", "\"\" is no source")]
    #[case("quay.io:tag/=h.io/q", "\"quay.io:tag/\" is no source")]
    #[case("https://quay.io=h.io/q", "is no source")]
    #[case("quay.io=", "is no place in a registry")]
    #[case("quay.io=cache/q", "is no place in a registry")]
    #[case("quay.io=h.io/Q", "is no place in a registry")]
    #[case("quay.io=h.io/q:1", "is no place in a registry")]
    #[case("quay.io={registry}", "is no place in a registry")]
    #[case("quay.io=https://h.io/q", "is no place in a registry")]
    fn what_is_no_cache_is_refused(#[case] written: &str, #[case] reason: &str) {
        let error = Cache::parse(written).unwrap_err();
        assert!(error.contains(reason), "{error}");
    }
}
