//! Two namespaces, one registry, one secret: who has not got it sees nothing that it brought.

use std::sync::Arc;

use pinstream::registry::{Credential, Keyring};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::credential_tests::basic;
use crate::memory::{MemoryHome, importer, result, stream};
use crate::scripted::{Asked, Reply, Scripted, TinyImage, client, patient, soon};

/// A private registry, whose manifests are sent when `gate` lets them.
async fn private(image: &TinyImage, gate: &Arc<Semaphore>) -> Scripted {
    let (image, gate) = (image.clone(), Arc::clone(gate));
    let script = move |asked: &Asked| {
        if asked.path.starts_with("/token") {
            let is_known = asked.authorization.as_ref() == Some(&basic("rich", "secret"));
            return if is_known { Reply::json(&json!({"token": "of-the-rich"})) } else { Reply::status(401) };
        }
        match asked.authorization.as_deref() {
            Some("Bearer of-the-rich") => Reply::Held(Arc::clone(&gate), Box::new(image.reply(asked))),
            _ => Reply::bearer(&format!("http://{}/token", asked.host)),
        }
    };
    Scripted::plain(script).await
}

/// Streams `rich/app` and `poor/app` from the same image; only `rich` has the secret.
fn two_tenants(registry: &Scripted) -> Arc<MemoryHome> {
    let home = MemoryHome::new();
    let mut keyring = Keyring::default();
    keyring.add(&registry.host, Credential::new("rich", "secret"));
    home.lend("rich", keyring);
    for namespace in ["rich", "poor"] {
        put(&home, namespace, registry);
    }
    home
}

fn put(home: &MemoryHome, namespace: &str, registry: &Scripted) {
    let source = format!("{}/a/b:1", registry.host);
    home.put(stream(&format!("{namespace}/app"), &[("1", &source)], &json!({"insecure": true})));
}

fn assert_poor_has_nothing(home: &MemoryHome, image: &TinyImage) {
    let (reason, message) = result(&home.get("poor/app"), "1").unwrap().unwrap_err();
    assert_eq!(reason, "Unauthorized", "{message}");
    let stored = serde_json::to_string(&home.get("poor/app")).unwrap();
    assert!(!stored.contains(&image.digest) && !stored.contains("of-the-rich"), "{stored}");
}

#[tokio::test]
async fn namespace_without_the_secret_gets_nothing_while_another_request_with_it_is_under_way() {
    let (image, gate) = (TinyImage::new("private"), Arc::new(Semaphore::new(0)));
    let registry = private(&image, &gate).await;
    let home = two_tenants(&registry);
    let mut running = JoinSet::new();
    running.spawn(importer(&home, &Arc::new(client(patient))));
    soon("the poor are refused", home.until(|home| result(&home.get("poor/app"), "1").is_some())).await;
    assert_poor_has_nothing(&home, &image);
    assert_eq!(result(&home.get("rich/app"), "1"), None, "its manifest is still held back");
    gate.add_permits(100);
    soon("the rich are served", home.until(|home| result(&home.get("rich/app"), "1").is_some())).await;
    assert_eq!(result(&home.get("rich/app"), "1"), Some(Ok(image.digest.clone())));
    assert_poor_has_nothing(&home, &image);
}

#[tokio::test]
async fn namespace_without_the_secret_gets_nothing_of_what_is_remembered() {
    let (image, gate) = (TinyImage::new("private"), Arc::new(Semaphore::new(1000)));
    let registry = private(&image, &gate).await;
    let home = two_tenants(&registry);
    let remote = Arc::new(client(|_| ()));
    // The token of the rich is known to the client before the poor come again, and again after.
    for _ in 0..3 {
        let mut running = JoinSet::new();
        running.spawn(importer(&home, &remote));
        let both = |home: &MemoryHome| {
            ["rich", "poor"].iter().all(|who| result(&home.get(&format!("{who}/app")), "1").is_some())
        };
        soon("both have an answer", home.until(both)).await;
        assert_eq!(result(&home.get("rich/app"), "1"), Some(Ok(image.digest.clone())));
        assert_poor_has_nothing(&home, &image);
        drop(running);
        home.forget("poor/app");
        put(&home, "poor", &registry);
    }
    let with_token =
        registry.asked().iter().filter(|asked| asked.authorization.as_deref() == Some("Bearer of-the-rich")).count();
    assert_eq!(with_token, 2, "a manifest and a config, once");
}
