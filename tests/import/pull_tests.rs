//! Pulling through: what a stream allows comes, from upstream once and then from the storage; nothing else does.

use std::sync::Arc;

use pinstream::digest::Digest;
use pinstream::mirror::content::Limits;
use pinstream::mirror::{Contents as _, Part, PullError, Version};
use pinstream::registry::{Credential, Keyring};
use pinstream::stream::Key;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::credential_tests::basic;
use crate::mirror::{Layered, Mirror, index, index_of_indexes, read, stream};
use crate::scripted::{Asked, Reply, Scripted, patient, soon};

fn app() -> Key {
    Key::new("demo", "app")
}

/// A registry with these images.
async fn registry(images: &[&Layered]) -> Scripted {
    let images: Vec<Layered> = images.iter().map(|image| (*image).clone()).collect();
    Scripted::plain(move |asked| {
        let replies = images.iter().map(|image| image.reply(asked));
        replies.into_iter().find(|reply| !is_absent(reply)).unwrap_or_else(|| Reply::status(404))
    })
    .await
}

fn is_absent(reply: &Reply) -> bool {
    matches!(reply, Reply::Whole { status: 404, .. })
}

fn requests(registry: &Scripted, digest: &Digest) -> usize {
    registry.asked().iter().filter(|asked| asked.path.ends_with(digest.as_str())).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn image_is_fetched_once_and_stays_when_upstream_is_gone() {
    let image = Layered::new(1, 3 << 20);
    let registry = registry(&[&image]).await;
    let mirror = Mirror::new().await;
    let repository = format!("{}/a", registry.host);
    mirror.put(stream(&app(), &[("1", &[(&repository, &image.digest)])]));
    assert_eq!(mirror.content.tags(&app()), Ok(vec!["1".to_owned()]));
    for _ in 0..2 {
        let manifest = mirror.content.manifest(&app(), &Version::Tag("1".into())).await.unwrap();
        assert_eq!((manifest.bytes.as_ref(), &manifest.digest), (image.manifest.as_bytes(), &image.digest));
        assert_eq!(mirror.content.size(&app(), &image.layer_digest).await, Ok(3 << 20));
        assert_eq!(mirror.blob(&app(), &image.config_digest()).await.unwrap(), image.config.as_bytes());
        assert_eq!(mirror.blob(&app(), &image.layer_digest).await.unwrap(), image.layer);
        mirror.idle().await;
    }
    assert_eq!(registry.asked().iter().filter(|asked| asked.path.ends_with(image.digest.as_str())).count(), 1);
    assert_eq!(requests(&registry, &image.layer_digest), 1);
    for (line, value) in [
        ("pinstream_upstream_content_total{result=\"miss\",what=\"manifest\"}", 1),
        ("pinstream_upstream_content_total{result=\"hit\",what=\"manifest\"}", 1),
        ("pinstream_upstream_content_total{result=\"miss\",what=\"blob\"}", 2),
        ("pinstream_upstream_content_total{result=\"hit\",what=\"blob\"}", 2),
        ("pinstream_upstream_bytes_total", (3 << 20) + image.config.len() as u64),
    ] {
        assert_eq!(mirror.metric(line).await, value, "{line}");
    }

    // Another replica that never saw the manifest, without upstream.
    drop(registry);
    let replica = Mirror::over(Arc::clone(&mirror.folder), Limits::default(), |_| {}).await;
    replica.put(stream(&app(), &[("1", &[(&repository, &image.digest)])]));
    assert_eq!(replica.blob(&app(), &image.layer_digest).await.unwrap(), image.layer);
    assert_eq!(replica.manifest(&app(), &image.digest).await.unwrap().bytes, image.manifest.as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn index_gives_its_children_and_their_blobs() {
    let (one, two, other) = (Layered::new(1, 1000), Layered::new(2, 2000), Layered::new(3, 10));
    let (text, digest) = index(&[&one, &two]);
    let registry = {
        let (one, two, other, text, digest) = (one.clone(), two.clone(), other.clone(), text.clone(), digest.clone());
        Scripted::plain(move |asked| {
            if asked.path.ends_with(digest.as_str()) {
                return Reply::text(&text);
            }
            let replies = [&one, &two, &other].map(|image| image.reply(asked));
            replies.into_iter().find(|reply| !is_absent(reply)).unwrap_or_else(|| Reply::status(404))
        })
        .await
    };
    let mirror = Mirror::new().await;
    mirror.put(stream(&app(), &[("1", &[(&format!("{}/a", registry.host), &digest)])]));
    // By digest, without that the index was asked for.
    assert_eq!(mirror.manifest(&app(), &two.digest).await.unwrap().bytes, two.manifest.as_bytes());
    assert_eq!(mirror.manifest(&app(), &digest).await.unwrap().bytes, text.as_bytes());
    assert_eq!(mirror.blob(&app(), &two.layer_digest).await.unwrap(), two.layer);
    assert_eq!(requests(&registry, &one.digest), 0, "what is not needed is not asked for");
    assert_eq!(mirror.blob(&app(), &one.layer_digest).await.unwrap(), one.layer);
    let refused = mirror.manifest(&app(), &other.digest).await;
    assert!(matches!(refused, Err(PullError::ManifestUnknown(_))), "{refused:?}");
    assert_eq!(requests(&registry, &other.digest), 0);
}

/// Found by the conformance suite of the specification.
#[tokio::test(flavor = "multi_thread")]
async fn index_in_an_index_gives_what_is_in_it() {
    let (one, two) = (Layered::new(1, 1000), Layered::new(2, 2000));
    let inner = [index(&[&one]), index(&[&two])];
    let outer = index_of_indexes(&[&inner[0], &inner[1]]);
    let registry = {
        let (images, indexes) = ([one.clone(), two.clone()], [inner.clone(), [outer.clone(), outer.clone()]].concat());
        Scripted::plain(move |asked| {
            let index = indexes.iter().find(|(_, digest)| asked.path.ends_with(digest.as_str()));
            let images = || images.iter().map(|image| image.reply(asked)).find(|reply| !is_absent(reply));
            index.map(|(text, _)| Reply::text(text)).or_else(images).unwrap_or_else(|| Reply::status(404))
        })
        .await
    };
    let mirror = Mirror::new().await;
    mirror.put(stream(&app(), &[("1", &[(&format!("{}/a", registry.host), &outer.1)])]));
    // Neither the outer nor the inner index was asked for.
    assert_eq!(mirror.manifest(&app(), &two.digest).await.unwrap().bytes, two.manifest.as_bytes());
    assert_eq!(requests(&registry, &one.digest), 0, "what is known to be no index is not asked for");
    assert_eq!(mirror.blob(&app(), &two.layer_digest).await.unwrap(), two.layer);
    for (text, digest) in inner.iter().chain([&outer]) {
        assert_eq!(mirror.manifest(&app(), digest).await.unwrap().bytes, text.as_bytes());
    }
    assert_eq!(mirror.blob(&app(), &one.layer_digest).await.unwrap(), one.layer);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_stream_has_is_not_given() {
    let (mine, theirs) = (Layered::new(1, 1000), Layered::new(2, 1000));
    let registry = registry(&[&mine, &theirs]).await;
    let mirror = Mirror::new().await;
    let (repository, other) = (format!("{}/a", registry.host), Key::new("other", "app"));
    mirror.put(stream(&app(), &[("1", &[(&repository, &mine.digest)])]));
    mirror.put(stream(&other, &[("1", &[(&repository, &theirs.digest)])]));
    assert_eq!(mirror.blob(&other, &theirs.layer_digest).await.unwrap(), theirs.layer);
    assert_eq!(mirror.manifest(&other, &theirs.digest).await.unwrap().bytes, theirs.manifest.as_bytes());
    let asked = registry.asked().len();
    assert!(matches!(mirror.manifest(&app(), &theirs.digest).await, Err(PullError::ManifestUnknown(_))));
    let blob = mirror.content.blob(&app(), &theirs.layer_digest, Part::Whole).await;
    assert!(matches!(blob.map(|_| ()), Err(PullError::BlobUnknown(_))));
    assert!(matches!(mirror.content.size(&app(), &theirs.layer_digest).await, Err(PullError::BlobUnknown(_))));
    assert_eq!(registry.asked().len(), asked + 1, "the manifest of the own image was read, and nothing else");
    let none = Key::new("demo", "none");
    assert_eq!(mirror.content.tags(&none), Err(PullError::NameUnknown(none.clone())));
    assert!(matches!(
        mirror.content.manifest(&app(), &Version::Tag("2".into())).await,
        Err(PullError::ManifestUnknown(_))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_are_one_request() {
    let image = Layered::new(1, 5 << 20);
    let gate = Arc::new(Semaphore::new(0));
    let (held, script) = (Arc::clone(&gate), image.clone());
    let registry = Scripted::plain(move |asked| {
        let reply = script.reply(asked);
        let is_layer = asked.path.ends_with(script.layer_digest.as_str());
        if is_layer { Reply::Held(Arc::clone(&held), Box::new(reply)) } else { reply }
    })
    .await;
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let mirror = Arc::new(Mirror::over(folder, Limits::default(), patient).await);
    mirror.put(stream(&app(), &[("1", &[(&format!("{}/a", registry.host), &image.digest)])]));
    let mut clients = JoinSet::new();
    for number in 0..50_u64 {
        let (mirror, image) = (Arc::clone(&mirror), image.clone());
        clients.spawn(async move {
            let part = if number % 2 == 0 { Part::Whole } else { Part::Between(number * 1000, number * 90_000) };
            let blob = mirror.content.blob(&app(), &image.layer_digest, part).await.unwrap();
            let range = usize::try_from(blob.range.start).unwrap()..usize::try_from(blob.range.end).unwrap();
            assert_eq!(read(blob).await.1.unwrap(), image.layer[range]);
        });
    }
    // One that leaves, which may be the one for which it was begun.
    let mut leaving = JoinSet::new();
    let (left, layer) = (Arc::clone(&mirror), image.layer_digest.clone());
    leaving.spawn(async move { left.content.blob(&app(), &layer, Part::Whole).await.map(|_| ()) });
    let shared = "pinstream_upstream_content_total{result=\"shared\",what=\"blob\"}";
    soon("all wait", async {
        while mirror.metric(shared).await < 50 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    leaving.shutdown().await;
    gate.add_permits(1);
    soon("all have it", async { while clients.join_next().await.transpose().unwrap().is_some() {} }).await;
    assert_eq!(requests(&registry, &image.layer_digest), 1);
    assert_eq!(requests(&registry, &image.digest), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn fetch_goes_on_when_its_only_client_leaves() {
    let image = Layered::new(1, 1 << 20);
    let gate = Arc::new(Semaphore::new(0));
    let (held, script) = (Arc::clone(&gate), image.clone());
    let registry = Scripted::plain(move |asked| {
        let reply = script.reply(asked);
        let is_layer = asked.path.ends_with(script.layer_digest.as_str());
        if is_layer { Reply::Held(Arc::clone(&held), Box::new(reply)) } else { reply }
    })
    .await;
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let mirror = Mirror::over(folder, Limits::default(), patient).await;
    mirror.put(stream(&app(), &[("1", &[(&format!("{}/a", registry.host), &image.digest)])]));
    {
        let app = app();
        let client = mirror.content.blob(&app, &image.layer_digest, Part::Whole);
        let asked = async {
            while requests(&registry, &image.layer_digest) == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = client => panic!("nothing came yet"),
            () = soon("it is asked for", asked) => {}
        }
    }
    gate.add_permits(1);
    soon("it is kept", async {
        while !mirror.is_kept(&image.layer_digest).await {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(mirror.blob(&app(), &image.layer_digest).await.unwrap(), image.layer);
    assert_eq!(requests(&registry, &image.layer_digest), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_namespace_is_served_with_its_own_credentials() {
    let image = Layered::new(1, 100_000);
    let gate = Arc::new(Semaphore::new(0));
    let (held, script) = (Arc::clone(&gate), image.clone());
    let registry = Scripted::plain(move |asked: &Asked| {
        if !asked.path.ends_with(script.layer_digest.as_str()) {
            return script.reply(asked);
        }
        let reply = match asked.authorization.as_ref() {
            Some(shown) if *shown == basic("rich", "secret") => script.reply(asked),
            _ => Reply::status(401).with("www-authenticate", "Basic realm=\"x\""),
        };
        Reply::Held(Arc::clone(&held), Box::new(reply))
    })
    .await;
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let mirror = Arc::new(Mirror::over(folder, Limits::default(), patient).await);
    let mut keyring = Keyring::default();
    keyring.add(&registry.host, Credential::new("rich", "secret"));
    mirror.home.lend("rich", keyring);
    let (rich, poor) = (Key::new("rich", "app"), Key::new("poor", "app"));
    for key in [&rich, &poor] {
        mirror.put(stream(key, &[("1", &[(&format!("{}/a", registry.host), &image.digest)])]));
    }
    let mut clients = JoinSet::new();
    let ask = |key: &Key| {
        let (mirror, key, digest) = (Arc::clone(&mirror), key.clone(), image.layer_digest.clone());
        async move { mirror.blob(&key, &digest).await }
    };
    clients.spawn(ask(&poor));
    soon("the poor one is first", async {
        while requests(&registry, &image.layer_digest) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    clients.spawn(ask(&rich));
    let shared = "pinstream_upstream_content_total{result=\"shared\",what=\"blob\"}";
    soon("the rich one waits too", async {
        while mirror.metric(shared).await == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    gate.add_permits(10);
    let mut got = soon("both have an answer", clients.join_all()).await;
    got.sort_by_key(Result::is_err);
    assert_eq!(got[0], Ok(image.layer.clone().into()));
    assert!(got[1].as_ref().is_err_and(|error| error.contains("put a pull secret for")), "{got:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_so_much_is_fetched_at_a_time() {
    let (one, two) = (Layered::new(1, 1000), Layered::new(2, 2000));
    let gate = Arc::new(Semaphore::new(0));
    let (held, first, second) = (Arc::clone(&gate), one.clone(), two.clone());
    let registry = Scripted::plain(move |asked| {
        if asked.path.ends_with(first.layer_digest.as_str()) {
            return Reply::Held(Arc::clone(&held), Box::new(first.reply(asked)));
        }
        let replies = [&first, &second].map(|image| image.reply(asked));
        replies.into_iter().find(|reply| !is_absent(reply)).unwrap_or_else(|| Reply::status(404))
    })
    .await;
    let limits = Limits { fetches: 10, bytes: 5000 };
    let mirror = Arc::new(Mirror::over(Arc::new(tempfile::tempdir().unwrap()), limits, patient).await);
    let repository = format!("{}/a", registry.host);
    let large = Layered::new(3, 3000);
    mirror.put(stream(&app(), &[("1", &[(&repository, &one.digest)]), ("2", &[(&repository, &two.digest)])]));
    mirror.keep_manifest(&large).await;
    mirror.put(stream(&Key::new("demo", "large"), &[("1", &[(&repository, &large.digest)])]));
    let mut first = JoinSet::new();
    let (client, digest) = (Arc::clone(&mirror), one.layer_digest.clone());
    first.spawn(async move { client.blob(&app(), &digest).await });
    soon("it is asked for", async {
        while requests(&registry, &one.layer_digest) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let busy = mirror.content.blob(&app(), &two.layer_digest, Part::Whole).await.map(|_| ());
    assert!(matches!(busy, Err(PullError::TooManyRequests { after: Some(_), .. })), "{busy:?}");
    let large = mirror.blob(&Key::new("demo", "large"), &large.layer_digest).await.unwrap_err();
    assert!(large.contains("has 3000 bytes; no more than 2500 are fetched"), "{large}");
    gate.add_permits(1);
    assert_eq!(first.join_next().await.unwrap().unwrap().unwrap(), one.layer);
    mirror.idle().await;
    assert_eq!(mirror.blob(&app(), &two.layer_digest).await.unwrap(), two.layer);
}
