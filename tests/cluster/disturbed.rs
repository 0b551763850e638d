//! A control plane with everything of Pinstream on it, each process of which can be killed and started again, and load.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use reqwest::Method;
use reqwest::blocking::Client;
use serde_json::{Value, json};

use crate::control_plane::{ControlPlane, Namespace, Part};
use crate::importing::{history, manifest, named, streams_path};
use crate::monitored::{pod, pods_path};
use crate::pinstream::Pinstream;
use crate::random::Random;
use crate::record::{Answer, Pod, Record};
use crate::registry::{Content, Guard, Registry, digest};
use crate::release::install_custom_resource;
use crate::service::Service;
use crate::waiting::eventually_within;
use crate::webhook::{Webhook, by_url};

/// The tag of every stream.
pub const TAG: &str = "1";
/// Streams whose tags move.
const STREAMS: [&str; 3] = ["app-0", "app-1", "app-2"];
/// Deployments of each stream.
const DEPLOYMENTS: usize = 4;
/// Who creates Pods.
const CREATORS: usize = 2;
/// From one request of a client to its next.
const PACE: Duration = Duration::from_millis(30);
/// How long it may take until something works again.
const PATIENCE: Duration = Duration::from_mins(2);

/// A process that can be killed. Those that others need come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Victim {
    Plane(Part),
    Webhook(usize),
    Controller(usize),
    Registry,
}

impl Victim {
    pub const ALL: [Self; 8] = [
        Self::Plane(Part::Etcd),
        Self::Plane(Part::ApiServer),
        Self::Plane(Part::ControllerManager),
        Self::Webhook(0),
        Self::Webhook(1),
        Self::Controller(0),
        Self::Controller(1),
        Self::Registry,
    ];

    /// Each of them once, in any order.
    pub fn shuffled(random: &mut Random) -> [Self; 8] {
        let mut order = Self::ALL;
        for end in (1..order.len()).rev() {
            order.swap(end, random.index(end + 1));
        }
        order
    }

    pub fn any(random: &mut Random) -> Self {
        Self::ALL[random.index(Self::ALL.len())]
    }
}

/// A `pinstream`, unless it was killed.
struct Ours {
    arguments: Vec<String>,
    process: Mutex<Option<Pinstream>>,
}

/// Everything.
pub struct Disturbed<'p> {
    plane: &'p ControlPlane,
    pub namespace: Namespace,
    /// From where images are imported. It is not killed.
    upstream: Registry,
    webhooks: [Ours; 2],
    webhook: Service,
    controllers: [Ours; 2],
    pulled: Ours,
    registry: Service,
    _called: Webhook<'p>,
}

impl<'p> Disturbed<'p> {
    /// Starts it on a control plane of its own.
    pub fn start(plane: &'p ControlPlane) -> Self {
        install_custom_resource(plane);
        let (namespace, upstream) = (plane.namespace(), Registry::start(plane, Guard::Open));
        let folder = plane.folder("certificates");
        let mut certs = assert_cmd::Command::new(env!("CARGO_BIN_EXE_pinstream"));
        certs.args(["certs", "localhost", "--out"]).arg(&folder).assert().success();
        let file = |name: &str| folder.join(name).display().to_string();
        let (certificate, key) = (file("tls.crt"), file("tls.key"));
        let ours = |arguments: &[&str]| Ours::of(plane, arguments);
        let storage = plane.folder("storage").display().to_string();
        let webhook = Service::start();
        let called =
            Webhook::register_strict(plane, &namespace, by_url(webhook.port, "/mutate"), Path::new(&file("ca.crt")));
        let controller =
            |identity: &str| ours(&["controller", "--lease=default/importer", identity, "--registry-rate=0"]);
        let disturbed = Self {
            plane,
            namespace,
            upstream,
            webhooks: [(); 2].map(|()| ours(&["webhook", "--tls-cert", &certificate, "--tls-key", &key])),
            webhook,
            controllers: [controller("--identity=one"), controller("--identity=two")],
            pulled: ours(&["registry", "--allow-anonymous", "--plain-http", "--storage", &storage]),
            registry: Service::start(),
            _called: called,
        };
        for victim in Victim::ALL.into_iter().filter(|victim| !matches!(victim, Victim::Plane(_))) {
            disturbed.start_again(victim);
        }
        disturbed
    }

