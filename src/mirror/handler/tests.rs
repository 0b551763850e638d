//! The HTTP side over contents that note what they are asked, and a cluster that knows one token.

use std::sync::Mutex;
use std::time::Duration;

use axum::body::Bytes;
use futures_util::{StreamExt as _, stream};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::Value;
use tower::ServiceExt as _;

use super::*;
use crate::metrics::Metrics;
use crate::mirror::access::{Anonymous, Judge, Reviews};
use crate::mirror::{Manifest, PullError};

/// A manifest of `demo/app`, and a blob of it.
const MANIFEST: &[u8] = b"{\"schemaVersion\":2}";
const BLOB: &[u8] = b"0123456789";
const MEDIA_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// One stream with four tags of one image, which notes what it is asked.
#[derive(Default)]
struct Fake {
    asked: Mutex<Vec<String>>,
    failure: Mutex<Option<PullError>>,
    is_endless: bool,
}

impl Fake {
    fn note(&self, what: String, stream: &Key) -> Result<(), PullError> {
        self.asked.lock().unwrap().push(what);
        if let Some(error) = self.failure.lock().unwrap().clone() {
            return Err(error);
        }
        if *stream == Key::new("demo", "app") { Ok(()) } else { Err(PullError::NameUnknown(stream.clone())) }
    }
}

impl Contents for Fake {
    fn tags(&self, stream: &Key) -> Result<Vec<String>, PullError> {
        self.note("tags".to_owned(), stream)?;
        Ok(["1", "2", "3", "latest"].map(str::to_owned).to_vec())
    }

    async fn manifest(&self, stream: &Key, version: &Version) -> Result<Manifest, PullError> {
        self.note(format!("manifest {version:?}"), stream)?;
        let digest = Digest::of(MANIFEST);
        let is_there = match version {
            Version::Tag(tag) => tag == "latest",
            Version::Digest(asked) => *asked == digest,
        };
        let manifest = Manifest { digest, media_type: MEDIA_TYPE.to_owned(), bytes: Bytes::from_static(MANIFEST) };
        if is_there { Ok(manifest) } else { Err(PullError::ManifestUnknown("no such image".to_owned())) }
    }

    async fn blob(&self, stream: &Key, digest: &Digest, part: Part) -> Result<Blob, PullError> {
        self.note(format!("blob {part:?}"), stream)?;
        let size = size_of(digest)?;
        let range = match part {
            Part::Whole => 0..size,
            Part::From(first) => first..size,
            Part::Between(first, last) => first..size.min(last + 1),
            Part::Last(count) => size.saturating_sub(count)..size,
        };
        if range.start >= range.end {
            return Err(PullError::Range(size));
        }
        let bytes = &BLOB[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()];
        let whole = stream::iter([Ok(Bytes::from_static(bytes))]);
        let body = if self.is_endless { stream::pending().boxed() } else { whole.boxed() };
        Ok(Blob { size, range, body })
    }

    async fn size(&self, stream: &Key, digest: &Digest) -> Result<u64, PullError> {
        self.note("size".to_owned(), stream)?;
        size_of(digest)
    }
}

fn size_of(digest: &Digest) -> Result<u64, PullError> {
    if digest.is_of(BLOB) { Ok(10) } else { Err(PullError::BlobUnknown("no such blob".to_owned())) }
}

/// A cluster whose only token is `good`, good for `demo`.
struct Cluster;

impl Reviewer for Cluster {
    type Who = ();

    async fn identify(&self, token: &str) -> Result<Option<()>, String> {
        match token {
            "good" => Ok(Some(())),
            "unlucky" => Err("no API server".to_owned()),
            _ => Ok(None),
        }
    }

    async fn may_pull(&self, (): &(), stream: &Key) -> Result<bool, String> {
        Ok(&*stream.namespace == "demo")
    }

    fn name((): &()) -> &'static str {
        "ann"
    }
}

struct Site {
    contents: Arc<Fake>,
    router: Router,
    metrics: PullMetrics,
}

impl Site {
    fn over(contents: Fake, judge: Judge<Cluster>) -> Self {
        let (contents, metrics) = (Arc::new(contents), Metrics::new().unwrap().pull);
        let access = Access::new(Anonymous::default(), judge, metrics.clone());
        let settings = Settings { is_secure: true, host: None, transfers: 1 };
        let router = router(Arc::clone(&contents), access, settings, metrics.clone());
        Self { contents, router, metrics }
    }

