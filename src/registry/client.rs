//! What is asked of a registry: an image behind a reference, and the tags of a repository.

use std::time::Duration;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use prometheus::IntCounterVec;
use reqwest::header::{CONTENT_TYPE, HeaderMap, LINK};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;

use super::address::{Address, Registries};
use super::answer::{CONTENT_DIGEST, checked, good, header, named};
use super::connection::{Answer, SetupError, Take};
use super::flights::Flights;
use super::keyring::{Credential, Identity, Keyring};
use super::manifest::{self, Manifest};
use super::transport::{Ask, Session, Transport, Wish};
use super::{FetchError, Fetched, Reason, Retry, Settings, Wanted};
use crate::image::{Child, Image};
use crate::reference::Reference;

/// The most bytes of a manifest, as registries have it.
pub(super) const MANIFEST_MAX: usize = 4 << 20;
/// The most bytes of an image's configuration.
const CONFIG_MAX: usize = 8 << 20;
/// The most bytes of configurations that are kept, of one image and of all images of an index together.
const KEPT_MAX: usize = 128 << 10;
const KEPT_OF_INDEX_MAX: usize = 1 << 20;
/// The most bytes of a page of tags, the most pages, and the most tags.
const PAGE_MAX: usize = 4 << 20;
const PAGES_MAX: usize = 100;
const TAGS_MAX: usize = 100_000;
/// The longest tag there is.
const TAG_MAX: usize = 128;
/// How many images of an index are asked for at a time.
const CHILDREN_AT_A_TIME: usize = 4;

/// What makes two requests the same: what is wanted, and the credentials that may be shown for it.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Same {
    reference: String,
    whole_index: bool,
    insecure: bool,
    platform: [Option<String>; 2],
    known: Option<String>,
    shown: Vec<Identity>,
}

/// The client of all registries, for all tenants.
pub struct Client {
    pub(super) transport: Transport,
    registries: Registries,
    pub(super) total_timeout: Duration,
    flights: Flights<Same, Result<Fetched, FetchError>>,
}

impl Same {
    fn new(wanted: &Wanted<'_>, credentials: &[Credential]) -> Self {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Self {
            reference: wanted.reference.to_owned(),
            whole_index: wanted.whole_index,
            insecure: wanted.insecure,
            platform: [owned(wanted.system), owned(wanted.architecture)],
            known: owned(wanted.known),
            shown: credentials.iter().map(Credential::identity).collect(),
        }
    }
}

/// A manifest whose digest was checked.
struct Got {
    digest: String,
    manifest: Manifest,
}

impl Client {
    /// Asks nobody yet. `requests` counts by class of answer.
    ///
    /// # Errors
    /// If a CA cannot be read.
    pub fn new(settings: &Settings, requests: IntCounterVec) -> Result<Self, SetupError> {
        Ok(Self {
            transport: Transport::new(settings, requests)?,
            registries: settings.registries.clone(),
            total_timeout: settings.total_timeout,
            flights: Flights::new(),
        })
    }

    /// The image behind a reference. Who asks for the same with the same credentials at the same time shares the answer.
    ///
    /// # Errors
    /// [`FetchError`], which says whether trying again is of use.
    pub async fn fetch(&self, wanted: &Wanted<'_>, keyring: &Keyring) -> Result<Fetched, FetchError> {
        let address = self.address(wanted.reference)?;
        let shown = keyring.shown(&address.registry, &address.repository).await;
        let same = Same::new(wanted, &shown.credentials);
        let work = async || {
            let session = Session::new(shown, self.total_timeout);
            self.fetch_alone(Ask { address: &address, insecure: wanted.insecure, session: &session }, wanted).await
        };
        self.flights.share(same, work).await
    }

