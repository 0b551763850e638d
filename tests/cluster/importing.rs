//! A control plane on which a controller imports from registries of every sort, shared by tests of importing, and the
//! image streams of such tests.

use std::path::PathBuf;
use std::thread;

use reqwest::Method;
use serde_json::{Value, json};

use crate::control_plane::{ControlPlane, Namespace};
use crate::pinstream::Pinstream;
use crate::registry::{Guard, Registry};
use crate::release::install_custom_resource;
use crate::tools::Tools;
use crate::user::{Answer, User};
use crate::waiting::eventually;
use crate::webhook::{Webhook, by_url};

/// The shortest interval there is, so that a scheduled import is not waited for longer than it must.
const INTERVAL: &str = "--import-interval=1m";

/// How many do what there is to prepare.
const HANDS: u32 = 4;

/// A control plane with registries, a controller and a webhook server. A controller imports the streams of all
/// namespaces, so that it cannot run on the control plane that other tests share.
pub struct Importing {
    registries: [Registry; 4],
    _controller: Pinstream,
    webhook: Pinstream,
    webhook_ca: PathBuf,
    pub plane: ControlPlane,
}

impl Importing {
    /// Starts it.
    pub fn start(tools: &Tools) -> Result<Self, String> {
        let plane = ControlPlane::start(tools)?;
        install_custom_resource(&plane);
        let registries = [Guard::Open, Guard::Tls, Guard::Password, Guard::Token];
        let registries = registries.map(|guard| Registry::start(&plane, guard));
        let cas = registries.iter().filter_map(|registry| Some((&registry.host, registry.ca.as_ref()?)));
        let cas: Vec<_> = cas.map(|(host, ca)| format!("--registry-ca={host}={}", ca.display())).collect();
        let arguments: Vec<&str> = cas.iter().map(String::as_str).chain([INTERVAL]).collect();
        let controller = controller(&plane, &arguments);
        let (webhook, webhook_ca) = webhook_server(&plane, &[]);
        Ok(Self { registries, _controller: controller, webhook, webhook_ca, plane })
    }

    /// The registry that is guarded so.
    pub fn registry(&self, guard: Guard) -> &Registry {
        self.registries.iter().find(|registry| registry.guard == guard).unwrap()
    }

    /// Has workloads of a namespace pinned while the webhook lives.
    pub fn pin(&self, namespace: &Namespace) -> Webhook<'_> {
        Webhook::register(&self.plane, namespace, by_url(self.webhook.port, "/mutate"), &self.webhook_ca)
    }
}

/// `pinstream controller` as the administrator of a control plane, at full speed.
pub fn controller(plane: &ControlPlane, arguments: &[&str]) -> Pinstream {
    let kubeconfig = plane.admin().kubeconfig().display().to_string();
    let fixed = ["controller", "--kubeconfig", &kubeconfig, "--registry-rate=0"];
    Pinstream::start(plane, &[&fixed[..], arguments].concat(), &[])
}

/// `pinstream webhook` as the administrator of a control plane, and the CA of its certificate.
pub fn webhook_server(plane: &ControlPlane, arguments: &[&str]) -> (Pinstream, PathBuf) {
    let certificates = plane.folder("certificates");
    let mut certs = assert_cmd::Command::new(env!("CARGO_BIN_EXE_pinstream"));
    certs.args(["certs", "localhost", "--out"]).arg(&certificates).assert().success();
    let file = |name: &str| certificates.join(name).display().to_string();
    let environment = [
        ("PINSTREAM_KUBECONFIG", &*plane.admin().kubeconfig().display().to_string()),
        ("PINSTREAM_TLS_CERT", &file("tls.crt")),
        ("PINSTREAM_TLS_KEY", &file("tls.key")),
    ];
    (Pinstream::start(plane, &[&["webhook"], arguments].concat(), &environment), certificates.join("ca.crt"))
}

/// An image stream with local look-up, its tags as given.
pub fn manifest(name: &str, tags: &[Value]) -> Value {
    json!({"apiVersion": "pinstream.dev/v1", "kind": "ImageStream", "metadata": {"name": name},
        "spec": {"lookupPolicy": {"local": true}, "tags": tags}})
}

/// Path of the image streams of a namespace.
pub fn streams_path(namespace: &str) -> String {
    format!("/apis/pinstream.dev/v1/namespaces/{namespace}/imagestreams")
}

