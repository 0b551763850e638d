//! A release under mixed load for as long as one likes: objects of all sorts are created and updated, tags move in every
//! way, images are pulled, certificates rotate, and nonsense is sent. Each answer is held against the [`Model`].

use std::fs;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use reqwest::blocking::Client;
use reqwest::{Certificate, Method};
use serde_json::{Value, json};

use crate::control_plane::{ControlPlane, Namespace};
use crate::pulling::token;
use crate::random::Random;
use crate::registry::{Guard, Registry, digest};
use crate::release::{Reach, Release};
use crate::sending;
use crate::soak_model::Model;
use crate::soak_moves::{LOCAL, Tag, tags_of};
use crate::soak_samples::Samples;
use crate::waiting::{try_eventually, try_eventually_within};

/// Namespaces with streams.
const NAMESPACES: usize = 4;
/// Who creates objects, and how often each of them does.
const CREATORS: usize = 3;
const CREATION: Duration = Duration::from_millis(100);
/// How often an image is pulled, nonsense is sent, the processes are looked at, and it is told how it goes.
const PULL: Duration = Duration::from_millis(200);
const NOISE: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_secs(5);
const TELL: Duration = Duration::from_mins(5);
/// Pods that one creator leaves in place, the oldest of which makes room.
const KEPT: usize = 20;
/// How long it may take until nothing is left of the load: unused connections are closed after 90 s.
const REST: Duration = Duration::from_mins(3);
/// How long serving certificates are good; a CA is so four times as long.
const LIFETIME: &str = "30s";

/// The release and what it works with.
pub struct Soak<'p> {
    release: Release<'p>,
    namespaces: Vec<Namespace>,
    tags: Vec<Tag>,
    model: Model,
    /// Where images are pulled, with whose token for each namespace.
    pulls: (Client, Vec<String>),
    counts: Counts,
    wrong: Mutex<Vec<String>>,
    has_ended: AtomicBool,
}

/// How much there was of everything.
#[derive(Default)]
struct Counts {
    images: AtomicU64,
    objects: AtomicU64,
    moves: AtomicU64,
    pulls: AtomicU64,
    nonsense: AtomicU64,
    bundles: AtomicU64,
}

/// What it came to.
pub struct Found {
    pub images: u64,
    pub moves: u64,
    pub pulls: u64,
    /// How often what callers trust was replaced.
    pub bundles: u64,
    /// What was answered and should not have been.
    pub wrong: Vec<String>,
    pub samples: Samples,
}

impl<'p> Soak<'p> {
    /// Installs the chart with all that it can run, on a control plane of its own, and streams of every sort.
    pub fn new(plane: &'p ControlPlane) -> Self {
        let registry = Arc::new(Registry::start(plane, Guard::Open));
        let (release, client) = install(plane);
        let model = Model::default();
        let namespaces: Vec<_> = (0..NAMESPACES).map(|_| release.empty_namespace(&json!({}))).collect();
        let pulled_from = format!("localhost:{}", release.registry.port);
        let tags: Vec<_> =
            namespaces.iter().flat_map(|namespace| tags_of(namespace, &registry, &pulled_from, &model)).collect();
        let tokens = namespaces.iter().map(|namespace| token(namespace, "puller", Some(LOCAL))).collect();
        let (counts, wrong, has_ended) = (Counts::default(), Mutex::default(), AtomicBool::default());
        Self { release, namespaces, tags, model, pulls: (client, tokens), counts, wrong, has_ended }
    }

