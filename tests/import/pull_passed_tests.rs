//! Blobs that cannot be written down: they come from their source to whoever may have them there, and never wrong.

use std::fs;
use std::sync::Arc;

use pinstream::mirror::content::Limits;
use pinstream::mirror::{Contents as _, Part};
use pinstream::registry::{Credential, Keyring};
use pinstream::stream::Key;

use crate::credential_tests::basic;
use crate::mirror::{Layered, Mirror, read, stream};
use crate::scripted::{Asked, Reply, Scripted};

const SIZE: usize = 300_000;

fn app(namespace: &str) -> Key {
    Key::new(namespace, "app")
}

/// One that keeps nothing: where its downloads were to stand is something else.
async fn mirror() -> Mirror {
    let mirror = Mirror::over(Arc::new(tempfile::tempdir().unwrap()), Limits::default(), |_| {}).await;
    let spools = mirror.folder.path().join("spool");
    fs::remove_dir(&spools).unwrap();
    fs::write(&spools, "").unwrap();
    mirror
}

#[tokio::test(flavor = "multi_thread")]
async fn blob_that_cannot_be_written_down_comes_from_its_source() {
    let image = Layered::new(1, SIZE);
    let script = image.clone();
    let registry = Scripted::plain(move |asked| script.reply(asked)).await;
    let mirror = mirror().await;
    mirror.put(stream(&app("demo"), &[("1", &[(&format!("{}/a", registry.host), &image.digest)])]));
    assert_eq!(mirror.manifest(&app("demo"), &image.digest).await.unwrap().bytes, image.manifest);
    let parts = [
        (Part::Whole, 0..SIZE),
        (Part::From(7), 7..SIZE),
        (Part::Between(100_000, 199_999), 100_000..200_000),
        (Part::Between(0, 0), 0..1),
        (Part::Last(3), SIZE - 3..SIZE),
    ];
    for (part, range) in parts {
        let blob = mirror.content.blob(&app("demo"), &image.layer_digest, part).await.unwrap();
        assert_eq!((blob.size, blob.range.clone()), (SIZE as u64, range.start as u64..range.end as u64));
        assert_eq!(read(blob).await.1.unwrap(), image.layer[range]);
    }
    let beyond = mirror.content.blob(&app("demo"), &image.layer_digest, Part::From(SIZE as u64)).await;
    assert!(beyond.is_err_and(|error| error.to_string().contains("no such range")));
    assert!(!mirror.is_kept(&image.layer_digest).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_blob_that_cannot_be_written_down_never_arrives_whole() {
    let image = Layered::new(1, SIZE);
    let (liar, honest) = (image.clone(), image.clone());
    let wrong = move |asked: &Asked| {
        if asked.path.ends_with(liar.layer_digest.as_str()) {
            return Reply::Whole { status: 200, headers: Vec::new(), body: vec![7; SIZE] };
        }
        liar.reply(asked)
    };
    let (wrong, right) = (Scripted::plain(wrong).await, Scripted::plain(move |asked| honest.reply(asked)).await);
    let mirror = mirror().await;
    let from = |registry: &Scripted| format!("{}/a", registry.host);
    let (first, second) = (from(&wrong), from(&right));
    mirror.put(stream(&app("demo"), &[("1", &[(&first, &image.digest)]), ("2", &[(&second, &image.digest)])]));
    let blob = mirror.content.blob(&app("demo"), &image.layer_digest, Part::Between(0, 9)).await.unwrap();
    let (came, error) = read(blob).await;
    assert_eq!((came, error.unwrap_err()), (0, format!("what came is not {}", image.layer_digest)));
    // The other repository is asked then.
    assert_eq!(mirror.blob(&app("demo"), &image.layer_digest).await.unwrap(), image.layer);
}

#[tokio::test(flavor = "multi_thread")]
async fn blob_that_cannot_be_written_down_is_only_for_those_who_may_have_it_there() {
    let image = Layered::new(1, SIZE);
    let script = image.clone();
    let registry = Scripted::plain(move |asked| match &asked.authorization {
        Some(shown) if *shown == basic("alice", "secret") => script.reply(asked),
        _ => Reply::status(401).with("www-authenticate", "Basic realm=\"x\""),
    });
    let (registry, mirror) = (registry.await, mirror().await);
    for namespace in ["alice", "mallory"] {
        let mut keyring = Keyring::default();
        keyring.add(&registry.host, Credential::new(namespace, "secret"));
        mirror.home.lend(namespace, keyring);
        mirror.put(stream(&app(namespace), &[("1", &[(&format!("{}/a", registry.host), &image.digest)])]));
    }
    assert_eq!(mirror.blob(&app("alice"), &image.layer_digest).await.unwrap(), image.layer);
    let refused = mirror.blob(&app("mallory"), &image.layer_digest).await.unwrap_err();
    assert!(!refused.contains("spool"), "{refused}");
}
