//! What OpenShift was recorded to answer, replayed over HTTPS; differences are listed in one table.

use std::collections::BTreeMap;
use std::fs;

use pinstream::stream::ImageStream;
use rstest::rstest;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::{Server, patch_of, repository, review};

#[derive(Deserialize)]
struct Recording {
    namespace: String,
    streams: Vec<Value>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    #[serde(rename = "case")]
    name: String,
    operation: String,
    object: Value,
    #[serde(default)]
    old_object: Value,
    status: u16,
    images: Option<Vec<Slot>>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Slot {
    path: String,
    image: Value,
}

/// A case in which another result is wanted: the one of the case `like`.
#[derive(Deserialize)]
struct Difference {
    reason: String,
    like: String,
}

fn data<T: for<'de> Deserialize<'de>>(file: &str) -> T {
    let text = fs::read(repository().join("tests/conformance").join(file)).unwrap();
    serde_json::from_slice(&text).unwrap()
}

#[rstest]
#[case("admission-with-registry.json")]
#[case("admission-without-registry.json")]
#[tokio::test]
async fn admission_is_as_recorded(#[case] file: &str) {
    let recording: Recording = data(file);
    let differences: BTreeMap<String, Difference> = data("differences.json");
    assert!(differences.values().all(|difference| !difference.reason.is_empty()));
    let list = json!({"apiVersion": "v1", "kind": "List", "items": recording.streams});
    // Where the streams are served is recorded as well, and would be forgotten by an import.
    let server = Server::start(&["--no-import"], |folder| {
        fs::write(folder.join("streams/all.json"), list.to_string()).unwrap();
    });
    let client = server.client(&[], |client| client);

    let mut wrong = Vec::new();
    for case in &recording.cases {
        let kind = case.object["kind"].as_str().unwrap();
        let review = review(kind, &recording.namespace, &case.operation, &case.object, &case.old_object);
        let response = server.ask(&client, &review).await;
        let mut object = case.object.clone();
        let patch: json_patch::Patch = serde_json::from_value(patch_of(&response)).unwrap();
        json_patch::patch(&mut object, &patch).unwrap();

        let Some(recorded) = &case.images else {
            assert_eq!(case.status, 422, "{}", case.name);
            if object != case.object {
                wrong.push(format!("{}: refused by the API server, so it is to be left alone", case.name));
            }
            continue;
        };
        let like = |other: &str| {
            let other = recording.cases.iter().find(|case| case.name == other).unwrap();
            other.images.clone().unwrap()
        };
        let difference = differences.get(&case.name);
        let wanted = difference.map_or_else(|| recorded.clone(), |difference| like(&difference.like));
        let found: Vec<_> = wanted
            .iter()
            .map(|slot| Slot { image: object.pointer(&slot.path).unwrap().clone(), path: slot.path.clone() })
            .collect();
        if found != wanted {
            wrong.push(format!("{}: {found:?}, not {wanted:?}", case.name));
        }
        if difference.is_some() && wanted == *recorded {
            wrong.push(format!("{}: listed as a difference, and is none", case.name));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), recording.cases.len(), wrong.join("\n"));
    assert_eq!(recording.cases.len(), 92);
}

/// Every image stream in any JSON value.
fn streams_in<'v>(value: &'v Value, found: &mut Vec<&'v Value>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| streams_in(value, found)),
        Value::Object(fields) if value["kind"] == "ImageStream" && fields.contains_key("status") => found.push(value),
        Value::Object(fields) => fields.values().for_each(|value| streams_in(value, found)),
        _ => {}
    }
}

/// Every image stream that a recording's server answered with.
fn recorded_streams(recorded: &Value) -> Vec<&Value> {
    let responses: Vec<&Value> = match recorded.as_array() {
        Some(entries) => entries.iter().map(|entry| &entry["response"]).collect(),
        None => vec![&recorded["streams"]],
    };
    let mut streams = Vec::new();
    for response in responses {
        streams_in(response, &mut streams);
    }
    streams
}

#[rstest]
#[case("writes.json", 34)]
#[case("admission-with-registry.json", 9)]
#[case("admission-without-registry.json", 9)]
fn streams_are_written_as_they_were_recorded(#[case] file: &str, #[case] at_least: usize) {
    let recorded: Value = data(file);
    let streams = recorded_streams(&recorded);
    for recorded in &streams {
        let stream: ImageStream = serde_json::from_value((*recorded).clone()).unwrap();
        assert_eq!(&serde_json::to_value(&stream).unwrap(), *recorded);
    }
    assert!(streams.len() >= at_least, "{}", streams.len());
}

/// What a schema of the custom resource would refuse, drop or change in a value: one line each, with its path.
fn refused(schema: &Value, value: &Value, path: &str, wrong: &mut Vec<String>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if kind != schema["type"] && !(kind == "null" && schema["nullable"] == true) {
        wrong.push(format!("{path}: {value} is {kind}, not {}", schema["type"]));
    }
    if schema["enum"].as_array().is_some_and(|values| !values.contains(value)) {
        wrong.push(format!("{path}: {value} is none of {}", schema["enum"]));
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        refused(&schema["items"], item, &format!("{path}/{index}"), wrong);
    }
    for (field, below) in value.as_object().into_iter().flatten() {
        match schema["properties"].get(field).or_else(|| schema.get("additionalProperties")) {
            Some(schema) => refused(schema, below, &format!("{path}/{field}"), wrong),
            None => wrong.push(format!("{path}/{field}: unknown")),
        }
    }
    for field in schema["required"].as_array().into_iter().flatten() {
        if kind == "object" && value.get(field.as_str().unwrap()).is_none() {
            wrong.push(format!("{path}: {field} is missing"));
        }
    }
}

#[rstest]
#[case("writes.json")]
#[case("admission-with-registry.json")]
#[case("admission-without-registry.json")]
fn recorded_streams_fit_the_custom_resource(#[case] file: &str) {
    let [streams, _] = pinstream::crd::all();
    let definition: Value = serde_saphyr::from_str(&streams.manifest().unwrap()).unwrap();
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    let recorded: Value = data(file);
    let mut wrong = Vec::new();
    for stream in recorded_streams(&recorded) {
        for part in ["spec", "status"] {
            refused(&schema[part], &stream[part], &format!("{}/{part}", stream["metadata"]["name"]), &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
