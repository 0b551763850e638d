//! Audits of a cluster and of manifests as they are printed, and whether others can read them.

use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use serde_json::{Value, json};

use super::report::{Entry, Report, Spot};
use super::{junit, output, policyreport, sarif, text};
use crate::audit::Audit as State;
use crate::store::kube::RunningPod;
use crate::stream::{ImageStream, Key};

fn image(letter: char) -> String {
    format!("quay.io/demo/app@sha256:{}", letter.to_string().repeat(64))
}

/// A stream with a tag that has these images, newest first, or whose import has failed.
fn stream(namespace: &str, name: &str, images: &[char]) -> ImageStream {
    let item = |(day, letter): (usize, &char)| {
        let image = image(*letter);
        json!({"created": format!("2026-01-{:02}T00:00:00Z", 20 - day), "dockerImageReference": image,
            "image": image.split_once('@').unwrap().1, "generation": 1})
    };
    let items: Vec<_> = images.iter().enumerate().map(item).collect();
    let failure = json!({"type": "ImportSuccess", "status": "False", "reason": "NotFound", "message": "no such image"});
    let conditions = if images.is_empty() { vec![failure] } else { Vec::new() };
    serde_json::from_value(json!({"metadata": {"namespace": namespace, "name": name},
        "status": {"tags": [{"tag": "1", "items": items, "conditions": conditions}]}}))
    .unwrap()
}

fn pod(namespace: &str, name: &str, images: &[&str]) -> RunningPod {
    let container = |(index, image): (usize, &&str)| (format!("containers[c{index}]"), Box::from(*image));
    RunningPod { key: Key::new(namespace, name), containers: images.iter().enumerate().map(container).collect() }
}

/// Of a cluster with every state.
fn of_cluster() -> Report {
    let streams = [stream("demo", "app", &['b', 'a']), stream("demo", "lost", &[]), stream("shop", "idle", &['e'])];
    let pods = [
        pod("demo", "web-1", &[&image('b'), &image('a')]),
        pod("demo", "web-2", &[&image('b'), "quay.io/demo/app:1"]),
        pod("shop", "api", &["app:1", &image('f')]),
        pod("tidy", "new", &[]),
    ];
    let mut state = State::default();
    for stream in &streams {
        state.apply_stream(stream);
    }
    for pod in &pods {
        state.apply_pod(&pod.key, pod.containers.iter().map(|(_, image)| &**image));
    }
    Report::of_pods(&state, &pods).with_streams(&state, streams.iter(), |_| true)
}

/// Of manifests whose names need escapes.
fn of_manifests() -> Report {
    let entry = |line, image: &str| {
        let spot = Spot { file: "my <pods>.yaml".to_owned(), line };
        let names = ("Deployment/a<b".to_owned(), "containers[\"c\"]".to_owned());
        Entry::new("demo".to_owned(), names, image.to_owned(), &State::default().standing("demo", image)).at(spot)
    };
    Report::new(vec![entry(3, "app:1"), entry(4, "quay.io/demo/app:1"), entry(5, "not & <an> \u{1} image")])
}

fn yaml(objects: Vec<Value>) -> String {
    output::Structure::Yaml.objects(objects).unwrap()
}

#[test]
fn cluster_is_told_namespace_by_namespace() {
    let now = "2026-02-01T00:00:00Z".parse().unwrap();
    insta::assert_snapshot!("table", text::tables(&of_cluster(), None));
    insta::assert_snapshot!("wide", text::tables(&of_cluster(), Some(now)));
    assert_eq!(text::tables(&Report::new(Vec::new()), None), "No containers found\n");
}

#[test]
fn policy_reports_are_one_for_each_namespace() {
    insta::assert_snapshot!("policyreport", yaml(policyreport::objects(&of_cluster(), 3)));
    let reports = policyreport::objects(&of_manifests(), 1);
    assert_eq!(reports[0]["results"][0]["properties"]["place"], "my <pods>.yaml:3");
    assert_eq!(
        reports[0]["results"][0]["resources"],
        json!([{"kind": "Deployment", "namespace": "demo", "name": "a<b"}])
    );
}

