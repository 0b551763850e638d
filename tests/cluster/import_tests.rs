//! Importing as its users see it, with kubectl and manifests: tags that move, are rolled back, fail and recover.

use std::time::Duration;

use serde_json::{Value, json};

use crate::control_plane::Namespace;
use crate::importing::{Importing, Stream, manifest, named};
use crate::registry::{Content, Guard, Registry};
use crate::release::image_of_pod;
use crate::waiting::{eventually, eventually_within};

crate::tests![Importing:
    a_scheduled_tag_follows_its_source,
    a_tag_is_moved_and_rolled_back_with_manifests_only,
    a_registry_that_is_away_is_in_nobodys_way,
    a_failed_import_is_told_and_so_is_its_recovery,
    a_repository_becomes_tags,
    a_tag_of_another_stream_is_copied,
];

/// The interval of the controller, and a tenth, and time to do it.
const SCHEDULE: Duration = Duration::from_mins(3);

fn a_scheduled_tag_follows_its_source(site: &Importing) {
    let (registry, namespace) = (site.registry(Guard::Open), site.plane.namespace());
    let _webhook = site.pin(&namespace);
    let repository = site.plane.unique("scheduled");
    let old = registry.push(&repository, "1", &Content::image("old"));
    let mut tag = registry.spec_tag("1", &format!("{repository}:1"));
    tag["importPolicy"]["scheduled"] = true.into();
    let stream = Stream::apply(&namespace, &manifest("app", &[tag]));
    stream.has_history("1", &[&old]);
    let pull_spec = |digest: &str| format!("{}/{repository}@{digest}", registry.host);
    eventually("Pods get the image", || image_of_pod(&namespace, "app:1") == pull_spec(&old));
    namespace.kubectl(&["create", "deployment", "running", "--image=app:1"]).ok();

    let new = registry.push(&repository, "1", &Content::image("new"));
    let generation = stream.read()["metadata"]["generation"].clone();
    eventually_within(SCHEDULE, "the tag moves", || stream.history("1") == [new.clone(), old.clone()]);
    assert_eq!(stream.read()["metadata"]["generation"], generation);
    eventually("new Pods get the new image", || image_of_pod(&namespace, "app:1") == pull_spec(&new));
    assert_eq!(template_of(&namespace, "running"), (pull_spec(&old), json!(1)));
    let moved = |digest: &str| ("TagMoved".to_owned(), format!("tag 1 points to {} now", pull_spec(digest)));
    eventually("both moves are told", || stream.events() == [moved(&old), moved(&new)]);
}

/// Image and generation of a Deployment.
fn template_of(namespace: &Namespace, name: &str) -> (String, Value) {
    let deployment = namespace.get(&["deployment", name]);
    let image = &deployment["spec"]["template"]["spec"]["containers"][0]["image"];
    (image.as_str().unwrap().to_owned(), deployment["metadata"]["generation"].clone())
}

fn a_tag_is_moved_and_rolled_back_with_manifests_only(site: &Importing) {
    let (registry, namespace) = (site.registry(Guard::Open), site.plane.namespace());
    let _webhook = site.pin(&namespace);
    let repository = site.plane.unique("keycloak");
    let push = |tag: &str| registry.push(&repository, tag, &Content::index(&format!("keycloak-{tag}")));
    let (nineteen, twenty, fixed) = (push("19.0"), push("20.0.0"), push("20.0.1"));
    let from = |tag: &str, source: &str| registry.spec_tag(tag, &format!("{repository}:{source}"));
    let pull_spec = |digest: &str| format!("{}/{repository}@{digest}", registry.host);
    let deploy = |name: &str, digest: &str| {
        // The webhook sees a moment later what the controller wrote.
        eventually("the tag resolves to its image", || image_of_pod(&namespace, "keycloak:20.0") == pull_spec(digest));
        namespace.kubectl(&["create", "deployment", name, "--image=keycloak:20.0"]).ok();
        assert_eq!(template_of(&namespace, name), (pull_spec(digest), json!(1)));
    };

    let stream = Stream::apply(&namespace, &manifest("keycloak", &[]));
    assert_eq!(stream.read()["status"]["tags"], Value::Null);
    Stream::apply(&namespace, &manifest("keycloak", &[from("19.0", "19.0"), from("20.0", "20.0.0")]));
    stream.has_history("20.0", &[&twenty]);
    stream.has_history("19.0", &[&nineteen]);
    deploy("first", &twenty);

    Stream::apply(&namespace, &manifest("keycloak", &[from("19.0", "19.0"), from("20.0", "20.0.1")]));
    stream.has_history("20.0", &[&fixed, &twenty]);
    deploy("second", &fixed);

    let back = json!({"name": "20.0", "from": {"kind": "ImageStreamImage", "name": format!("keycloak@{twenty}")}});
    Stream::apply(&namespace, &manifest("keycloak", &[from("19.0", "19.0"), back]));
    stream.has_history("20.0", &[&twenty, &fixed, &twenty]);
    deploy("third", &twenty);

    stream.has_history("19.0", &[&nineteen]);
    for (name, digest) in [("first", &twenty), ("second", &fixed), ("third", &twenty)] {
        assert_eq!(template_of(&namespace, name), (pull_spec(digest), json!(1)), "{name}");
    }
}

