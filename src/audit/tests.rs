//! Pods and streams come, change and go; what is kept is what would be worked out from scratch.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn digest(number: u8) -> String {
    format!("sha256:{}", format!("{number:02x}").repeat(32))
}

/// A stream whose tags have these images, newest first, a day between them.
fn stream(namespace: &str, name: &str, tags: &[&[u8]]) -> ImageStream {
    let item = |(day, image): (u8, &u8)| {
        let digest = digest(*image);
        json!({"created": format!("2026-01-{:02}T00:00:00Z", 20 - day), "image": digest,
            "dockerImageReference": format!("q.io/up/stream@{digest}")})
    };
    let tag = |(tag, images): (u8, &&[u8])| {
        let items: Vec<_> = (1..).zip(images.iter()).map(item).collect();
        json!({"tag": tag.to_string(), "items": items})
    };
    let tags: Vec<_> = (1..).zip(tags).map(tag).collect();
    serde_json::from_value(json!({"metadata": {"namespace": namespace, "name": name},
        "status": {"dockerImageRepository": format!("r.io/{namespace}/{name}"), "tags": tags}}))
    .unwrap()
}

fn image(number: u8) -> String {
    format!("q.io/up/stream@{}", digest(number))
}

fn said(audit: &Audit, namespace: &str, image: &str) -> String {
    let standing = audit.standing(namespace, image);
    let place = standing.place().map(|place| format!(" {}:{} -{}", place.stream, place.tag, place.steps));
    format!("{}{}", standing.state(), place.unwrap_or_default())
}

fn containers(audit: &Audit) -> BTreeMap<&str, [usize; 5]> {
    audit.sums().map(|(namespace, sums)| (namespace, sums.containers)).collect()
}

#[test]
fn image_stands_where_a_tag_of_the_namespace_has_it() {
    let mut audit = Audit::default();
    audit.apply_stream(&stream("demo", "app", &[&[3, 2, 1], &[2]]));
    assert_eq!(said(&audit, "demo", &image(3)), "current app:1 -0");
    assert_eq!(said(&audit, "demo", &image(2)), "current app:2 -0");
    assert_eq!(said(&audit, "demo", &image(1)), "behind app:1 -2");
    assert_eq!(said(&audit, "demo", &image(9)), "unknown");
    assert_eq!(said(&audit, "other", &image(3)), "unknown");
    assert_eq!(said(&audit, "demo", "q.io/up/stream:1"), "mutable");
    assert_eq!(said(&audit, "demo", "app:1"), "unresolved");
    let since = audit.standing("demo", &image(1)).place().unwrap().since;
    assert_eq!(since, "2026-01-18T00:00:00Z".parse().ok());
}

#[test]
fn image_that_a_stream_of_another_namespace_serves_stands_there() {
    let mut audit = Audit::default();
    let served = format!("r.io/demo/app@{}", digest(1));
    audit.apply_pod(&Key::new("other", "web"), [&*served]);
    assert_eq!(containers(&audit), [("other", [0, 0, 1, 0, 0])].into());
    audit.apply_stream(&stream("demo", "app", &[&[2, 1]]));
    assert_eq!(containers(&audit), [("other", [0, 1, 0, 0, 0])].into());
    assert_eq!(said(&audit, "other", &served.replace("r.io", "q.io")), "unknown");
    assert_eq!(audit.unused(), []);
    audit.delete_pod(&Key::new("other", "web"));
    assert_eq!(audit.unused(), [Key::new("demo", "app")]);
    audit.delete_stream(&Key::new("demo", "app"));
    assert!(audit.namespaces.is_empty());
}

#[test]
fn tag_that_moves_leaves_its_containers_behind() {
    let mut audit = Audit::default();
    audit.apply_stream(&stream("demo", "app", &[&[1]]));
    for pod in ["a", "b"] {
        audit.apply_pod(&Key::new("demo", pod), [&*image(1), "app:1"]);
    }
    assert_eq!(containers(&audit), [("demo", [2, 0, 0, 0, 2])].into());
    audit.apply_stream(&stream("demo", "app", &[&[3, 2, 1]]));
    let (_, sums) = audit.sums().next().unwrap();
    assert_eq!((sums.containers, sums.steps), ([0, 2, 0, 0, 2], 2));
    assert_eq!(sums.behind_since, "2026-01-18T00:00:00Z".parse().ok());
}

#[test]
fn pod_is_as_its_worst_container() {
    let pods = |audit: &Audit| audit.sums().map(|(_, sums)| sums.pods).next().unwrap_or_default();
    let mut audit = Audit::default();
    for (pod, images) in [("a", [1, 2]), ("b", [1, 2]), ("c", [1, 1])] {
        audit.apply_pod(&Key::new("demo", pod), images.map(image).iter().map(String::as_str));
    }
    audit.apply_pod(&Key::new("demo", "d"), [&*image(1), "app:1"]);
    audit.apply_pod(&Key::new("demo", "e"), []);
    assert_eq!(pods(&audit), [1, 0, 3, 0, 1]);
    audit.apply_stream(&stream("demo", "app", &[&[1, 2]]));
    assert_eq!(pods(&audit), [2, 2, 0, 0, 1]);
    audit.apply_pod(&Key::new("demo", "b"), [&*image(1)]);
    audit.delete_pod(&Key::new("demo", "d"));
    assert_eq!(pods(&audit), [3, 1, 0, 0, 0]);
    audit.delete_stream(&Key::new("demo", "app"));
    assert_eq!(pods(&audit), [1, 0, 3, 0, 0]);
}

