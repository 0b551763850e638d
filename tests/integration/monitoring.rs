//! The alerts and the dashboard of the chart: that they are in order, and that they say something in a real Prometheus.

pub mod prometheus;
pub mod scene;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::documentation::{document, rows};
use crate::support::{repository, until};
use prometheus::{ALERTS, Prometheus, content, program};
use scene::Scene;

/// Panels that a server over a directory has no data for.
const NEED_A_CLUSTER: [(&str, &str); 3] = [
    ("Failing open, as the API server counts", "the API server counts it, in metrics of its own"),
    ("Running images with a digest", "there are no Pods"),
    ("Running images with a digest, by namespace", "there are no Pods"),
];

/// Beginnings of metrics that others document.
const FOREIGN: [&str; 2] = ["apiserver_", "process_"];

fn dashboard() -> Value {
    serde_json::from_str(&document("charts/pinstream/files/dashboard.json")).unwrap()
}

/// The panels that show something.
fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row")
}

/// Each query of the panels, with the panel's title.
fn queries(dashboard: &Value) -> impl Iterator<Item = (&str, &str)> {
    panels(dashboard).flat_map(|panel| {
        let targets = panel["targets"].as_array().unwrap().iter();
        targets.map(|target| (panel["title"].as_str().unwrap(), target["expr"].as_str().unwrap()))
    })
}

/// Each alert.
fn alerts() -> Vec<Value> {
    let file: Value = serde_saphyr::from_str(&document(ALERTS)).unwrap();
    let groups = file["groups"].as_array().unwrap();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).cloned().collect()
}

/// The metrics that a query names.
fn metrics(query: &str) -> impl Iterator<Item = &str> {
    let words = query.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("pinstream_") || FOREIGN.iter().any(|foreign| word.starts_with(foreign)))
}

#[test]
fn queries_name_only_metrics_that_are_documented() {
    let documented = rows(&document("docs/metrics.md"));
    let (dashboard, alerts) = (dashboard(), alerts());
    let alerts = alerts.iter().map(|alert| (alert["alert"].as_str().unwrap(), alert["expr"].as_str().unwrap()));
    for (title, query) in queries(&dashboard).chain(alerts) {
        let mut count = 0;
        for metric in metrics(query) {
            count += 1;
            let parts = ["_bucket", "_count", "_sum"].into_iter().filter_map(|part| metric.strip_suffix(part));
            let is_known = parts.chain([metric]).any(|name| documented.contains(name));
            let is_foreign = FOREIGN.iter().any(|foreign| metric.starts_with(foreign));
            assert!(is_known || is_foreign, "{title}: {metric}");
        }
        assert!(count > 0, "{title}: {query}");
    }
}

#[test]
fn every_alert_says_what_is_wrong_and_where_to_read_on() {
    let text = document("docs/monitoring.md");
    let alerts = alerts();
    let names: BTreeSet<_> = alerts.iter().map(|alert| alert["alert"].as_str().unwrap()).collect();
    assert_eq!(names.len(), alerts.len());
    let sections: BTreeSet<_> = text.lines().filter_map(|line| line.strip_prefix("### Pinstream")).collect();
    assert_eq!(sections, names.iter().map(|name| name.strip_prefix("Pinstream").unwrap()).collect());
    for alert in &alerts {
        let (name, annotations) = (alert["alert"].as_str().unwrap(), &alert["annotations"]);
        assert!(["critical", "warning", "info"].contains(&alert["labels"]["severity"].as_str().unwrap()), "{name}");
        assert!(annotations["summary"].as_str().unwrap().ends_with('.'), "{name}");
        let link = format!("docs/monitoring.md#{}", name.to_lowercase());
        assert!(annotations["description"].as_str().unwrap().ends_with(&link), "{name}");
    }
}

#[test]
fn panels_are_explained_and_do_not_overlap() {
    let dashboard = dashboard();
    let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        let [x, y, width, height] = ["x", "y", "w", "h"].map(|name| panel["gridPos"][name].as_u64().unwrap());
        assert!(ids.insert(panel["id"].as_u64().unwrap()) && x + width <= 24, "{title}");
        for place in (y..y + height).flat_map(|row| (x..x + width).map(move |column| (row, column))) {
            assert!(taken.insert(place), "{title}");
        }
    }
    let known: BTreeSet<_> = panels(&dashboard).map(|panel| panel["title"].as_str().unwrap()).collect();
    assert!(NEED_A_CLUSTER.iter().all(|(title, _)| known.contains(title)));
    for panel in panels(&dashboard) {
        assert!(panel["description"].as_str().unwrap().ends_with('.'), "{}", panel["title"]);
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
    }
}