    pub fn kill(&self, victim: Victim) {
        match victim {
            Victim::Plane(part) => self.plane.kill(part),
            _ => drop(self.ours(victim).process.lock().unwrap().take()),
        }
    }

    /// Starts what was killed. Clients find it again.
    pub fn start_again(&self, victim: Victim) {
        match victim {
            Victim::Plane(part) => return self.plane.start_again(part),
            _ => self.ours(victim).start(self.plane),
        }
        self.webhook.lead_to(self.webhooks.iter().map(Ours::port).collect());
        self.registry.lead_to(vec![self.pulled.port()]);
    }

    /// Does what a kubelet would do for the programs of Kubernetes. Ours have to go on by themselves.
    pub fn keep_running(&self) {
        self.plane.keep_running(Part::ControllerManager);
    }

    fn ours(&self, victim: Victim) -> &Ours {
        match victim {
            Victim::Webhook(index) => &self.webhooks[index],
            Victim::Controller(index) => &self.controllers[index],
            _ => &self.pulled,
        }
    }

    /// Everything of ours is ready, and one controller leads.
    pub fn is_ready(&self) -> bool {
        let all = self.webhooks.iter().chain(&self.controllers).chain([&self.pulled]);
        let leaders = self.controllers.iter().filter(|ours| ours.metric("pinstream_leader") == Some(1.0)).count();
        all.into_iter().all(Ours::is_ready) && leaders == 1
    }

    /// Every stream has its first image, and Pods get it.
    pub fn begin(&self, record: &Record) {
        for stream in STREAMS {
            self.moves(record, stream, 0);
            let (path, pod) =
                (format!("{}?dryRun=All", pods_path(&self.namespace)), pod("any", &format!("{stream}:{TAG}")));
            eventually_within(PATIENCE, "Pods are pinned", || {
                self.ask(&Method::POST, &path, Some(&pod)).is_some_and(|(_, pod)| pod.to_string().contains("@sha256:"))
            });
        }
    }