    fn open() -> Self {
        Self::over(Fake::default(), Judge::Everyone)
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
        let mut request = Request::builder().method(method).uri(path).header("host", "r.io");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    /// Status, the named headers and the body.
    async fn tell(&self, method: &str, path: &str, headers: &[(&str, &str)], shown: &[&str]) -> (u16, String, Vec<u8>) {
        let answer = self.ask(method, path, headers).await;
        assert_eq!(answer.headers()["docker-distribution-api-version"], "registry/2.0");
        let status = answer.status().as_u16();
        let shown = shown.iter().map(|name| answer.headers().get(*name).map_or("-", |value| value.to_str().unwrap()));
        let shown = shown.collect::<Vec<_>>().join(" | ");
        (status, shown, axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap().to_vec())
    }

    async fn code(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
        let (status, _, body) = self.tell(method, path, headers, &[]).await;
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert!(!body["errors"][0]["message"].as_str().unwrap().is_empty());
        (status, body["errors"][0]["code"].as_str().unwrap().to_owned())
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.contents.asked.lock().unwrap())
    }
}

fn manifest_path() -> String {
    format!("/v2/demo/app/manifests/{}", Digest::of(MANIFEST))
}

fn blob_path() -> String {
    format!("/v2/demo/app/blobs/{}", Digest::of(BLOB))
}

#[tokio::test]
async fn manifests_are_served_as_they_are_by_tag_and_by_digest() {
    let (site, digest) = (Site::open(), Digest::of(MANIFEST));
    let shown = ["content-type", "content-length", "docker-content-digest", "etag"];
    let expected = format!("{MEDIA_TYPE} | 19 | {digest} | \"{digest}\"");
    for path in ["/v2/demo/app/manifests/latest".to_owned(), manifest_path()] {
        for accept in ["application/vnd.docker.distribution.manifest.v2+json", "*/*", "text/html"] {
            let answer = site.tell("GET", &path, &[("accept", accept)], &shown).await;
            assert_eq!(answer, (200, expected.clone(), MANIFEST.to_vec()));
        }
        assert_eq!(site.tell("HEAD", &path, &[], &shown).await, (200, expected.clone(), Vec::new()));
        for etag in [format!("\"{digest}\""), format!("\"a\", W/\"{digest}\""), "*".to_owned()] {
            let answer = site.tell("GET", &path, &[("if-none-match", &etag)], &["etag"]).await;
            assert_eq!(answer, (304, format!("\"{digest}\""), Vec::new()));
        }
        assert_eq!(site.tell("GET", &path, &[("if-none-match", "\"a\"")], &[]).await.0, 200);
    }
}

#[tokio::test]
async fn blobs_are_served_whole_and_in_parts() {
    let (site, digest) = (Site::open(), Digest::of(BLOB));
    let shown = ["content-type", "content-length", "accept-ranges", "docker-content-digest", "content-range"];
    let head = |length: usize, range: &str| format!("application/octet-stream | {length} | bytes | {digest} | {range}");
    let path = blob_path();
    assert_eq!(site.tell("GET", &path, &[], &shown).await, (200, head(10, "-"), BLOB.to_vec()));
    let parts = [
        ("bytes=2-4", 2..5, "bytes 2-4/10"),
        ("bytes=2-", 2..10, "bytes 2-9/10"),
        ("bytes=-3", 7..10, "bytes 7-9/10"),
        ("bytes=8-100", 8..10, "bytes 8-9/10"),
        ("bytes=0-", 0..10, "bytes 0-9/10"),
    ];
    for (range, bytes, sent) in parts {
        let answer = site.tell("GET", &path, &[("range", range)], &shown).await;
        assert_eq!(answer, (206, head(bytes.len(), sent), BLOB[bytes].to_vec()), "{range}");
    }
    assert_eq!(site.tell("GET", &path, &[("range", "bytes=5-2")], &shown).await.0, 200);
    let (status, range, _) = site.tell("GET", &path, &[("range", "bytes=10-")], &["content-range"]).await;
    assert_eq!((status, range.as_str()), (416, "bytes */10"));
    site.asked();
    // Nothing is fetched for a head, and a part of it is none.
    let answer = site.tell("HEAD", &path, &[("range", "bytes=2-4")], &shown).await;
    assert_eq!(answer, (200, head(10, "-"), Vec::new()));
    let etag = format!("\"{digest}\"");
    assert_eq!(site.tell("GET", &path, &[("if-none-match", &etag)], &[]).await.0, 304);
    assert_eq!(site.asked(), ["size", "size"]);
    assert_eq!(site.metrics.bytes.get(), 10 + 3 + 8 + 3 + 2 + 10 + 10);
}

