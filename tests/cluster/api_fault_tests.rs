//! That the webhook and the controller stand every fault of the API server: the last streams answer while it lasts, and
//! what changed meanwhile takes effect after it without a restart, each image once.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use reqwest::Method;

use crate::control_plane::{ControlPlane, Namespace};
use crate::faults::{Fault, Way};
use crate::importing::{Stream, in_parallel, manifest, streams_path};
use crate::monitored::{pod, pods_path};
use crate::pinstream::Pinstream;
use crate::registry::{Content, Guard, Registry};
use crate::release::install_custom_resource;
use crate::user::User;
use crate::waiting::eventually;
use crate::webhook::{Webhook, by_url};

crate::tests![
    every_fault_of_the_api_server_passes_without_a_restart,
    silent_connections_and_a_cut_wire_pass_without_a_restart,
];

/// So many streams that lists have a second page.
const STREAMS: u32 = 110;
/// Watches of each process: of streams, and of Pods or the levels of namespaces.
const WATCHES: usize = 2;
/// Pods that are created while there is a fault, at least.
const PODS: usize = 20;

fn every_fault_of_the_api_server_passes_without_a_restart(plane: &ControlPlane) {
    let plane = plane.another();
    let site = Site::start(&plane);
    let faults = [
        Fault::Slow(Duration::from_secs(1)),
        Fault::Refuses(500),
        Fault::Busy,
        Fault::Refuses(410),
        Fault::Forgets,
        Fault::EndsWatches,
        Fault::ExpiresWatches,
    ];
    site.run(&faults.map(|fault| Trouble {
        name: format!("{fault:?}"),
        begins: Box::new(move |way: &Way| way.has(Some(fault))),
        is_met: |way, _| way.met() >= 3,
        ends: Box::new(|way: &Way| way.has(None)),
    }));
}

fn silent_connections_and_a_cut_wire_pass_without_a_restart(plane: &ControlPlane) {
    let plane = plane.another();
    let site = Site::start(&plane);
    site.run(&[
        Trouble {
            name: "connections that are forgotten".to_owned(),
            begins: Box::new(|way| way.wire.forget()),
            is_met: |_, given_up| given_up >= WATCHES,
            ends: Box::new(|_| ()),
        },
        Trouble {
            name: "a wire that is cut".to_owned(),
            begins: Box::new(|way| way.wire.cut()),
            is_met: |_, given_up| given_up >= WATCHES,
            ends: Box::new(|way| way.wire.heal()),
        },
    ]);
}

/// Something that goes wrong for a while.
struct Trouble {
    name: String,
    begins: Box<dyn Fn(&Way)>,
    /// A process has met it, by its way and how many watches it gave up since.
    is_met: fn(&Way, usize) -> bool,
    ends: Box<dyn Fn(&Way)>,
}

/// A webhook and a controller, each with a way to the API server of its own, and a namespace whose Pods are pinned.
struct Site<'p> {
    registry: Registry,
    namespace: Namespace,
    ways: [Way; 2],
    webhook: Pinstream,
    controller: Pinstream,
    _called: Webhook<'p>,
}

impl<'p> Site<'p> {
    fn start(plane: &'p ControlPlane) -> Self {
        install_custom_resource(plane);
        let (registry, namespace) = (Registry::start(plane, Guard::Open), plane.namespace());
        in_parallel(STREAMS, |number| {
            let stream = manifest(&format!("other-{number}"), &[]);
            namespace.post(&streams_path(&namespace.name), &stream).ok();
        });
        let administrator = administrator(plane, &namespace);
        let ways = [(); 2].map(|()| Way::of(plane, &administrator));
        let [to_webhook, to_controller] = ways.each_ref().map(|way| way.kubeconfig.display().to_string());
        let certificates = plane.folder("certificates");
        let mut certs = assert_cmd::Command::new(env!("CARGO_BIN_EXE_pinstream"));
        certs.args(["certs", "localhost", "--out"]).arg(&certificates).assert().success();
        let [certificate, key] = ["tls.crt", "tls.key"].map(|name| certificates.join(name).display().to_string());
        let timeout = "--watch-timeout=5s";
        let webhook = ["webhook", "--kubeconfig", &to_webhook, timeout, "--tls-cert", &certificate, "--tls-key", &key];
        let webhook = Pinstream::start(plane, &webhook, &[]);
        let controller = ["controller", "--kubeconfig", &to_controller, timeout, "--registry-rate=0"];
        let controller = Pinstream::start(plane, &controller, &[]);
        let client = by_url(webhook.port, "/mutate");
        let called = Webhook::register(plane, &namespace, client, &certificates.join("ca.crt"));
        Self { registry, namespace, ways, webhook, controller, _called: called }
    }

