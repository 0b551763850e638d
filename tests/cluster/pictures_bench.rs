//! The pictures of `docs/monitoring.md`: ten minutes of a cluster that gets better and has its accidents, drawn from what
//! a real Prometheus saw of it.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use reqwest::Method;
use reqwest::blocking::Client;
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use crate::control_plane::{ControlPlane, Namespace};
use crate::importing::{Stream, manifest};
use crate::monitored::{Monitored, pod, pods_path};
use crate::pinstream::Pinstream;
use crate::prometheus;
use crate::pulling::{self, token};
use crate::random::Random;
use crate::registry::Content;
use crate::release::install_custom_resource;

/// How long it lasts, in seconds.
const LENGTH: u64 = 600;
/// When the registry of the images is down.
const OUTAGE: (u64, u64) = (240, 300);
/// When the webhook does not answer.
const HALT: (u64, u64) = (400, 425);
/// When somebody begins to send reviews that cannot be read.
const NOISE: u64 = 450;
/// Namespaces, their level at first, and when they go on to the next.
const TEAMS: [(&str, &str, u64); 8] = [
    ("payments", "enforce", LENGTH),
    ("search", "warn", 200),
    ("web", "warn", 330),
    ("mobile", "audit", 150),
    ("data", "audit", 220),
    ("tools", "audit", 380),
    ("lab", "audit", LENGTH),
    ("legacy", "audit", LENGTH),
];
/// A review with a uid, which has to be answered, and nothing else as it should be.
const NO_REVIEW: &str =
    r#"{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": "1", "kind": "Pod"}}"#;
/// Pods of each team.
const PODS: usize = 12;
/// How often a team has a new image, in seconds.
const RELEASES: u64 = 80;
/// Layers that are pulled, more than there is room for.
const LAYERS: usize = 12;
const LAYER: usize = 3 << 20;

/// What the script is played with.
struct Script<'s> {
    site: &'s Monitored<'s>,
    teams: Vec<Team>,
    puller: &'s Pinstream,
    /// Paths below the puller's `/v2/`, and who may ask for them.
    content: Vec<String>,
    tokens: [Option<String>; 3],
    client: Client,
    random: Random,
    is_registry_down: bool,
    is_webhook_halted: bool,
}

struct Team {
    namespace: Namespace,
    /// Its Pods, the oldest first.
    pods: Vec<String>,
    /// How many Pods it has made.
    made: usize,
    releases: u64,
    is_raised: bool,
}