    /// Creates Pods, moves tags and pulls until it is to end.
    pub fn load<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, record: &'scope Record) {
        for stream in STREAMS {
            scope.spawn(move || {
                let moves = (1..).take_while(|_| !record.end.load(Ordering::Relaxed));
                moves.for_each(|number| self.moves(record, stream, number));
            });
        }
        for creator in 0..CREATORS {
            scope.spawn(move || {
                again_and_again(record, |stream, number| {
                    self.create(record, stream, &format!("pod-{creator}-{number}"))
                });
            });
        }
        let client = Client::builder().no_proxy().build().unwrap();
        scope.spawn(move || again_and_again(record, |stream, _| self.pull(record, &client, stream)));
    }

    /// Moves the tag of a stream, and waits until the stream says so.
    fn moves(&self, record: &Record, stream: &str, number: usize) {
        let image = self.upstream.push(stream, TAG, &Content::image(&format!("{stream}-{number}")));
        record.is_pushed(stream, &image);
        let mut manifest = manifest(stream, &[self.upstream.spec_tag(TAG, &format!("{stream}:{TAG}"))]);
        // More than there will be.
        manifest["metadata"]["annotations"] =
            json!({"move": number.to_string(), "pinstream.dev/history-limit": "100000"});
        let path = streams_path(&self.namespace.name);
        let object = format!("{path}/{stream}");
        is_acknowledged("the stream is written", || match number {
            0 => self.ask(&Method::POST, &path, Some(&manifest)),
            _ => self.ask(&Method::PATCH, &object, Some(&manifest)),
        });
        eventually_within(PATIENCE, "the tag moves", || {
            let (_, found) = self.ask(&Method::GET, &object, None).ok_or("no answer")?;
            let found = history(&named(&found["status"]["tags"], "tag", TAG));
            if found.first() == Some(&image) { Ok(()) } else { Err("it has not") }
        });
        record.is_seen(stream);
        if number < DEPLOYMENTS {
            self.deploy(record, stream, &format!("deploy-{stream}-{number}"));
        }
    }

    fn deploy(&self, record: &Record, stream: &str, name: &str) {
        let template =
            json!({"metadata": {"labels": {"app": name}}, "spec": pod("", &format!("{stream}:{TAG}"))["spec"]});
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
            "spec": {"selector": {"matchLabels": {"app": name}}, "template": template}});
        let path = format!("/apis/apps/v1/namespaces/{}/deployments", self.namespace.name);
        is_acknowledged("the Deployment is written", || self.ask(&Method::POST, &path, Some(&deployment)));
        record.is_deployed(name.to_owned());
    }

    /// Creates a Pod, if it can be. It is the model that says whether its image is right.
    fn create(&self, record: &Record, stream: &str, name: &str) -> bool {
        let asked = Instant::now();
        let pod = pod(name, &format!("{stream}:{TAG}"));
        let Some((201, stored)) = self.ask(&Method::POST, &pods_path(&self.namespace), Some(&pod)) else {
            return false;
        };
        let answer =
            Answer { stream: stream.to_owned(), image: image(&stored).to_owned(), asked, answered: Instant::now() };
        record.is_created(Pod {
            name: name.to_owned(),
            uid: stored["metadata"]["uid"].as_str().unwrap().to_owned(),
            answer,
        });
        true
    }

    /// Pulls what the tag is, if that can be had.
    fn pull(&self, record: &Record, client: &Client, stream: &str) -> bool {
        let asked = Instant::now();
        let url =
            format!("http://127.0.0.1:{}/v2/{}/{stream}/manifests/{TAG}", self.registry.port, self.namespace.name);
        let answer = client.get(url).send().ok().filter(|answer| answer.status() == 200);
        let Some(manifest) = answer.and_then(|answer| answer.bytes().ok()) else { return false };
        let stream = stream.to_owned();
        record.is_pulled(Answer { stream, image: digest(&manifest), asked, answered: Instant::now() });
        true
    }

    /// Status and body of an answer, if there is one.
    pub fn ask(&self, method: &Method, path: &str, body: Option<&Value>) -> Option<(u16, Value)> {
        let answer = self.namespace.ask(method, path, body).ok()?;
        Some((answer.status, answer.body))
    }
}

/// Does something with one stream after the other. Pauses are the pace of the load, nothing is waited for.
fn again_and_again(record: &Record, act: impl Fn(&str, usize) -> bool) {
    for (number, stream) in STREAMS.iter().cycle().enumerate() {
        if record.end.load(Ordering::Relaxed) {
            return;
        }
        if !act(stream, number) {
            record.has_failed();
        }
        thread::sleep(PACE);
    }
}

/// Writes until that is acknowledged. A write that was not may have been made.
fn is_acknowledged(what: &str, write: impl Fn() -> Option<(u16, Value)>) {
    eventually_within(PATIENCE, what, || write().is_some_and(|(status, _)| matches!(status, 200 | 201 | 409)));
}

/// The digest in the image of a Pod's container, or the image if it has none.
pub fn image(pod: &Value) -> &str {
    let image = pod["spec"]["containers"][0]["image"].as_str().unwrap();
    image.split_once('@').map_or(image, |(_, digest)| digest)
}

impl Ours {
    /// One that reaches the API server as the administrator.
    fn of(plane: &ControlPlane, arguments: &[&str]) -> Self {
        let kubeconfig = format!("--kubeconfig={}", plane.admin().kubeconfig().display());
        let arguments = arguments.iter().copied().map(str::to_owned).chain([kubeconfig]).collect();
        Self { arguments, process: Mutex::default() }
    }

    fn start(&self, plane: &ControlPlane) {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        *self.process.lock().unwrap() = Some(Pinstream::start_alive(plane, &arguments, &[]));
    }

    /// Where it serves; a port that nobody listens on while it does not run.
    fn port(&self) -> u16 {
        self.process.lock().unwrap().as_ref().map_or(0, |process| process.port)
    }

    fn metric(&self, line: &str) -> Option<f64> {
        self.process.lock().unwrap().as_ref()?.metric(line)
    }

    fn is_ready(&self) -> bool {
        let process = self.process.lock().unwrap();
        process.as_ref().is_some_and(|process| process.admin("/readyz").0 == 200)
    }
}
