//! That the chart's README has a row for every value, with its default and what the schema says about it.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::support::repository;

fn file(name: &str) -> String {
    fs::read_to_string(repository().join("charts/pinstream").join(name)).unwrap()
}

/// The rows of all values below a part of the schema.
fn rows(path: &str, schema: &Value, defaults: Option<&Value>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (name, value) in schema["properties"].as_object().unwrap() {
        let (path, default) = (format!("{path}{name}"), defaults.and_then(|defaults| defaults.get(name)));
        if value.get("properties").is_some() {
            found.append(&mut rows(&format!("{path}."), value, default));
            continue;
        }
        let default = match default {
            Some(Value::String(text)) if text.is_empty() => String::new(),
            Some(default) => format!(" `{default}`"),
            None => String::new(),
        };
        found.insert(format!("| `{path}` |{default} | {} |", value["description"].as_str().unwrap()));
    }
    found
}

#[test]
fn every_value_of_the_chart_is_documented_and_no_other() {
    let schema: Value = serde_json::from_str(&file("values.schema.json")).unwrap();
    let defaults: Value = serde_saphyr::from_str(&file("values.yaml")).unwrap();
    let mut expected = rows("", &schema, Some(&defaults));
    // Helm gives it to every chart.
    expected.retain(|row| !row.starts_with("| `global` |"));
    let readme = file("README.md");
    let (_, table) = readme.split_once("\n## Values\n").unwrap();
    let documented: BTreeSet<_> = table.lines().filter(|line| line.starts_with("| `")).map(str::to_owned).collect();
    assert_eq!(documented.difference(&expected).collect::<Vec<_>>(), [""; 0]);
    assert_eq!(expected.difference(&documented).collect::<Vec<_>>(), [""; 0]);
}

/// Values that the schema does not know would be refused by Helm, but only where Helm is run.
#[test]
fn every_default_is_in_the_schema() {
    fn check(path: &str, schema: &Value, defaults: &Value) {
        let Some(properties) = schema.get("properties") else { return };
        assert_eq!(schema["additionalProperties"], false, "{path}: misspelt values are refused");
        for (name, default) in defaults.as_object().into_iter().flatten() {
            check(&format!("{path}.{name}"), properties.get(name).expect(name), default);
        }
    }
    let schema = serde_json::from_str(&file("values.schema.json")).unwrap();
    check("", &schema, &serde_saphyr::from_str(&file("values.yaml")).unwrap());
}
