//! What is asked of a registry: an image behind a reference, and the tags of a repository.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use prometheus::IntCounterVec;
use reqwest::header::{CONTENT_TYPE, HeaderMap, LINK};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;
use tokio::sync::OnceCell;

use super::address::{Address, Registries};
use super::keyring::{Credential, Identity, Keyring};
use super::manifest::{self, Manifest};
use super::transport::{Answer, Ask, SetupError, Transport, Wish, limited};
use super::{FetchError, Fetched, Reason, Retry, Settings, Wanted};
use crate::image::{Child, Image};
use crate::reference::Reference;

/// The most bytes of a manifest, as registries have it.
const MANIFEST_MAX: usize = 4 << 20;
/// The most bytes of an image's configuration.
const CONFIG_MAX: usize = 8 << 20;
/// The most bytes of a page of tags, and the most pages.
const TAGS_MAX: usize = 4 << 20;
const PAGES_MAX: usize = 100;
/// How many images of an index are asked for at a time.
const CHILDREN_AT_A_TIME: usize = 4;
/// Header with the digest of what is answered.
const CONTENT_DIGEST: &str = "docker-content-digest";

type Flight = Arc<OnceCell<Result<Fetched, FetchError>>>;
/// What makes two requests the same: what is wanted, and the credentials that may be shown for it.
type FlightKey = (String, u64, Vec<Identity>);

