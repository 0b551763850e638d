//! That every metric of a running server has help, a name with its unit, and a row in `docs/metrics.md`.

use std::collections::{BTreeMap, BTreeSet};

use pinstream::admission::decide::Outcome;

use crate::documentation::{document, rows};
use crate::monitoring::scene::Scene;

/// Labels that Prometheus and its operator give to what is scraped: a metric with one of these would have it renamed.
const TARGET_LABELS: [&str; 7] = ["container", "endpoint", "instance", "job", "namespace", "pod", "service"];

/// What `/metrics` says of one metric.
#[derive(Default)]
struct Metric {
    help: String,
    kind: String,
    labels: BTreeSet<String>,
}

/// The metrics in a text, by name.
fn parsed(text: &str) -> BTreeMap<String, Metric> {
    let mut metrics = BTreeMap::<String, Metric>::new();
    for line in text.lines() {
        let words = |mark| line.strip_prefix(mark).and_then(|rest: &str| rest.split_once(' '));
        if let Some((name, help)) = words("# HELP ") {
            help.clone_into(&mut metrics.entry(name.to_owned()).or_default().help);
        } else if let Some((name, kind)) = words("# TYPE ") {
            kind.clone_into(&mut metrics.entry(name.to_owned()).or_default().kind);
        } else if let Some((series, labels)) = line.split_once('{') {
            let parts = ["_bucket", "_sum", "_count"].into_iter().filter_map(|part| series.strip_suffix(part));
            let name = parts.chain([series]).find(|name| metrics.contains_key(*name)).unwrap().to_owned();
            let names =
                labels.split("\",").filter_map(|label| label.split_once("=\"")).map(|(name, _)| name.to_owned());
            metrics.get_mut(&name).unwrap().labels.extend(names.filter(|name| name != "le"));
        }
    }
    metrics
}

/// The unit that a help text speaks of.
fn unit(help: &str) -> &'static str {
    let speaks_of = |words: &[&str]| words.iter().any(|word| help.contains(word));
    match () {
        () if help.starts_with("Bytes ") => "_bytes",
        () if help.starts_with("From ") || speaks_of(&["how long", "in seconds"]) => "_seconds",
        () => "",
    }
}

/// The unit that a name ends with.
fn named_unit(name: &str) -> &'static str {
    let name = name.strip_suffix("_total").unwrap_or(name);
    ["_bytes", "_seconds"].into_iter().find(|unit| name.ends_with(unit)).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_has_help_a_unit_and_a_row() {
    let scene = Scene::start().await;
    scene.round().await;
    let (_, text) = scene.server.admin("/metrics").await;
    let mut metrics = parsed(&text);
    for (name, metric) in &metrics {
        assert!(metric.help.ends_with('.'), "{name}: {}", metric.help);
        assert_eq!(name.ends_with("_total"), metric.kind == "counter", "{name}");
        assert!(TARGET_LABELS.iter().all(|label| !metric.labels.contains(*label)), "{name}: {:?}", metric.labels);
    }
    metrics.retain(|name, _| name.starts_with("pinstream_"));
    for (name, metric) in &metrics {
        assert_eq!(named_unit(name), unit(&metric.help), "{name}: {}", metric.help);
    }

    let page = document("docs/metrics.md");
    let (documented, outcomes): (BTreeSet<_>, BTreeSet<_>) =
        rows(&page).into_iter().partition(|word| word.starts_with("pinstream_"));
    assert_eq!(documented, metrics.keys().cloned().collect());
    assert_eq!(outcomes, Outcome::LABELS.map(str::to_owned).into());
    for row in page.lines().filter(|line| line.starts_with("| `pinstream_")) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let labels = cells[2].split(", ").map(|label| label.trim_matches('`').to_owned());
        let labels: BTreeSet<_> = labels.filter(|label| !label.is_empty()).collect();
        assert_eq!(labels, metrics[cells[1].trim_matches('`')].labels, "{row}");
    }
}
