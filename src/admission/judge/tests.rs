//! The rule of the policy, as tables and as properties over random objects.

use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::admission::decide::{Part, WARNING_LENGTH_MAX, WARNINGS_MAX, Write as Operation};
use crate::workload::{Kinds, Workload};

const D1: &str = "quay.io/k/k@sha256:87fbabfd7d6add32fe8c9cce0d829e1257a1398a1850fcd45f8fd0e659b5a46c";

fn exceptions() -> Exceptions {
    Exceptions { images: vec!["registry.k8s.io/pause:*".to_owned()], without_annotations: false }
}

fn kind(kinds: &Kinds, kind: &str) -> Kind {
    let group = match kind {
        "Pod" | "ReplicationController" => "",
        "Job" | "CronJob" => "batch",
        _ => "apps",
    };
    kinds.find(group, kind).unwrap().clone()
}

/// What the judgement of a write at a level is made into.
fn judged<T>(
    name: &str,
    (object, old): (&Value, Option<&Value>),
    (part, level): (Part, Level),
    made: impl FnOnce(&Judgement<'_>, &Question<'_, '_>) -> T,
) -> T {
    let kind = kind(&Kinds::default(), name);
    let object = Workload::read(&kind, object).unwrap();
    let old = old.map(|old| Workload::read(&kind, old).unwrap());
    let write = old.as_ref().map_or(Operation::Create, |old| Operation::Update(Some(old)));
    let question = Question { write, part, namespace: "demo", kind: &kind, object: &object };
    made(&judge(&question, level, &exceptions()), &question)
}

fn findings(kind: &str, object: &Value, old: Option<&Value>) -> Vec<&'static str> {
    judged(kind, (object, old), (Part::Whole, Level::Enforce), |judgement, _| {
        judgement.slots.iter().map(|judged| judged.finding.label()).collect()
    })
}

fn pod(images: &[&str]) -> Value {
    let container = |(index, image): (usize, &&str)| json!({"name": format!("c{index}"), "image": image});
    let containers: Vec<_> = images.iter().enumerate().map(container).collect();
    json!({"metadata": {"name": "p"}, "spec": {"containers": containers}})
}

fn deployment(pod: &Value) -> Value {
    json!({"metadata": {"name": "d"}, "spec": {"template": pod}})
}

fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    object.pointer_mut(parent).unwrap()[field] = value;
    object
}

#[test]
fn every_list_of_images_is_judged() {
    let object = json!({"metadata": {"name": "p"}, "spec": {
        "initContainers": [{"name": "i", "image": "a:1"}],
        "containers": [{"name": "c", "image": D1}, {"name": "d", "image": "b"}, {"name": "e", "image": ""}, {"name": "f"}],
        "ephemeralContainers": [{"name": "g", "image": "registry.k8s.io/pause:3.10"}],
        "volumes": [{"name": "v", "image": {"reference": "data:1"}}, {"name": "w", "emptyDir": {}}]}});
    let expected = ["unpinned", "pinned", "unpinned", "excepted_by_pattern", "unpinned"];
    assert_eq!(findings("Pod", &object, None), expected);
    assert_eq!(findings("Deployment", &deployment(&object), None), expected);
    assert_eq!(findings("CronJob", &json!({"spec": {"jobTemplate": {"spec": {"template": object}}}}), None), expected);
}

#[rstest]
#[case(pod(&["a", "b"]), "c0", &["excepted_by_annotation", "unpinned"])]
#[case(pod(&["a", "b"]), " c1 ,c0", &["excepted_by_annotation", "excepted_by_annotation"])]
#[case(pod(&["a", D1]), "*", &["excepted_by_annotation", "pinned"])]
#[case(pod(&["a", "b"]), "c", &["unpinned", "unpinned"])]
fn annotation_excepts_by_name(#[case] pod: Value, #[case] value: &str, #[case] expected: &[&str]) {
    let annotated = with(pod.clone(), "/metadata/annotations", json!({POLICY_EXCEPT: value}));
    assert_eq!(findings("Pod", &annotated, None), expected);
    assert_eq!(findings("Deployment", &deployment(&annotated), None), expected);
    let on_object = with(deployment(&pod), "/metadata/annotations", json!({POLICY_EXCEPT: value}));
    assert_eq!(findings("Deployment", &on_object, None), expected);
}

