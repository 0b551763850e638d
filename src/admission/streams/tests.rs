//! What a write of a stream is made of, what refuses it, and that doing it twice changes nothing.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use rstest::rstest;

use super::*;

const DIGEST: &str = "sha256:87fbabfd7d6add32fe8c9cce0d829e1257a1398a1850fcd45f8fd0e659b5a46c";

fn rules<T>(work: impl FnOnce(&Rules<'_>) -> T) -> T {
    let permits = |reference: &Reference<'_>| reference.registry != Some("blocked.io");
    work(&Rules { default_mode: ImportMode::PreserveOriginal, permits: &permits })
}

fn stream(metadata: &Value, tags: &Value) -> Value {
    json!({"apiVersion": "pinstream.dev/v1", "kind": "ImageStream", "metadata": metadata,
        "spec": {"lookupPolicy": {"local": true}, "tags": tags}})
}

/// A stream `app` as it is stored: at generation 5, tag `1` numbered 3 and imported.
fn stored() -> Value {
    let tags = json!([tag("1", 3, "q.io/a:1"), tag("2", 5, "q.io/a:2")]);
    let mut stored = stream(&json!({"name": "app", "namespace": "demo", "generation": 5}), &tags);
    stored["status"] = json!({"tags": [{"tag": "1", "items": [
        {"generation": 3, "image": DIGEST, "dockerImageReference": format!("q.io/a@{DIGEST}")}]}]});
    stored
}

fn tag(name: &str, generation: i64, image: &str) -> Value {
    json!({"name": name, "generation": generation, "from": {"kind": "DockerImage", "name": image},
        "importPolicy": {"importMode": "PreserveOriginal"}, "referencePolicy": {"type": "Source"}})
}

fn decided(object: &Value, old: Option<&Value>) -> Decision {
    rules(|rules| decide("demo", object.clone(), old.cloned(), rules)).unwrap()
}

fn patch(object: &Value, old: Option<&Value>) -> Value {
    match decided(object, old) {
        Decision::Refused(invalid) => panic!("{invalid}"),
        decision @ Decision::Allowed { .. } => serde_json::to_value(decision.patch()).unwrap(),
    }
}

fn add(path: &str, value: impl Into<Value>) -> Value {
    json!({"op": "add", "path": format!("/spec/tags/{path}"), "value": value.into()})
}

#[test]
fn stream_with_more_tags_than_any_has_is_refused() {
    let of = |count: usize| {
        let tags: Vec<_> = (0..count).map(|number| tag(&format!("{number:05}"), 1, "q.io/a:1")).collect();
        stream(&json!({"name": "app", "namespace": "demo"}), &json!(tags))
    };
    assert!(matches!(decided(&of(TAGS_MAX), None), Decision::Allowed { .. }));
    let Decision::Refused(invalid) = decided(&of(TAGS_MAX + 1), Some(&of(TAGS_MAX))) else { panic!("it is allowed") };
    assert_eq!(
        invalid.to_string(),
        "ImageStream \"app\" is invalid: spec.tags: Too many: a stream has at most 5000, this one has 5001"
    );
    // One that had them already.
    assert!(matches!(decided(&of(TAGS_MAX + 1), Some(&of(TAGS_MAX + 2))), Decision::Allowed { .. }));
}

#[test]
fn new_stream_is_numbered_and_defaulted() {
    let tags = json!([
        {"name": "b", "from": {"kind": "DockerImage", "name": "q.io/a:1"}},
        {"name": "a", "generation": 99, "importPolicy": {"importMode": "Legacy"}, "referencePolicy": {"type": ""}},
        {"name": "c", "generation": 0, "importPolicy": {"scheduled": true}, "referencePolicy": {"type": "Local"}},
    ]);
    let expected = json!([
        add("0/generation", 1),
        add("0/importPolicy", json!({"importMode": "PreserveOriginal"})),
        add("0/referencePolicy", json!({"type": "Source"})),
        add("1/generation", 1),
        add("1/referencePolicy/type", "Source"),
        add("2/generation", 1),
        add("2/importPolicy/importMode", "PreserveOriginal"),
    ]);
    assert_eq!(patch(&stream(&json!({"name": "app"}), &tags), None), expected);
    assert_eq!(patch(&stream(&json!({"generateName": "app-"}), &tags), None), expected);
}

#[rstest]
#[case::nothing("/metadata/labels", json!({"a": "b"}), json!([]))]
#[case::other_image("/spec/tags/0/from/name", json!("q.io/a:3"), json!([add("0/generation", 6)]))]
#[case::asked_again("/spec/tags/0/generation", json!(0), json!([add("0/generation", 6)]))]
#[case::number_of_the_user("/spec/tags/0/generation", json!(99), json!([add("0/generation", 3)]))]
#[case::number_left_out("/spec/tags/0/generation", Value::Null, json!([add("0/generation", 3)]))]
#[case::mode_left_out("/spec/tags/0/importPolicy", Value::Null,
    json!([add("0/importPolicy", json!({"importMode": "PreserveOriginal"}))]))]