fn a_registry_that_is_away_is_in_nobodys_way(site: &Importing) {
    let (registry, namespace) = (Registry::start(&site.plane, Guard::Open), site.plane.namespace());
    let _webhook = site.pin(&namespace);
    let old = registry.push("app", "1", &Content::image("old"));
    let stream = Stream::apply(&namespace, &manifest("app", &[registry.spec_tag("1", "app:1")]));
    stream.has_history("1", &[&old]);
    let pinned = format!("{}/app@{old}", registry.host);
    eventually("Pods get the image", || image_of_pod(&namespace, "app:1") == pinned);

    registry.stop();
    stream.import_again("1");
    let condition = stream.fails("1");
    assert_eq!(condition["reason"], "ServiceUnavailable", "{condition}");
    assert_eq!(image_of_pod(&namespace, "app:1"), pinned);
    registry.start_again();
    stream.import_again("1");
    eventually("the import succeeds", || stream.status("1")["conditions"].is_null());
    assert_eq!(stream.history("1"), [old]);
}

fn a_failed_import_is_told_and_so_is_its_recovery(site: &Importing) {
    let (registry, namespace) = (site.registry(Guard::Open), site.plane.namespace());
    let repository = site.plane.unique("fragile");
    let good = registry.push(&repository, "1", &Content::image("good"));
    let stream = Stream::apply(&namespace, &manifest("app", &[registry.spec_tag("1", &format!("{repository}:1"))]));
    stream.has_history("1", &[&good]);
    let generation = stream.status("1")["items"][0]["generation"].as_i64().unwrap();

    registry.delete(&repository, &good);
    stream.import_again("1");
    let condition = stream.fails("1");
    assert_eq!((&condition["reason"], &condition["status"]), (&json!("NotFound"), &json!("False")), "{condition}");
    assert!(condition["message"].as_str().unwrap().contains(&repository), "{condition}");
    assert!(condition["generation"].as_i64().unwrap() > generation && condition["lastTransitionTime"].is_string());
    stream.has_history("1", &[&good]);

    let better = registry.push(&repository, "1", &Content::image("better"));
    stream.import_again("1");
    stream.has_history("1", &[&better, &good]);
    assert_eq!(named(&stream.status("1")["conditions"], "type", "ImportSuccess"), Value::Null);
    let reasons = || stream.events().into_iter().map(|(reason, _)| reason).collect::<Vec<_>>();
    let mut expected = ["TagMoved", "ImportFailed", "TagMoved", "ImportRecovered"].map(str::to_owned);
    expected.sort();
    eventually("all of it is told", || {
        let mut reasons = reasons();
        reasons.sort();
        if reasons == expected { Ok(()) } else { Err(reasons.join(", ")) }
    });
}

fn a_repository_becomes_tags(site: &Importing) {
    let (registry, namespace) = (site.registry(Guard::Open), site.plane.namespace());
    let repository = site.plane.unique("repository");
    let tags = ["latest", "1.0", "1.0.3", "edge"];
    let digests = tags.map(|tag| registry.push(&repository, tag, &Content::image(tag)));
    let source = format!("{}/{repository}", registry.host);
    let stream = Stream::apply(
        &namespace,
        &json!({"apiVersion": "pinstream.dev/v1", "kind": "ImageStream",
            "metadata": {"name": "all", "annotations": {"openshift.io/image.insecureRepository": "true"}},
            "spec": {"dockerImageRepository": source}}),
    );
    for (tag, digest) in tags.iter().zip(&digests) {
        stream.has_history(tag, &[digest]);
    }
    let object = stream.read();
    assert_eq!(object["spec"]["tags"].as_array().unwrap().len(), tags.len());
    let from = &named(&object["spec"]["tags"], "name", "edge")["from"];
    assert_eq!(from, &json!({"kind": "DockerImage", "name": format!("{source}:edge")}));
    assert!(object["metadata"]["annotations"]["openshift.io/image.dockerRepositoryCheck"].is_string());
}

fn a_tag_of_another_stream_is_copied(site: &Importing) {
    let (registry, namespace) = (site.registry(Guard::Open), site.plane.namespace());
    let elsewhere = site.plane.namespace();
    let repository = site.plane.unique("source");
    let first = registry.push(&repository, "1", &Content::image("first"));
    let tag = registry.spec_tag("1", &format!("{repository}:1"));
    let copy = |name: &str| json!({"name": name, "from": {"kind": "ImageStreamTag", "name": "1"}});
    let source = Stream::apply(&namespace, &manifest("source", &[tag, copy("stable")]));
    source.has_history("1", &[&first]);
    source.has_history("stable", &[&first]);
    let from = json!({"kind": "ImageStreamTag", "name": "source:1", "namespace": namespace.name});
    let copied = Stream::apply(&elsewhere, &manifest("copy", &[json!({"name": "1", "from": from})]));
    copied.has_history("1", &[&first]);

    // A tag of the same stream moves along.
    let second = registry.push(&repository, "1", &Content::image("second"));
    source.import_again("1");
    source.has_history("stable", &[&second, &first]);
}
