//! The objects of a large cluster as its API server sends them: Pods of three containers each, and streams of ten tags with
//! five images each.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::Error;

pub const STREAMS: usize = 10_000;
const NAMESPACES: usize = 1_000;
const TAGS: usize = 10;
const ITEMS: usize = 5;
/// Pods of a workload, which have the same images.
const REPLICAS: usize = 5;

/// A Pod as text, with gaps for what differs.
pub struct Template(Vec<Piece>);

enum Piece {
    Text(String),
    Gap(Gap),
}

#[derive(Clone, Copy)]
enum Gap {
    Name,
    Namespace,
    Uid,
    Version,
    Prepare,
    Main,
    Proxy,
}

const GAPS: [(&str, Gap); 7] = [
    ("NAME", Gap::Name),
    ("NAMESPACE", Gap::Namespace),
    ("UID", Gap::Uid),
    ("VERSION", Gap::Version),
    ("PREPARE", Gap::Prepare),
    ("MAIN", Gap::Main),
    ("PROXY", Gap::Proxy),
];

impl Template {
    /// The one of `pod.json`, with all of `managedFields` and `status`, without indents.
    pub fn read() -> Result<Self, Error> {
        let text = serde_json::from_str::<Value>(include_str!("pod.json"))?.to_string();
        let piece = |part: &str| {
            let gap = GAPS.iter().find(|(name, _)| *name == part);
            gap.map_or_else(|| Piece::Text(part.to_owned()), |(_, gap)| Piece::Gap(*gap))
        };
        Ok(Self(text.split('@').map(piece).collect()))
    }

    /// Writes a Pod. Its main container runs an image of the stream that its workload follows.
    pub fn write(&self, number: usize, version: usize, main: &str, text: &mut String) {
        for piece in &self.0 {
            let _ = match piece {
                Piece::Text(part) => text.write_str(part),
                Piece::Gap(Gap::Name) => write!(text, "application-5d9c7b6f4c-{number}"),
                Piece::Gap(Gap::Namespace) => write!(text, "team-{}", namespace(number)),
                Piece::Gap(Gap::Uid) => write!(text, "00000000-0000-4000-8000-{number:012x}"),
                Piece::Gap(Gap::Version) => write!(text, "{version}"),
                Piece::Gap(Gap::Prepare) => text.write_str(&image(namespace(number), TAGS - 1, 0)),
                Piece::Gap(Gap::Main) => text.write_str(main),
                Piece::Gap(Gap::Proxy) => text.write_str(&image(namespace(number), TAGS - 2, 0)),
            };
        }
    }
}

fn namespace(pod: usize) -> usize {
    pod / REPLICAS % NAMESPACES
}

/// What the main container of a Pod runs: of 20 workloads 14 what a tag points to, 3 an older image, and one each an unknown
/// digest, a tag of a registry and a short name. Two workloads follow a stream, the first of them its first tag.
pub fn main_image(pod: usize) -> String {
    let (namespace, workload) = (namespace(pod), pod / REPLICAS / NAMESPACES);
    let each = STREAMS / NAMESPACES;
    let (stream, tag) = (namespace + NAMESPACES * (workload % each), workload / each % TAGS);
    match workload % 20 {
        0..14 => image(stream, tag, 0),
        14..17 => image(stream, tag, 1 + workload % (ITEMS - 1)),
        17 => format!("registry.example.com/others/application@sha256:{:064x}", workload + 1_000_000_000),
        18 => moving_image(pod),
        _ => "application:1".to_owned(),
    }
}

/// An image without a digest.
pub fn moving_image(pod: usize) -> String {
    format!("registry.example.com/team-{}/application:latest", namespace(pod))
}

/// The pull spec of an image of a stream.
fn image(stream: usize, tag: usize, item: usize) -> String {
    format!("registry.example.com/team-{}/application-{stream}@{}", stream % NAMESPACES, digest(stream, tag, item))
}

fn digest(stream: usize, tag: usize, item: usize) -> String {
    format!("sha256:{:064x}", (stream * TAGS + tag) * ITEMS + item)
}

/// A stream. Its first tag has had so many images more.
pub fn stream(number: usize, version: usize, more: usize) -> String {
    let history = |tag: usize| {
        let item = |(index, digest): (usize, String)| {
            let image = format!("registry.example.com/team-{}/application-{number}@{digest}", number % NAMESPACES);
            json!({"created": format!("2026-01-{:02}T00:00:00Z", 28 - index), "dockerImageReference": image,
                "image": digest, "generation": 2})
        };
        let newer = (0..more * usize::from(tag == 0)).map(|new| format!("sha256:f{number:031x}{new:032x}"));
        let items: Vec<_> =
            newer.chain((0..ITEMS).map(|item| digest(number, tag, item))).enumerate().map(item).collect();
        json!({"tag": format!("{tag}.0"), "items": items})
    };
    let spec = |tag: usize| {
        let from = format!("registry.example.com/team-{}/application-{number}:{tag}.0", number % NAMESPACES);
        json!({"name": format!("{tag}.0"), "annotations": null, "from": {"kind": "DockerImage", "name": from},
            "generation": 2, "importPolicy": {}, "referencePolicy": {"type": "Source"}})
    };
    let (spec, tags) = ((0..TAGS).map(spec).collect::<Vec<_>>(), (0..TAGS).map(history).collect::<Vec<_>>());
    json!({"apiVersion": "pinstream.dev/v1", "kind": "ImageStream",
        "metadata": {"name": format!("application-{number}"), "namespace": format!("team-{}", number % NAMESPACES),
            "uid": format!("00000000-0000-4000-9000-{number:012x}"), "resourceVersion": version.to_string(),
            "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"lookupPolicy": {"local": true}, "tags": spec},
        "status": {"dockerImageRepository": "", "tags": tags}})
    .to_string()
}