    /// Keeps everything going for that long.
    pub fn run(self, length: Duration) -> Found {
        let began = Instant::now();
        let mut samples = Samples::at_rest(&self.release.seen().processes());
        thread::scope(|scope| {
            for creator in 0..CREATORS {
                let soak = &self;
                scope.spawn(move || soak.create(creator));
            }
            for tag in &self.tags {
                scope.spawn(|| self.check(tag.keep_moving(&self.model, &self.has_ended, &self.counts.moves)));
            }
            scope.spawn(|| self.pull());
            scope.spawn(|| self.make_noise());
            let mut told = Instant::now();
            while began.elapsed() < length {
                samples.take(began.elapsed(), &self.release.seen().processes());
                if told.elapsed() > TELL {
                    told = Instant::now();
                    println!("after {} min: {}", began.elapsed().as_secs() / 60, self.so_far());
                }
                thread::sleep(LOOK);
            }
            self.has_ended.store(true, Ordering::Relaxed);
        });
        println!("{}", self.so_far());
        let at_rest = try_eventually_within(REST, "nothing is left of the load", || {
            let left = samples.left(&self.release.seen().processes());
            if left.is_empty() { Ok(()) } else { Err(left.join("; ")) }
        });
        self.check(at_rest);
        let failures = self.release.seen().failures();
        let mut wrong = self.wrong.into_inner().unwrap();
        wrong.extend((failures > 0).then(|| format!("{failures} processes ended by themselves")));
        let count = |counter: AtomicU64| counter.into_inner();
        let Counts { images, moves, pulls, bundles, .. } = self.counts;
        Found {
            images: count(images),
            moves: count(moves),
            pulls: count(pulls),
            bundles: count(bundles),
            wrong,
            samples,
        }
    }

    fn so_far(&self) -> String {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        format!(
            "{} images of {} objects, {} moves of tags, {} pulls, {} pieces of nonsense, {} changes of what is trusted, \
             {} wrong answers; the image before a move was answered for {:.1} s at most",
            read(&self.counts.images),
            read(&self.counts.objects),
            read(&self.counts.moves),
            read(&self.counts.pulls),
            read(&self.counts.nonsense),
            read(&self.counts.bundles),
            self.wrong.lock().unwrap().len(),
            self.model.latest().as_secs_f64()
        )
    }