/// Plays the script, and has the pictures drawn. Needs Prometheus, and Python with matplotlib and Pillow.
pub fn pictures(plane: &ControlPlane) {
    let program = prometheus::program().expect("Prometheus is installed");
    install_custom_resource(plane);
    let store = plane.namespace();
    let storage = plane.folder("kept").display().to_string();
    let arguments = ["--plain-http", "--storage", &storage, "--storage-budget=24MiB", "--storage-evict-needed"];
    let puller = pulling::registry(plane, &store, &arguments, &[]);
    let site = Monitored::start(plane, &program, "2s", &[("pinstream-registry", puller.admin_port)]);
    let mut script = Script::new(&site, &store, &puller);
    let began = Instant::now();
    while let second @ 0..LENGTH = began.elapsed().as_secs() {
        script.accidents(second);
        script.work(second);
        script.pull(second);
        let next = began + Duration::from_secs(second + 1);
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    let (folder, minutes) = (Path::new(env!("CARGO_MANIFEST_DIR")), began.elapsed().as_secs() / 60);
    let mut draw = Command::new("python3");
    draw.arg(folder.join("docs/images/draw.py")).args([&site.prometheus.address, &minutes.to_string()]);
    assert!(draw.status().unwrap().success());
}

impl<'s> Script<'s> {
    fn new(site: &'s Monitored<'s>, store: &Namespace, puller: &'s Pinstream) -> Self {
        let mut random = Random::new();
        let teams = TEAMS.iter().map(|(name, level, _)| Team::new(site, name, level)).collect();
        let layers: Vec<_> = (0..LAYERS).map(|_| random.bytes(LAYER)).collect();
        let image = site.registry.push_layers("store", &layers);
        let tag = site.registry.spec_tag("1", &format!("store@{image}"));
        Stream::apply(store, &manifest("store", &[tag])).has_history("1", &[&image]);
        let digests = layers.iter().map(|layer| format!("blobs/{}", crate::registry::digest(layer)));
        let content = [format!("manifests/{image}")].into_iter().chain(digests);
        let content = content.map(|path| format!("{}/store/{path}", store.name)).collect();
        let tokens = [Some(token(store, "puller", Some("store"))), Some(token(store, "stranger", None)), None];
        let client = Client::builder().no_proxy().tls_danger_accept_invalid_certs(true).build().unwrap();
        let (is_registry_down, is_webhook_halted) = (false, false);
        Self { site, teams, puller, content, tokens, client, random, is_registry_down, is_webhook_halted }
    }

    /// What happens to the processes.
    fn accidents(&mut self, second: u64) {
        let (down, halted) = (is_between(OUTAGE, second), is_between(HALT, second));
        if down != self.is_registry_down {
            if down { self.site.registry.stop() } else { self.site.registry.start_again() }
        }
        if halted != self.is_webhook_halted {
            let signal = if halted { Signal::STOP } else { Signal::CONT };
            kill_process(self.site.webhook.id(), signal).unwrap();
        }
        (self.is_registry_down, self.is_webhook_halted) = (down, halted);
        if second > NOISE && self.random.below(4) == 0 {
            let url = format!("https://localhost:{}/mutate", self.site.webhook.port);
            self.client.post(url).header("content-type", "application/json").body(NO_REVIEW).send().unwrap();
        }
        if self.random.below(12) == 0 && !self.is_webhook_halted {
            // Plain HTTP is no handshake.
            let _ = self.client.get(format!("http://localhost:{}/", self.site.webhook.port)).send();
        }
    }

    /// What the teams do: one replaces a Pod, all try things out.
    fn work(&mut self, second: u64) {
        for (number, (team, (_, level, raised))) in self.teams.iter_mut().zip(TEAMS).enumerate() {
            // By turns.
            let due = 1 + (second + 10 * number as u64) / RELEASES;
            if !self.is_registry_down && team.releases < due {
                team.release(self.site);
            }
            if !self.is_registry_down && !team.is_raised && second >= raised {
                team.raise(self.site, level);
            }
        }
        let number = usize::try_from(second).unwrap() % TEAMS.len();
        let image = self.image(number, second);
        self.teams[number].replace_pod(&image);
        // Every three minutes there is a wave.
        let wave = if self.is_webhook_halted { 0 } else { 2 + 10_u64.saturating_sub((second % 180).abs_diff(90) / 4) };
        for _ in 0..wave {
            let number = usize::try_from(self.random.below(TEAMS.len() as u64)).unwrap();
            let image = self.image(number, second);
            let kind = self.random.below(4);
            self.teams[number].try_out(kind, &image);
        }
    }

    /// An image as the team writes it: more and more often one that can be pinned. The last teams are the slowest.
    fn image(&mut self, team: usize, second: u64) -> String {
        let slowness = 3 + 2 * team as u64;
        let chance = 20 + 200 * second / (slowness * LENGTH / 5);
        match (self.random.below(100) < chance, self.random.below(10)) {
            (true, 0) => format!("{}/{}@sha256:{:064x}", self.site.registry.host, TEAMS[team].0, second),
            (true, _) => "app:1".to_owned(),
            (false, 0 | 1) => "registry.example/base:3".to_owned(),
            (false, 2 | 3) => "sidecar:1".to_owned(),
            (false, _) => format!("registry.example/{}:latest", TEAMS[team].0),
        }
    }

    /// Clients of the registry of the streams.
    fn pull(&mut self, second: u64) {
        for _ in 0..=second % 180 / 60 {
            let who = [0, 0, 0, 0, 0, 0, 1, 2][usize::try_from(self.random.below(8)).unwrap()];
            let path = &self.content[usize::try_from(self.random.below(self.content.len() as u64)).unwrap()];
            let mut request = self.client.get(format!("http://127.0.0.1:{}/v2/{path}", self.puller.port));
            if let Some(token) = &self.tokens[who] {
                request = request.bearer_auth(token);
            }
            // Refused, or broken off while the registry behind it is down.
            let _ = request.send().and_then(reqwest::blocking::Response::bytes);
        }
    }
}

fn is_between((from, to): (u64, u64), second: u64) -> bool {
    (from..to).contains(&second)
}

impl Team {
    /// A namespace with three streams, of which it uses one, and with Pods that are pinned nowhere.
    fn new(site: &Monitored, name: &str, level: &str) -> Self {
        let namespace = site.namespace(name, "audit");
        let mut team = Self { namespace, pods: Vec::new(), made: 0, releases: 0, is_raised: false };
        team.release(site);
        let tag = |name: &str, image: &str| {
            let mut tag = site.registry.spec_tag(name, image);
            tag["importPolicy"]["scheduled"] = true.into();
            tag
        };
        let tags = [tag("1", &format!("{name}:1")), tag("next", &format!("{name}:next"))];
        Stream::apply(&team.namespace, &manifest("app", &tags));
        for unused in ["spare", "former"] {
            Stream::apply(&team.namespace, &manifest(unused, &[]));
        }
        for _ in 0..PODS {
            team.add_pod(&format!("registry.example/{name}:latest"));
        }
        team.label(level);
        team
    }

    fn label(&self, level: &str) {
        let labels = json!({"metadata": {"labels": {"pinstream.dev/policy": level}}});
        let path = format!("/api/v1/namespaces/{}", self.namespace.name);
        self.namespace.ask(&Method::PATCH, &path, Some(&labels)).unwrap().ok();
    }

    /// Goes on to the next level; by then the image that was missing is there too.
    fn raise(&mut self, site: &Monitored, level: &str) {
        self.is_raised = true;
        self.label(if level == "audit" { "warn" } else { "enforce" });
        site.registry.push(&self.namespace.name, "next", &Content::image("next"));
    }

    /// Has a new image.
    fn release(&mut self, site: &Monitored) {
        self.releases += 1;
        let content = Content::image(&format!("{} {}", self.namespace.name, self.releases));
        site.registry.push(&self.namespace.name, "1", &content);
    }

    /// Makes a Pod, unless it is refused.
    fn add_pod(&mut self, image: &str) -> bool {
        self.made += 1;
        let name = format!("pod-{}", self.made);
        let is_made = self.namespace.post(&pods_path(&self.namespace), &pod(&name, image)).status == 201;
        if is_made {
            self.pods.push(name);
        }
        is_made
    }

    /// Puts a new Pod in the place of its oldest, unless it is refused.
    fn replace_pod(&mut self, image: &str) {
        if self.add_pod(image) {
            let path = format!("{}/{}?gracePeriodSeconds=0", pods_path(&self.namespace), self.pods.remove(0));
            self.namespace.ask(&Method::DELETE, &path, None).unwrap().ok();
        }
    }

    /// Has an object admitted that is not stored.
    fn try_out(&self, kind: u64, image: &str) {
        let name = &self.namespace.name;
        let pod = pod("tried", image);
        let template = json!({"metadata": {"labels": {"app": "tried"}}, "spec": pod["spec"]});
        let (path, object): (String, Value) = match kind {
            0 => {
                let spec = json!({"selector": {"matchLabels": {"app": "tried"}}, "template": template});
                let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "tried"},
                    "spec": spec});
                (format!("/apis/apps/v1/namespaces/{name}/deployments"), object)
            }
            1 => {
                let mut job = json!({"spec": {"template": template}});
                job["spec"]["template"]["spec"]["restartPolicy"] = "Never".into();
                let object = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "tried"},
                    "spec": {"schedule": "@daily", "jobTemplate": job}});
                (format!("/apis/batch/v1/namespaces/{name}/cronjobs"), object)
            }
            _ => (pods_path(&self.namespace), pod),
        };
        let answer = self.namespace.post(&format!("{path}?dryRun=All"), &object);
        assert!([201, 403].contains(&answer.status), "{}", answer.body);
    }
}