#[case::other_mode("/spec/tags/0/importPolicy/importMode", json!("Legacy"), json!([add("0/generation", 6)]))]
#[case::schedule("/spec/tags/0/importPolicy/scheduled", json!(true), json!([]))]
#[case::new_tag("/spec/tags/1", tag("3", 5, "q.io/a:3"), json!([add("1/generation", 6)]))]
#[case::image_of_the_history("/spec/tags/1/from",
    json!({"kind": "ImageStreamImage", "name": "app@87fbabfd"}), json!([add("1/generation", 6)]))]
#[case::tag_of_another_stream("/spec/tags/1/from",
    json!({"kind": "ImageStreamTag", "name": "none:1"}), json!([add("1/generation", 6)]))]
#[case::status_of_the_user("/status", json!({"tags": "none"}), json!([]))]
fn changed_stream_is_numbered(#[case] pointer: &str, #[case] value: Value, #[case] expected: Value) {
    let old = stored();
    let mut object = old.clone();
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    match object.pointer_mut(parent).unwrap() {
        Value::Array(items) => items[field.parse::<usize>().unwrap()] = value,
        parent => parent[field] = value,
    }
    assert_eq!(patch(&object, Some(&old)), expected);
}

#[test]
fn number_that_was_asked_for_is_kept_when_the_api_server_calls_again() {
    let (mut object, old) = (stored(), stored());
    object["spec"]["tags"][0]["generation"] = json!(0);
    let decision = decided(&object, Some(&old));
    json_patch::patch(&mut object, &decision.patch()).unwrap();
    assert_eq!(object["spec"]["tags"][0]["generation"], 6);
    // Another webhook adds a label, and this one is called again.
    object["metadata"]["labels"] = json!({"a": "b"});
    assert_eq!(patch(&object, Some(&old)), json!([]));
}

#[test]
fn refusal_lists_everything_that_is_wrong() {
    let tags = json!([
        {"name": "1", "from": {"kind": "DockerImage", "name": "Q.io/A"}},
        {"name": "2", "from": {"kind": "Pod", "name": "a"}, "importPolicy": {"importMode": "Sometimes"}},
        {"name": "3", "from": {"kind": "ImageStreamTag", "name": "a:b:c"}},
        {"name": "4", "from": {"kind": "ImageStreamImage", "name": "ff"}},
        {"name": "5", "from": {"kind": "DockerImage", "name": "blocked.io/a"}},
    ]);
    let Decision::Refused(invalid) = decided(&stream(&json!({"name": "a--b"}), &tags), None) else { panic!() };
    let fields: Vec<_> = invalid.errors.iter().map(|error| error.field.as_str()).collect();
    let expected = [
        "spec.tags[2].from.kind",
        "spec.tags[2].importPolicy.importMode",
        "metadata.name",
        "spec.tags[1].from.name",
        "spec.tags[5].from.name",
        "spec.tags[3].from.name",
        "spec.tags[4].from.name",
    ];
    assert_eq!(fields, expected);
    let Decision::Refused(nameless) = decided(&stream(&json!({}), &json!([])), None) else { panic!() };
    assert_eq!(nameless.errors[0].message(), "Required value: name or generateName is required");
}

#[test]
fn what_was_wrong_before_is_in_nobodys_way() {
    let mut old = stored();
    old["spec"]["tags"][0]["from"]["name"] = json!("https://q.io/a");
    old["spec"]["tags"][1]["generation"] = Value::Null;
    let mut object = old.clone();
    object["spec"]["tags"][1]["generation"] = json!(6);
    let Decision::Allowed { changes, standing } = decided(&object, Some(&old)) else { panic!() };
    assert_eq!((changes, standing.len()), (Vec::new(), 1));
    object["spec"]["tags"][0]["from"]["name"] = json!("https://q.io/b");
    assert!(matches!(decided(&object, Some(&old)), Decision::Refused(invalid) if invalid.errors.len() == 1));
}

fn review(operation: &str, object: &Value, old: &Value) -> Value {
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u1", "operation": operation, "kind": {"group": GROUP, "version": "v1", "kind": KIND},
        "namespace": "demo", "object": object, "oldObject": old}})
}

fn answered(review: &Value) -> Value {
    let answer = rules(|rules| answer(review.to_string().as_bytes(), rules, |_, _| ())).unwrap();
    serde_json::from_slice::<Value>(&answer).unwrap()["response"].clone()
}

