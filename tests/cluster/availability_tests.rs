//! That Pods are created and pinned whatever happens to replicas and API server, and created at least when nothing is
//! left.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use crate::control_plane::{ControlPlane, Namespace};
use crate::release::{PINNED, Reach, Release, image_of_pod};
use crate::waiting::eventually;

crate::tests![
    rolling_restart_leaves_no_pod_refused_or_unpinned,
    without_a_replica_pods_are_created_as_they_are,
    watch_recovers_when_the_api_server_was_away,
];

/// Pods a second.
const RATE: u32 = 50;
/// Who creates them.
const CREATORS: u32 = 5;

/// Creates Pods at a steady rate until it is told to end.
pub struct Load {
    end: Arc<AtomicBool>,
    found: Arc<Mutex<Found>>,
    threads: Vec<thread::JoinHandle<()>>,
}

/// What became of Pods.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub pinned: usize,
    /// What was stored otherwise, or answered in place of a Pod.
    pub wrong: Vec<String>,
}

impl Load {
    /// Pods with the image `keycloak:20.0`; with `query` such as `?dryRun=All`.
    pub fn start(namespace: &Namespace, query: &'static str) -> Self {
        let (end, found) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Found>>::default());
        let path = format!("/api/v1/namespaces/{}/pods{query}", namespace.name);
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "load-"},
            "spec": {"containers": [{"name": "main", "image": "keycloak:20.0"}]}});
        let create = |_| {
            let (user, path, pod) = (namespace.at_home_in(&namespace.name), path.clone(), pod.clone());
            let (end, found) = (Arc::clone(&end), Arc::clone(&found));
            thread::spawn(move || {
                let mut next = Instant::now();
                while !end.load(Ordering::Relaxed) {
                    let answer = user.ask(&Method::POST, &path, Some(&pod));
                    let image = answer.as_ref().ok().map(|answer| &answer.body["spec"]["containers"][0]["image"]);
                    let mut found = found.lock().unwrap();
                    if image.is_some_and(|image| image == PINNED) {
                        found.pinned += 1;
                    } else {
                        found.wrong.push(format!("{answer:?}"));
                    }
                    drop(found);
                    next += Duration::from_secs(1) * CREATORS / RATE;
                    thread::sleep(next.saturating_duration_since(Instant::now()));
                }
            })
        };
        let threads = (0..CREATORS).map(create).collect();
        Self { end, found, threads }
    }

    pub fn so_far(&self) -> Found {
        self.found.lock().unwrap().clone()
    }

    /// Waits until so many more Pods were pinned.
    pub fn goes_on(&self, more: usize) {
        let before = self.so_far().pinned;
        eventually("more Pods are created", || self.so_far().pinned >= before + more);
    }

    pub fn end(self) -> Found {
        self.end.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        self.found.lock().unwrap().clone()
    }
}

fn rolling_restart_leaves_no_pod_refused_or_unpinned(plane: &ControlPlane) {
    let release = Release::install(plane, Reach::Service, &json!({"shutdown": {"delaySeconds": 2}}));
    eventually("both replicas serve", || release.seen().admin_ports().len() == 2);
    let namespace = release.working_namespace(&json!({}));
    let first = release.seen().admin_ports();
    let load = Load::start(&namespace, "");
    load.goes_on(100);
    let deployment = format!("deployment/{}", release.name);
    release.namespace.kubectl(&["rollout", "restart", &deployment]).ok();
    release.namespace.kubectl(&["rollout", "status", &deployment, "--timeout=120s"]).ok();
    eventually("only new replicas serve", || {
        let now = release.seen().admin_ports();
        now.len() == 2 && first.iter().all(|port| !now.contains(port))
    });
    load.goes_on(100);
    let found = load.end();
    assert!(found.wrong.is_empty(), "{} of {} Pods: {:?}", found.wrong.len(), found.pinned, &found.wrong[..1]);
    assert_eq!(release.seen().failures(), 0);
}

fn without_a_replica_pods_are_created_as_they_are(plane: &ControlPlane) {
    let release = Release::install(plane, Reach::Service, &json!({"shutdown": {"delaySeconds": 0}}));
    let namespace = release.working_namespace(&json!({}));
    release.namespace.kubectl(&["scale", &format!("deployment/{}", release.name), "--replicas=0"]).ok();
    eventually("no replica is left", || release.namespace.get(&["pods"])["items"].as_array().unwrap().is_empty());
    namespace.kubectl(&["create", "deployment", "web", "--image=keycloak:20.0"]).ok();
    assert_eq!(image_of_pod(&namespace, "keycloak:20.0"), "keycloak:20.0");
}

fn watch_recovers_when_the_api_server_was_away(plane: &ControlPlane) {
    let plane = plane.another();
    let release = Release::install(&plane, Reach::Service, &json!({}));
    let namespace = release.working_namespace(&json!({}));
    plane.stop_api_server();
    eventually("the age of the streams is known", || {
        release.seen().metric("pinstream_source_age_seconds").is_some_and(|age| age > 0.0)
    });
    plane.start_api_server();
    eventually("Pods are pinned again", || image_of_pod(&namespace, "keycloak:20.0") == PINNED);
    let moved = PINNED.replace("54eda51e", "00000000");
    let patch = json!({"status": {"tags": [{"tag": "20.0", "items": [{"created": "2024-01-01T00:00:00Z", "generation": 3,
        "dockerImageReference": moved, "image": moved.split_once('@').unwrap().1}]}]}});
    let patch = format!("--patch={patch}");
    namespace.kubectl(&["patch", "imagestream", "keycloak", "--subresource=status", "--type=merge", &patch]).ok();
    eventually("the moved tag is seen", || image_of_pod(&namespace, "keycloak:20.0") == moved);
    eventually("the streams are current", || release.seen().metric("pinstream_source_age_seconds") == Some(0.0));
    assert_eq!(release.seen().failures(), 0);
    eventually("each webhook says that the watch is up again", || {
        webhooks(&release).all(|log| log.contains("image streams are watched again"))
    });
    for log in webhooks(&release) {
        let said = |what: &str| log.matches(what).count();
        // It may lack its rights for a moment when it has just started, which is another matter.
        let lost = said("image streams cannot be watched");
        assert!((1..=said("image streams are watched again") + 1).contains(&lost), "{log}");
    }
}

/// What each webhook has logged.
fn webhooks(release: &Release) -> impl Iterator<Item = String> {
    release.seen().each_log().into_iter().filter(|log| log.contains("webhook="))
}
