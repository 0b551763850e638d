//! That of several controllers one leads at a time, whatever a network or a machine does to them, and that what another has
//! still on its way spoils nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use reqwest::blocking::{Client, Response};
use rustix::process::{Signal, kill_process};
use serde_json::Value;

use crate::control_plane::{ControlPlane, Namespace};
use crate::importing::{Stream, manifest};
use crate::pinstream::Pinstream;
use crate::registry::{Content, Guard, Registry};
use crate::release::install_custom_resource;
use crate::waiting::eventually;
use crate::wire::Wire;

crate::tests![leader_that_is_cut_off_or_stopped_has_ended_before_another_leads];

/// Streams whose tags are imported while the leader goes away.
const STREAMS: usize = 10;
/// How long a process that runs may take to say how it goes.
const ANSWER: Duration = Duration::from_secs(2);

fn leader_that_is_cut_off_or_stopped_has_ended_before_another_leads(plane: &ControlPlane) {
    let plane = plane.another();
    install_custom_resource(&plane);
    let mut site =
        Site { registry: Registry::start(&plane, Guard::Open), namespace: plane.namespace(), moves: Vec::new() };
    let controllers = ["first", "second"].map(|name| Controller::start(&plane, name));
    eventually("one of them leads", || controllers.iter().any(Controller::leads));
    site.move_tags();
    site.tags_are_moved();

    let cut = usize::from(controllers[1].leads());
    let (end, led_together) = (AtomicBool::default(), AtomicBool::default());
    thread::scope(|scope| {
        scope.spawn(|| {
            while !end.load(Ordering::Relaxed) {
                // The first one has not ended in between, so that it led when the second did.
                let together = [0, 1, 0].iter().all(|index| controllers[*index].leads());
                led_together.fetch_or(together, Ordering::Relaxed);
            }
        });
        site.leader_goes(&controllers, cut, Controller::cut, Controller::heal);
        end.store(true, Ordering::Relaxed);
    });
    assert!(!led_together.load(Ordering::Relaxed), "two controllers led at once");

    // One that was stopped cannot know that its time is over before it goes on.
    site.leader_goes(&controllers, 1 - cut, Controller::stop, Controller::go_on);
    let told = site.namespace.get(&["events", "--field-selector=reason=TagMoved"])["items"].as_array().unwrap().len();
    assert!(told <= STREAMS * site.moves.len(), "{told} moves are told");
}

/// What is imported.
struct Site {
    registry: Registry,
    namespace: Namespace,
    /// The images that the tag of all streams had, newest first.
    moves: Vec<String>,
}

impl Site {
    /// Has the tag be another image, and every stream import it.
    fn move_tags(&mut self) {
        let content = Content::image(&self.moves.len().to_string());
        self.moves.insert(0, self.registry.push("app", "1", &content));
        self.streams();
    }

    /// Writes all streams, which has their tags imported once more.
    fn streams(&self) -> Vec<Stream<'_>> {
        let tag = self.registry.spec_tag("1", "app:1");
        let write =
            |number| Stream::write(&self.namespace, &manifest(&format!("app-{number}"), std::slice::from_ref(&tag)));
        (0..STREAMS).map(write).collect()
    }

    fn tags_are_moved(&self) {
        let expected: Vec<&str> = self.moves.iter().map(String::as_str).collect();
        self.streams().iter().for_each(|stream| stream.has_history("1", &expected));
    }

    /// One that leads goes while it imports, and comes when another leads and has imported.
    fn leader_goes(&mut self, all: &[Controller; 2], leader: usize, goes: fn(&Controller), comes: fn(&Controller)) {
        let (leader, other) = (&all[leader], &all[1 - leader]);
        assert!(leader.leads() && !other.leads());
        self.move_tags();
        goes(leader);
        let gone = Instant::now();
        eventually("another leads", || other.leads());
        eprintln!("another controller led {:.1} s after the leader was gone", gone.elapsed().as_secs_f64());
        self.tags_are_moved();
        self.move_tags();
        comes(leader);
        eventually("the old one knows", || leader.process.log().contains("not leading any more") && !leader.leads());
        self.tags_are_moved();
        assert!(other.leads() && !leader.leads());
    }
}

/// A controller that reaches the API server by a wire.
struct Controller {
    wire: Wire,
    process: Pinstream,
}

impl Controller {
    fn start(plane: &ControlPlane, name: &str) -> Self {
        let folder = plane.folder(name);
        let mut config: Value = serde_json::from_slice(&std::fs::read(plane.admin().kubeconfig()).unwrap()).unwrap();
        let server = &mut config["clusters"][0]["cluster"]["server"];
        let wire = Wire::lead_to(server.as_str().unwrap().rsplit_once(':').unwrap().1.parse().unwrap());
        *server = format!("https://127.0.0.1:{}", wire.port).into();
        let kubeconfig = folder.join("kubeconfig");
        std::fs::write(&kubeconfig, config.to_string()).unwrap();
        let (kubeconfig, identity) = (format!("--kubeconfig={}", kubeconfig.display()), format!("--identity={name}"));
        let arguments = ["controller", &kubeconfig, &identity, "--lease=default/importer", "--registry-rate=0"];
        Self { wire, process: Pinstream::start(plane, &arguments, &[]) }
    }

    fn cut(&self) {
        self.wire.cut();
    }

    fn heal(&self) {
        self.wire.heal();
    }

    fn stop(&self) {
        kill_process(self.process.id(), Signal::STOP).unwrap();
    }

    fn go_on(&self) {
        kill_process(self.process.id(), Signal::CONT).unwrap();
    }

    /// Whether it says so. One that was stopped says nothing.
    fn leads(&self) -> bool {
        let client = Client::builder().no_proxy().timeout(ANSWER).build().unwrap();
        let answer = client.get(format!("http://127.0.0.1:{}/metrics", self.process.admin_port)).send();
        let metrics = answer.and_then(Response::text).unwrap_or_default();
        metrics.lines().any(|line| line == "pinstream_leader 1")
    }
}
