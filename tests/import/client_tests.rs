//! What the client asks for, in which order, and when it asks for nothing.

use pinstream::registry::{Client, FetchError, Fetched, Keyring, Reason, Registries, Retry, Wanted};
use serde_json::json;

use crate::credential_tests::{basic, fetch, keyring};
use crate::scripted::{Asked, Reply, Scripted, TinyImage, client, digest};

fn wanted<'a>(reference: &'a str, known: Option<&'a str>) -> Wanted<'a> {
    Wanted { reference, whole_index: true, insecure: true, system: None, architecture: None, known }
}

async fn fetch_if_not(client: &Client, reference: &str, known: &str) -> Result<Fetched, FetchError> {
    client.fetch(&wanted(reference, Some(known)), &Keyring::default()).await
}

fn methods(registry: &Scripted) -> Vec<String> {
    registry.asked().iter().map(|asked| asked.method.clone()).collect()
}

#[tokio::test]
async fn image_that_is_known_costs_one_head() {
    let image = TinyImage::new("a");
    let answering = image.clone();
    let registry = Scripted::plain(move |asked| answering.reply(asked)).await;
    let (client, reference) = (client(|_| ()), format!("{}/a/b:1", registry.host));
    let same = fetch_if_not(&client, &reference, &image.digest).await.unwrap();
    assert_eq!((same.digest.as_str(), same.images.len()), (image.digest.as_str(), 0));
    assert_eq!(methods(&registry), ["HEAD"]);
    let other = fetch_if_not(&client, &reference, &digest(b"older")).await.unwrap();
    assert_eq!((other.digest, other.images.len()), (image.digest, 1));
    assert_eq!(methods(&registry), ["HEAD", "HEAD", "GET", "GET"]);
}

#[tokio::test]
async fn registry_without_head_or_digests_is_asked_for_the_manifest() {
    let image = TinyImage::new("a");
    for refused in [405, 501, 200] {
        let answering = image.clone();
        let script = move |asked: &Asked| match (asked.method.as_str(), asked.path.contains("/manifests/")) {
            ("HEAD", _) => Reply::status(refused),
            (_, true) => Reply::text(&answering.manifest),
            (_, false) => answering.reply(asked),
        };
        let registry = Scripted::plain(script).await;
        let reference = format!("{}/a/b:1", registry.host);
        let fetched = fetch_if_not(&client(|_| ()), &reference, &image.digest).await.unwrap();
        assert_eq!(fetched.digest, image.digest);
        assert_eq!(methods(&registry), ["HEAD", "GET", "GET"]);
    }
}

#[tokio::test]
async fn same_image_wanted_by_many_at_once_is_asked_for_once() {
    let image = TinyImage::new("a");
    let registry = Scripted::plain(move |asked| image.reply(asked)).await;
    let (client, keyring, reference) = (client(|_| ()), Keyring::default(), format!("{}/a/b:1", registry.host));
    let many = (0..20).map(|_| fetch(&client, &reference, &keyring));
    for fetched in futures_util::future::join_all(many).await {
        fetched.unwrap();
    }
    assert_eq!(registry.asked().len(), 2, "a manifest and its config: {:?}", registry.asked());
}

#[tokio::test]
async fn tags_are_read_page_by_page() {
    let registry = Scripted::plain(|asked| match asked.path.split('?').nth(1) {
        Some("n=1000") => {
            let first = json!({"tags": ["1", "x".repeat(129)]});
            Reply::json(&first).with("link", "</v2/a/b/tags/list?last=1>; rel=\"next\"")
        }
        Some("last=1") => Reply::json(&json!({"tags": ["2"]})),
        _ => Reply::status(404),
    })
    .await;
    let tags = client(|_| ()).tags(&format!("{}/a/b", registry.host), true, &Keyring::default()).await.unwrap();
    assert_eq!(tags, ["1", "2"]);

    let endless = Scripted::plain(|_| {
        Reply::json(&json!({"tags": ["1"]})).with("link", "</v2/a/b/tags/list?last=1>; rel=\"next\"")
    })
    .await;
    let tags = client(|_| ()).tags(&format!("{}/a/b", endless.host), true, &Keyring::default()).await.unwrap();
    assert_eq!((tags.len(), endless.asked().len()), (100, 100));
}

#[tokio::test]
async fn registry_that_limits_is_left_alone_and_no_other() {
    let image = TinyImage::new("a");
    for (header, value) in [("retry-after", "600"), ("ratelimit", "\"pulls\";r=0;t=600")] {
        let (is_refusal, answering) = (header == "retry-after", image.clone());
        let script = move |asked: &Asked| {
            let reply = if is_refusal { Reply::status(429) } else { answering.reply(asked) };
            reply.with(header, value)
        };
        let (limiting, answering) = (Scripted::plain(script).await, image.clone());
        let other = Scripted::plain(move |asked| answering.reply(asked)).await;
        let client = client(|_| ());
        for tag in ["1", "2"] {
            let reference = format!("{}/a/b:{tag}", limiting.host);
            let error = fetch(&client, &reference, &Keyring::default()).await.unwrap_err();
            assert_eq!(error.reason, Reason::TooManyRequests, "{error}");
            let Retry::After(wait) = error.retry else { panic!("{error:?}") };
            assert!((590..=600).contains(&wait.as_secs()), "{wait:?}");
        }
        assert_eq!(limiting.asked().len(), 1, "{header}");
        fetch(&client, &format!("{}/a/b:1", other.host), &Keyring::default()).await.unwrap();
    }
}