#[test]
fn refusal_is_that_of_the_api_server() {
    let tags = json!([{"name": "1", "from": {"kind": "DockerImage", "name": "q.io/A"}}, {"name": "1"},
        {"name": "2", "importPolicy": {"importMode": "Sometimes"}}]);
    let response = answered(&review("CREATE", &stream(&json!({"name": "app"}), &tags), &Value::Null));
    let mode = "Invalid value: \"Sometimes\": invalid import mode, valid modes are '', 'Legacy', 'PreserveOriginal'";
    let field = "spec.tags[2].importPolicy.importMode";
    assert_eq!(
        response,
        json!({"uid": "u1", "allowed": false, "status": {
            "status": "Failure", "code": 422, "reason": "Invalid",
            "message": format!("ImageStream \"app\" is invalid: {field}: {mode}"),
            "details": {"name": "app", "group": "pinstream.dev", "kind": "ImageStream",
                "causes": [{"reason": "FieldValueInvalid", "message": mode, "field": field}]}}})
    );
}

#[rstest]
#[case::delete("/request/operation", json!("DELETE"))]
#[case::status("/request/subResource", json!("status"))]
#[case::group("/request/kind/group", json!("image.openshift.io"))]
#[case::kind("/request/kind/kind", json!("Image"))]
fn what_is_no_write_of_a_stream_is_allowed_without_a_word(#[case] pointer: &str, #[case] value: Value) {
    let mut review = review("UPDATE", &stream(&json!({"name": "app"}), &json!([{"name": "1"}])), &stored());
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    review.pointer_mut(parent).unwrap()[field] = value;
    assert_eq!(answered(&review), json!({"uid": "u1", "allowed": true}));
}

#[rstest]
#[case::no_object("CREATE", Value::Null, Value::Null, "request.object is missing")]
#[case::no_old_object("UPDATE", stored(), Value::Null, "request.oldObject is missing")]
#[case::no_stream("CREATE", stream(&json!({"name": "a"}), &json!(1)), Value::Null, "cannot be read: invalid type: integer")]
#[case::no_list_of_tags("CREATE", stream(&json!({"name": "a"}), &json!([1])), Value::Null, "cannot be read: invalid type")]
#[case::no_metadata("CREATE", json!({}), Value::Null, "cannot be read: missing field `metadata`")]
#[case::no_text("CREATE", json!("app"), Value::Null, "cannot be read: invalid type: string")]
#[case::old_is_no_stream("UPDATE", stored(), json!(1), "cannot be read: invalid type: integer")]
fn what_is_no_stream_is_left_to_the_schema(
    #[case] operation: &str,
    #[case] object: Value,
    #[case] old: Value,
    #[case] reason: &str,
) {
    let response = answered(&review(operation, &object, &old));
    let warning = response["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("pinstream changed nothing: ") && warning.contains(reason), "{warning}");
    assert_eq!((&response["allowed"], response.get("patch")), (&json!(true), None));
}

#[test]
fn witness_sees_what_was_decided_and_the_user_what_is_still_wrong() {
    let mut old = stored();
    old["spec"]["tags"][0]["from"]["name"] = json!("https://q.io/a");
    let mut object = old.clone();
    object["spec"]["tags"][1]["generation"] = json!(0);
    let (body, mut seen) = (review("UPDATE", &object, &old).to_string(), None);
    let witness = |asked: Option<&Asked<'_>>, verdict: &Verdict<'_>| {
        let Verdict::Decided(Decision::Allowed { changes, .. }) = verdict else { panic!("{verdict:?}") };
        seen = Some((asked.unwrap().uid.to_string(), changes[0].tag.clone()));
    };
    let answer = rules(|rules| answer(body.as_bytes(), rules, witness)).unwrap();
    assert_eq!(seen, Some(("u1".to_owned(), "2".to_owned())));
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    let patch = STANDARD.decode(answer["response"]["patch"].as_str().unwrap()).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&patch).unwrap(), json!([add("1/generation", 6)]));
    let warning = answer["response"]["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("still wrong: spec.tags[1].from.name: Invalid value: \"https://q.io/a\""), "{warning}");
}

fn choose(values: Vec<Value>) -> impl Strategy<Value = Value> {
    prop::sample::select(values)
}