#[test]
fn alerts_fire_when_they_should() {
    let Some(promtool) = program("promtool") else { return };
    let run = |arguments: &[&str]| {
        content(&Command::new(&promtool).args(arguments).current_dir(repository()).output().unwrap())
    };
    run(&["check", "rules", "--lint-fatal", ALERTS]);
    run(&["test", "rules", "tests/monitoring/alerts.yaml"]);
    let tests = document("tests/monitoring/alerts.yaml");
    for alert in alerts() {
        let name = alert["alert"].as_str().unwrap();
        let is_tested = [format!("alertname: {name}\n"), format!("alertname=\"{name}\"")];
        assert!(is_tested.iter().any(|words| tests.contains(words)), "{name} is not tested to fire");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_as_prometheus_wants_them() {
    let Some(promtool) = program("promtool") else { return };
    let scene = Scene::start().await;
    scene.round().await;
    let (_, metrics) = scene.server.admin("/metrics").await;
    let mut check = Command::new(promtool);
    let check = check.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = check.spawn().unwrap();
    child.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    assert_eq!(content(&child.wait_with_output().unwrap()), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_answers_every_query_of_the_dashboard() {
    let Some(program) = program("prometheus") else { return };
    let scene = Scene::start().await;
    let prometheus = Prometheus::start(program, scene.server.admin).await;
    until("the server was scraped", async || !prometheus.values("pinstream_build_info").await.is_empty()).await;
    // Rates need something that happens while somebody looks.
    scene.imports("later").await;
    let dashboard = dashboard();
    for (title, query) in queries(&dashboard) {
        let query = query.replace("$__rate_interval", "5m").replace("$namespace", ".*").replace("$job", ".*");
        assert!(!query.contains('$'), "{title}: {query}");
        if NEED_A_CLUSTER.iter().any(|(panel, _)| *panel == title) {
            assert!(prometheus.values(&query).await.is_empty(), "{title} does not need a cluster");
            continue;
        }
        until(&format!("{title} has data: {query}"), async || {
            scene.round().await;
            prometheus.values(&query).await.iter().any(|value| value.is_finite())
        })
        .await;
    }
    let rules = async || prometheus.api("rules", &[]).await["groups"][0]["rules"].as_array().unwrap().clone();
    until("every alert was evaluated", async || rules().await.iter().all(|rule| rule["health"] != "unknown")).await;
    let rules = rules().await;
    assert_eq!(rules.len(), alerts().len());
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
    let refused = r#"ALERTS{alertname="PinstreamRefuses",alertstate="firing",kind="Pod"}"#;
    until("it is told that the policy refuses", async || prometheus.values(refused).await == [1.0]).await;
}

/// The panels that a picture says it has.
fn drawn(picture: &Path) -> BTreeSet<String> {
    let bytes = fs::read(picture).unwrap();
    let mark = b"tEXtPanels\0";
    let at = bytes.windows(mark.len()).position(|window| window == mark).unwrap();
    let length = u32::from_be_bytes(bytes[at - 4..at].try_into().unwrap()) as usize;
    let text = &bytes[at + mark.len()..at + 4 + length];
    std::str::from_utf8(text).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn every_panel_is_in_one_picture_of_the_page() {
    let folder = repository().join("docs/images");
    let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let pictures: BTreeSet<_> = files.filter(|path| path.extension().is_some_and(|end| end == "png")).collect();
    let page = document("docs/monitoring.md");
    let shown = page.lines().filter_map(|line| line.strip_prefix("![")?.split_once("](images/")?.1.strip_suffix(')'));
    assert_eq!(shown.map(|name| folder.join(name)).collect::<BTreeSet<_>>(), pictures);
    let dashboard = dashboard();
    let going_on = panels(&dashboard).filter(|panel| panel["type"] == "timeseries");
    let expected = going_on.map(|panel| panel["title"].as_str().unwrap().to_owned()).collect();
    let drawn = pictures.iter().flat_map(|picture| drawn(picture));
    assert_eq!(drawn.collect::<BTreeSet<_>>(), expected);
    let size: u64 = pictures.iter().map(|picture| picture.metadata().unwrap().len()).sum();
    assert!(size < 300 << 10, "{size} bytes");
}
