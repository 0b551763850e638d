//! That controllers which are killed at any moment lose nothing and spoil nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::control_plane::{ControlPlane, Namespace};
use crate::gate::Gate;
use crate::importing::{Stream, in_parallel, manifest, named, streams_path};
use crate::pinstream::LOOPBACK_REGISTRIES;
use crate::process::Process;
use crate::random::Random;
use crate::registry::{Content, Guard, Registry};
use crate::release::install_custom_resource;
use crate::waiting::{eventually, eventually_within};

crate::tests![a_controller_killed_at_any_moment_ends_where_an_undisturbed_one_does];

/// How often the controller is killed while tags are imported for the first time, and as often while all of them move.
const TURNS: u32 = 25;
/// Streams that are written before each kill.
const STREAMS: u32 = 5;
/// Tags of each stream that are imported.
const TAGS: u32 = 2;
/// Pieces of data that pass before the controller has a stream to import: TLS, the Lease, the list.
const START: u64 = 20;
/// Path of all images.
const IMAGES: &str = "/apis/pinstream.dev/v1/images";

fn a_controller_killed_at_any_moment_ends_where_an_undisturbed_one_does(plane: &ControlPlane) {
    let own = plane.another();
    install_custom_resource(&own);
    let mut site = Site::new(&own);
    let [undisturbed, disturbed] = [(); 2].map(|()| own.namespace());
    for version in ["first", "second"] {
        site.move_tags_to(version);
        let traffic = site.run(&undisturbed);
        undisturbed.ask(&Method::DELETE, IMAGES, None).unwrap().ok();
        for turn in 0..TURNS {
            site.ask(&disturbed, turn);
            site.start_and_kill(&disturbed, traffic);
        }
        let _controller = site.start();
        site.all_is_imported(&disturbed);
        all_images_are_known(&disturbed);
    }
    eprintln!("killed after {:?} pieces of data", site.moments);
    // Hardly any came too late, when all was done.
    assert!(site.moments.len() > TURNS as usize, "{} kills", site.moments.len());
    let (expected, found) = (state(&undisturbed), state(&disturbed));
    assert_eq!(expected.len(), (TURNS * STREAMS) as usize);
    for (name, expected) in &expected {
        assert_eq!(found.get(name), Some(expected), "stream {name}");
        assert!(expected.histories.values().all(|history| history.len() == 2), "{expected:?}");
    }
    assert_eq!(found.len(), expected.len());
}

/// What the controller works with: its registry and its API server are reached through a gate.
struct Site {
    registry: Registry,
    /// Where streams find the registry.
    host: String,
    gate: Gate,
    kubeconfig: PathBuf,
    folder: PathBuf,
    random: Random,
    /// After how much data the controller was killed while it worked.
    moments: Vec<u64>,
}

impl Site {
    fn new(plane: &ControlPlane) -> Self {
        let (registry, gate, folder) = (Registry::start(plane, Guard::Open), Gate::default(), plane.folder("crash"));
        let port = registry.host.rsplit_once(':').unwrap().1.parse().unwrap();
        let host = format!("127.0.0.1:{}", gate.lead_to(port));
        let mut config: Value = serde_json::from_slice(&fs::read(plane.admin().kubeconfig()).unwrap()).unwrap();
        let server = &mut config["clusters"][0]["cluster"]["server"];
        let port = server.as_str().unwrap().rsplit_once(':').unwrap().1.parse().unwrap();
        *server = format!("https://127.0.0.1:{}", gate.lead_to(port)).into();
        let kubeconfig = folder.join("kubeconfig");
        fs::write(&kubeconfig, config.to_string()).unwrap();
        Self { registry, host, gate, kubeconfig, folder, random: Random::new(), moments: Vec::new() }
    }

    /// Has every tag in the registry be another image.
    fn move_tags_to(&self, version: &str) {
        in_parallel(TURNS * STREAMS * TAGS, |source| {
            self.registry.push("app", &source.to_string(), &Content::image(&format!("{version}-{source}")));
        });
    }

    /// Writes the streams of a turn, or their tags once more, which has them imported again.
    fn ask(&self, namespace: &Namespace, turn: u32) {
        for stream in turn * STREAMS..(turn + 1) * STREAMS {
            let tag = |tag: u32| {
                let source = format!("{}/app:{}", self.host, stream * TAGS + tag);
                json!({"name": tag.to_string(), "from": {"kind": "DockerImage", "name": source},
                    "importPolicy": {"insecure": true}})
            };
            let copy = json!({"name": "copy", "from": {"kind": "ImageStreamTag", "name": "0"}});
            let manifest = manifest(&format!("app-{stream}"), &(0..TAGS).map(tag).chain([copy]).collect::<Vec<_>>());
            Stream::write(namespace, &manifest);
        }
    }