    /// Does something again and again, at a rate, until the end.
    fn again(&self, pause: Duration, mut work: impl FnMut()) {
        let mut next = Instant::now();
        while !self.has_ended.load(Ordering::Relaxed) {
            work();
            // Who comes late does not hurry later.
            next = (next + pause).max(Instant::now());
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }

    fn check(&self, outcome: Result<(), String>) {
        if let Err(error) = outcome {
            println!("wrong: {error}");
            self.wrong.lock().unwrap().push(error);
        }
    }

    fn create(&self, creator: usize) {
        let mut random = Random::with(creator as u64);
        let mut kept: Vec<(usize, String, Value)> = Vec::new();
        self.again(CREATION, || {
            let place = pick(&mut random, self.namespaces.len());
            let namespace = &self.namespaces[place];
            let images: Vec<String> = (0..=random.below(3)).map(|_| self.image(&mut random, namespace)).collect();
            let kind = sending::KINDS[pick(&mut random, sending::KINDS.len())];
            let is_kept = kind == "Pod" && random.below(4) == 0;
            let asked = Instant::now();
            let spec = sending::pod_spec(&images.iter().map(String::as_str).collect::<Vec<_>>());
            let object = sending::valid(kind, &spec);
            let answer = if is_kept {
                let mut object = object;
                object["metadata"] = json!({"generateName": "kept-"});
                namespace.ask(&Method::POST, &sending::path(namespace, kind), Some(&sending::of_kind(kind, object)))
            } else {
                let path = format!("{}?dryRun=All", sending::path(namespace, kind));
                namespace.ask(&Method::POST, &path, Some(&sending::of_kind(kind, object)))
            };
            let created = match answer {
                Ok(answer) if answer.status == 201 => answer.body,
                other => return self.check(Err(format!("{kind} with {images:?} was not created: {other:?}"))),
            };
            self.counts.objects.fetch_add(1, Ordering::Relaxed);
            self.check(self.agrees(namespace, &images, &images_of(&created), asked));
            if is_kept {
                kept.push((place, created["metadata"]["name"].as_str().unwrap().to_owned(), created));
            }
            if kept.len() > KEPT {
                self.retire(kept.remove(0));
            }
        });
    }

    /// Updates a Pod, which leaves its images as they are whatever their tags are now, and deletes it.
    fn retire(&self, (place, name, created): (usize, String, Value)) {
        let namespace = &self.namespaces[place];
        let path = format!("{}/{name}", sending::path(namespace, "Pod"));
        let label = json!({"metadata": {"labels": {"updated": "true"}}});
        let outcome = match namespace.ask(&Method::PATCH, &path, Some(&label)) {
            Ok(answer) if answer.status == 200 && images_of(&answer.body) == images_of(&created) => Ok(()),
            other => Err(format!("update of Pod {name}: {other:?}")),
        };
        self.check(outcome);
        let deleted = namespace.ask(&Method::DELETE, &format!("{path}?gracePeriodSeconds=0"), None);
        self.check(deleted.map(drop).map_err(|error| error.to_string()));
    }

    /// An image as somebody writes it: mostly of a stream.
    fn image(&self, random: &mut Random, namespace: &Namespace) -> String {
        match random.below(10) {
            0 => "nobody:1".to_owned(),
            1 => "registry.example/app:1".to_owned(),
            2 => sending::with_digest("sha256", 64),
            _ => {
                let own: Vec<_> = self.tags.iter().filter(|tag| tag.namespace.name == namespace.name).collect();
                own[pick(random, own.len())].short()
            }
        }
    }

    /// Whether all images became what they may have become.
    fn agrees(&self, from: &Namespace, written: &[String], found: &[String], asked: Instant) -> Result<(), String> {
        if written.len() != found.len() {
            return Err(format!("{written:?} became {found:?}"));
        }
        self.counts.images.fetch_add(found.len() as u64, Ordering::Relaxed);
        for (written, found) in written.iter().zip(found) {
            if self.tags.iter().any(|tag| tag.short() == *written) {
                self.model.may_be(&format!("{}/{written}", from.name), found, asked)?;
            } else if written != found {
                return Err(format!("{written} became {found}"));
            }
        }
        Ok(())
    }

    /// Pulls what the streams have, and what they have not.
    fn pull(&self) {
        let mut random = Random::with(CREATORS as u64);
        let strange = format!("sha256:{:064x}", 1);
        self.again(PULL, || {
            let place = pick(&mut random, self.namespaces.len());
            let namespace = &self.namespaces[place].name;
            let tag = self.tags.iter().find(|tag| tag.namespace.name == *namespace && tag.stream == LOCAL).unwrap();
            let image = if random.below(10) == 0 { strange.clone() } else { tag.settled() };
            self.check(if image == strange {
                self.fetch(place, "manifests", &image, 404).map(drop)
            } else {
                // The registry has to hear of a move too.
                try_eventually("the image is pulled", || self.pull_image(place, &image))
            });
            self.counts.pulls.fetch_add(1, Ordering::Relaxed);
        });
    }

    fn pull_image(&self, place: usize, image: &str) -> Result<(), String> {
        let manifest = self.fetch(place, "manifests", image, 200)?;
        let manifest: Value = serde_json::from_slice(&manifest).map_err(|error| error.to_string())?;
        let blobs = [&manifest["config"]].into_iter().chain(manifest["layers"].as_array().into_iter().flatten());
        for blob in blobs.filter_map(|blob| blob["digest"].as_str()) {
            self.fetch(place, "blobs", blob, 200)?;
        }
        Ok(())
    }

    /// Bytes, which are what their digest says if they are there.
    fn fetch(&self, place: usize, what: &str, name: &str, expected: u16) -> Result<Vec<u8>, String> {
        let (client, tokens) = &self.pulls;
        let namespace = &self.namespaces[place].name;
        let path = format!("https://localhost:{}/v2/{namespace}/{LOCAL}/{what}/{name}", self.release.registry.port);
        let answer =
            client.get(&path).bearer_auth(&tokens[place]).send().map_err(|error| format!("{path}: {error:?}"))?;
        let status = answer.status().as_u16();
        let bytes = answer.bytes().map_err(|error| format!("{path}: {error:?}"))?;
        if status == expected && (status != 200 || digest(&bytes) == name) {
            return Ok(bytes.to_vec());
        }
        Err(format!("{path}: {status}: {}", String::from_utf8_lossy(&bytes)))
    }

    /// What others send: no handshake, half of one, no review. And callers who come anew and trust what they are told.
    fn make_noise(&self) {
        let service = self.release.service.port;
        let mut trusted = self.release.bundle();
        let mut silent = Vec::new();
        self.again(NOISE, || {
            self.counts.nonsense.fetch_add(1, Ordering::Relaxed);
            let _ = Client::new().get(format!("http://localhost:{service}/mutate")).send();
            silent.extend(TcpStream::connect(("127.0.0.1", service)));
            if silent.len() > KEPT {
                silent.remove(0);
            }
            let bundle = self.release.bundle();
            if bundle != trusted {
                self.counts.bundles.fetch_add(1, Ordering::Relaxed);
            }
            trusted = bundle;
            let client = trusting(&trusted, &self.release);
            let url = format!("https://{}.{}.svc:{service}/mutate", self.release.name, self.release.namespace.name);
            let answer =
                client.post(url).header("content-type", "application/json").body("{\"no\": \"review\"}").send();
            self.check(match answer {
                Ok(answer) if answer.status().is_client_error() => Ok(()),
                other => Err(format!("what is no review is answered {other:?}")),
            });
        });
    }
}

/// The chart with registry and controller, in a hurry; and a client that trusts the registry.
fn install(plane: &ControlPlane) -> (Release<'_>, Client) {
    let certificates = plane.folder("certificates");
    let mut certs = assert_cmd::Command::new(env!("CARGO_BIN_EXE_pinstream"));
    certs.args(["certs", "localhost", "--out"]).arg(&certificates).assert().success();
    let values = json!({
        // What it does not answer is refused, so that nothing is hidden.
        "webhook": {"failurePolicy": "Fail", "timeoutSeconds": 10},
        "certificates": {"self": {"lifetime": LIFETIME}},
        "controller": {"enabled": true, "importInterval": "1m", "registries": {"rate": 0}},
        "podTemplates": true,
        "registry": {"enabled": true, "certificate": {"secretName": "images-tls"}, "storage": {"budget": "100MiB"}},
    });
    let release = Release::install_prepared(plane, Reach::Service, &values, |namespace| {
        let file = |flag: &str, name: &str| format!("--{flag}={}", certificates.join(name).display());
        let (certificate, key) = (file("cert", "tls.crt"), file("key", "tls.key"));
        namespace.kubectl(&["create", "secret", "tls", "images-tls", &certificate, &key]).ok();
    });
    let ca = Certificate::from_pem(&fs::read(certificates.join("ca.crt")).unwrap()).unwrap();
    (release, Client::builder().no_proxy().tls_certs_only([ca]).build().unwrap())
}

/// A caller of the webhook who has no connection yet.
fn trusting(bundle: &str, release: &Release) -> Client {
    let name = format!("{}.{}.svc", release.name, release.namespace.name);
    let address = ([127, 0, 0, 1], release.service.port).into();
    let trusted = Certificate::from_pem_bundle(bundle.as_bytes()).unwrap();
    Client::builder().tls_certs_only(trusted).resolve(&name, address).no_proxy().build().unwrap()
}

fn pick(random: &mut Random, count: usize) -> usize {
    usize::try_from(random.below(count as u64)).unwrap()
}

/// The images of an object, wherever its kind has its pod spec.
fn images_of(object: &Value) -> Vec<String> {
    let places = ["/spec/jobTemplate/spec/template/spec", "/spec/template/spec", "/template/spec", "/spec"];
    let spec = places.iter().find_map(|place| object.pointer(place)).unwrap_or(&Value::Null);
    let containers = spec["containers"].as_array().into_iter().flatten();
    containers.map(|container| container["image"].as_str().unwrap_or_default().to_owned()).collect()
}