#[test]
fn tags_that_fail_or_wait_are_counted() {
    let mut audit = Audit::default();
    let from = json!({"kind": "DockerImage", "name": "q.io/a:1"});
    let failure = json!({"type": "ImportSuccess", "status": "False", "generation": 1});
    let stream = serde_json::from_value(json!({"metadata": {"name": "app"},
        "spec": {"tags": [{"name": "bad", "from": from, "generation": 1}, {"name": "new", "from": from}]},
        "status": {"tags": [{"tag": "bad", "conditions": [failure]}]}}))
    .unwrap();
    audit.apply_stream(&stream);
    assert_eq!(audit.stock(), Stock { streams: 1, unused: 1, failing: 1, pending: 1 });
}

#[derive(Clone, Debug)]
enum Step {
    Pod(u8, u8, Vec<u8>),
    PodGone(u8, u8),
    Stream(u8, u8, Vec<Vec<u8>>),
    StreamGone(u8, u8),
}

fn step() -> impl Strategy<Value = Step> {
    let images = || prop::collection::vec(0..12_u8, 0..4);
    prop_oneof![
        3 => (0..3_u8, 0..4_u8, images()).prop_map(|(namespace, name, images)| Step::Pod(namespace, name, images)),
        1 => (0..3_u8, 0..4_u8).prop_map(|(namespace, name)| Step::PodGone(namespace, name)),
        3 => (0..3_u8, 0..3_u8, prop::collection::vec(prop::collection::vec(0..6_u8, 0..4), 0..3))
            .prop_map(|(namespace, name, tags)| Step::Stream(namespace, name, tags)),
        1 => (0..3_u8, 0..3_u8).prop_map(|(namespace, name)| Step::StreamGone(namespace, name)),
    ]
}

/// One of few images: of a registry, served by a stream, without a digest.
fn image_of(number: u8) -> String {
    match number {
        0..6 => image(number),
        6..9 => format!("r.io/n{}/s{}@{}", number % 3, number % 2, digest(number % 6)),
        9 => "q.io/a/b:1".to_owned(),
        _ => "app:1".to_owned(),
    }
}

type Pods = BTreeMap<(u8, u8), Vec<u8>>;
type Streams = BTreeMap<(u8, u8), Vec<Vec<u8>>>;

fn take(audit: &mut Audit, (pods, streams): (&mut Pods, &mut Streams), step: Step) {
    let key = |namespace: u8, letter: char, name: u8| Key::new(&format!("n{namespace}"), &format!("{letter}{name}"));
    match step {
        Step::Pod(namespace, name, images) => {
            let written: Vec<_> = images.iter().map(|number| image_of(*number)).collect();
            audit.apply_pod(&key(namespace, 'p', name), written.iter().map(String::as_str));
            pods.insert((namespace, name), images);
        }
        Step::PodGone(namespace, name) => {
            audit.delete_pod(&key(namespace, 'p', name));
            pods.remove(&(namespace, name));
        }
        Step::Stream(namespace, name, tags) => {
            let histories: Vec<&[u8]> = tags.iter().map(Vec::as_slice).collect();
            audit.apply_stream(&stream(&format!("n{namespace}"), &format!("s{name}"), &histories));
            streams.insert((namespace, name), tags);
        }
        Step::StreamGone(namespace, name) => {
            audit.delete_stream(&key(namespace, 's', name));
            streams.remove(&(namespace, name));
        }
    }
}

/// All that can be seen.
fn seen(audit: &Audit) -> (BTreeMap<String, Sums>, Stock, Vec<Key>) {
    (audit.sums().map(|(name, sums)| (name.to_owned(), sums)).collect(), audit.stock(), audit.unused())
}

proptest! {
    #[test]
    fn what_is_kept_up_is_what_comes_from_scratch(steps in prop::collection::vec(step(), 0..40)) {
        let (mut audit, mut pods, mut streams) = (Audit::default(), Pods::new(), Streams::new());
        for step in steps {
            take(&mut audit, (&mut pods, &mut streams), step);
        }
        let mut fresh = Audit::default();
        let (mut none, mut nothing) = (Pods::new(), Streams::new());
        let pods_left = pods.iter().map(|(key, images)| Step::Pod(key.0, key.1, images.clone()));
        let left = streams.iter().map(|(key, tags)| Step::Stream(key.0, key.1, tags.clone()));
        for step in pods_left.chain(left) {
            take(&mut fresh, (&mut none, &mut nothing), step);
        }
        prop_assert_eq!(seen(&audit), seen(&fresh));
        // Each container is judged again by itself.
        let mut counted: BTreeMap<String, (Counts, Counts)> = BTreeMap::new();
        for ((namespace, _), images) in &pods {
            let namespace = format!("n{namespace}");
            let (containers, worst) = counted.entry(namespace.clone()).or_default();
            let ranks: Vec<_> =
                images.iter().map(|number| audit.standing(&namespace, &image_of(*number)).rank()).collect();
            for rank in &ranks {
                containers[*rank] += 1;
            }
            worst[ranks.into_iter().max().unwrap_or_default()] += 1;
        }
        let kept: BTreeMap<String, (Counts, Counts)> =
            audit.sums().map(|(name, sums)| (name.to_owned(), (sums.containers, sums.pods))).collect();
        prop_assert_eq!(kept, counted);
        for key in audit.pods().collect::<Vec<_>>() {
            audit.delete_pod(&key);
        }
        for (namespace, name) in streams.into_keys() {
            audit.delete_stream(&Key::new(&format!("n{namespace}"), &format!("s{name}")));
        }
        prop_assert!(audit.namespaces.is_empty());
    }
}