#[tokio::test]
async fn tags_come_in_pages() {
    let site = Site::open();
    let pages: [(&str, &[&str], &str); 8] = [
        ("", &["1", "2", "3", "latest"], "-"),
        ("?n=2", &["1", "2"], "</v2/demo/app/tags/list?n=2&last=2>; rel=\"next\""),
        ("?n=2&last=2", &["3", "latest"], "-"),
        ("?last=2", &["3", "latest"], "-"),
        ("?last=25", &["3", "latest"], "-"),
        ("?n=4", &["1", "2", "3", "latest"], "-"),
        ("?n=0", &[], "-"),
        ("?n=9&last=z&ns=quay.io", &[], "-"),
    ];
    for (query, tags, link) in pages {
        let answer = site.tell("GET", &format!("/v2/demo/app/tags/list{query}"), &[], &["link"]).await;
        let body: Value = serde_json::from_slice(&answer.2).unwrap();
        assert_eq!((answer.0, answer.1.as_str()), (200, link), "{query}");
        assert_eq!(body, json(tags), "{query}");
    }
    for query in ["?n=a", "?n=-1", "?n=99999999999999999999999"] {
        let code = site.code("GET", &format!("/v2/demo/app/tags/list{query}"), &[]).await;
        assert_eq!(code, (400, "PAGINATION_NUMBER_INVALID".to_owned()), "{query}");
    }
}

fn json(tags: &[&str]) -> Value {
    serde_json::json!({"name": "demo/app", "tags": tags})
}

#[tokio::test]
async fn what_is_not_there_has_its_code() {
    let site = Site::open();
    let other = Digest::of(b"other");
    for (path, code) in [
        ("/v2/demo/none/tags/list".to_owned(), "NAME_UNKNOWN"),
        ("/v2/demo/none/manifests/latest".to_owned(), "NAME_UNKNOWN"),
        ("/v2/demo/app/manifests/none".to_owned(), "MANIFEST_UNKNOWN"),
        (format!("/v2/demo/app/manifests/{other}"), "MANIFEST_UNKNOWN"),
        (format!("/v2/demo/app/blobs/{other}"), "BLOB_UNKNOWN"),
        (format!("/v2/demo/app/referrers/{other}"), "UNSUPPORTED"),
        ("/v2/_catalog".to_owned(), "UNSUPPORTED"),
    ] {
        assert_eq!(site.code("GET", &path, &[]).await, (404, code.to_owned()), "{path}");
        let (status, kind, body) = site.tell("HEAD", &path, &[], &["content-type"]).await;
        assert_eq!((status, kind.as_str(), body.len()), (404, "application/json", 0), "{path}");
    }
}

#[rstest]
#[case(PullError::NotLoaded, 503, "UNAVAILABLE", "1")]
#[case(PullError::TooManyRequests { message: "later".to_owned(), after: None }, 429, "TOOMANYREQUESTS", "1")]
#[case(PullError::TooManyRequests { message: "later".to_owned(), after: Some(Duration::from_millis(1500)) }, 429, "TOOMANYREQUESTS", "2")]
#[case(PullError::Upstream("no answer".to_owned()), 502, "UNAVAILABLE", "-")]
#[case(PullError::Storage("disk is full".to_owned()), 500, "UNKNOWN", "-")]
#[tokio::test]
async fn failures_have_a_status(
    #[case] error: PullError,
    #[case] status: u16,
    #[case] code: &str,
    #[case] retry_after: &str,
) {
    let site = Site::open();
    *site.contents.failure.lock().unwrap() = Some(error);
    for path in ["/v2/demo/app/tags/list".to_owned(), manifest_path(), blob_path()] {
        assert_eq!(site.code("GET", &path, &[]).await, (status, code.to_owned()));
        let (found, retry, _) = site.tell("HEAD", &path, &[], &["retry-after"]).await;
        assert_eq!((found, retry.as_str()), (status, retry_after));
    }
    assert_eq!(site.metrics.transfers.get(), 0);
}

#[tokio::test]
async fn nothing_can_be_pushed_or_deleted() {
    let site = Site::open();
    let (manifest, blob) = (manifest_path(), blob_path());
    for (method, path) in [
        ("POST", "/v2/demo/app/blobs/uploads/"),
        ("POST", "/v2/demo/app/blobs/uploads/?mount=sha256:a&from=demo/other"),
        ("PATCH", "/v2/demo/app/blobs/uploads/1"),
        ("PUT", "/v2/demo/app/blobs/uploads/1?digest=sha256:a"),
        ("DELETE", "/v2/demo/app/blobs/uploads/1"),
        ("PUT", "/v2/demo/app/manifests/latest"),
        ("DELETE", &manifest),
        ("DELETE", &blob),
        ("POST", "/v2/token"),
        ("OPTIONS", "/v2/"),
        ("POST", "/v2/demo/../app/blobs/uploads/"),
    ] {
        assert_eq!(site.code(method, path, &[]).await, (405, "UNSUPPORTED".to_owned()), "{method} {path}");
        assert_eq!(site.tell(method, path, &[], &["allow"]).await.1, "GET, HEAD");
    }
    assert_eq!(site.asked(), [""; 0]);
}

