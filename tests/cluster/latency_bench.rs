//! What the webhook adds to the creation of a Pod, beside no webhook and one that answers a constant, in one run.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use crate::constant::Beside;
use crate::control_plane::{ControlPlane, Namespace};
use crate::release::{PINNED, Reach, Release, image_of_pod};
use crate::waiting::eventually;

/// Pods of each sort. They are created in turns.
const PODS: usize = 1500;
/// Pods before anything is measured.
const WARM_UP: usize = 100;

/// A sort of Pods, and how long each took.
struct Sort<'n> {
    name: &'static str,
    namespace: &'n Namespace,
    image: &'static str,
    expected: &'static str,
    took: Vec<Duration>,
}

/// Prints p50 and p99 of each sort of Pods.
pub fn pod_creation(plane: &ControlPlane) {
    let values = |policy: bool| json!({"logs": {"level": "info"}, "policy": {"enabled": policy}});
    let release = Release::install(plane, Reach::Service, &values(false));
    let pinned = release.working_namespace(&json!({}));
    // The API server asks it twice: what becomes of a Pod, and whether it is as the policy wants it.
    let judging = Release::install(plane, Reach::Service, &values(true));
    let judged = judging.working_namespace(&json!({}));
    let [none, constant, patched] = [(); 3].map(|()| plane.namespace());
    let beside = Beside::start(plane, &release);
    let _webhooks = [beside.register(&constant, "/mutate"), beside.register(&patched, "/patch")];
    let image = "registry.example/app:1";
    let sort = |name, namespace, image, expected| Sort { name, namespace, image, expected, took: Vec::new() };
    let mut sorts = [
        sort("no webhook", &none, "keycloak:20.0", "keycloak:20.0"),
        sort("constant answer", &constant, "keycloak:20.0", "keycloak:20.0"),
        sort("sent, no such stream", &pinned, "nothing:1", "nothing:1"),
        sort("constant patch", &patched, "keycloak:20.0", PINNED),
        sort("pinned", &pinned, "keycloak:20.0", PINNED),
        sort("pinned and judged", &judged, "keycloak:20.0", PINNED),
        sort("skipped by matchConditions", &pinned, image, image),
    ];
    eventually("the constant server is called", || {
        constant.kubectl(&["run", "dry", "--image=keycloak:20.0", "--dry-run=server"]).ok();
        image_of_pod(&patched, "keycloak:20.0") == PINNED && beside.server.calls() > 1
    });
    for turn in 0..WARM_UP + PODS {
        for sort in &mut sorts {
            let took = sort.create();
            if turn >= WARM_UP {
                sort.took.push(took);
            }
        }
    }
    println!("{PODS} Pods of each sort, one after the other");
    let [base, ..] = sorts.each_mut().map(Sort::percentiles);
    for sort in &mut sorts {
        let (p50, p99) = sort.percentiles();
        println!(
            "{:27} p50 {:6.2} ms (+{:.2})  p99 {:6.2} ms (+{:.2})",
            sort.name,
            p50,
            p50 - base.0,
            p99,
            p99 - base.1
        );
    }
}

impl Sort<'_> {
    fn create(&self) -> Duration {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "load-"},
            "spec": {"containers": [{"name": "main", "image": self.image}]}});
        let path = format!("/api/v1/namespaces/{}/pods", self.namespace.name);
        let started = Instant::now();
        let pod = self.namespace.ask(&Method::POST, &path, Some(&pod)).unwrap().ok();
        let took = started.elapsed();
        assert_eq!(pod["spec"]["containers"][0]["image"], self.expected, "{}", self.name);
        took
    }

    /// In milliseconds.
    fn percentiles(&mut self) -> (f64, f64) {
        self.took.sort_unstable();
        let at = |percent: usize| self.took[self.took.len() * percent / 100].as_secs_f64() * 1e3;
        (at(50), at(99))
    }
}
