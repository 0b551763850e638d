//! Who may pull on a cluster: tokens of ServiceAccounts, rights, and namespaces that are open to everybody.

use std::path::PathBuf;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::blocking::{Client, Response};
use serde_json::{Value, json};

use crate::control_plane::{ControlPlane, Namespace};
use crate::importing::{Importing, Stream, manifest};
use crate::pinstream::Pinstream;
use crate::registry::{Content, Guard};

crate::tests![Importing: tokens_decide_who_may_pull, some_namespaces_are_open_to_everybody,
    skopeo_pulls_with_a_token_and_without];

/// `pinstream registry` with no more rights than it needs.
fn registry(plane: &ControlPlane, namespace: &Namespace, arguments: &[&str]) -> Pinstream {
    let name = plane.unique("registry");
    let resources = |group: &str, resources: &[&str], verbs: &[&str]| json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
    let rules = [
        resources("pinstream.dev", &["imagestreams"], &["list", "watch"]),
        resources("", &["secrets"], &["list"]),
        resources("authentication.k8s.io", &["tokenreviews"], &["create"]),
        resources("authorization.k8s.io", &["subjectaccessreviews"], &["create"]),
    ];
    let account = json!({"kind": "ServiceAccount", "name": name, "namespace": namespace.name});
    apply(
        namespace,
        &[
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace.name}}),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules}),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}, "subjects": [account]}),
        ],
    );
    let user = plane.service_account(&namespace.name, &name);
    let (kubeconfig, storage) = (user.kubeconfig().display().to_string(), plane.folder("kept").display().to_string());
    let fixed = ["registry", "--plain-http", "--kubeconfig", &kubeconfig, "--storage", &storage];
    Pinstream::start(plane, &[&fixed[..], arguments].concat(), &[])
}

fn apply(namespace: &Namespace, objects: &[Value]) {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    namespace.kubectl_with_stdin(&["apply", "--filename=-"], &list.to_string()).ok();
}

/// A ServiceAccount of a namespace with a token, which may pull `stream` of that namespace if one is named.
fn token(namespace: &Namespace, name: &str, stream: Option<&str>) -> String {
    let metadata = json!({"name": name, "namespace": namespace.name});
    let mut objects = vec![json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})];
    if let Some(stream) = stream {
        objects.push(json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata,
            "rules": [{"apiGroups": ["pinstream.dev"], "resources": ["imagestreams/layers"], "resourceNames": [stream], "verbs": ["get"]}]}));
        objects.push(json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace.name}]}));
    }
    apply(namespace, &objects);
    let path = format!("/api/v1/namespaces/{}/serviceaccounts/{name}/token", namespace.name);
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    namespace.post(&path, &request).ok()["status"]["token"].as_str().unwrap().to_owned()
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

/// Follows the challenge as all clients of containers/image do. Left out where skopeo is not installed.
fn skopeo_pulls_with_a_token_and_without(site: &Importing) {
    let Some(skopeo) = installed("skopeo") else {
        eprintln!("skopeo is not installed, pulling with it is left out");
        return;
    };
    let (open, _) = with_stream(site, "app");
    let (closed, digest) = with_stream(site, "app");
    let server = registry(&site.plane, &open, &["--anonymous-namespace", &open.name]);
    let puller = format!("any:{}", token(&closed, "puller", Some("app")));
    let pull = |image: &str, arguments: &[&str]| {
        let folder = site.plane.folder("pulled");
        let image = format!("docker://127.0.0.1:{}/{image}", server.port);
        let mut command = Command::new(&skopeo);
        command.args(["copy", "--insecure-policy", "--src-tls-verify=false"]).args(arguments);
        let output = command.arg(image).arg(format!("dir:{}", folder.display())).env("HOME", &folder).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (by_tag, by_digest) = (format!("{}/app:1", closed.name), format!("{}/app@{digest}", closed.name));
    for image in [&by_tag, &by_digest] {
        let (is_pulled, said) = pull(image, &["--src-creds", &puller]);
        assert!(is_pulled, "{said}");
    }
    let (is_pulled, said) = pull(&format!("{}/app:1", open.name), &["--src-no-creds"]);
    assert!(is_pulled, "{said}");
    for arguments in [&["--src-no-creds"][..], &["--src-creds", "any:garbage"]] {
        assert!(!pull(&by_tag, arguments).0);
    }
}

/// Where a program is that nobody need have.
fn installed(program: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| path.is_file())
}