#[tokio::test]
async fn no_more_blobs_are_sent_than_there_are_places() {
    let site = Site::over(Fake { is_endless: true, ..Fake::default() }, Judge::Everyone);
    let first = site.ask("GET", &blob_path(), &[]).await;
    assert_eq!((first.status().as_u16(), site.metrics.transfers.get()), (200, 1));
    assert_eq!(site.code("GET", &blob_path(), &[]).await, (429, "TOOMANYREQUESTS".to_owned()));
    // Only the bodies of blobs need a place.
    assert_eq!(site.ask("HEAD", &blob_path(), &[]).await.status(), 200);
    assert_eq!(site.ask("GET", &manifest_path(), &[]).await.status(), 200);
    drop(first);
    assert_eq!(site.ask("GET", &blob_path(), &[]).await.status(), 200);
    assert_eq!(site.metrics.transfers.get(), 0);
}

#[tokio::test]
async fn clients_are_told_how_to_show_credentials() {
    let site = Site::over(Fake::default(), Judge::Cluster(Box::new(Reviews::new(Cluster))));
    let bearer = "Bearer realm=\"https://r.io/v2/token\",service=\"pinstream\"";
    let scoped = format!("{bearer},scope=\"repository:demo/app:pull\"");
    let header = ["www-authenticate"];
    let cases: [(&str, &str, u16, &str); 9] = [
        ("/v2/", "", 401, bearer),
        ("/v2/", "Bearer good", 200, "-"),
        ("/v2/", "Basic YW55Omdvb2Q=", 200, "-"),
        ("/v2/", "Bearer bad", 401, bearer),
        ("/v2/demo/app/tags/list", "", 401, &scoped),
        ("/v2/demo/app/tags/list", "Bearer anonymous", 401, &scoped),
        ("/v2/demo/app/tags/list", "Bearer good", 200, "-"),
        ("/v2/demo/app/tags/list", "Bearer unlucky", 503, "-"),
        ("/v2/other/app/tags/list", "Bearer good", 403, "-"),
    ];
    for (path, shown, status, challenge) in cases {
        let headers = [("authorization", shown)];
        let headers = if shown.is_empty() { &[][..] } else { &headers };
        let answer = site.tell("GET", path, headers, &header).await;
        assert_eq!((answer.0, answer.1.as_str()), (status, challenge), "{path} {shown}");
    }
    assert_eq!(site.asked(), ["tags"]);
    assert_eq!(site.code("GET", "/v2/other/app/tags/list", &[("authorization", "Bearer good")]).await.1, "DENIED");
    let passwords = Site::over(Fake::default(), Judge::Everyone);
    assert_eq!(passwords.tell("GET", "/v2/", &[], &header).await.1, "-");
}

#[tokio::test]
async fn token_endpoint_hands_the_password_back() {
    let site = Site::over(Fake::default(), Judge::Cluster(Box::new(Reviews::new(Cluster))));
    let path = "/v2/token?service=pinstream&scope=repository:demo/app:pull";
    for (shown, token) in [(None, "anonymous"), (Some("Basic YW55Omdvb2Q="), "good"), (Some("Bearer good"), "good")] {
        let headers: Vec<_> = shown.map(|shown| ("authorization", shown)).into_iter().collect();
        let (status, cache, body) = site.tell("GET", path, &headers, &["cache-control"]).await;
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((status, cache.as_str()), (200, "no-store"));
        assert_eq!((&body["token"], &body["access_token"]), (&token.into(), &token.into()));
    }
    // A wrong password is told at once, so that a login with it fails.
    let (status, challenge, _) =
        site.tell("GET", path, &[("authorization", "Basic YW55OmJhZA==")], &["www-authenticate"]).await;
    assert_eq!((status, challenge.as_str()), (401, "Basic realm=\"pinstream\""));
}

proptest! {
    /// No request is a panic, and contents are asked only about names that registries can have.
    #[test]
    fn only_names_reach_the_contents(
        method in "GET|HEAD|PUT|DELETE|X",
        path in "/(v2/)?[!-~]{0,60}|/v2/[a-z./%A-Z]{1,20}/(manifests|blobs|tags)/[a-z:.%/]{0,20}",
        headers in proptest::collection::vec(("range|if-range|if-none-match|authorization|host", "[ -~]{0,30}"), 0..4),
    ) {
        let site = Site::open();
        let uri: Result<axum::http::Uri, _> = path.parse();
        prop_assume!(uri.is_ok());
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let answer = runtime.block_on(site.ask(&method, &path, &headers));
        let asked = Asked::read(uri.unwrap().path());
        let is_read = asked.as_ref().is_ok_and(|asked| asked.stream().is_some()) && ["GET", "HEAD"].contains(&&*method);
        prop_assert!(site.asked().is_empty() || is_read, "{method} {path}");
        prop_assert!(answer.status() != StatusCode::INTERNAL_SERVER_ERROR);
    }
}