#[rstest]
#[case::same(pod(&["a"]), pod(&["a"]), &["unchanged"])]
#[case::other_tag(pod(&["a:1"]), pod(&["a:2"]), &["unpinned"])]
#[case::added(pod(&["a"]), pod(&["a", "b"]), &["unchanged", "unpinned"])]
#[case::moved(pod(&["a", "b"]), pod(&["b", "a"]), &["unpinned", "unpinned"])]
#[case::pinned(pod(&["a"]), pod(&[D1]), &["pinned"])]
#[case::unpinned(pod(&[D1]), pod(&["a"]), &["unpinned"])]
#[case::exception_taken_away(with(pod(&["a"]), "/metadata/annotations", json!({POLICY_EXCEPT: "*"})), pod(&["a"]), &["unchanged"])]
fn update_is_judged_by_what_it_changes(#[case] old: Value, #[case] new: Value, #[case] expected: &[&str]) {
    assert_eq!(findings("Deployment", &deployment(&new), Some(&deployment(&old))), expected);
    assert_eq!(findings("Pod", &new, Some(&old)), expected);
}

#[test]
fn volume_is_not_the_container_of_that_name() {
    let volume = json!({"spec": {"volumes": [{"name": "x", "image": {"reference": "a"}}]}});
    let container = json!({"spec": {"containers": [{"name": "x", "image": "a"}]}});
    assert_eq!(findings("Pod", &container, Some(&volume)), ["unpinned"]);
    let init = json!({"spec": {"initContainers": [{"name": "x", "image": "a"}]}});
    assert_eq!(findings("Pod", &container, Some(&init)), ["unchanged"]);
}

#[test]
fn owned_template_is_left_to_what_it_makes() {
    let owned = |object| with(object, "/metadata/ownerReferences", json!([{"controller": true}]));
    assert_eq!(findings("ReplicaSet", &owned(deployment(&pod(&["a", D1]))), None), ["owned", "pinned"]);
    assert_eq!(findings("Pod", &owned(pod(&["a"])), None), ["unpinned"]);
}

#[test]
fn only_what_the_subresource_writes_is_judged() {
    let old = pod(&["a"]);
    let new = with(old.clone(), "/spec/ephemeralContainers", json!([{"name": "debug", "image": "b"}]));
    let labels = judged("Pod", (&new, Some(&old)), (Part::EphemeralContainers, Level::Enforce), |judgement, _| {
        judgement.unpinned().map(|slot| slot.name.to_string()).collect::<Vec<_>>()
    });
    assert_eq!(labels, ["debug"]);
}

