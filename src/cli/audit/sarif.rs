//! An audit as a SARIF 2.1.0 log, which code scanning reads. Pure.

use serde_json::{Value, json};

use super::report::{Entry, Report};
use crate::audit::Standing;

/// Schema of the format.
const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";
/// What the rules say and how much each weighs, in the order of [`Standing::STATES`].
const RULES: [(&str, &str); 5] = [
    ("The image is the one that a tag of an image stream points to.", "none"),
    ("The image is one that a tag of an image stream pointed to before.", "note"),
    ("The image has a digest that no image stream knows.", "note"),
    ("The image has no digest, so that it can change.", "warning"),
    ("The image is a short name that no image stream has turned into a digest.", "error"),
];

/// The whole log.
pub(super) fn log(report: &Report) -> Value {
    let rules = Standing::STATES.iter().zip(RULES).skip(1).map(|(state, (says, level))| {
        json!({"id": rule(state), "name": state, "shortDescription": {"text": says},
            "defaultConfiguration": {"level": level}})
    });
    let driver = json!({"name": "pinstream", "version": env!("CARGO_PKG_VERSION"), "rules": rules.collect::<Vec<_>>()});
    let results: Vec<_> = report.findings.iter().map(result).collect();
    json!({"$schema": SCHEMA, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]})
}

fn rule(state: &str) -> String {
    format!("image-{state}")
}

fn result(entry: &Entry) -> Value {
    let name = format!("{}/{}/{}", entry.namespace, entry.object, entry.container);
    let mut location = json!({"logicalLocations": [{"fullyQualifiedName": name, "kind": "resource"}]});
    if let Some(spot) = &entry.spot {
        location["physicalLocation"] =
            json!({"artifactLocation": {"uri": uri(&spot.file)}, "region": {"startLine": spot.line}});
    }
    // The first is the rule of what is current, which is no finding.
    json!({"ruleId": rule(entry.state), "ruleIndex": entry.rank.saturating_sub(1), "level": RULES[entry.rank].1,
        "message": {"text": entry.sentence()}, "locations": [location]})
}

/// A path as a relative URI.
fn uri(path: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let letter = |byte: u8| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    path.bytes().map(letter).collect()
}
