//! An audit for people: namespace by namespace, a line each for what is to be done. Pure.

use jiff::Timestamp;

use super::report::{Counts, Entry, Report};
use crate::audit::Standing;
use crate::cli::age::ago;
use crate::cli::table::table;

/// All of it; with streams and times if it is told what time it is.
pub(super) fn tables(report: &Report, wide: Option<Timestamp>) -> String {
    let mut text = String::new();
    for (namespace, counts) in &report.namespaces {
        text += &summary(namespace, counts);
        let findings = report.findings_of(namespace);
        if !findings.is_empty() {
            text += &indented(&lines(findings, wide));
        }
    }
    if text.is_empty() {
        text += "No containers found\n";
    }
    text += &listed("unused streams", report.unused_streams.iter().map(String::clone));
    let failing = report.failing_tags.iter().map(|tag| format!("{} ({})", tag.tag, tag.reason));
    text + &listed("tags whose import fails", failing)
}

fn summary(namespace: &str, counts: &Counts) -> String {
    let total: usize = counts.containers.values().sum();
    let states = Standing::STATES.iter().filter_map(|state| Some(format!("{} {state}", counts.containers.get(state)?)));
    let states: Vec<_> = states.collect();
    format!("{namespace}: {total} containers of {} objects: {}\n", counts.objects, states.join(", "))
}

fn lines(findings: &[Entry], wide: Option<Timestamp>) -> String {
    let mut header = vec!["STATE", "OBJECT", "CONTAINER", "IMAGE", "BEHIND"];
    if wide.is_some() {
        header.extend(["STREAM", "SINCE"]);
    }
    header.push("ADVICE");
    let line = |entry: &Entry| {
        let steps = entry.steps.map(|steps| steps.to_string()).unwrap_or_default();
        let place = entry.spot.as_ref().map(|spot| format!("{}:{} ", spot.file, spot.line)).unwrap_or_default();
        let object = format!("{place}{}", entry.object);
        let mut line = vec![entry.state.to_owned(), object, entry.container.clone(), entry.image.clone(), steps];
        if let Some(now) = wide {
            line.push(entry.tag.clone().unwrap_or_default());
            line.push(entry.since.map(|since| ago(since, now)).unwrap_or_default());
        }
        line.push(entry.advice.clone().unwrap_or_default());
        line
    };
    table(&header, &findings.iter().map(line).collect::<Vec<_>>())
}

fn indented(text: &str) -> String {
    text.split_inclusive('\n').flat_map(|line| ["  ", line]).collect()
}

fn listed(what: &str, names: impl Iterator<Item = String>) -> String {
    let names: Vec<_> = names.collect();
    if names.is_empty() { String::new() } else { format!("{what}: {}\n", names.join(", ")) }
}
