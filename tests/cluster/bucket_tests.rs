//! The registry over a bucket: replicas share what was pulled, parts of blobs are served, and garbage is found and deleted.

use std::path::Path;
use std::process::Command;

use reqwest::blocking::{Client, Response};
use serde_json::Value;

use crate::buckets::{Buckets, KEY, SECRET};
use crate::control_plane::{ControlPlane, Namespace};
use crate::importing::{Importing, Stream, manifest};
use crate::layout::Layout;
use crate::pinstream::Pinstream;
use crate::pulling::{Pulled, Skopeo, registry};
use crate::registry::{Guard, Registry};
use crate::waiting::eventually;

crate::tests![Importing: replicas_share_a_bucket_and_its_garbage_goes];

/// Where the images are kept.
const PLACE: &str = "s3://images/registry";
const ENVIRONMENT: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", SECRET)];

fn replica(plane: &ControlPlane, namespace: &Namespace, buckets: &Buckets) -> Pinstream {
    let spool = plane.folder("spool").display().to_string();
    let storage = ["--storage", PLACE, "--storage-endpoint", &buckets.endpoint, "--storage-allow-http"];
    let rest = ["--storage-spool", &spool, "--plain-http", "--allow-anonymous"];
    registry(plane, namespace, &[&storage[..], &rest].concat(), &ENVIRONMENT)
}

fn pull(plane: &ControlPlane, host: &str, image: &str) -> Result<Pulled, String> {
    Skopeo::new(plane).pull(&format!("{host}/{image}"), &["--all", "--src-tls-verify=false"])
}

/// Pushes a layout's index, and has it imported into a stream of the same name.
fn import(plane: &ControlPlane, namespace: &Namespace, source: &Registry, name: &str) {
    let layout = Layout::write(&plane.folder("layout"), name);
    let to = format!("docker://{}/{name}:1", source.host);
    Skopeo::new(plane).copy(&layout.index(), &to, &["--all", "--dest-tls-verify=false"]).unwrap();
    let stream = Stream::apply(namespace, &manifest(name, &[source.spec_tag("1", &format!("{name}:1"))]));
    eventually("the tag is imported", || stream.history("1").len() == 1);
}

/// What `pinstream registry gc` with these arguments prints for programs.
fn gc(kubeconfig: &Path, buckets: &Buckets, arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_pinstream"))
        .args(["registry", "gc", "--output=json", "--min-age=0s", "--storage", PLACE, "--storage-allow-http"])
        .args(["--storage-endpoint", &buckets.endpoint])
        .args(arguments)
        .env_clear()
        .envs(ENVIRONMENT)
        .env("PINSTREAM_KUBECONFIG", kubeconfig)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Each sort of range that there is, of a blob that is larger than one piece of a transfer.
fn parts_are_served(server: &Pinstream, path: &str, blob: &[u8]) {
    let client = Client::builder().no_proxy().build().unwrap();
    let get = |range: &str| -> Response {
        client.get(format!("http://127.0.0.1:{}/v2/{path}", server.port)).header("range", range).send().unwrap()
    };
    let size = blob.len();
    for (range, part) in [
        ("bytes=0-0", 0..1),
        ("bytes=1000-200999", 1000..201_000),
        ("bytes=150000-", 150_000..size),
        ("bytes=-7", size - 7..size),
    ] {
        let answer = get(range);
        let sent = format!("bytes {}-{}/{size}", part.start, part.end - 1);
        assert_eq!((answer.status().as_u16(), &answer.headers()["content-range"]), (206, &sent.parse().unwrap()));
        assert!(answer.bytes().unwrap() == blob[part], "{range}");
    }
    assert_eq!(get(&format!("bytes={size}-")).status().as_u16(), 416);
}

fn replicas_share_a_bucket_and_its_garbage_goes(site: &Importing) {
    let (plane, namespace) = (&site.plane, site.plane.namespace());
    let (buckets, source) = (Buckets::start(plane), Registry::start(plane, Guard::Open));
    for name in ["app", "other"] {
        import(plane, &namespace, &source, name);
    }
    let first = replica(plane, &namespace, &buckets);
    let pull_from = |server: &Pinstream, name: &str| {
        pull(plane, &format!("127.0.0.1:{}", server.port), &format!("{}/{name}:1", namespace.name))
    };
    let [app, other] = ["app", "other"].map(|name| {
        let expected = pull(plane, &source.host, &format!("{name}:1")).unwrap();
        assert!(pull_from(&first, name).unwrap() == expected);
        expected
    });
    source.stop();

    let second = replica(plane, &namespace, &buckets);
    assert!(pull_from(&second, "app").unwrap() == app && pull_from(&second, "other").unwrap() == other);
    let (digest, blob) = app.iter().max_by_key(|(_, content)| content.len()).unwrap();
    let path = format!("{}/app/blobs/sha256:{digest}", namespace.name);
    for server in [&first, &second] {
        parts_are_served(server, &path, blob);
    }

    let kubeconfig = plane.admin().kubeconfig();
    let count = |found: &Value| found["unreferred"]["objects"].as_u64().unwrap();
    assert_eq!(count(&gc(kubeconfig, &buckets, &[])), 0);
    namespace.kubectl(&["delete", "imagestream", "other"]).ok();
    // An index, and of each of two images a manifest, a configuration and two layers, of which one is the same.
    assert_eq!(count(&gc(kubeconfig, &buckets, &[])), 8);
    assert_eq!(count(&gc(kubeconfig, &buckets, &["--delete"])), 8);
    assert_eq!(count(&gc(kubeconfig, &buckets, &[])), 0);
    assert!(pull_from(&second, "app").unwrap() == app);
    assert!(pull_from(&replica(plane, &namespace, &buckets), "app").unwrap() == app);
    assert!(pull_from(&second, "other").is_err());
}
