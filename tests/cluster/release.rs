//! A Helm release of the chart, running: installed by Helm, its Pods run by a [`Node`], called through its Service.

use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::control_plane::{ControlPlane, Namespace};
use crate::node::{Node, Seen};
use crate::service::Service;
use crate::user::{Output, User};
use crate::waiting::eventually;

/// The chart.
const CHART: &str = "charts/pinstream";
/// Namespaces with this label are those that a release is for.
const LABEL: &str = "for-release";

/// A release. Dropping it takes it away.
pub struct Release<'plane> {
    plane: &'plane ControlPlane,
    /// Name of the release and of most of its objects.
    pub name: String,
    /// Where it is installed.
    pub namespace: Namespace,
    /// How the API server reaches it.
    pub service: Service,
    /// How its registry is reached, if it has one: as `localhost` with this port.
    pub registry: Service,
    node: Node,
    values: PathBuf,
}

/// How the API server reaches a release.
#[derive(Clone, Copy, PartialEq)]
pub enum Reach {
    /// By the Service of the chart. After the installation, that is made to lead to this machine.
    Service,
    /// By a URL in the values.
    Url,
}

impl<'plane> Release<'plane> {
    /// Installs the chart with these values, for the namespaces of [`Release::user_namespace`] only, and waits until
    /// Helm says that it is there.
    pub fn install(plane: &'plane ControlPlane, reach: Reach, values: &Value) -> Self {
        Self::install_prepared(plane, reach, values, |_| ())
    }

    /// Like [`Release::install`], in a namespace that was prepared.
    pub fn install_prepared(
        plane: &'plane ControlPlane,
        reach: Reach,
        values: &Value,
        prepare: impl FnOnce(&Namespace),
    ) -> Self {
        if values["crds"]["install"] != true {
            install_custom_resource(plane);
        }
        let namespace = plane.namespace_with_labels(&json!({"pod-security.kubernetes.io/enforce": "restricted"}));
        prepare(&namespace);
        let name = plane.unique("pinstream");
        let (service, registry) = (Service::start(), Service::start());
        let selector = format!("app.kubernetes.io/instance={name}");
        let node = Node::start(
            plane,
            &namespace.name,
            &selector,
            &[("webhook", service.clone()), ("registry", registry.clone())],
        );
        let file = plane.folder("release").join("values.yaml");
        let mut all = json!({
            "crds": {"install": false}, "rbac": {"aggregateRoles": false}, "fullnameOverride": name,
            "service": {"port": service.port}, "webhook": {"namespaceSelector": {"matchLabels": {LABEL: name}},
                "imageStreams": {"namespaceSelector": {"matchLabels": {LABEL: name}}}},
            // It would import the streams of every test.
            "controller": {"enabled": false, "registries": {"allowAddresses": ["127.0.0.0/8"]}},
        });
        if reach == Reach::Url {
            all["webhook"]["url"] = format!("https://localhost:{}", service.port).into();
        }
        if values["registry"]["enabled"] == true {
            all["registry"]["host"] = format!("localhost:{}", registry.port).into();
        }
        merge(&mut all, values);
        fs::write(&file, all.to_string()).unwrap();
        let release = Self { plane, name, namespace, service, registry, node, values: file };
        release.helm("install", &["--wait", "--timeout=90s"]).ok();
        if reach == Reach::Service {
            release.lead_service_here();
        }
        release
    }

    /// Runs `helm VERB NAME CHART` with the values, and more arguments.
    pub fn helm(&self, verb: &str, arguments: &[&str]) -> Output {
        let values = format!("--values={}", self.values.display());
        self.namespace.helm(&[&[verb, &self.name, CHART, &values], arguments].concat())
    }

    /// What its processes did.
    pub fn seen(&self) -> &Seen {
        self.node.seen()
    }

    /// A namespace that the release is for, with more labels; the streams of the examples are in it.
    pub fn user_namespace(&self, labels: &Value) -> Namespace {
        let namespace = self.empty_namespace(labels);
        Self::add_streams(&namespace);
        namespace
    }

    /// The same without streams.
    pub fn empty_namespace(&self, labels: &Value) -> Namespace {
        let mut all = json!({LABEL: self.name});
        merge(&mut all, labels);
        self.plane.namespace_with_labels(&all)
    }