/// Two tenants have credentials for a registry, and those of one are limited.
#[tokio::test]
async fn tenant_that_is_limited_closes_the_registry_to_no_other() {
    let (image, loud) = (TinyImage::new("a"), basic("loud", "p"));
    let registry = Scripted::plain(move |asked| match &asked.authorization {
        None => Reply::status(401).with("www-authenticate", "Basic"),
        Some(shown) if *shown == loud => Reply::status(429).with("retry-after", "600"),
        Some(_) => image.reply(asked),
    })
    .await;
    let (client, reference) = (client(|_| ()), format!("{}/a/b:1", registry.host));
    let [loud, quiet] = ["loud", "quiet"].map(|user| keyring(&registry.host, user, "p"));
    let error = fetch(&client, &reference, &loud).await.unwrap_err();
    assert_eq!(error.reason, Reason::TooManyRequests, "{error}");
    fetch(&client, &reference, &quiet).await.unwrap();
    let error = fetch(&client, &reference, &loud).await.unwrap_err();
    assert!(matches!(error.retry, Retry::After(wait) if wait.as_secs() > 590), "{error:?}");
    let shown = registry.asked().into_iter().filter(|asked| asked.authorization == Some(basic("loud", "p")));
    assert_eq!(shown.count(), 1);
}

/// Registries that keep their content elsewhere, in a place that wants fewer requests.
#[tokio::test]
async fn host_behind_a_redirect_is_left_alone_if_it_limits() {
    let storage = Scripted::plain(|_| Reply::status(429).with("retry-after", "600")).await;
    let to = storage.url("/content");
    let redirecting = async || {
        let (image, to) = (TinyImage::new("a"), to.clone());
        let script = move |asked: &Asked| {
            if asked.path.ends_with("/moved") { Reply::redirect(&to) } else { image.reply(asked) }
        };
        Scripted::plain(script).await
    };
    let (one, other, client) = (redirecting().await, redirecting().await, client(|_| ()));
    for registry in [&one, &other, &one] {
        let error = fetch(&client, &format!("{}/a/b:moved", registry.host), &Keyring::default()).await.unwrap_err();
        assert!(matches!(error.retry, Retry::After(wait) if wait.as_secs() > 590), "{error:?}");
        fetch(&client, &format!("{}/a/b:1", registry.host), &Keyring::default()).await.unwrap();
    }
    assert_eq!(storage.asked().len(), 1);
}

#[tokio::test]
async fn large_configuration_is_not_kept() {
    for (size, is_kept) in [(100 << 10, true), (128 << 10, false)] {
        let image = TinyImage::new(&"x".repeat(size));
        let registry = Scripted::plain(move |asked| image.reply(asked)).await;
        let fetched = fetch(&client(|_| ()), &format!("{}/a/b:1", registry.host), &Keyring::default()).await.unwrap();
        assert_eq!(fetched.images[0].docker_image_metadata.config.is_some(), is_kept, "{size}");
    }
}

#[tokio::test]
async fn registry_that_is_blocked_is_not_asked_and_not_tried_again() {
    let registry = Scripted::plain(|_| Reply::status(404)).await;
    let allow = Registries { allow: vec!["quay.io".into()], block: Vec::new() };
    let block = Registries { allow: Vec::new(), block: vec!["127.0.0.1:*".into()] };
    for registries in [allow, block] {
        let client = client(|settings| settings.registries = registries);
        let error = fetch(&client, &format!("{}/a/b:1", registry.host), &Keyring::default()).await.unwrap_err();
        assert_eq!((error.reason, error.retry), (Reason::Forbidden, Retry::Never), "{error}");
        assert!(error.message.contains("--registry-allow and --registry-block say which may"), "{error}");
    }
    assert_eq!(registry.asked().len(), 0);
}

#[tokio::test]
async fn registry_that_is_blocked_is_not_asked_by_another_spelling() {
    let registry = Scripted::plain(|_| Reply::status(404)).await;
    let port = registry.host.rsplit(':').next().unwrap();
    let block = ["localhost", "127.0.0.1"].map(|host| format!("{host}:{port}")).to_vec();
    let client = client(|settings| settings.registries = Registries { allow: Vec::new(), block });
    for host in ["localhost:0", "LOCALHOST:", "127.0.0.1:00", "127.1:", "2130706433:", "0x7f.1:", "0177.0.0.1:"] {
        let error = fetch(&client, &format!("{host}{port}/a/b:1"), &Keyring::default()).await.unwrap_err();
        assert_eq!((error.reason, error.retry), (Reason::Forbidden, Retry::Never), "{host}: {error}");
    }
    assert_eq!(registry.asked().len(), 0);
}
