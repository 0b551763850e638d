//! Several controllers, and an API server that goes away: one leads, another takes over, and nothing is spoilt.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::Value;

use crate::control_plane::{ControlPlane, Namespace};
use crate::importing::{Stream, controller, manifest};
use crate::pinstream::Pinstream;
use crate::registry::{Content, Guard, Registry};
use crate::release::install_custom_resource;
use crate::waiting::eventually;

crate::tests![
    another_controller_leads_when_the_leader_is_killed_or_leaves,
    two_leaders_at_once_spoil_nothing,
    imports_go_on_when_the_api_server_is_back,
];

/// Streams of a test, and tags of each.
const STREAMS: usize = 20;
const TAGS: usize = 5;
/// How often each tag moves.
const VERSIONS: usize = 8;

fn another_controller_leads_when_the_leader_is_killed_or_leaves(plane: &ControlPlane) {
    let plane = plane.another();
    install_custom_resource(&plane);
    let (registry, namespace) = (Registry::start(&plane, Guard::Open), plane.namespace());
    let start = |name: &str| controller(&plane, &["--lease=default/importer", &format!("--identity={name}")]);
    let holder = || plane.admin().get(&["lease", "importer"])["spec"]["holderIdentity"].clone();
    let imports = |name: &str| {
        let digest = registry.push("app", name, &Content::image(name));
        let tag = registry.spec_tag("1", &format!("app:{name}"));
        Stream::apply(&namespace, &manifest(name, &[tag])).has_history("1", &[&digest]);
    };

    let first = start("first");
    eventually("the first one leads", || leads(&first));
    let second = start("second");
    imports("one");
    assert!(leads(&first) && !leads(&second));
    assert_eq!(holder(), "first");

    drop(first);
    let killed = Instant::now();
    eventually("the second one leads", || leads(&second));
    eprintln!("another controller led {:.1} s after the leader was killed", killed.elapsed().as_secs_f64());
    imports("two");
    assert_eq!(holder(), "second");

    let third = start("third");
    assert!(second.terminate().success());
    // Who leaves does not let the others wait for the end of the Lease.
    assert!(holder().is_null() || holder() == "third", "{}", holder());
    eventually("the third one leads", || leads(&third));
    imports("three");
}

fn leads(controller: &Pinstream) -> bool {
    controller.metric("pinstream_leader") == Some(1.0)
}

fn two_leaders_at_once_spoil_nothing(plane: &ControlPlane) {
    let plane = plane.another();
    install_custom_resource(&plane);
    let (registry, namespace) = (Registry::start(&plane, Guard::Open), plane.namespace());
    // Two Leases, so that both believe to be the one.
    let controllers = ["one", "two"].map(|lease| controller(&plane, &[&format!("--lease=default/{lease}")]));
    eventually("both lead", || controllers.iter().all(leads));
    // Tags move in the registry while they are imported, so that the two often find different images.
    let mut versions = BTreeMap::new();
    for version in 0..VERSIONS {
        for tag in 0..TAGS {
            let content = Content::image(&format!("{version}-{tag}"));
            versions.insert(registry.push("app", &tag.to_string(), &content), version);
        }
        apply_all(&registry, &namespace);
    }
    let streams = apply_all(&registry, &namespace);
    let found = |stream: &Stream, tag: usize| -> Vec<usize> {
        stream.history(&tag.to_string()).iter().map(|image| versions[image]).collect()
    };
    let mut moves = 0;
    for (stream, tag) in streams.iter().flat_map(|stream| (0..TAGS).map(move |tag| (stream, tag))) {
        eventually("the tag is where its source is", || found(stream, tag).first() == Some(&(VERSIONS - 1)));
        let history = found(stream, tag);
        assert!(history.is_sorted_by(|newer, older| newer > older), "{history:?}");
        moves += history.len();
    }
    // Of two that found the same only one has written it, and told of it.
    let told = || namespace.get(&["events", "--field-selector=reason=TagMoved"])["items"].as_array().unwrap().len();
    eventually("every move is told", || if told() == moves { Ok(()) } else { Err(format!("{} of {moves}", told())) });
    for controller in &controllers {
        let imports = controller.metric("pinstream_imports_total{reason=\"\",result=\"imported\"}").unwrap();
        eprintln!("one of two leaders imported {imports} times, {moves} moves were written");
        assert!(leads(controller) && imports > 0.0);
    }
}

/// Writes the streams, or their tags once more, which has them imported again.
fn apply_all<'n>(registry: &Registry, namespace: &'n Namespace) -> Vec<Stream<'n>> {
    let tags: Vec<Value> = (0..TAGS).map(|tag| registry.spec_tag(&tag.to_string(), &format!("app:{tag}"))).collect();
    (0..STREAMS).map(|number| Stream::write(namespace, &manifest(&format!("app-{number}"), &tags))).collect()
}

fn imports_go_on_when_the_api_server_is_back(plane: &ControlPlane) {
    let plane = plane.another();
    install_custom_resource(&plane);
    let (registry, namespace) = (Registry::start(&plane, Guard::Open), plane.namespace());
    let digests: Vec<String> =
        (0..TAGS).map(|tag| registry.push("app", &tag.to_string(), &Content::image(&format!("only-{tag}")))).collect();
    let streams = apply_all(&registry, &namespace);
    let controller = controller(&plane, &[]);
    eventually("imports are under way", || streams.iter().any(|stream| !stream.history("0").is_empty()));
    plane.stop_api_server();
    // What is under way comes to its end, and finds nobody to write it to.
    eventually("the controller notices", || controller.log().contains("image streams cannot be watched"));
    plane.start_api_server();
    for stream in &streams {
        for (tag, digest) in digests.iter().enumerate() {
            stream.has_history(&tag.to_string(), &[digest]);
        }
    }
    let later = registry.push("app", "later", &Content::image("later"));
    let tag = registry.spec_tag("1", "app:later");
    Stream::apply(&namespace, &manifest("later", &[tag])).has_history("1", &[&later]);
    assert_eq!(controller.admin("/readyz").0, 200);
}