#[test]
fn sarif_is_as_its_schema_says() {
    let schema = serde_json::from_str(include_str!("../../../tests/schemas/sarif-2.1.0.json")).unwrap();
    let (mut compiler, mut schemas) = (boon::Compiler::new(), boon::Schemas::new());
    compiler.enable_format_assertions();
    compiler.add_resource("sarif.json", schema).unwrap();
    let schema = compiler.compile("sarif.json", &mut schemas).unwrap();
    for report in [of_cluster(), of_manifests(), Report::new(Vec::new())] {
        let mut log = sarif::log(&report);
        schemas.validate(&log, schema).unwrap_or_else(|error| panic!("{error:#}"));
        log["runs"][0]["tool"]["driver"]["rules"][0]["defaultConfiguration"]["level"] = "bad".into();
        assert!(schemas.validate(&log, schema).is_err());
    }
}

/// Elements of JUnit's XML, what they stand in, and their attributes: those that must be there, then others. It is what
/// the schema `junit-10.xsd` of Jenkins's xUnit plugin allows of what is used here.
const ELEMENTS: [(&str, &str, &[&str], &[&str]); 4] = [
    ("testsuites", "", &[], &["name", "tests", "failures"]),
    ("testsuite", "testsuites", &["name", "tests"], &["failures"]),
    ("testcase", "testsuite", &["name"], &["classname"]),
    ("failure", "testcase", &[], &["type", "message"]),
];

/// Names of elements with their attributes, in order. Fails if it is not JUnit's XML.
fn elements(xml: &str) -> Vec<(String, Vec<(String, String)>)> {
    let (mut reader, mut open, mut elements) = (quick_xml::Reader::from_str(xml), Vec::new(), Vec::new());
    loop {
        match reader.read_event().unwrap() {
            Event::Start(start) => {
                elements.push(element(&start, open.last()));
                open.push(name(&start));
            }
            Event::Empty(start) => elements.push(element(&start, open.last())),
            Event::End(_) => drop(open.pop()),
            Event::Eof => return elements,
            _ => {}
        }
    }
}

fn name(start: &BytesStart<'_>) -> String {
    String::from_utf8(start.name().as_ref().to_vec()).unwrap()
}

fn element(start: &BytesStart<'_>, parent: Option<&String>) -> (String, Vec<(String, String)>) {
    let name = name(start);
    let (_, within, required, others) = ELEMENTS.iter().find(|(known, ..)| *known == name).unwrap();
    assert_eq!(parent.map_or("", |parent| parent.as_str()), *within, "{name}");
    let attributes: Vec<_> = start
        .attributes()
        .map(Result::unwrap)
        .map(|attribute| {
            let key = String::from_utf8(attribute.key.as_ref().to_vec()).unwrap();
            (key, attribute.normalized_value(XmlVersion::Implicit1_0).unwrap().into_owned())
        })
        .collect();
    let keys: Vec<_> = attributes.iter().map(|(key, _)| key.as_str()).collect();
    assert!(required.iter().all(|key| keys.contains(key)), "{name} has {keys:?}");
    assert!(keys.iter().all(|key| required.contains(key) || others.contains(key)), "{name} has {keys:?}");
    (name, attributes)
}

#[test]
fn junit_is_as_its_readers_have_it() {
    for (report, rank) in [(of_cluster(), 1), (of_cluster(), 3), (of_manifests(), 1), (Report::new(Vec::new()), 1)] {
        let elements = elements(&junit::suites(&report, rank));
        let count = |wanted: &str| elements.iter().filter(|(name, _)| name == wanted).count();
        let total = |key: &str| elements[0].1.iter().find(|(name, _)| name == key).unwrap().1.parse::<usize>().unwrap();
        assert_eq!((count("testcase"), count("failure")), (total("tests"), total("failures")));
        assert_eq!((count("testcase"), count("failure")), (report.total(), report.count_from(rank)));
        assert_eq!(count("testsuite"), report.namespaces.len());
    }
    let xml = junit::suites(&of_manifests(), 1);
    let elements = elements(&xml);
    let case = elements.iter().find(|(name, _)| name == "testcase").unwrap();
    assert_eq!(case.1[0], ("classname".to_owned(), "demo.Deployment/a<b".to_owned()));
    assert_eq!(case.1[1], ("name".to_owned(), "containers[\"c\"] app:1".to_owned()));
    assert!(xml.contains("\u{fffd}") && !xml.contains('\u{1}'), "{xml}");
}
