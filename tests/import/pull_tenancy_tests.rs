//! What one namespace's credentials brought is not for another, though it is kept once; what is public is for all.

use std::sync::Arc;

use pinstream::digest::Digest;
use pinstream::mirror::content::Limits;
use pinstream::mirror::{Contents as _, Part};
use pinstream::registry::{Credential, Keyring};
use pinstream::stream::Key;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::credential_tests::basic;
use crate::mirror::{Layered, Mirror, index, read, stream};
use crate::scripted::{Asked, MANIFEST, Reply, Scripted, patient, soon};

const PARTS: [Part; 5] = [Part::Whole, Part::Between(0, 9), Part::Between(0, 0), Part::From(5), Part::Last(1)];

fn app(namespace: &str) -> Key {
    Key::new(namespace, "app")
}

/// Gives an image to those of these users who show their password.
fn guarded(image: &Layered, users: &'static [&str]) -> impl Fn(&Asked) -> Reply + Send + Sync + 'static {
    let image = image.clone();
    move |asked| {
        let is_user = |shown: &String| users.iter().any(|user| *shown == basic(user, "secret"));
        if asked.authorization.as_ref().is_some_and(is_user) {
            return image.reply(asked);
        }
        Reply::status(401).with("www-authenticate", "Basic realm=\"x\"")
    }
}

/// Gives an image for a token, which everybody gets who asks for one.
fn with_tokens(image: &Layered) -> impl Fn(&Asked) -> Reply + Send + Sync + 'static {
    let image = image.clone();
    move |asked| {
        if asked.path.starts_with("/token") {
            return Reply::json(&json!({"token": "for-all"}));
        }
        if asked.authorization.as_deref() == Some("Bearer for-all") {
            return image.reply(asked);
        }
        let challenge = format!("Bearer realm=\"http://{}/token\",service=\"x\"", asked.host);
        Reply::status(401).with("www-authenticate", challenge)
    }
}

/// How often something was asked for with credentials, by this method.
fn requests(registry: &Scripted, method: &str, digest: &Digest) -> usize {
    let is_it = |asked: &&Asked| {
        asked.method == method && asked.authorization.is_some() && asked.path.ends_with(digest.as_str())
    };
    registry.asked().iter().filter(is_it).count()
}

async fn mirror() -> Mirror {
    Mirror::over(Arc::new(tempfile::tempdir().unwrap()), Limits::default(), patient).await
}

/// A stream of a namespace with the image of a registry, and the user of that namespace there.
fn tenant(mirror: &Mirror, namespace: &str, registry: &str, user: Option<&str>, image: &Digest) {
    if let Some(user) = user {
        let mut keyring = Keyring::default();
        keyring.add(registry, Credential::new(user, "secret"));
        mirror.home.lend(namespace, keyring);
    }
    mirror.put(stream(&app(namespace), &[("1", &[(&format!("{registry}/a"), image)])]));
}

async fn pull(mirror: &Mirror, namespace: &str, image: &Layered) -> Result<(), String> {
    let manifest = mirror.manifest(&app(namespace), &image.digest).await.map_err(|error| error.to_string())?;
    assert_eq!(manifest.bytes, image.manifest);
    assert_eq!(mirror.blob(&app(namespace), &image.config_digest()).await?, image.config);
    assert_eq!(mirror.blob(&app(namespace), &image.layer_digest).await?, image.layer);
    mirror.idle().await;
    Ok(())
}

/// An image that names another's layer, with that size.
fn crafted(image: &Layered, size: usize) -> Layered {
    let mut crafted = Layered::new(99, 1);
    crafted.manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"digest": crafted.config_digest().as_str(), "size": crafted.config.len()},
        "layers": [{"digest": image.layer_digest.as_str(), "size": size}]})
    .to_string();
    crafted.digest = Digest::of(crafted.manifest.as_bytes());
    crafted.layer_digest = image.layer_digest.clone();
    crafted.layer = vec![0; size];
    crafted
}