    fn start(&self) -> Process {
        let kubeconfig = format!("--kubeconfig={}", self.kubeconfig.display());
        // The same name each time: nobody waits until the Lease of the killed one has ended.
        let rest = ["--identity=only", "--admin-listen=127.0.0.1:0", "--registry-rate=0"];
        let arguments = ["controller", &kubeconfig].into_iter().chain(rest).map(str::to_owned).collect::<Vec<_>>();
        let program = Path::new(env!("CARGO_BIN_EXE_pinstream"));
        Process::start(program, &arguments, &[LOOPBACK_REGISTRIES], &self.folder, &self.folder.join("log"))
    }

    /// All turns, without a kill. Gives how much data passed for a stream.
    fn run(&self, namespace: &Namespace) -> u64 {
        let began = self.gate.passed();
        (0..TURNS).for_each(|turn| self.ask(namespace, turn));
        let _controller = self.start();
        self.all_is_imported(namespace);
        (self.gate.passed() - began) / u64::from(TURNS * STREAMS)
    }

    /// Starts the controller and kills it somewhere on the way to the end of what there is to do.
    fn start_and_kill(&mut self, namespace: &Namespace, traffic: u64) {
        let most = START + traffic * u64::from(unfinished(namespace));
        let moment = 1 + self.random.below(most);
        let mut process = self.start();
        self.gate.kill_after(moment, process.id());
        let mut passed = 0;
        eventually("the controller is killed, or has nothing to do any more", || {
            let is_quiet = std::mem::replace(&mut passed, self.gate.passed()) == self.gate.passed();
            process.has_ended() || is_quiet && unfinished(namespace) == 0
        });
        self.gate.spare();
        if process.has_ended() {
            self.moments.push(moment);
        }
    }

    fn all_is_imported(&self, namespace: &Namespace) {
        eventually_within(Duration::from_mins(3), "all is imported", || match unfinished(namespace) {
            0 => Ok(()),
            unfinished => Err(format!("{unfinished} streams are not; log: {}", self.folder.display())),
        });
    }
}

fn streams(namespace: &Namespace) -> Vec<Value> {
    let list = namespace.ask(&Method::GET, &streams_path(&namespace.name), None).unwrap().ok();
    list["items"].as_array().unwrap().clone()
}

/// How many streams have a tag that was not imported as it was asked for last.
fn unfinished(namespace: &Namespace) -> u32 {
    let is_observed = |stream: &Value, tag: &Value| {
        let status = named(&stream["status"]["tags"], "tag", tag["name"].as_str().unwrap());
        tag["generation"].as_i64().is_some_and(|asked| status["items"][0]["generation"].as_i64() >= Some(asked))
    };
    let is_finished = |stream: &Value| {
        let mut tags = stream["spec"]["tags"].as_array().unwrap().iter();
        tags.all(|tag| is_observed(stream, tag))
    };
    streams(namespace).iter().map(|stream| u32::from(!is_finished(stream))).sum()
}

/// No image is in a stream without being kept as an image.
fn all_images_are_known(namespace: &Namespace) {
    let list = namespace.ask(&Method::GET, IMAGES, None).unwrap().ok();
    let names = list["items"].as_array().unwrap().iter().map(|image| image["metadata"]["name"].as_str().unwrap());
    let names: BTreeSet<String> = names.map(|name| name.replacen('-', ":", 1)).collect();
    for tag in streams(namespace).iter().flat_map(|stream| stream["status"]["tags"].as_array().unwrap()) {
        let newest = tag["items"][0]["image"].as_str().unwrap();
        assert!(names.contains(newest), "{newest} is not kept");
    }
}

/// What is compared of a stream: all but times and versions.
#[derive(Debug, PartialEq)]
struct State {
    generation: Value,
    spec: Value,
    /// Pull spec, image and generation of the entries of each tag, newest first.
    histories: BTreeMap<String, Vec<[Value; 3]>>,
    conditions: Vec<Value>,
}

fn state(namespace: &Namespace) -> BTreeMap<String, State> {
    let entry = |item: &Value| ["dockerImageReference", "image", "generation"].map(|field| item[field].clone());
    let state = |stream: Value| {
        let tags = stream["status"]["tags"].as_array().unwrap();
        let histories = tags.iter().map(|tag| {
            let items = tag["items"].as_array().unwrap();
            (tag["tag"].as_str().unwrap().to_owned(), items.iter().map(entry).collect())
        });
        let name = stream["metadata"]["name"].as_str().unwrap().to_owned();
        let state = State {
            generation: stream["metadata"]["generation"].clone(),
            spec: stream["spec"].clone(),
            histories: histories.collect(),
            conditions: tags.iter().map(|tag| tag["conditions"].clone()).filter(|found| !found.is_null()).collect(),
        };
        (name, state)
    };
    streams(namespace).into_iter().map(state).collect()
}
