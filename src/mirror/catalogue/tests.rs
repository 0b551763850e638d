//! Streams, and what can be pulled of them.

use serde_json::{Value, json};

use super::*;

fn digest(number: u8) -> Digest {
    Digest::of(&[number])
}

fn item(repository: &str, number: u8) -> Value {
    let digest = digest(number);
    json!({"dockerImageReference": format!("{repository}@{digest}"), "image": digest.as_str(), "generation": 1})
}

fn stream(name: &str, spec: &Value, status: &Value) -> ImageStream {
    serde_json::from_value(json!({"metadata": {"name": name, "namespace": "demo"},
        "spec": {"tags": spec}, "status": {"tags": status}}))
    .unwrap()
}

fn applied(catalogue: &Catalogue, stream: &ImageStream) {
    catalogue.take(Change::Applied(Box::new(stream.clone())));
}

fn origin(repository: &str, insecure: bool) -> Origin {
    Origin { repository: repository.into(), insecure }
}

#[test]
fn whole_history_can_be_pulled_and_tags_have_the_newest() {
    let status = json!([
        {"tag": "1", "items": [item("q.io/a/b", 2), item("q.io/a/b", 1)]},
        {"tag": "latest", "items": [item("q.io/a/b", 3), item("other.io/b", 1)]}]);
    let found = Pullable::of(&stream("app", &json!([]), &status), None);
    assert_eq!(found.tags().collect::<Vec<_>>(), ["1", "latest"]);
    assert_eq!((found.tag("1"), found.tag("latest"), found.tag("2")), (Some(&digest(2)), Some(&digest(3)), None));
    assert_eq!(found.images(), [&digest(2), &digest(3), &digest(1)]);
    assert!(found.has(&digest(1)) && !found.has(&digest(4)));
    assert_eq!(found.origins(&digest(1)), [origin("q.io/a/b", false), origin("other.io/b", false)]);
    assert_eq!(found.origins(&digest(4)), []);
}

#[test]
fn what_has_no_digest_cannot_be_pulled() {
    let reference = json!({"dockerImageReference": "q.io/a:1", "image": "", "generation": 1});
    let odd = json!({"dockerImageReference": "q.io/a:1", "image": "md5:d41d8cd98f00b204e9800998ecf8427e"});
    let status = json!([
        {"tag": "old", "items": [reference, item("q.io/a", 1)]},
        {"tag": "odd", "items": [odd]},
        {"tag": "none", "items": null}]);
    let found = Pullable::of(&stream("app", &json!([]), &status), None);
    assert_eq!(found.tags().count(), 0);
    assert_eq!(found.images(), [&digest(1)]);
}

#[test]
fn insecure_is_what_the_tag_or_the_stream_says_and_comes_last() {
    let from = json!({"kind": "DockerImage", "name": "bad.io/a:1"});
    let spec = json!([{"name": "a", "from": from, "importPolicy": {"insecure": true}}]);
    let status = json!([
        {"tag": "a", "items": [item("bad.io/a", 1)]},
        {"tag": "b", "items": [item("good.io/a:1", 1), item("bad.io/a", 2)]}]);
    let mut stream = stream("app", &spec, &status);
    let found = Pullable::of(&stream, None);
    assert_eq!(found.origins(&digest(1)), [origin("good.io/a", false), origin("bad.io/a", true)]);
    assert_eq!(found.origins(&digest(2)), [origin("bad.io/a", true)]);
    stream.metadata.annotations.insert(INSECURE.to_owned(), "true".to_owned());
    assert!(Pullable::of(&stream, None).origins(&digest(1)).iter().all(|origin| origin.insecure));
}

#[test]
fn nothing_comes_from_the_registry_itself() {
    let status = json!([
        {"tag": "a", "items": [item("Pull.Example:443/demo/app", 1)]},
        {"tag": "b", "items": [item("pull.example:5000/demo/app", 2)]},
        {"tag": "c", "items": [item("mysql", 3)]}]);
    let own = registry_of_host("pull.example");
    let found = Pullable::of(&stream("app", &json!([]), &status), own.as_deref());
    assert!(found.has(&digest(1)) && found.origins(&digest(1)).is_empty());
    assert_eq!(found.origins(&digest(2)), [origin("pull.example:5000/demo/app", false)]);
    assert_eq!(found.origins(&digest(3)), [origin("mysql", false)]);
}

#[test]
fn streams_come_and_go() {
    let catalogue = Catalogue::new(None);
    let (app, other) = (Key::new("demo", "app"), Key::new("demo", "other"));
    let with =
        |name: &str, number: u8| stream(name, &json!([]), &json!([{"tag": "1", "items": [item("q.io/a", number)]}]));
    applied(&catalogue, &with("app", 1));
    assert_eq!(catalogue.get(&app), Err(PullError::NotLoaded));
    catalogue.take(Change::Listed);
    assert!(catalogue.get(&app).unwrap().has(&digest(1)));
    assert_eq!(catalogue.get(&other), Err(PullError::NameUnknown(other.clone())));

    applied(&catalogue, &with("other", 1));
    applied(&catalogue, &with("app", 2));
    assert!(catalogue.is_current(&digest(1)) && catalogue.is_current(&digest(2)));
    catalogue.take(Change::Deleted(other.clone()));
    catalogue.take(Change::Deleted(other));
    assert!(!catalogue.is_current(&digest(1)) && catalogue.is_current(&digest(2)));
    assert_eq!(catalogue.current(), [digest(2)]);
    // A stream that cannot be read any more is not told by a further list, and stays.
    catalogue.take(Change::Listed);
    assert!(catalogue.get(&app).is_ok());
}