#[tokio::test(flavor = "multi_thread")]
async fn crafted_image_gives_nothing_of_another_namespace() {
    let image = Layered::new(1, 1000);
    let registry = Scripted::plain(guarded(&image, &["alice"])).await;
    let mirror = mirror().await;
    tenant(&mirror, "alice", &registry.host, Some("alice"), &image.digest);
    pull(&mirror, "alice", &image).await.unwrap();
    let asked = registry.asked().len();

    // Whoever makes such an image also has a registry that says yes to everything.
    for size in [1000, 7] {
        let evil = crafted(&image, size);
        let script = evil.clone();
        let liar = Scripted::plain(move |asked| script.reply(asked)).await;
        tenant(&mirror, "mallory", &liar.host, None, &evil.digest);
        assert_eq!(mirror.content.tags(&app("mallory")), Ok(vec!["1".to_owned()]));
        assert_eq!(mirror.content.size(&app("mallory"), &image.layer_digest).await, Ok(size as u64), "what it says");
        for part in PARTS {
            if let Ok(blob) = mirror.content.blob(&app("mallory"), &image.layer_digest, part).await {
                assert_eq!(blob.size, size as u64);
                read(blob).await.1.unwrap_err();
            }
            mirror.idle().await;
        }
        assert!(liar.asked().iter().all(|asked| asked.method == "GET"), "what it says is of no worth");
    }
    assert_eq!(registry.asked().len(), asked);
    assert_eq!(mirror.blob(&app("alice"), &image.layer_digest).await.unwrap(), image.layer);
}

