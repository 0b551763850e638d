//! Who is shown which credentials: only those who ask for them, and never another host.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pinstream::registry::{Client, Credential, FetchError, Fetched, Keyring, Reason, Wanted};
use serde_json::json;

use crate::scripted::{Asked, Reply, Scripted, TinyImage, client};

pub fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// One credential for a registry.
pub fn keyring(registry: &str, user: &str, password: &str) -> Keyring {
    let mut keyring = Keyring::default();
    keyring.add(registry, Credential::new(user, password));
    keyring
}

pub async fn fetch(client: &Client, reference: &str, keyring: &Keyring) -> Result<Fetched, FetchError> {
    let wanted = Wanted { reference, whole_index: true, insecure: true, system: None, architecture: None, known: None };
    client.fetch(&wanted, keyring).await
}

/// A registry that wants `authorization`, and says so with `challenge`.
async fn guarded(authorization: &str, challenge: Reply) -> Scripted {
    let (image, authorization) = (TinyImage::new("a"), authorization.to_owned());
    let script = move |asked: &Asked| match &asked.authorization {
        Some(shown) if *shown == authorization => image.reply(asked),
        _ => challenge.clone(),
    };
    Scripted::plain(script).await
}

#[tokio::test]
async fn open_registry_is_shown_nothing() {
    let image = TinyImage::new("a");
    let registry = Scripted::plain(move |asked| image.reply(asked)).await;
    let keyring = keyring(&registry.host, "me", "secret");
    fetch(&client(|_| ()), &format!("{}/a/b:1", registry.host), &keyring).await.unwrap();
    assert_eq!(registry.shown(), [None]);
}

#[tokio::test]
async fn password_is_shown_once_it_was_asked_for_and_then_at_once() {
    let registry = guarded(&basic("me", "secret"), Reply::status(401).with("www-authenticate", "Basic realm=r")).await;
    let (keyring, client) = (keyring(&registry.host, "me", "secret"), client(|_| ()));
    for tag in ["1", "2"] {
        fetch(&client, &format!("{}/a/b:{tag}", registry.host), &keyring).await.unwrap();
    }
    assert_eq!(registry.shown(), [None, Some(basic("me", "secret"))]);
    assert_eq!(registry.asked().len(), 1 + 2 * 2);
}

#[tokio::test]
async fn token_server_on_another_host_gets_the_password_and_the_registry_only_the_token() {
    let tokens = Scripted::plain(|asked| match &asked.authorization {
        Some(shown) if *shown == basic("me", "secret") => Reply::json(&json!({"token": "t", "expires_in": u64::MAX})),
        _ => Reply::status(401),
    })
    .await;
    let registry = guarded("Bearer t", Reply::bearer(&tokens.url("/token"))).await;
    let (keyring, client) = (keyring(&registry.host, "me", "secret"), client(|_| ()));
    let fetches = ["1", "2", "3"].map(|tag| format!("{}/a/b:{tag}", registry.host));
    let fetches = fetches.iter().map(|reference| fetch(&client, reference, &keyring));
    for fetched in futures_util::future::join_all(fetches).await {
        fetched.unwrap();
    }
    fetch(&client, &format!("{}/a/b:4", registry.host), &keyring).await.unwrap();
    let asked = tokens.asked();
    assert_eq!(asked.len(), 1, "the token is shared and kept: {asked:?}");
    assert_eq!(asked[0].path, "/token?service=test&scope=repository%3Aa%2Fb%3Apull");
    assert!(registry.shown().iter().flatten().all(|shown| shown == "Bearer t"), "{:?}", registry.shown());
}

/// Of tokens as large as they may be, those of some 250 repositories are kept.
#[tokio::test]
async fn tokens_of_many_repositories_are_kept_within_bounds() {
    let (image, token) = (TinyImage::new("a"), "t".repeat(16 << 10));
    let registry = Scripted::plain(move |asked| {
        if asked.path.starts_with("/token") {
            return Reply::json(&json!({"token": token, "expires_in": 3600}));
        }
        let is_shown = asked.authorization.is_some();
        if is_shown { image.reply(asked) } else { Reply::bearer(&format!("http://{}/token", asked.host)) }
    })
    .await;
    let (client, keyring) = (client(|_| ()), Keyring::default());
    let tokens = || registry.asked().iter().filter(|asked| asked.path.starts_with("/token")).count();
    let import =
        async |number: usize| fetch(&client, &format!("{}/a/{number}:1", registry.host), &keyring).await.unwrap();
    for number in 0..260 {
        import(number).await;
    }
    assert_eq!(tokens(), 260);
    import(259).await;
    import(50).await;
    assert_eq!(tokens(), 260, "what is kept is used");
    import(0).await;
    assert_eq!(tokens(), 261, "what was not used for longest is asked for again");
}