    /// Adds the streams of the examples to a namespace.
    pub fn add_streams(namespace: &User) {
        let streams = example_streams();
        let apply = ["apply", "--server-side", "--filename=-"];
        namespace.kubectl_with_stdin(&apply, &streams).ok();
        namespace.kubectl_with_stdin(&[&apply[..], &["--subresource=status"]].concat(), &streams).ok();
    }

    /// A user namespace in which Pods are pinned already.
    pub fn working_namespace(&self, labels: &Value) -> Namespace {
        let namespace = self.user_namespace(labels);
        eventually("Pods are pinned", || image_of_pod(&namespace, "keycloak:20.0") == PINNED);
        namespace
    }

    /// What each webhook of the release is trusted by, PEM.
    pub fn bundles(&self) -> Vec<String> {
        let kinds = "mutatingwebhookconfigurations,validatingwebhookconfigurations";
        let selector = format!("--selector=app.kubernetes.io/instance={}", self.name);
        let configurations = self.plane.admin().get(&[kinds, &selector])["items"].clone();
        let configurations = configurations.as_array().unwrap().iter();
        let webhooks = configurations.flat_map(|configuration| configuration["webhooks"].as_array().unwrap());
        let text = |encoded: &str| String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap();
        webhooks.map(|webhook| webhook["clientConfig"]["caBundle"].as_str().map(text).unwrap_or_default()).collect()
    }

    /// What the first webhook is trusted by.
    pub fn bundle(&self) -> String {
        self.bundles().remove(0)
    }

    /// There is no network of a cluster, so the Service is made one that leads to this machine; name, port and the
    /// certificate's name stay those of the chart.
    fn lead_service_here(&self) {
        let patch = json!({"spec": {"type": "ExternalName", "externalName": "localhost", "clusterIP": "",
            "clusterIPs": null, "selector": null}});
        self.namespace.kubectl(&["patch", "service", &self.name, "--type=merge", &format!("--patch={patch}")]).ok();
    }
}

impl Drop for Release<'_> {
    fn drop(&mut self) {
        let _ = self.namespace.helm(&["uninstall", &self.name, "--ignore-not-found"]);
    }
}

/// The image of the example stream `keycloak:20.0`.
pub const PINNED: &str =
    "quay.io/keycloak/keycloak@sha256:54eda51e10f7a1b6e4b8d8c1e8f7b2c25d9c7d8e0b2f5f6d3c4a1b0e9f8d7c6b";

/// The image that a new Pod would get.
pub fn image_of_pod(user: &User, image: &str) -> String {
    let image = format!("--image={image}");
    user.kubectl(&["run", "dry", &image, "--dry-run=server", "--output=jsonpath={.spec.containers[0].image}"]).ok()
}

/// The streams of `examples/`, as custom resources of whatever namespace they are applied to.
fn example_streams() -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/streams");
    // Whoever served them has a folder beside them.
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let texts: Vec<String> = files.map(|path| fs::read_to_string(path).unwrap()).collect();
    texts.join("\n---\n").replace("image.openshift.io/v1", "pinstream.dev/v1").replace("  namespace: demo\n", "")
}

/// Installs the custom resources, as `pinstream crd` prints them.
pub fn install_custom_resource(plane: &ControlPlane) {
    let printed = assert_cmd::Command::new(env!("CARGO_BIN_EXE_pinstream")).arg("crd").assert().success();
    let manifest = String::from_utf8(printed.get_output().stdout.clone()).unwrap();
    let admin = plane.admin();
    admin.kubectl_with_stdin(&["apply", "--server-side", "--force-conflicts", "--filename=-"], &manifest).ok();
    let both = ["crd/imagestreams.pinstream.dev", "crd/images.pinstream.dev"];
    admin.kubectl(&[&["wait", "--for=condition=Established"], &both[..]].concat()).ok();
}

/// Adds values; objects are merged, anything else is replaced.
fn merge(all: &mut Value, values: &Value) {
    match (all, values) {
        (Value::Object(all), Value::Object(values)) => {
            for (key, value) in values {
                merge(all.entry(key).or_insert(Value::Null), value);
            }
        }
        (all, values) => *all = values.clone(),
    }
}