    /// Goes through each trouble, while Pods are created all the time.
    fn run(&self, troubles: &[Trouble]) {
        let mut history = vec![self.registry.push("app", "1", &Content::image("first"))];
        let stream = Stream::apply(&self.namespace, &manifest("app", &[self.registry.spec_tag("1", "app:1")]));
        stream.has_history("1", &[&history[0]]);
        eventually("the API server calls the webhook", || self.image("app:1").ends_with(&history[0]));
        let load = Load {
            site: self,
            allowed: Mutex::new(BTreeSet::from([history[0].clone()])),
            end: AtomicBool::default(),
            found: Mutex::default(),
        };
        thread::scope(|scope| {
            scope.spawn(|| load.create());
            for (number, trouble) in troubles.iter().enumerate() {
                self.turn(number, trouble, &mut history, &load);
            }
            load.end.store(true, Ordering::Relaxed);
        });
        let found = load.found.into_inner().unwrap();
        assert!(found.wrong.is_empty(), "{} of {} Pods: {:?}", found.wrong.len(), found.right, found.wrong[0]);
        let moves =
            self.namespace.get(&["events", "--field-selector=reason=TagMoved"])["items"].as_array().unwrap().len();
        assert!(moves <= history.len() + troubles.len(), "{moves} moves are told");
    }

    fn turn(&self, number: usize, trouble: &Trouble, history: &mut Vec<String>, load: &Load) {
        let processes = [&self.webhook, &self.controller];
        let before = processes.map(given_up);
        self.ways.iter().for_each(|way| (trouble.begins)(way));
        let (moved, new) = (format!("moved-{number}"), format!("new-{number}"));
        history.insert(0, self.registry.push("app", "1", &Content::image(&moved)));
        load.allowed.lock().unwrap().insert(history[0].clone());
        let stream = Stream::apply(&self.namespace, &manifest("app", &[self.registry.spec_tag("1", "app:1")]));
        stream.import_again("1");
        let only = self.registry.push("new", &new, &Content::image(&new));
        let tag = self.registry.spec_tag("1", &format!("new:{new}"));
        let other = Stream::write(&self.namespace, &manifest(&new, &[tag]));
        load.goes_on(PODS);
        eventually(&format!("both meet {}", trouble.name), || {
            let given_up = processes.map(given_up);
            (0..2).all(|index| (trouble.is_met)(&self.ways[index], given_up[index] - before[index]))
        });
        let impatient: Vec<_> = self.ways.iter().flat_map(Way::impatient).collect();
        assert!(impatient.is_empty(), "{impatient:?}");
        // Who has streams is ready to answer, whatever the API server does.
        assert_eq!(self.webhook.admin("/readyz").0, 200, "{}", trouble.name);
        self.ways.iter().for_each(|way| (trouble.ends)(way));
        let ended = Instant::now();
        let expected: Vec<&str> = history.iter().map(String::as_str).collect();
        stream.has_history("1", &expected);
        other.has_history("1", &[&only]);
        eventually("the moved tag is seen", || self.image("app:1").ends_with(&history[0]));
        eventually("the new stream is seen", || self.image(&format!("{new}:1")).ends_with(&only));
        for process in processes {
            eventually("the streams are current", || process.metric("pinstream_source_age_seconds") == Some(0.0));
        }
        eventually("the controller leads", || self.controller.metric("pinstream_leader") == Some(1.0));
        eprintln!("{:.1} s after {} all is as it was", ended.elapsed().as_secs_f64(), trouble.name);
    }

    /// What the image of a Pod becomes, or what is answered in place of a Pod.
    fn image(&self, image: &str) -> String {
        let path = format!("{}?dryRun=All", pods_path(&self.namespace));
        let answer = self.namespace.ask(&Method::POST, &path, Some(&pod("any", image)));
        let Ok(answer) = answer else { return format!("{answer:?}") };
        let found = answer.body["spec"]["containers"][0]["image"].as_str().map(str::to_owned);
        found.unwrap_or_else(|| answer.body.to_string())
    }
}

/// How many silent watches a process gave up.
fn given_up(process: &Pinstream) -> usize {
    process.log().matches("said nothing for 5 s").count()
}

/// A ServiceAccount that may do everything.
fn administrator(plane: &ControlPlane, namespace: &Namespace) -> User {
    let name = plane.unique("administrator");
    namespace.kubectl(&["create", "serviceaccount", &name]).ok();
    let account = format!("--serviceaccount={}:{name}", namespace.name);
    namespace.kubectl(&["create", "clusterrolebinding", &name, "--clusterrole=cluster-admin", &account]).ok();
    plane.service_account(&namespace.name, &name)
}

/// Pods that are created one after the other.
struct Load<'s> {
    site: &'s Site<'s>,
    /// The images that the tag had so far.
    allowed: Mutex<BTreeSet<String>>,
    end: AtomicBool,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    right: usize,
    /// What was stored otherwise, or answered in place of a Pod.
    wrong: Vec<String>,
}

impl Load<'_> {
    fn create(&self) {
        while !self.end.load(Ordering::Relaxed) {
            let image = self.site.image("app:1");
            let digest = image.split_once('@').map(|(_, digest)| digest.to_owned()).unwrap_or_default();
            let is_right = self.allowed.lock().unwrap().contains(&digest);
            let mut found = self.found.lock().unwrap();
            if is_right {
                found.right += 1;
            } else {
                found.wrong.push(image);
            }
        }
    }

    /// Waits until so many more Pods were created.
    fn goes_on(&self, more: usize) {
        let right = || self.found.lock().unwrap().right;
        let before = right();
        eventually("more Pods are created", || right() >= before + more);
    }
}