/// Tags as users and other programs write them, a third of them wrong; absent fields are `null`.
fn any_tag() -> impl Strategy<Value = Value> {
    let from = |kind: &str, name: &str| json!({"kind": kind, "name": name});
    let sources = vec![
        Value::Null,
        from("DockerImage", "q.io/a:1"),
        from("DockerImage", "q.io/a:2"),
        from("DockerImage", "Q"),
        from("ImageStreamTag", "1"),
        from("ImageStreamTag", "other:1"),
        from("ImageStreamTag", "a:b:c"),
        from("ImageStreamImage", "app@87fbabfd"),
        from("ImageStreamImage", "app@ff"),
        from("Pod", "a"),
    ];
    let numbers = [Value::Null, 0.into(), 1.into(), 3.into(), 5.into(), 6.into(), 99.into(), (-1).into()];
    let modes = [
        Value::Null,
        json!({}),
        json!({"importMode": ""}),
        json!({"importMode": "Legacy"}),
        json!({"importMode": "PreserveOriginal", "scheduled": true}),
        json!({"importMode": "Sometimes"}),
    ];
    let policies =
        [Value::Null, json!({}), json!({"type": ""}), json!({"type": "Local"}), json!({"type": "Elsewhere"})];
    let names = vec![json!("1"), json!("2"), json!("3"), json!("a/~b")];
    let fields = (choose(names), choose(sources), choose(numbers.into()), any::<bool>(), choose(modes.into()));
    (fields, choose(policies.into())).prop_map(|((name, from, generation, reference, import), policy)| {
        json!({"name": name, "from": from, "generation": generation, "reference": reference,
            "importPolicy": import, "referencePolicy": policy})
    })
}

fn any_tags() -> impl Strategy<Value = Value> {
    prop::collection::vec(any_tag(), 0..5).prop_map(Value::Array)
}

/// What the API server stores of what it is sent: every change of the spec counts.
fn store(mut object: Value, old: Option<&Value>) -> Value {
    let generation = match old {
        None => 1,
        Some(old) => old["metadata"]["generation"].as_i64().unwrap() + i64::from(old["spec"] != object["spec"]),
    };
    object["metadata"]["generation"] = json!(generation);
    object["status"] = old.map_or(json!({}), |old| old["status"].clone());
    object
}

/// What the controller makes of a stored stream.
fn settled(stored: &Value) -> ImageStream {
    let context = Context {
        now: Timestamp::UNIX_EPOCH,
        registry_host: &RegistryHost::Unknown,
        default_mode: ImportMode::PreserveOriginal,
        permits: &|_| true,
        source: &|_| Source::Missing,
    };
    write::settle(&write::read_with_errors(stored.clone()).unwrap().stream, &context).stream
}

proptest! {
    #[test]
    fn deciding_again_changes_nothing(tags in any_tags(), old_tags in any_tags(), is_new: bool) {
        let mut old = stored();
        old["spec"]["tags"] = old_tags;
        let old = (!is_new).then_some(&old);
        let mut object = stored();
        object["spec"]["tags"] = tags;
        match rules(|rules| decide("demo", object.clone(), old.cloned(), rules)) {
            Ok(decision @ Decision::Allowed { .. }) => {
                json_patch::patch(&mut object, &decision.patch()).unwrap();
                let Decision::Allowed { changes, .. } = decided(&object, old) else { panic!("refused then") };
                prop_assert_eq!(changes, Vec::new());
            }
            Ok(Decision::Refused(invalid)) => {
                prop_assert_eq!(decided(&object, old), Decision::Refused(invalid));
            }
            Err(reason) => prop_assert!(false, "{}", reason),
        }
    }

    #[test]
    fn numbers_of_the_controller_stay(tags in any_tags()) {
        // Stored while no webhook answered, and brought in order by the controller then.
        let mut unseen = stored();
        unseen["spec"]["tags"] = tags;
        let Ok(Read { stream, .. }) = write::read_with_errors(unseen.clone()) else { panic!("{unseen}") };
        unseen["spec"] = json!(stream.spec);
        let mut numbered = unseen.clone();
        numbered["spec"] = json!(settled(&unseen).spec);
        let Decision::Allowed { changes, .. } = decided(&numbered, Some(&unseen)) else { panic!("refused") };
        prop_assert!(changes.iter().all(|change| change.field != ["generation"]), "{:?}", changes);
    }

    #[test]
    fn controller_has_nothing_to_number(tags in any_tags(), old_tags in any_tags(), is_new: bool) {
        let mut old = stored();
        old["spec"]["tags"] = old_tags;
        let old = (!is_new).then_some(&old);
        let mut object = stored();
        object["spec"]["tags"] = tags;
        let Ok(decision @ Decision::Allowed { .. }) = rules(|rules| decide("demo", object.clone(), old.cloned(), rules))
        else {
            return Ok(());
        };
        json_patch::patch(&mut object, &decision.patch()).unwrap();
        let object = store(object, old);
        let Ok(Read { stream, .. }) = write::read_with_errors(object.clone()) else { panic!("{object}") };
        prop_assert_eq!(&settled(&object).spec, &stream.spec);
        let is_old = |generation| old.is_some_and(|old| {
            old["spec"]["tags"].as_array().unwrap().iter().any(|tag| tag["generation"] == json!(generation))
        });
        for number in stream.spec.tags.iter().map(|tag| tag.generation).filter(|number| !is_old(*number)) {
            prop_assert_eq!(number, stream.metadata.generation, "a new number is that of the stream");
        }
    }
}