    /// The tags of a repository, in the registry's order.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn tags(&self, repository: &str, insecure: bool, keyring: &Keyring) -> Result<Vec<String>, FetchError> {
        let address = self.address(repository)?;
        let shown = keyring.shown(&address.registry, &address.repository).await;
        let session = Session::new(shown, self.total_timeout);
        self.tags_alone(Ask { address: &address, insecure, session: &session }).await
    }

    pub(super) fn address(&self, reference: &str) -> Result<Address, FetchError> {
        let invalid = |error| FetchError::new(Reason::Invalid, Retry::Never, format!("{reference:?}: {error}"));
        let address = Address::of(reference).map_err(invalid)?;
        if self.registries.permit(&address.registry) {
            return Ok(address);
        }
        let text = format!(
            "registry {} may not be asked: --registry-allow and --registry-block say which may",
            address.registry
        );
        Err(FetchError::new(Reason::Forbidden, Retry::Never, text))
    }

    async fn fetch_alone(&self, ask: Ask<'_>, wanted: &Wanted<'_>) -> Result<Fetched, FetchError> {
        let pinned = |digest: &str| {
            let pinned = Reference::parse(wanted.reference).ok().and_then(|reference| reference.at_digest(digest));
            pinned.ok_or_else(|| {
                FetchError::new(
                    Reason::Invalid,
                    Retry::Later,
                    format!("{} has the digest {digest:?}, which is none", wanted.reference),
                )
            })
        };
        if let (Some(known), None) = (wanted.known, ask.address.digest())
            && self.head(ask).await?.as_deref() == Some(known)
        {
            return Ok(Fetched { digest: known.to_owned(), pull_spec: pinned(known)?, images: Vec::new() });
        }
        let got = self.manifest(ask, &ask.address.version).await?;
        let (media_type, children) = match got.manifest {
            Manifest::Image { .. } => {
                let pull_spec = pinned(&got.digest)?;
                let image = self.image(ask, &got, &pull_spec, KEPT_MAX).await?;
                return Ok(Fetched { digest: got.digest, pull_spec, images: vec![image] });
            }
            Manifest::Index { media_type, children } => (media_type, children),
        };
        if !wanted.whole_index {
            let child = manifest::pick(&children, wanted.system, wanted.architecture).ok_or_else(|| {
                FetchError::new(
                    Reason::Invalid,
                    Retry::Later,
                    format!("{} is an index without images", wanted.reference),
                )
            })?;
            let pull_spec = pinned(&child.digest)?;
            let image = self.child(ask, child, &pull_spec, KEPT_MAX).await?;
            return Ok(Fetched { digest: child.digest.clone(), pull_spec, images: vec![image] });
        }
        let pull_spec = pinned(&got.digest)?;
        let named: Vec<(Child, String)> = children
            .iter()
            .map(|child| Ok((child.clone(), pinned(&child.digest)?)))
            .collect::<Result<_, FetchError>>()?;
        let room = KEPT_MAX.min(KEPT_OF_INDEX_MAX / named.len().max(1));
        let asked =
            named.into_iter().map(|(child, pull_spec)| async move { self.child(ask, &child, &pull_spec, room).await });
        let of_children: Vec<Image> = stream::iter(asked).buffered(CHILDREN_AT_A_TIME).try_collect().await?;
        let index = Image::index(&got.digest, &pull_spec, &media_type, children, Timestamp::now());
        Ok(Fetched { digest: got.digest, pull_spec, images: [index].into_iter().chain(of_children).collect() })
    }

    /// The digest behind a tag, if the registry says it without sending the manifest.
    async fn head(&self, ask: Ask<'_>) -> Result<Option<String>, FetchError> {
        let path = format!("manifests/{}", ask.address.version);
        let wish =
            Wish { method: &Method::HEAD, path: &path, accept: manifest::ACCEPT, take: Take::Whole(MANIFEST_MAX) };
        let answer = self.transport.send(ask, wish).await?;
        if matches!(answer.status, StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED) {
            return Ok(None);
        }
        let answer = good(ask, answer)?;
        Ok(header(&answer, CONTENT_DIGEST).map(str::to_owned))
    }

    async fn manifest(&self, ask: Ask<'_>, version: &str) -> Result<Got, FetchError> {
        let (digest, answer) = self.manifest_answer(ask, version).await?;
        let manifest = manifest::read(&answer.body, header(&answer, CONTENT_TYPE.as_str())).map_err(|error| {
            let retry = if error == manifest::ManifestError::Schema1 { Retry::Never } else { Retry::Later };
            FetchError::new(Reason::Invalid, retry, format!("{}: {error}", named(ask.address)))
        })?;
        Ok(Got { digest, manifest })
    }

    /// A manifest as it was sent, and the digest that it has.
    pub(super) async fn manifest_answer(&self, ask: Ask<'_>, version: &str) -> Result<(String, Answer), FetchError> {
        let path = format!("manifests/{version}");
        let wish =
            Wish { method: &Method::GET, path: &path, accept: manifest::ACCEPT, take: Take::Whole(MANIFEST_MAX) };
        let answer = good(ask, self.transport.send(ask, wish).await?)?;
        let wanted = Some(version).filter(|version| version.contains(':'));
        Ok((checked(ask.address, &answer, wanted)?, answer))
    }

    async fn child(&self, ask: Ask<'_>, child: &Child, pull_spec: &str, room: usize) -> Result<Image, FetchError> {
        if Reference::parse(pull_spec).is_err() {
            return Err(FetchError::new(
                Reason::Invalid,
                Retry::Later,
                format!("{}: its index names no digest: {:?}", named(ask.address), child.digest),
            ));
        }
        let got = self.manifest(ask, &child.digest).await?;
        self.image(ask, &got, pull_spec, room).await
    }

    /// What is known of a single image; of a configuration of more than `room` bytes nothing is kept. An index within an
    /// index is kept by name only.
    async fn image(&self, ask: Ask<'_>, got: &Got, pull_spec: &str, room: usize) -> Result<Image, FetchError> {
        let (media_type, config, layers) = match &got.manifest {
            Manifest::Image { media_type, config, layers } => (media_type, config, layers),
            Manifest::Index { media_type, children } => {
                return Ok(Image::index(&got.digest, pull_spec, media_type, children.clone(), Timestamp::now()));
            }
        };
        let (config_digest, _) = config;
        if Reference::parse(&format!("a@{config_digest}")).is_err() {
            let text = format!("{}: its manifest names no digest of a config: {config_digest:?}", named(ask.address));
            return Err(FetchError::new(Reason::Invalid, Retry::Later, text));
        }
        let path = format!("blobs/{config_digest}");
        let wish = Wish { method: &Method::GET, path: &path, accept: "*/*", take: Take::Whole(CONFIG_MAX) };
        let answer = good(ask, self.transport.send(ask, wish).await?)?;
        // Stores behind registries say digests of their own.
        let answer = Answer { headers: HeaderMap::new(), ..answer };
        checked(ask.address, &answer, Some(config_digest))?;
        let config = if answer.body.len() > room { &[] } else { answer.body.as_slice() };
        Ok(Image::single(&got.digest, pull_spec, media_type, layers.clone(), (config_digest, config)))
    }

    async fn tags_alone(&self, ask: Ask<'_>) -> Result<Vec<String>, FetchError> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let mut tags = Vec::new();
        let mut path = "tags/list?n=1000".to_owned();
        for _ in 0..PAGES_MAX {
            let wish =
                Wish { method: &Method::GET, path: &path, accept: "application/json", take: Take::Whole(PAGE_MAX) };
            let answer = good(ask, self.transport.send(ask, wish).await?)?;
            let page: Page = serde_json::from_slice(&answer.body).map_err(|error| {
                FetchError::new(
                    Reason::Invalid,
                    Retry::Later,
                    format!("{}: the list of tags cannot be read: {}", named(ask.address), manifest::place(&error)),
                )
            })?;
            let found = page.tags.unwrap_or_default().into_iter().filter(|tag| tag.len() <= TAG_MAX);
            tags.extend(found.take(TAGS_MAX - tags.len()));
            match header(&answer, LINK.as_str()).and_then(next_query) {
                Some(query) => path = format!("tags/list?{query}"),
                None => break,
            }
        }
        Ok(tags)
    }
}

/// The query of `<URL>; rel="next"`.
pub(super) fn next_query(link: &str) -> Option<String> {
    let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    if !parameters.contains("next") {
        return None;
    }
    let base = Url::parse("http://registry").expect("a constant URL");
    base.join(target).ok()?.query().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_page_is_found() {
        let link = r#"</v2/a/tags/list?last=b&n=2>; rel="next""#;
        assert_eq!(next_query(link).as_deref(), Some("last=b&n=2"));
        assert_eq!(next_query(r#"<https://x/v2/a/tags/list?n=2>; rel="next""#).as_deref(), Some("n=2"));
        assert_eq!(next_query("nonsense"), None);
        assert_eq!(next_query("</x?y>; rel=\"prev\""), None);
    }
}
