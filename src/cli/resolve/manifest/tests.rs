//! What becomes of manifests, by small streams and texts.

use std::sync::Arc;

use proptest::prelude::*;
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::index::IndexedStream;
use crate::stream::places::Places;

const DIGEST: &str = "sha256:87fbabfd7d6add32fe8c9cce0d829e1257a1398a1850fcd45f8fd0e659b5a46c";
const IMAGE: &str = "q.io/a/b@sha256:87fbabfd7d6add32fe8c9cce0d829e1257a1398a1850fcd45f8fd0e659b5a46c";

fn snapshot() -> Snapshot {
    let stream = |name: &str, local: bool| {
        let stream = serde_json::from_value(json!({"metadata": {"name": name, "namespace": "demo"},
            "spec": {"lookupPolicy": {"local": local}, "tags": [{"name": "asked"}]},
            "status": {"tags": [{"tag": "1", "items": [{"dockerImageReference": "q.io/a/b:1", "image": DIGEST}]}]}}))
        .unwrap();
        Arc::new(IndexedStream::new(&stream, &Places::default()))
    };
    Snapshot::new([stream("app", true), stream("off", false)])
}

/// The text as it is then, and what is to be known of it.
fn resolved(text: &str) -> Result<(String, Vec<(Weight, String)>), String> {
    let (snapshot, kinds) = (snapshot(), Kinds::default());
    let rules = Rules { snapshot: &snapshot, kinds: &kinds, namespace: "demo" };
    let manifest = Manifest::read(text.to_owned(), None).map_err(|error| error.to_string())?;
    let resolved = manifest.resolve(&rules).map_err(|error| error.to_string())?;
    let findings = resolved.findings.into_iter();
    let findings = findings.map(|finding| (finding.weight, format!("{}: {}", finding.place, finding.message)));
    Ok((edit::apply(text, &resolved.edits), findings.collect()))
}

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n";

#[rstest]
#[case::comments_and_quotes(format!("# head\n{POD}  - name: a # one\n    image: \"app:1\"   # two\n  -   image: 'app:1'\n"))]
#[case::documents(format!("{POD}  - image: app:1\n---\n# only this\n---\n{POD}  - image: app:1\n...\n"))]
#[case::list("kind: List\napiVersion: v1\nitems:\n- kind: Pod\n  apiVersion: v1\n  spec: {containers: [{image: app:1}]}\n- kind: List\n  items:\n  - {kind: Pod, apiVersion: v1, spec: {containers: [{image: app:1}]}}\n".to_owned())]
#[case::typed_list("kind: PodList\napiVersion: v1\nitems:\n- spec: {containers: [{image: app:1}]}\n".to_owned())]
#[case::json("{\"kind\":\"Pod\",\"apiVersion\":\"v1\",\n\t\"spec\":{\"containers\":[{\"image\":\"app:1\"}]}}\n".to_owned())]
#[case::windows(format!("\u{feff}{POD}  - image: app:1\n").replace('\n', "\r\n"))]
#[case::init_containers_stand_behind(format!("{POD}  - image: app:1\n  initContainers:\n  - image: app:1\n  volumes:\n  - image: {{reference: app:1}}\n"))]
#[case::cron_job("kind: CronJob\napiVersion: batch/v1\nspec: {jobTemplate: {spec: {template: {spec: {containers: [{image: app:1}]}}}}}\n".to_owned())]
#[case::own_namespace(POD.replace("name: p", "name: p, namespace: demo") + "  - image: app:1\n")]
fn short_names_are_pinned_and_every_other_byte_stays(#[case] text: String) {
    assert_eq!(resolved(&text), Ok((text.replace("app:1", IMAGE), Vec::new())));
}

#[rstest]
#[case::other_kind("kind: ConfigMap\napiVersion: v1\ndata: {image: app:1}\n")]
#[case::digest(&format!("{POD}  - image: {IMAGE}\n"))]
#[case::empty("")]
#[case::only_comments("# a\n---\n# b\n")]
#[case::no_object("- 1\n- 2\n")]
fn what_has_no_short_name_stays(#[case] text: &str) {
    assert_eq!(resolved(text), Ok((text.to_owned(), Vec::new())));
}

#[rstest]
#[case("nginx:1", Weight::Unresolved, "there is no image stream nginx in namespace demo")]
#[case(
    "off:1",
    Weight::Unresolved,
    "image stream off has its local look-up off; turn it on with: pinstream set image-lookup off"
)]
#[case("app", Weight::Unresolved, "image stream app has no tag latest")]
#[case("app:asked", Weight::Unresolved, "tag asked of image stream app was never imported")]
#[case("q.io/a/b:1", Weight::Unpinned, "it is no short name, and has no digest")]
fn what_stays_is_named(#[case] image: &str, #[case] weight: Weight, #[case] reason: &str) {
    let text = format!("a: 1\n---\n{POD}  - name: web\n    image: {image}\n");
    let message = format!("document 2, line 2: Pod/p, containers[web]: {image}: {reason}");
    assert_eq!(resolved(&text), Ok((text, vec![(weight, message)])));
}

#[test]
fn namespace_of_the_object_is_the_one_that_counts() {
    let text = POD.replace("name: p", "name: p, namespace: other") + "  - image: app:1\n";
    let (same, findings) = resolved(&text).unwrap();
    assert_eq!((same, findings.len()), (text.clone(), 1));
    let manifest = Manifest::read(text + "---\n" + POD, None).unwrap();
    assert_eq!(manifest.namespaces(&Kinds::default()), [Some("other"), None]);
}

#[test]
fn image_behind_an_alias_is_written_in_its_place() {
    let text = format!("x: &image app:1\n{POD}  - image: *image\n  - image: *image # two\n");
    let expected = text.replace("*image", IMAGE);
    assert_eq!(resolved(&text).unwrap().0, expected);
}

#[rstest]
#[case::container_behind_an_alias(format!("x: &c {{image: app:1}}\n{POD}  - *c\n"), "Pod/p, containers[]: it is written behind an alias")]
#[case::anchor_that_others_use(format!("{POD}  - image: &image app:1\n    env: [{{value: *image}}]\n"), "without changing something else")]
#[case::syntax("a: [\n".to_owned(), "document 1, line")]
fn what_cannot_be_written_is_refused(#[case] text: String, #[case] expected: &str) {
    let error = resolved(&text).unwrap_err();
    assert!(error.contains(expected), "{error}");
}

proptest! {
    #[test]
    fn any_text_can_be_tried(text in "[-a-z:#&*|>{}\\[\\]\"' \n]{0,80}") {
        let _ = resolved(&text);
    }

    #[test]
    fn resolving_again_changes_nothing(images in prop::collection::vec("(app|off|nginx)(:(1|asked))?", 0..5)) {
        let containers = images.iter().map(|image| format!("  - image: {image}\n")).collect::<Vec<_>>().concat();
        let once = resolved(&format!("{POD}{containers}")).unwrap().0;
        prop_assert_eq!(&resolved(&once).unwrap().0, &once);
    }
}
