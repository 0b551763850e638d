//! What the dashboard shows of a real cluster: its panels of what runs have the numbers of the Pods that were made, and
//! the API server's own metrics tell when it goes without the webhook.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::control_plane::{ControlPlane, Namespace};
use crate::importing::{Stream, manifest};
use crate::monitored::{Monitored, pod, pods_path};
use crate::prometheus;
use crate::registry::Content;
use crate::release::install_custom_resource;
use crate::waiting::eventually;

crate::tests![the_dashboard_shows_what_runs_and_who_was_not_asked];

fn the_dashboard_shows_what_runs_and_who_was_not_asked(plane: &ControlPlane) {
    let Some(program) = prometheus::program() else { return };
    let plane = plane.another();
    install_custom_resource(&plane);
    let site = Monitored::start(&plane, &program, "500ms", &[]);
    let [busy, calm] = ["busy", "calm"].map(|name| site.namespace(name, "audit"));
    let at = |digest: &str| format!("{}/app@{digest}", site.registry.host);

    let older = site.registry.push("app", "1", &Content::image("older"));
    let tags = [site.registry.spec_tag("1", "app:1"), site.registry.spec_tag("gone", "app:gone")];
    let stream = Stream::apply(&busy, &manifest("app", &tags));
    stream.has_history("1", &[&older]);
    let newer = site.registry.push("app", "1", &Content::image("newer"));
    stream.import_again("1");
    stream.has_history("1", &[&newer, &older]);
    stream.fails("gone");
    Stream::apply(&calm, &manifest("idle", &[]));
    for (number, image) in [&*at(&newer), &at(&older), "registry.example/app:1", "nothing:1"].iter().enumerate() {
        make(&busy, number, image);
    }
    make(&calm, 0, &at(&format!("sha256:{}", "9".repeat(64))));

    shows(&site, "Running images with a digest", &[("with a digest", 0.6), ("the newest", 0.2)]);
    shows(&site, "Running images with a digest, by namespace", &[("busy", 0.5), ("calm", 1.0)]);
    let states = [("current", 1.0), ("behind", 1.0), ("unknown", 1.0), ("mutable", 1.0), ("unresolved", 1.0)];
    shows(&site, "Containers by state", &states);
    shows(&site, "Furthest behind", &[("busy", 1.0), ("calm", 0.0), ("(other)", 0.0)]);
    shows(&site, "Image streams in use", &[("used", 1.0), ("unused", 1.0)]);
    shows(&site, "Tags that do not follow", &[("failing", 1.0), ("pending", 0.0), ("overdue", 0.0)]);
    eventually("the time behind counts", || {
        let behind = site.prometheus.panel("Behind for longest");
        if behind["busy"] > 0.0 && behind["calm"] == 0.0 { Ok(()) } else { Err(format!("{behind:?}")) }
    });

    eventually("whoever reads streams has them", || {
        let ages = site.prometheus.panel("Source age");
        if ages.len() == 2 && ages.values().all(|age| *age == 0.0) { Ok(()) } else { Err(format!("{ages:?}")) }
    });

    let Monitored { webhook, prometheus, .. } = site;
    drop(webhook);
    let passed_by = "Failing open, as the API server counts";
    eventually("the API server tells that it did not ask", || {
        create(&busy, &pod("unasked", "app:1"), "?dryRun=All");
        let rates = prometheus.panel(passed_by);
        let is_told = |webhook: &str| rates.get(webhook).is_some_and(|rate| *rate > 0.0);
        is_told("workload.pinstream.dev") && is_told("policy.pinstream.dev")
    });
    eventually("it is an alert", || {
        let firing = r#"ALERTS{alertname="PinstreamFailingOpen",alertstate="firing"}"#;
        prometheus.values(firing, "{{name}}").contains_key("policy.pinstream.dev")
    });
}

/// Makes a Pod of that image.
fn make(namespace: &Namespace, number: usize, image: &str) {
    create(namespace, &pod(&format!("pod-{number}"), image), "");
}

fn create(namespace: &Namespace, pod: &Value, parameters: &str) {
    namespace.post(&format!("{}{parameters}", pods_path(namespace)), pod).ok();
}

/// Waits until a panel shows this and nothing else.
fn shows(site: &Monitored, title: &str, expected: &[(&str, f64)]) {
    let expected: BTreeMap<_, _> = expected.iter().map(|(legend, value)| ((*legend).to_owned(), *value)).collect();
    eventually(&format!("the panel {title} shows {expected:?}"), || {
        let shown = site.prometheus.panel(title);
        if shown == expected { Ok(()) } else { Err(format!("{shown:?}")) }
    });
}