/// What is known of an image, if anything is.
pub fn image(user: &User, digest: &str) -> Option<Value> {
    let path = format!("/apis/pinstream.dev/v1/images/{}", digest.replace(':', "-"));
    let Answer { status, body } = user.ask(&Method::GET, &path, None).unwrap();
    (status == 200).then_some(body)
}

/// An image stream of a test.
pub struct Stream<'n> {
    namespace: &'n Namespace,
    name: String,
}

impl<'n> Stream<'n> {
    /// Has kubectl apply a manifest, new or changed.
    pub fn apply(namespace: &'n Namespace, manifest: &Value) -> Self {
        namespace.kubectl_with_stdin(&["apply", "--filename=-"], &manifest.to_string()).ok();
        Self { namespace, name: manifest["metadata"]["name"].as_str().unwrap().to_owned() }
    }

    /// Writes a manifest, new or changed, without kubectl's time to start.
    pub fn write(namespace: &'n Namespace, manifest: &Value) -> Self {
        let name = manifest["metadata"]["name"].as_str().unwrap().to_owned();
        let path = streams_path(&namespace.name);
        if namespace.ask(&Method::PATCH, &format!("{path}/{name}"), Some(manifest)).unwrap().status == 404 {
            namespace.post(&path, manifest).ok();
        }
        Self { namespace, name }
    }

    /// The whole object.
    pub fn read(&self) -> Value {
        let path = format!("{}/{}", streams_path(&self.namespace.name), self.name);
        self.namespace.ask(&Method::GET, &path, None).unwrap().ok()
    }

    /// The entry of a tag in the status; null if there is none.
    pub fn status(&self, tag: &str) -> Value {
        named(&self.read()["status"]["tags"], "tag", tag)
    }

    /// The images in the history of a tag, newest first.
    pub fn history(&self, tag: &str) -> Vec<String> {
        history(&self.status(tag))
    }

    /// Waits until the history of a tag is this.
    pub fn has_history(&self, tag: &str, expected: &[&str]) {
        eventually(&format!("tag {tag} of {} has the history {expected:?}", self.name), || {
            let status = self.status(tag);
            if history(&status) == expected { Ok(()) } else { Err(status) }
        });
    }

    /// Waits until the newest import of a tag failed, and gives the condition that says so.
    pub fn fails(&self, tag: &str) -> Value {
        eventually(&format!("the import of tag {tag} of {} fails", self.name), || {
            let status = self.status(tag);
            let condition = named(&status["conditions"], "type", "ImportSuccess");
            if condition["status"] == "False" { Ok(condition) } else { Err(status) }
        })
    }

    /// Asks for a tag to be imported once more, as users do: its generation is set to 0.
    pub fn import_again(&self, tag: &str) {
        let tags = &self.read()["spec"]["tags"];
        let index = tags.as_array().unwrap().iter().position(|found| found["name"] == tag).unwrap();
        let patch = json!([{"op": "add", "path": format!("/spec/tags/{index}/generation"), "value": 0}]);
        let patch = format!("--patch={patch}");
        self.namespace.kubectl(&["patch", "imagestream", &self.name, "--type=json", &patch]).ok();
    }

    /// Reason and message of the stream's events, oldest first.
    pub fn events(&self) -> Vec<(String, String)> {
        let selector = format!("--field-selector=involvedObject.kind=ImageStream,involvedObject.name={}", self.name);
        let events = self.namespace.get(&["events", &selector, "--sort-by=.firstTimestamp"]);
        let text = |event: &Value, field: &str| event[field].as_str().unwrap().to_owned();
        let events = events["items"].as_array().unwrap().iter();
        events.map(|event| (text(event, "reason"), text(event, "message"))).collect()
    }
}

/// The images of a tag's entry in the status, newest first.
pub fn history(status: &Value) -> Vec<String> {
    let items = status["items"].as_array().into_iter().flatten();
    items.map(|item| item["image"].as_str().unwrap().to_owned()).collect()
}

/// The element of a list whose field has that value; null if there is none.
pub fn named(list: &Value, field: &str, value: &str) -> Value {
    let mut elements = list.as_array().into_iter().flatten();
    elements.find(|element| element[field] == value).cloned().unwrap_or_default()
}

/// Does something for each number, several at a time.
pub fn in_parallel(count: u32, work: impl Fn(u32) + Sync) {
    thread::scope(|scope| {
        for hand in 0..HANDS {
            let work = &work;
            scope.spawn(move || (0..count).filter(|number| number % HANDS == hand).for_each(work));
        }
    });
}