#[rstest]
#[case(Level::Audit, "audited", 0)]
#[case(Level::Warn, "warned", 1)]
#[case(Level::Enforce, "refused", 0)]
fn level_says_what_follows(#[case] level: Level, #[case] result: &str, #[case] warnings: usize) {
    let object = pod(&["nginx:1.25", D1]);
    judged("Pod", (&object, None), (Part::Whole, level), |judgement, question| {
        assert_eq!((judgement.result(), judgement.warnings().len()), (result, warnings));
        assert_eq!(judgement.refusal(question, &exceptions()).is_some(), level == Level::Enforce);
        let annotations = judgement.audit_annotations();
        let expected = [("level", level.label()), ("result", result), ("containers.0", "unpinned: nginx:1.25")];
        assert_eq!(annotations, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    });
    for (object, result) in [(pod(&[D1]), "passed"), (pod(&["registry.k8s.io/pause:3"]), "excepted")] {
        judged("Pod", (&object, None), (Part::Whole, level), |judgement, question| {
            assert_eq!((judgement.result(), judgement.warnings()), (result, Vec::new()));
            assert!(judgement.refusal(question, &exceptions()).is_none());
        });
    }
}

#[test]
fn refusal_names_container_image_and_ways_out() {
    let object = deployment(&pod(&["registry.example/team/web:1.2", D1, "sidecar"]));
    judged("Deployment", (&object, None), (Part::Whole, Level::Enforce), |judgement, question| {
        let refusal = judgement.refusal(question, &exceptions()).unwrap();
        assert_eq!((refusal.code, refusal.reason), (403, "Forbidden"));
        assert_eq!(
            refusal.message,
            "not pinned by digest: containers[c0] registry.example/team/web:1.2, containers[c2] sidecar. \
             Namespace demo has policy enforce (pinstream.dev/policy): write the image with its digest (…@sha256:…), or make \
             an image stream with `pinstream tag registry.example/team/web:1.2 web:1.2 -n demo` and `pinstream set \
             image-lookup web -n demo` and write web:1.2, or except it with the annotation pinstream.dev/policy-except: c0"
        );
        let causes: Vec<_> = refusal.details.causes.iter().map(|cause| (&*cause.field, &*cause.message)).collect();
        let expected = [
            (
                "spec.template.spec.containers[0].image",
                "containers[c0]: registry.example/team/web:1.2 is not pinned by digest",
            ),
            ("spec.template.spec.containers[2].image", "containers[c2]: sidecar is not pinned by digest"),
        ];
        assert_eq!(causes, expected);
        assert_eq!((refusal.details.group, refusal.details.kind, refusal.details.name), ("apps", "Deployment", "d"));
        let strict = Exceptions { without_annotations: true, ..exceptions() };
        assert!(!judgement.refusal(question, &strict).unwrap().message.contains(POLICY_EXCEPT));
    });
}

#[test]
fn what_is_no_reference_is_refused_without_a_proposal() {
    judged("Pod", (&pod(&["A b"]), None), (Part::Whole, Level::Enforce), |judgement, question| {
        let message = judgement.refusal(question, &exceptions()).unwrap().message;
        assert!(message.contains("containers[c0] A b.") && !message.contains("pinstream tag"), "{message}");
    });
}

#[test]
fn many_images_are_told_within_limits() {
    let long = "x".repeat(300);
    let object = pod(&vec![&*long; 30]);
    judged("Pod", (&object, None), (Part::Whole, Level::Warn), |judgement, _| {
        let warnings = judgement.warnings();
        assert_eq!(warnings.len(), WARNINGS_MAX);
        assert!(warnings.iter().all(|warning| warning.chars().count() <= WARNING_LENGTH_MAX), "{warnings:?}");
        assert_eq!(warnings[WARNINGS_MAX - 1], "26 more images are not pinned by digest");
    });
    judged("Pod", (&object, None), (Part::Whole, Level::Enforce), |judgement, question| {
        let refusal = judgement.refusal(question, &exceptions()).unwrap();
        assert!(refusal.message.contains(" and 20 more. "), "{}", refusal.message);
        assert_eq!(refusal.details.causes.len(), 30);
    });
}

fn image() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("a"), Just("b:1"), Just(D1), Just("registry.k8s.io/pause:3"), Just("")]
}

fn random_pod() -> impl Strategy<Value = Value> {
    let annotation =
        prop_oneof![Just(json!({})), Just(json!({POLICY_EXCEPT: "c1"})), Just(json!({POLICY_EXCEPT: "*"}))];
    (proptest::collection::vec(image(), 0..4), annotation)
        .prop_map(|(images, annotations)| with(pod(&images), "/metadata/annotations", annotations))
}

proptest! {
    #[test]
    fn pinned_object_passes_whatever_it_was(old in random_pod(), count in 0..4_usize) {
        let object = pod(&vec![D1; count]);
        for old in [None, Some(&old)] {
            let result = judged("Pod", (&object, old), (Part::Whole, Level::Enforce), |judgement, _| judgement.result());
            prop_assert_eq!(result, "passed");
        }
    }

    #[test]
    fn nothing_that_is_stored_is_refused_when_it_is_written_again(object in random_pod()) {
        let deployment = deployment(&object);
        for (kind, object) in [("Pod", &object), ("Deployment", &deployment)] {
            let result =
                judged(kind, (object, Some(object)), (Part::Whole, Level::Enforce), |judgement, _| judgement.result());
            prop_assert_eq!(result, "passed");
        }
    }

    #[test]
    fn object_is_refused_if_and_only_if_an_image_is_found_unpinned(new in random_pod(), old in random_pod()) {
        judged("Pod", (&new, Some(&old)), (Part::Whole, Level::Enforce), |judgement, question| {
            let refusal = judgement.refusal(question, &exceptions());
            assert_eq!(refusal.is_some(), judgement.slots.iter().any(|judged| judged.finding == Finding::Unpinned));
            assert_eq!(refusal.is_some(), judgement.result() == "refused");
        });
    }
}
