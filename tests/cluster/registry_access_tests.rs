//! Who may pull on a cluster: tokens of ServiceAccounts, rights, and namespaces that are open to everybody.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::blocking::{Client, Response};
use serde_json::Value;

use crate::control_plane::{ControlPlane, Namespace};
use crate::importing::{Importing, Stream, manifest};
use crate::pinstream::Pinstream;
use crate::pulling::{self, Skopeo, token};
use crate::registry::{Content, Guard};

crate::tests![Importing: tokens_decide_who_may_pull, some_namespaces_are_open_to_everybody,
    skopeo_pulls_with_a_token_and_without];

/// A registry over plain HTTP with a storage of its own.
fn registry(plane: &ControlPlane, namespace: &Namespace, arguments: &[&str]) -> Pinstream {
    let storage = plane.folder("kept").display().to_string();
    pulling::registry(plane, namespace, &[&["--plain-http", "--storage", &storage], arguments].concat(), &[])
}

/// A namespace with an imported stream.
fn with_stream(site: &Importing, name: &str) -> (Namespace, String) {
    let (namespace, registry) = (site.plane.namespace(), site.registry(Guard::Open));
    let repository = format!("pull/{}", namespace.name);
    let digest = registry.push(&repository, "1", &Content::image(&namespace.name));
    let stream = Stream::apply(&namespace, &manifest(name, &[registry.spec_tag("1", &format!("{repository}:1"))]));
    stream.has_history("1", &[&digest]);
    (namespace, digest)
}

fn get(server: &Pinstream, path: &str, authorization: Option<&str>) -> Response {
    let client = Client::builder().no_proxy().build().unwrap();
    let mut request = client.get(format!("http://127.0.0.1:{}{path}", server.port));
    if let Some(authorization) = authorization {
        request = request.header("authorization", authorization);
    }
    request.send().unwrap()
}

fn status(server: &Pinstream, path: &str, authorization: Option<&str>) -> u16 {
    get(server, path, authorization).status().as_u16()
}

fn tokens_decide_who_may_pull(site: &Importing) {
    let (namespace, digest) = with_stream(site, "app");
    let other = site.plane.namespace();
    let server = registry(&site.plane, &namespace, &[]);
    let path = format!("/v2/{}/app/manifests/{digest}", namespace.name);
    let realm = format!("Bearer realm=\"http://127.0.0.1:{}/v2/token\",service=\"pinstream\"", server.port);

    let asked = get(&server, &path, None);
    let challenge = format!("{realm},scope=\"repository:{}/app:pull\"", namespace.name);
    assert_eq!((asked.status().as_u16(), &asked.headers()["www-authenticate"]), (401, &challenge.parse().unwrap()));
    assert_eq!(get(&server, "/v2/", None).headers()["www-authenticate"], realm);

    let puller = token(&namespace, "puller", Some("app"));
    let bearer = format!("Bearer {puller}");
    let basic = format!("Basic {}", STANDARD.encode(format!("any:{puller}")));
    for authorization in [&bearer, &basic] {
        assert_eq!(status(&server, "/v2/", Some(authorization)), 200);
        assert_eq!(status(&server, &path, Some(authorization)), 200);
        let layers: Value = serde_json::from_slice(&get(&server, &path, Some(authorization)).bytes().unwrap()).unwrap();
        let layer = layers["layers"][0]["digest"].as_str().unwrap();
        assert_eq!(status(&server, &format!("/v2/{}/app/blobs/{layer}", namespace.name), Some(authorization)), 200);
    }
    // As clients do it that follow the challenge.
    let given: Value = get(&server, "/v2/token?service=pinstream", Some(&basic)).json().unwrap();
    assert_eq!(given["token"], puller.as_str());
    let nobody: Value = get(&server, "/v2/token?service=pinstream", None).json().unwrap();
    assert_eq!(status(&server, &path, Some(&format!("Bearer {}", nobody["token"].as_str().unwrap()))), 401);

    // A right in one namespace, or to one stream, is none to others.
    let stranger = format!("Bearer {}", token(&other, "puller", Some("app")));
    assert_eq!(status(&server, &path, Some(&stranger)), 403);
    let unnamed = format!("Bearer {}", token(&namespace, "reader", Some("other")));
    assert_eq!(status(&server, &path, Some(&unnamed)), 403);
    let powerless = format!("Bearer {}", token(&namespace, "powerless", None));
    assert_eq!(status(&server, &path, Some(&powerless)), 403);
    // Whether there is such a stream is not told to those who may not know.
    assert_eq!(status(&server, &format!("/v2/{}/none/tags/list", namespace.name), Some(&powerless)), 403);
    for garbage in ["Bearer garbage", "Basic YW55OmdhcmJhZ2U=", "Basic !", "Negotiate x"] {
        assert_eq!(status(&server, &path, Some(garbage)), 401, "{garbage}");
        assert_eq!(status(&server, "/v2/token", Some(garbage)), 401, "{garbage}");
    }
    let log = server.log();
    let who = format!("system:serviceaccount:{}:puller", other.name);
    assert!(log.lines().any(|line| line.contains("pull refused") && line.contains(&who)), "{log}");
    assert!(!log.contains(&puller) && !log.contains(stranger.trim_start_matches("Bearer ")), "{log}");
}

fn some_namespaces_are_open_to_everybody(site: &Importing) {
    let (open, _) = with_stream(site, "app");
    let (closed, _) = with_stream(site, "app");
    let server = registry(&site.plane, &open, &["--anonymous-namespace", &format!("{}*", open.name)]);
    let path = |namespace: &Namespace| format!("/v2/{}/app/manifests/1", namespace.name);
    for authorization in [None, Some("Bearer anonymous"), Some("Bearer garbage")] {
        assert_eq!(status(&server, &path(&open), authorization), 200);
        assert_eq!(status(&server, &path(&closed), authorization), 401);
    }
    drop(server);
    let server = registry(&site.plane, &open, &["--allow-anonymous"]);
    assert_eq!((status(&server, "/v2/", None), status(&server, &path(&closed), None)), (200, 200));
}

/// Follows the challenge as all clients of containers/image do.
fn skopeo_pulls_with_a_token_and_without(site: &Importing) {
    let skopeo = Skopeo::new(&site.plane);
    let (open, _) = with_stream(site, "app");
    let (closed, digest) = with_stream(site, "app");
    let server = registry(&site.plane, &open, &["--anonymous-namespace", &open.name]);
    let puller = format!("any:{}", token(&closed, "puller", Some("app")));
    let pull = |image: &str, arguments: &[&str]| {
        let image = format!("127.0.0.1:{}/{image}", server.port);
        skopeo.pull(&image, &[&["--src-tls-verify=false"], arguments].concat())
    };
    let (by_tag, by_digest) = (format!("{}/app:1", closed.name), format!("{}/app@{digest}", closed.name));
    for image in [&by_tag, &by_digest] {
        pull(image, &["--src-creds", &puller]).unwrap();
    }
    pull(&format!("{}/app:1", open.name), &["--src-no-creds"]).unwrap();
    for arguments in [&["--src-no-creds"][..], &["--src-creds", "any:garbage"]] {
        pull(&by_tag, arguments).unwrap_err();
    }
}