#[tokio::test(flavor = "multi_thread")]
async fn crafted_index_gives_nothing_of_another_namespace() {
    let image = Layered::new(1, 1000);
    let registry = Scripted::plain(guarded(&image, &["alice"])).await;
    let mirror = mirror().await;
    tenant(&mirror, "alice", &registry.host, Some("alice"), &image.digest);
    pull(&mirror, "alice", &image).await.unwrap();
    let (text, digest) = index(&[&image]);
    let (script, name, length) = (text.clone(), digest.clone(), image.manifest.len());
    let liar = Scripted::plain(move |asked| {
        let is_index = asked.path.ends_with(name.as_str());
        Reply::text(&if is_index { script.clone() } else { " ".repeat(length) })
    })
    .await;
    tenant(&mirror, "mallory", &liar.host, None, &digest);
    assert_eq!(mirror.manifest(&app("mallory"), &digest).await.unwrap().bytes, text);
    let refused = mirror.manifest(&app("mallory"), &image.digest).await.unwrap_err().to_string();
    assert!(refused.contains("sent something else than"), "{refused}");
    let size = mirror.content.size(&app("mallory"), &image.layer_digest).await;
    assert!(size.is_err(), "what a manifest says is not told either: {size:?}");
    for part in PARTS {
        assert!(mirror.content.blob(&app("mallory"), &image.layer_digest, part).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn own_credentials_give_what_is_kept_without_a_second_download() {
    let image = Layered::new(1, 100_000);
    let registry = Scripted::plain(guarded(&image, &["alice", "bob"])).await;
    let mirror = mirror().await;
    let users = [("alice", Some("alice")), ("bob", Some("bob")), ("carol", Some("carol")), ("dave", None)];
    for (namespace, user) in users {
        tenant(&mirror, namespace, &registry.host, user, &image.digest);
    }
    pull(&mirror, "alice", &image).await.unwrap();
    for _ in 0..2 {
        pull(&mirror, "bob", &image).await.unwrap();
        for digest in [&image.digest, &image.layer_digest] {
            let asked = ["GET", "HEAD"].map(|method| requests(&registry, method, digest));
            assert_eq!(asked, [1, 1], "fetched for one, asked about for the other: {digest}");
        }
    }
    for namespace in ["carol", "dave"] {
        let refused = pull(&mirror, namespace, &image).await.unwrap_err();
        assert!(refused.contains("put a pull secret for"), "{refused}");
    }

    // The registry is gone; another replica begins.
    let (host, folder) = (registry.host.clone(), Arc::clone(&mirror.folder));
    drop(registry);
    let replica = Mirror::over(folder, Limits::default(), |_| {}).await;
    for (namespace, user) in users {
        tenant(&replica, namespace, &host, user, &image.digest);
    }
    for namespace in ["alice", "bob"] {
        pull(&replica, namespace, &image).await.unwrap();
    }
    for namespace in ["carol", "dave"] {
        let refused = pull(&replica, namespace, &image).await.unwrap_err();
        assert!(refused.contains("cannot be reached"), "{refused}");
    }

    // What is thrown away is given to nobody.
    replica.storage.delete(&image.digest).await.unwrap();
    replica.storage.keep_bytes(&image.digest, image.manifest.clone().into()).await.unwrap();
    let later = Mirror::over(Arc::clone(&replica.folder), Limits::default(), |_| {}).await;
    tenant(&later, "alice", &host, Some("alice"), &image.digest);
    pull(&later, "alice", &image).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_repository_has_to_send_what_it_is_said_to_have() {
    let image = Layered::new(1, 1000);
    let one = Scripted::plain(guarded(&image, &["alice"])).await;
    let other = Scripted::plain(guarded(&image, &["bob"])).await;
    let mirror = mirror().await;
    tenant(&mirror, "alice", &one.host, Some("alice"), &image.digest);
    tenant(&mirror, "bob", &other.host, Some("bob"), &image.digest);
    pull(&mirror, "alice", &image).await.unwrap();
    pull(&mirror, "bob", &image).await.unwrap();
    assert_eq!(["GET", "HEAD"].map(|method| requests(&other, method, &image.layer_digest)), [1, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn public_content_is_for_all_who_may_pull_when_upstream_is_gone() {
    let image = Layered::new(1, 1000);
    let script = image.clone();
    for registry in
        [Scripted::plain(move |asked| script.reply(asked)).await, Scripted::plain(with_tokens(&image)).await]
    {
        let mirror = mirror().await;
        for namespace in ["alice", "bob"] {
            tenant(&mirror, namespace, &registry.host, None, &image.digest);
        }
        pull(&mirror, "alice", &image).await.unwrap();
        drop(registry);
        pull(&mirror, "bob", &image).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_public_is_found_out_by_who_has_no_credentials() {
    let image = Layered::new(1, 1000);
    let registry = Scripted::plain(with_tokens(&image)).await;
    let mirror = mirror().await;
    for (namespace, user) in [("alice", Some("alice")), ("bob", None), ("carol", None)] {
        tenant(&mirror, namespace, &registry.host, user, &image.digest);
    }
    pull(&mirror, "alice", &image).await.unwrap();
    // It was got with a token for credentials: whether it takes them is not known.
    pull(&mirror, "bob", &image).await.unwrap();
    assert_eq!(["GET", "HEAD"].map(|method| requests(&registry, method, &image.layer_digest)), [1, 1]);
    drop(registry);
    pull(&mirror, "carol", &image).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_download_for_another_reads_along_with_own_credentials_only() {
    let image = Layered::new(1, 100_000);
    let gate = Arc::new(Semaphore::new(0));
    let (held, guard, layer) = (Arc::clone(&gate), guarded(&image, &["alice", "bob"]), image.layer_digest.clone());
    // Everybody may have the manifest.
    let (open, manifest) = (image.clone(), image.digest.clone());
    let registry = Scripted::plain(move |asked| {
        if asked.path.ends_with(manifest.as_str()) {
            return open.reply(asked);
        }
        let is_download = asked.method == "GET" && asked.authorization.is_some();
        let reply = guard(asked);
        if is_download && asked.path.ends_with(layer.as_str()) {
            return Reply::Held(Arc::clone(&held), Box::new(reply));
        }
        reply
    })
    .await;
    let mirror = Arc::new(mirror().await);
    let mut clients = JoinSet::new();
    for (number, (namespace, user)) in
        [("alice", Some("alice")), ("bob", Some("bob")), ("carol", None)].into_iter().enumerate()
    {
        tenant(&mirror, namespace, &registry.host, user, &image.digest);
        let (client, digest) = (Arc::clone(&mirror), image.layer_digest.clone());
        clients.spawn(async move { (namespace, client.blob(&app(namespace), &digest).await) });
        soon("it waits", async {
            let shared = "pinstream_upstream_content_total{result=\"shared\",what=\"blob\"}";
            let waiting = async || match number {
                0 => requests(&registry, "GET", &image.layer_digest) > 0,
                _ => mirror.metric(shared).await == number as u64,
            };
            while !waiting().await {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    gate.add_permits(10);
    for (namespace, got) in soon("all have an answer", clients.join_all()).await {
        match got {
            Ok(bytes) => assert!(bytes == image.layer && namespace != "carol", "{namespace}"),
            Err(error) => {
                assert!(error.contains("put a pull secret for") && namespace == "carol", "{namespace}: {error}");
            }
        }
    }
    mirror.idle().await;
    assert_eq!(["GET", "HEAD"].map(|method| requests(&registry, method, &image.layer_digest)), [1, 1]);
}