#[tokio::test]
async fn token_that_is_refused_is_replaced() {
    let number = Arc::new(Mutex::new(0));
    let (image, current) = (TinyImage::new("a"), Arc::clone(&number));
    let registry = Scripted::plain(move |asked| {
        let expected = format!("Bearer t{}", current.lock().unwrap());
        if asked.path.starts_with("/token") {
            return Reply::json(&json!({"access_token": expected.strip_prefix("Bearer ").unwrap()}));
        }
        let is_known = asked.authorization.as_ref() == Some(&expected);
        if is_known { image.reply(asked) } else { Reply::bearer(&format!("http://{}/token", asked.host)) }
    })
    .await;
    let (client, reference) = (client(|_| ()), format!("{}/a/b:1", registry.host));
    fetch(&client, &reference, &Keyring::default()).await.unwrap();
    *number.lock().unwrap() += 1;
    fetch(&client, &reference, &Keyring::default()).await.unwrap();
}

#[tokio::test]
async fn identity_token_is_posted_to_the_token_server_and_follows_no_redirect() {
    let keyring = |registry: &str| {
        let config = json!({"auths": {(registry): {"identitytoken": "identity"}}});
        Keyring::from_docker_config_json(config.to_string().as_bytes()).unwrap()
    };
    let tokens = Scripted::plain(|_| Reply::json(&json!({"access_token": "t"}))).await;
    let registry = guarded("Bearer t", Reply::bearer(&tokens.url("/token"))).await;
    let reference = format!("{}/a/b:1", registry.host);
    fetch(&client(|_| ()), &reference, &keyring(&registry.host)).await.unwrap();
    let asked = tokens.asked();
    assert_eq!((asked[0].method.as_str(), asked[0].authorization.as_deref()), ("POST", None));
    assert!(asked[0].body.contains("grant_type=refresh_token") && asked[0].body.contains("refresh_token=identity"));

    let elsewhere = Scripted::plain(|_| Reply::json(&json!({"access_token": "t"}))).await;
    let to = elsewhere.url("/token");
    let tokens = Scripted::plain(move |_| Reply::redirect(&to)).await;
    let registry = guarded("Bearer t", Reply::bearer(&tokens.url("/token"))).await;
    let reference = format!("{}/a/b:1", registry.host);
    let error = fetch(&client(|_| ()), &reference, &keyring(&registry.host)).await.unwrap_err();
    assert!(error.message.contains("redirects a request with a secret in it"), "{error}");
    assert_eq!(elsewhere.asked().len(), 0);
}

#[tokio::test]
async fn redirect_carries_credentials_to_its_own_host_only() {
    let image = TinyImage::new("a");
    let storage = Scripted::plain(move |asked| image.reply(asked)).await;
    let image = TinyImage::new("a");
    let (to, secret) = (storage.url(""), basic("me", "secret"));
    let registry = Scripted::plain(move |asked| match (&asked.authorization, asked.path.strip_prefix("/moved")) {
        (Some(shown), _) if *shown != secret => Reply::status(403),
        (None, _) => Reply::status(401).with("www-authenticate", "Basic"),
        (_, None) if asked.path.contains("/manifests/") => Reply::redirect(format!("/moved{}", asked.path)),
        (_, None) => Reply::redirect(format!("{to}{}", asked.path)),
        (_, Some(_)) => image.reply(asked),
    })
    .await;
    let keyring = keyring(&registry.host, "me", "secret");
    fetch(&client(|_| ()), &format!("{}/a/b:1", registry.host), &keyring).await.unwrap();
    assert_eq!(storage.shown(), [None]);
    let moved: Vec<_> = registry.asked().into_iter().filter(|asked| asked.path.starts_with("/moved")).collect();
    assert!(!moved.is_empty() && moved.iter().all(|asked| asked.authorization.is_some()));
}

#[tokio::test]
async fn credential_of_the_repository_is_tried_before_that_of_the_registry_and_then_none() {
    let registry = guarded(&basic("all", "p"), Reply::status(401).with("www-authenticate", "Basic")).await;
    let mut keyring = keyring(&registry.host, "all", "p");
    keyring.add(&format!("{}/a/b", registry.host), Credential::new("narrow", "old"));
    keyring.add("other.example", Credential::new("other", "p"));
    fetch(&client(|_| ()), &format!("{}/a/b:1", registry.host), &keyring).await.unwrap();
    let shown: Vec<_> = registry.shown().into_iter().flatten().collect();
    assert_eq!(shown, [basic("narrow", "old"), basic("all", "p")]);

    let image = TinyImage::new("a");
    let public = Scripted::plain(move |asked| match asked.authorization {
        Some(_) => Reply::status(403),
        None if asked.path.ends_with("/private") => Reply::status(401).with("www-authenticate", "Basic"),
        None => image.reply(asked),
    })
    .await;
    let keyring = self::keyring(&public.host, "expired", "p");
    fetch(&client(|_| ()), &format!("{}/a/b:1", public.host), &keyring).await.unwrap();
    let error = fetch(&client(|_| ()), &format!("{}/a/b:private", public.host), &keyring).await.unwrap_err();
    assert_eq!(error.reason, Reason::Forbidden, "{error}");
}
