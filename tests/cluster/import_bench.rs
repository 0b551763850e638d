//! How fast tags are imported, and what it costs to look at ten thousand of them again and again.

use std::thread;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::control_plane::{ControlPlane, Namespace};
use crate::importing::{controller, in_parallel, manifest, named, streams_path};
use crate::pinstream::Pinstream;
use crate::registry::{Content, Guard, Registry};
use crate::release::install_custom_resource;
use crate::waiting::{eventually, eventually_within};

/// Tags of each stream.
const TAGS: u32 = 10;
/// Streams that are imported, and those that are on schedule, the latter in so many namespaces.
const NEW: u32 = 100;
const SCHEDULED: u32 = 1000;
const NAMESPACES: u32 = 100;
/// Entries in the history of each tag on schedule.
const HISTORY: u32 = 5;
/// How long the schedule is watched, after a while in which it comes to rest.
const REST: Duration = Duration::from_secs(30);
const WATCHED: Duration = Duration::from_mins(3);
/// The longest that an import may take before something is wrong.
const LIMIT: Duration = Duration::from_mins(10);

/// A thousand tags, each another image, from the start of the controller until all are in their streams.
pub fn import(plane: &ControlPlane) {
    install_custom_resource(plane);
    let (registry, namespace) = (Registry::start(plane, Guard::Tls), plane.namespace());
    in_parallel(NEW, |stream| {
        let tag = |tag: u32| {
            let content = Content::image(&format!("{stream}-{tag}"));
            registry.push(&format!("app-{stream}"), &tag.to_string(), &content);
            registry.spec_tag(&tag.to_string(), &format!("app-{stream}:{tag}"))
        };
        let tags: Vec<_> = (0..TAGS).map(tag).collect();
        namespace.post(&streams_path(&namespace.name), &manifest(&format!("app-{stream}"), &tags)).ok();
    });
    let began = Instant::now();
    let controller = start(plane, &registry, &["--registry-concurrency=0"]);
    let imported = "pinstream_imports_total{reason=\"\",result=\"imported\"}";
    let is_asked_for = || controller.metric(imported).is_some_and(|count| count >= f64::from(NEW * TAGS));
    eventually_within(LIMIT, "all tags are asked for", is_asked_for);
    eventually("all tags are in their streams", || all_have_images(&namespace));
    let took = began.elapsed().as_secs_f64();
    println!("{} tags of {NEW} streams imported in {took:.1} s, {}", NEW * TAGS, costs(&controller));
}

fn all_have_images(namespace: &Namespace) -> bool {
    let list = namespace.ask(&Method::GET, &streams_path(&namespace.name), None).unwrap().ok();
    let has_all = |stream: &Value| {
        (0..TAGS).all(|tag| {
            let image = &named(&stream["status"]["tags"], "tag", &tag.to_string())["items"][0]["image"];
            image.as_str().is_some_and(|image| image.starts_with("sha256:"))
        })
    };
    list["items"].as_array().unwrap().iter().all(has_all)
}

/// Ten thousand tags that do not move, looked at every 15 minutes.
pub fn schedule(plane: &ControlPlane) {
    install_custom_resource(plane);
    let registry = Registry::start(plane, Guard::Tls);
    let digests: Vec<_> =
        (0..TAGS).map(|tag| registry.push("app", &tag.to_string(), &Content::image(&tag.to_string()))).collect();
    in_parallel(NAMESPACES, |_| {
        let namespace = plane.namespace();
        for stream in 0..SCHEDULED / NAMESPACES {
            add_scheduled(&namespace, &registry, &format!("app-{stream}"), &digests);
        }
    });
    let controller = start(plane, &registry, &[]);
    let scheduled = || controller.metric("pinstream_import_tags{state=\"scheduled\"}");
    eventually("all tags are known", || scheduled() == Some(f64::from(SCHEDULED * TAGS)));
    thread::sleep(REST);
    let read = |line: &str| controller.metric(line).unwrap();
    let imported = "pinstream_imports_total{reason=\"\",result=\"imported\"}";
    let (began, cpu, imports) = (Instant::now(), controller.cpu_seconds(), read(imported));
    thread::sleep(WATCHED);
    let seconds = began.elapsed().as_secs_f64();
    let (cpu, imports) = (controller.cpu_seconds() - cpu, read(imported) - imports);
    println!(
        "{} tags of {NAMESPACES} namespaces on schedule: {:.1} imports a second, {:.1} % of a core, {}",
        SCHEDULED * TAGS,
        imports / seconds,
        100.0 * cpu / seconds,
        costs(&controller)
    );
}

/// A stream whose tags were imported some time ago.
fn add_scheduled(namespace: &Namespace, registry: &Registry, name: &str, digests: &[String]) {
    let mut tags = Vec::new();
    let mut status = Vec::new();
    for (tag, digest) in digests.iter().enumerate() {
        let mut written = registry.spec_tag(&tag.to_string(), &format!("app:{tag}"));
        (written["generation"], written["importPolicy"]["scheduled"]) = (1.into(), true.into());
        tags.push(written);
        let older = (1..HISTORY).map(|age| format!("sha256:{age:064x}"));
        let items = [digest.clone()].into_iter().chain(older).map(|digest| {
            json!({"created": "2026-01-02T03:04:05Z", "generation": 1, "image": digest,
                "dockerImageReference": format!("{}/app@{digest}", registry.host)})
        });
        status.push(json!({"tag": tag.to_string(), "items": items.collect::<Vec<_>>()}));
    }
    let path = streams_path(&namespace.name);
    namespace.post(&path, &manifest(name, &tags)).ok();
    let status = json!({"status": {"tags": status}});
    namespace.ask(&Method::PATCH, &format!("{path}/{name}/status"), Some(&status)).unwrap().ok();
}

fn start(plane: &ControlPlane, registry: &Registry, arguments: &[&str]) -> Pinstream {
    let ca = format!("--registry-ca={}={}", registry.host, registry.ca.as_ref().unwrap().display());
    controller(plane, &[arguments, &[&ca, "--log=warn"]].concat())
}

/// What a process took so far.
fn costs(controller: &Pinstream) -> String {
    let (cpu, memory) = (controller.cpu_seconds(), controller.metric("process_resident_memory_bytes").unwrap());
    let mebibytes = |bytes: f64| bytes / 1024.0 / 1024.0;
    format!("{cpu:.1} s of CPU, {:.0} MiB, at most {:.0} MiB", mebibytes(memory), mebibytes(controller.peak_memory()))
}