/// The client of all registries, for all tenants.
pub struct Client {
    transport: Transport,
    registries: Registries,
    total_timeout: Duration,
    flights: Mutex<HashMap<FlightKey, Flight>>,
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
            flights: Mutex::default(),
        })
    }

    /// The image behind a reference. Who asks for the same with the same credentials at the same time shares the answer.
    ///
    /// # Errors
    /// [`FetchError`], which says whether trying again is of use.
    pub async fn fetch(&self, wanted: &Wanted<'_>, keyring: &Keyring) -> Result<Fetched, FetchError> {
        let address = self.address(wanted.reference)?;
        let mut hasher = DefaultHasher::new();
        wanted.hash(&mut hasher);
        let shown = keyring.shown(&address.registry, &address.repository).await;
        let identities = shown.credentials.iter().map(Credential::identity).collect();
        let key = (wanted.reference.to_owned(), hasher.finish(), identities);
        let flight =
            Arc::clone(self.flights.lock().unwrap_or_else(PoisonError::into_inner).entry(key.clone()).or_default());
        let ask = Ask { address: &address, insecure: wanted.insecure, shown: &shown };
        let result = flight.get_or_init(|| self.in_time(&address, self.fetch_alone(ask, wanted))).await.clone();
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if flights.get(&key).is_some_and(|known| Arc::ptr_eq(known, &flight)) {
            flights.remove(&key);
        }
        result
    }

    /// The tags of a repository, in the registry's order.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn tags(&self, repository: &str, insecure: bool, keyring: &Keyring) -> Result<Vec<String>, FetchError> {
        let address = self.address(repository)?;
        let shown = keyring.shown(&address.registry, &address.repository).await;
        let ask = Ask { address: &address, insecure, shown: &shown };
        self.in_time(&address, self.tags_alone(ask)).await
    }

    fn address(&self, reference: &str) -> Result<Address, FetchError> {
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

    async fn in_time<T>(
        &self,
        address: &Address,
        work: impl Future<Output = Result<T, FetchError>>,
    ) -> Result<T, FetchError> {
        tokio::time::timeout(self.total_timeout, work).await.unwrap_or_else(|_| {
            let text =
                format!("registry {} did not finish within {} s", address.registry, self.total_timeout.as_secs());
            Err(FetchError::new(Reason::Timeout, Retry::Later, text))
        })
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
                let image = self.image(ask, &got, &pull_spec).await?;
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
            let image = self.child(ask, child, &pull_spec).await?;
            return Ok(Fetched { digest: child.digest.clone(), pull_spec, images: vec![image] });
        }
        let pull_spec = pinned(&got.digest)?;
        let named: Vec<(Child, String)> = children
            .iter()
            .map(|child| Ok((child.clone(), pinned(&child.digest)?)))
            .collect::<Result<_, FetchError>>()?;
        let asked =
            named.into_iter().map(|(child, pull_spec)| async move { self.child(ask, &child, &pull_spec).await });
        let of_children: Vec<Image> = stream::iter(asked).buffered(CHILDREN_AT_A_TIME).try_collect().await?;
        let index = Image::index(&got.digest, &pull_spec, &media_type, children, Timestamp::now());
        Ok(Fetched { digest: got.digest, pull_spec, images: [index].into_iter().chain(of_children).collect() })
    }

    /// The digest behind a tag, if the registry says it without sending the manifest.
    async fn head(&self, ask: Ask<'_>) -> Result<Option<String>, FetchError> {
        let path = format!("manifests/{}", ask.address.version);
        let wish = Wish { method: &Method::HEAD, path: &path, accept: manifest::ACCEPT, limit: 0 };
        let answer = self.transport.send(ask, wish).await?;
        if matches!(answer.status, StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED) {
            return Ok(None);
        }
        let answer = good(ask, answer)?;
        Ok(header(&answer, CONTENT_DIGEST).map(str::to_owned))
    }

    async fn manifest(&self, ask: Ask<'_>, version: &str) -> Result<Got, FetchError> {
        let path = format!("manifests/{version}");
        let wish = Wish { method: &Method::GET, path: &path, accept: manifest::ACCEPT, limit: MANIFEST_MAX };
        let answer = good(ask, self.transport.send(ask, wish).await?)?;
        let wanted = Some(version).filter(|version| version.contains(':'));
        let digest = checked(ask.address, &answer, wanted)?;
        let manifest = manifest::read(&answer.body, header(&answer, CONTENT_TYPE.as_str())).map_err(|error| {
            let retry = if error == manifest::ManifestError::Schema1 { Retry::Never } else { Retry::Later };
            FetchError::new(Reason::Invalid, retry, format!("{}: {error}", named(ask.address)))
        })?;
        Ok(Got { digest, manifest })
    }

    async fn child(&self, ask: Ask<'_>, child: &Child, pull_spec: &str) -> Result<Image, FetchError> {
        if Reference::parse(pull_spec).is_err() {
            return Err(FetchError::new(
                Reason::Invalid,
                Retry::Later,
                format!("{}: its index names no digest: {:?}", named(ask.address), child.digest),
            ));
        }
        let got = self.manifest(ask, &child.digest).await?;
        self.image(ask, &got, pull_spec).await
    }

    /// What is known of a single image. An index within an index is kept by name only.
    async fn image(&self, ask: Ask<'_>, got: &Got, pull_spec: &str) -> Result<Image, FetchError> {
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
        let wish = Wish { method: &Method::GET, path: &path, accept: "*/*", limit: CONFIG_MAX };
        let answer = good(ask, self.transport.send(ask, wish).await?)?;
        // Stores behind registries say digests of their own.
        let answer = Answer { headers: HeaderMap::new(), ..answer };
        checked(ask.address, &answer, Some(config_digest))?;
        Ok(Image::single(&got.digest, pull_spec, media_type, layers.clone(), (config_digest, &answer.body)))
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
            let wish = Wish { method: &Method::GET, path: &path, accept: "application/json", limit: TAGS_MAX };
            let answer = good(ask, self.transport.send(ask, wish).await?)?;
            let page: Page = serde_json::from_slice(&answer.body).map_err(|error| {
                FetchError::new(
                    Reason::Invalid,
                    Retry::Later,
                    format!("{}: the list of tags cannot be read: {error}", named(ask.address)),
                )
            })?;
            tags.extend(page.tags.unwrap_or_default());
            match header(&answer, LINK.as_str()).and_then(next_query) {
                Some(query) => path = format!("tags/list?{query}"),
                None => break,
            }
        }
        Ok(tags)
    }
}

/// The query of `<URL>; rel="next"`.
fn next_query(link: &str) -> Option<String> {
    let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    if !parameters.contains("next") {
        return None;
    }
    let base = Url::parse("http://registry").expect("a constant URL");
    base.join(target).ok()?.query().map(str::to_owned)
}

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers.get(name).and_then(|value| value.to_str().ok())
}

/// As people know it.
fn named(address: &Address) -> String {
    let separator = if address.digest().is_some() { '@' } else { ':' };
    format!("{}/{}{separator}{}", address.registry, address.repository, address.version)
}

