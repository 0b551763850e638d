//! Whom the client trusts, over which scheme it asks, and through which proxies.

use std::process::Command;

use pinstream::registry::{Client, FetchError, Fetched, Keyring, Reason, Settings, Wanted};

use crate::scripted::{Reply, Scripted, TinyImage, client};

async fn fetch(client: &Client, registry: &str, insecure: bool) -> Result<Fetched, FetchError> {
    let reference = format!("{registry}/a/b:1");
    let wanted =
        Wanted { reference: &reference, whole_index: true, insecure, system: None, architecture: None, known: None };
    client.fetch(&wanted, &Keyring::default()).await
}

async fn registry() -> Scripted {
    let image = TinyImage::new("a");
    Scripted::tls(move |asked| image.reply(asked)).await
}

fn ca(registry: &Scripted) -> Vec<u8> {
    registry.certificate.clone().unwrap().into_bytes()
}

#[tokio::test]
async fn registry_is_trusted_by_its_own_ca_and_that_is_trusted_for_no_other() {
    let (one, two) = (registry().await, registry().await);
    let own = client(|settings| settings.extra_cas = vec![(Some(one.host.clone()), ca(&one))]);
    fetch(&own, &one.host, false).await.unwrap();
    let wrong = client(|settings| settings.extra_cas = vec![(Some(one.host.clone()), ca(&two))]);
    for (client, registry) in [(&own, &two), (&wrong, &one), (&wrong, &two), (&client(|_| ()), &one)] {
        let error = fetch(client, &registry.host, false).await.unwrap_err();
        assert_eq!(error.reason, Reason::ServiceUnavailable, "{error}");
        assert!(error.message.contains("give its CA with --registry-ca"), "{error}");
    }
    assert_eq!(two.asked().len(), 0);
    let all = client(|settings| settings.extra_cas = vec![(None, ca(&one)), (None, ca(&two))]);
    for registry in [&one, &two] {
        fetch(&all, &registry.host, false).await.unwrap();
    }
}

#[tokio::test]
async fn bad_certificates_and_plain_http_are_accepted_only_where_that_is_wanted() {
    let (tls, image) = (registry().await, TinyImage::new("a"));
    let plain = Scripted::plain(move |asked| image.reply(asked)).await;
    let client = client(|_| ());
    for registry in [&tls, &plain] {
        fetch(&client, &registry.host, true).await.unwrap();
        let error = fetch(&client, &registry.host, false).await.unwrap_err();
        assert!(error.message.contains("set importPolicy.insecure on the tag"), "{error}");
    }
}

#[tokio::test]
async fn no_answer_leads_from_https_to_http() {
    let plain = Scripted::plain(|_| Reply::status(404)).await;
    for (to, words) in [("/v2/", "redirects to http, which is not HTTPS"), ("/token", "a token server without TLS")] {
        let url = plain.url(to);
        let reply = if to == "/token" { Reply::bearer(&url) } else { Reply::redirect(&url) };
        let registry = Scripted::tls(move |_| reply.clone()).await;
        let trusting = client(|settings| settings.extra_cas = vec![(None, ca(&registry))]);
        let error = fetch(&trusting, &registry.host, false).await.unwrap_err();
        assert!(error.message.contains(words), "{error}");
    }
    assert_eq!(plain.asked().len(), 0);
}

/// The environment is that of a process, so another one asks.
#[tokio::test(flavor = "multi_thread")]
async fn proxies_of_the_environment_are_used_but_for_those_it_excepts() {
    let image = TinyImage::new("a");
    let proxy = Scripted::plain(move |asked| match asked.method.as_str() {
        "CONNECT" => Reply::status(403),
        _ => image.reply(asked),
    })
    .await;
    let ask = |excepted: &str| {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["tls_tests::as_a_process_with_proxies", "--exact", "--ignored"]);
        for (name, value) in
            [("HTTPS_PROXY", proxy.url("")), ("HTTP_PROXY", proxy.url("")), ("NO_PROXY", excepted.to_owned())]
        {
            child.env(name, &value).env(name.to_lowercase(), value);
        }
        tokio::task::spawn_blocking(move || child.output().unwrap().status.success())
    };
    assert!(ask("other.invalid").await.unwrap());
    let asked: Vec<_> = proxy.asked().into_iter().map(|asked| format!("{} {}", asked.method, asked.path)).collect();
    assert_eq!(asked[0], "CONNECT registry.invalid:443");
    assert_eq!(asked[1], "GET http://registry.invalid/v2/a/b/manifests/1");
    assert!(asked.iter().all(|asked| !asked.contains("169.254")), "{asked:?}");
    assert!(!ask("registry.invalid").await.unwrap());
    assert_eq!(proxy.asked().len(), asked.len());
}

#[tokio::test]
#[ignore = "run by the test of proxies, with an environment of its own"]
async fn as_a_process_with_proxies() {
    let client = client(|settings: &mut Settings| settings.environment_proxies = true);
    fetch(&client, "registry.invalid", true).await.unwrap();
    // The proxy would ask it.
    let refusal = fetch(&client, "169.254.169.254", true).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::Forbidden, "{refusal}");
}
