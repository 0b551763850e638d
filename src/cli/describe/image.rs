//! An image for people, as `oc describe istag` shows it. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use crate::cli::age::ago;
use crate::cli::describe::{annotations, or_none};
use crate::cli::table::tabbed;
use crate::image::{Child, Description, Image};

/// What is shown of an image.
pub(in crate::cli) struct Shown<'a> {
    /// What it is called: its digest, or the tag that was imported.
    pub title: &'a str,
    /// Its digest.
    pub digest: &'a str,
    /// Pull spec under which users get it.
    pub pull_spec: &'a str,
    /// Why it is not pulled as the tag's reference policy says, if it is not.
    pub not_local: Option<&'a str>,
    /// What is known of it, if it is.
    pub image: Option<&'a Image>,
}

/// The image, a line for each thing that is known of it.
pub(in crate::cli) fn text(shown: &Shown<'_>, now: Timestamp) -> String {
    let mut lines = vec![
        line("Image Name", shown.title.to_owned()),
        line("Docker Image", shown.pull_spec.to_owned()),
        line("Name", shown.digest.to_owned()),
    ];
    lines.extend(shown.not_local.map(|why| line("Reference Policy", format!("Local, {why}"))));
    if let Some(image) = shown.image {
        lines.extend(origin(image, now));
        lines.extend(content(image, now));
        lines.extend(configuration(image));
    }
    tabbed(&lines)
}

fn line(name: &str, value: String) -> Vec<String> {
    vec![format!("{name}:"), value]
}

/// A value a line; the name stands before the first.
fn lines(name: &str, values: impl IntoIterator<Item = Vec<String>>) -> Vec<Vec<String>> {
    let named = |(number, values): (usize, Vec<String>)| {
        let name = if number == 0 { format!("{name}:") } else { String::new() };
        [vec![name], values].concat()
    };
    values.into_iter().enumerate().map(named).collect()
}

fn origin(image: &Image, now: Timestamp) -> Vec<Vec<String>> {
    let created = image.metadata.other.get("creationTimestamp").and_then(|time| time.as_str()?.parse().ok());
    let labels = image.metadata.other.get("labels").and_then(Value::as_object);
    let labels = labels.into_iter().flatten().map(|(key, value)| vec![format!("{key}={}", word(value))]);
    let mut origin: Vec<_> = created.map(|created| line("Created", ago(created, now))).into_iter().collect();
    origin.extend(lines("Labels", labels));
    if !image.metadata.annotations.is_empty() {
        origin.extend(annotations(&image.metadata.annotations));
    }
    origin
}

fn content(image: &Image, now: Timestamp) -> Vec<Vec<String>> {
    let Description { size: bytes, created, author, architecture, .. } = &image.docker_image_metadata;
    let layers = &image.docker_image_layers;
    let mut content = if layers.is_empty() {
        vec![line("Layer Size", size(*bytes))]
    } else {
        vec![line("Image Size", format!("{} in {} layers", size(*bytes), layers.len()))]
    };
    content.extend(lines("Layers", layers.iter().map(|layer| vec![size(layer.size), layer.name.clone()])));
    content.push(line("Image Created", created.map_or_else(|| or_none(""), |created| ago(created, now))));
    content.push(line("Author", or_none(author)));
    content.push(line("Arch", or_none(architecture)));
    let children = image.docker_image_manifests.iter().map(|child| vec![platform(child), child.digest.clone()]);
    content.extend(lines("Manifests", children));
    content
}

fn platform(child: &Child) -> String {
    let parts = [&child.os, &child.architecture, &child.variant];
    parts.into_iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join("/")
}

/// How an image is run. Of one whose configuration was too large nothing of it is known.
fn configuration(image: &Image) -> Vec<Vec<String>> {
    match &image.docker_image_metadata.config {
        Some(config) => run(config),
        None if image.docker_image_manifests.is_empty() => {
            vec![line("Configuration", "<not kept: too large, or not that of an image>".to_owned())]
        }
        None => run(&serde_json::Map::new()),
    }
}

/// How an image is run.
fn run(config: &serde_json::Map<String, Value>) -> Vec<Vec<String>> {
    let text = |field: &str| or_none(config.get(field).and_then(Value::as_str).unwrap_or_default());
    let words = |field: &str| config.get(field).and_then(Value::as_array).into_iter().flatten().map(word);
    let fields = |field: &str| config.get(field).and_then(Value::as_object).into_iter().flatten();
    let keys = |field: &str| fields(field).map(|(key, _)| key.clone()).collect::<Vec<_>>();
    let command = |field: &str| words(field).collect::<Vec<_>>().join(" ");
    let commands = [("Entrypoint", command("Entrypoint")), ("Command", command("Cmd"))];
    let mut lines_of_run: Vec<_> = commands
        .into_iter()
        .filter(|(_, command)| !command.is_empty())
        .map(|(name, command)| line(name, command))
        .collect();
    if lines_of_run.is_empty() {
        lines_of_run.push(line("Command", or_none("")));
    }
    lines_of_run.push(line("Working Dir", text("WorkingDir")));
    lines_of_run.push(line("User", text("User")));
    lines_of_run.push(line("Exposes Ports", or_none(&keys("ExposedPorts").join(", "))));
    let labels: BTreeMap<_, _> = fields("Labels").collect();
    if labels.is_empty() {
        lines_of_run.push(line("Docker Labels", or_none("")));
    }
    let labels = labels.into_iter().map(|(key, value)| vec![format!("{key}={}", word(value))]);
    lines_of_run.extend(lines("Docker Labels", labels));
    lines_of_run.extend(lines("Environment", words("Env").map(|variable| vec![variable])));
    lines_of_run.extend(lines("Volumes", keys("Volumes").into_iter().map(|volume| vec![volume])));
    lines_of_run
}

/// A value that is to be a string, as one.
fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Bytes in the one unit that tells most, four digits at most.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let exponent = UNITS.len().min(bytes.max(1).ilog10() as usize / 3 + 1) - 1;
    let unit = 1000_u128.pow(u32::try_from(exponent).unwrap_or_default());
    let digits = (u128::from(bytes) / unit).max(1).ilog10() as usize + 1;
    let decimals = if exponent == 0 { 0 } else { 4 - digits };
    let scale = 10_u128.pow(u32::try_from(decimals).unwrap_or_default());
    let scaled = (u128::from(bytes) * scale + unit / 2) / unit;
    let (whole, fraction) = (scaled / scale, scaled % scale);
    let fraction = format!("{fraction:0decimals$}");
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{whole}{point}{fraction}{}", UNITS[exponent])
}

#[cfg(test)]
mod tests;
