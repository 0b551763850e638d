//! Every line that an image can be described by.

use rstest::rstest;
use serde_json::json;

use super::*;
use crate::image::Layer;

fn described(image: Option<&Image>) -> String {
    let shown = Shown { title: "app:1", digest: "sha256:aa", pull_spec: "q.io/app@sha256:aa", not_local: None, image };
    text(&shown, "2026-01-02T03:04:10Z".parse().unwrap())
}

fn layer(name: &str, size: u64) -> Layer {
    Layer { name: name.into(), size, media_type: "m".into() }
}

#[test]
fn image_of_which_nothing_is_known_has_a_name() {
    assert_eq!(described(None), "Image Name:\tapp:1\nDocker Image:\tq.io/app@sha256:aa\nName:\t\tsha256:aa\n");
}

#[test]
fn image_that_is_not_pulled_as_its_tag_says_tells_why() {
    let shown =
        Shown { title: "app:1", digest: "sha256:aa", pull_spec: "q.io/app", not_local: Some("no host"), image: None };
    assert!(text(&shown, Timestamp::UNIX_EPOCH).ends_with("\nReference Policy:\tLocal, no host\n"));
}

#[test]
fn single_image_is_shown_with_its_layers_and_how_it_is_run() {
    let config = json!({"created": "2026-01-02T03:04:05Z", "author": "t", "architecture": "amd64", "config": {
        "User": "1000", "Env": ["PATH=/bin", "SEED=1"], "Entrypoint": ["/run", "it"], "Cmd": ["--fast"],
        "WorkingDir": "/srv", "ExposedPorts": {"8443/tcp": {}, "8080/tcp": {}}, "Volumes": {"/data": {}},
        "Labels": {"b": "2", "a": "1"}}})
    .to_string();
    let layers = vec![layer("sha256:11", 37_600_000), layer("sha256:22", 107)];
    let mut image = Image::single("sha256:aa", "q.io/app@sha256:aa", "m", layers, ("sha256:cc", config.as_bytes()));
    image.metadata.other.insert("creationTimestamp".into(), "2026-01-02T03:02:00Z".into());
    image.metadata.other.insert("labels".into(), json!({"team": "a"}));
    image.docker_image_metadata.size = 215_530_000;
    insta::assert_snapshot!(described(Some(&image)), @r"
    Image Name:	app:1
    Docker Image:	q.io/app@sha256:aa
    Name:		sha256:aa
    Created:	2 minutes ago
    Labels:		team=a
    Annotations:	image.openshift.io/dockerLayersOrder=ascending
    Image Size:	215.5MB in 2 layers
    Layers:		37.6MB	sha256:11
    		107B	sha256:22
    Image Created:	5 seconds ago
    Author:		t
    Arch:		amd64
    Entrypoint:	/run it
    Command:	--fast
    Working Dir:	/srv
    User:		1000
    Exposes Ports:	8080/tcp, 8443/tcp
    Docker Labels:	a=1
    		b=2
    Environment:	PATH=/bin
    		SEED=1
    Volumes:	/data
    ");
}

#[test]
fn index_is_shown_with_its_platforms() {
    let child = |architecture: &str, variant: &str| Child {
        digest: format!("sha256:{architecture}"),
        os: "linux".into(),
        architecture: architecture.into(),
        variant: variant.into(),
        ..Child::default()
    };
    let children = vec![child("amd64", ""), child("arm", "v7")];
    let now = "2026-01-02T03:04:05Z".parse().unwrap();
    let image = Image::index("sha256:aa", "q.io/app@sha256:aa", "m", children, now);
    insta::assert_snapshot!(described(Some(&image)), @r"
    Image Name:	app:1
    Docker Image:	q.io/app@sha256:aa
    Name:		sha256:aa
    Layer Size:	0B
    Image Created:	5 seconds ago
    Author:		<none>
    Arch:		<none>
    Manifests:	linux/amd64	sha256:amd64
    		linux/arm/v7	sha256:arm
    Command:	<none>
    Working Dir:	<none>
    User:		<none>
    Exposes Ports:	<none>
    Docker Labels:	<none>
    ");
}

#[rstest]
#[case(0, "0B")]
#[case(568, "568B")]
#[case(999, "999B")]
#[case(1_000, "1kB")]
#[case(1_500, "1.5kB")]
#[case(1_234_567, "1.235MB")]
#[case(37_600_000, "37.6MB")]
#[case(215_549_999, "215.5MB")]
#[case(999_990_000, "1000MB")]
#[case(3_000_000_000_000, "3TB")]
#[case(u64::MAX, "18.45EB")]
fn sizes_have_four_digits(#[case] bytes: u64, #[case] expected: &str) {
    assert_eq!(size(bytes), expected);
}

#[test]
fn configuration_that_is_not_kept_is_not_made_up() {
    let image = Image::single("sha256:aa", "q.io/app@sha256:aa", "m", vec![layer("sha256:11", 7)], ("sha256:cc", b""));
    let text = described(Some(&image));
    assert!(text.ends_with("\nConfiguration:\t<not kept: too large, or not that of an image>\n"), "{text}");
}