/// An answer that says yes, or what it says instead.
fn good(ask: Ask<'_>, answer: Answer) -> Result<Answer, FetchError> {
    let address = ask.address;
    if answer.status.is_success() {
        return Ok(answer);
    }
    let (name, registry) = (named(address), &address.registry);
    if let Some(wait) = limited(&answer) {
        let text =
            format!("registry {registry} wants fewer requests, {name} is asked for again in {} s", wait.as_secs());
        return Err(FetchError::new(Reason::TooManyRequests, Retry::After(wait), text));
    }
    let said = said(&answer.body);
    let trouble = ask.shown.trouble.as_ref().map_or_else(String::new, |trouble| format!("; {trouble}"));
    let (reason, text) = match answer.status.as_u16() {
        401 => (
            Reason::Unauthorized,
            format!(
                "registry {registry} wants other credentials for {name}{said}; put a pull secret for {registry} into the namespace{trouble}"
            ),
        ),
        403 => (
            Reason::Forbidden,
            format!(
                "registry {registry} refuses {name}{said}; put a pull secret for {registry} into the namespace that may pull it{trouble}"
            ),
        ),
        404 => (Reason::NotFound, format!("there is no {name}{said}")),
        code => (Reason::InternalError, format!("registry {registry} answers {code} for {name}{said}")),
    };
    Err(FetchError::new(reason, Retry::Later, text))
}

/// What a registry's error says, shortened.
fn said(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<Error>,
    }
    #[derive(Deserialize)]
    struct Error {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let errors: Option<Errors> = serde_json::from_slice(body).ok();
    let first = errors.and_then(|errors| errors.errors.into_iter().next());
    first.map_or_else(String::new, |error| {
        let text = format!("{}: {}", error.code, error.message);
        format!(" ({})", text.chars().filter(|character| !character.is_control()).take(200).collect::<String>())
    })
}

/// The digest of an answer. It must be the one that is wanted, and the one that the registry says.
fn checked(address: &Address, answer: &Answer, wanted: Option<&str>) -> Result<String, FetchError> {
    let claimed = header(answer, CONTENT_DIGEST);
    let algorithm = wanted.or(claimed).and_then(|digest| digest.split(':').next()).unwrap_or("sha256");
    let found = digest_of(algorithm, &answer.body).ok_or_else(|| {
        FetchError::new(
            Reason::Invalid,
            Retry::Later,
            format!("{}: digests of the kind {algorithm:?} are not known", named(address)),
        )
    })?;
    for expected in wanted.into_iter().chain(claimed) {
        if expected != found {
            let text = format!(
                "{}: the registry sent something else than {expected}: it has the digest {found}",
                named(address)
            );
            return Err(FetchError::new(Reason::InternalError, Retry::Later, text));
        }
    }
    Ok(found)
}

fn digest_of(algorithm: &str, bytes: &[u8]) -> Option<String> {
    let kind = match algorithm {
        "sha256" => &digest::SHA256,
        "sha384" => &digest::SHA384,
        "sha512" => &digest::SHA512,
        _ => return None,
    };
    let hex = digest::digest(kind, bytes).as_ref().iter().fold(String::new(), |mut hex, byte| {
        hex.push(char::from(b"0123456789abcdef"[usize::from(byte >> 4)]));
        hex.push(char::from(b"0123456789abcdef"[usize::from(byte & 15)]));
        hex
    });
    Some(format!("{algorithm}:{hex}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_written_as_registries_do() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(digest_of("sha256", b"").as_deref(), Some(empty));
        assert_eq!(digest_of("sha512", b"").map(|digest| digest.len()), Some(7 + 128));
        assert_eq!(digest_of("md5", b""), None);
    }

    #[test]
    fn next_page_is_found() {
        let link = r#"</v2/a/tags/list?last=b&n=2>; rel="next""#;
        assert_eq!(next_query(link).as_deref(), Some("last=b&n=2"));
        assert_eq!(next_query(r#"<https://x/v2/a/tags/list?n=2>; rel="next""#).as_deref(), Some("n=2"));
        assert_eq!(next_query("nonsense"), None);
        assert_eq!(next_query("</x?y>; rel=\"prev\""), None);
    }
}
