//! That the chart's README has a row for every value, with its default and what the schema says about it, and that commands
//! understand the chart.

use std::collections::BTreeSet;
use std::fs;

use clap::CommandFactory as _;
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

/// The arguments of the containers in a render, each with the file that it is from.
fn arguments() -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for case in fs::read_dir(repository().join("tests/chart")).unwrap() {
        let path = case.unwrap().path().join("expected.yaml");
        let text = fs::read_to_string(&path).unwrap();
        for document in text.split("\n---\n").filter(|document| document.contains("\nkind: Deployment\n")) {
            let deployment: Value = serde_saphyr::from_str(document).unwrap();
            for container in deployment["spec"]["template"]["spec"]["containers"].as_array().unwrap() {
                let arguments = container["args"].as_array().unwrap().iter();
                let arguments = arguments.map(|argument| argument.as_str().unwrap().to_owned()).collect();
                found.push((path.display().to_string(), arguments));
            }
        }
    }
    found
}

#[test]
fn commands_understand_what_the_chart_tells_them() {
    let command = pinstream::cli::Cli::command();
    let known: BTreeSet<_> = command.get_subcommands().map(clap::Command::get_name).collect();
    let mut run = BTreeSet::new();
    for (path, arguments) in arguments().iter().filter(|(_, arguments)| known.contains(arguments[0].as_str())) {
        let words = std::iter::once("pinstream").chain(arguments.iter().map(String::as_str));
        let parsed = command.clone().try_get_matches_from(words);
        assert!(parsed.is_ok(), "{path}: {arguments:?}: {}", parsed.unwrap_err());
        run.insert(arguments[0].clone());
    }
    assert!(run.contains("webhook") && run.contains("controller"), "{run:?}");
}
