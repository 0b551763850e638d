//! Reference policy `Local` on a cluster: where streams are served is in their status, and Pods are pinned to it.

use serde_json::Value;

use crate::command_tests::run;
use crate::control_plane::{ControlPlane, Namespace};
use crate::importing::{Stream, controller, manifest, webhook_server};
use crate::pulling::{self, Skopeo, token};
use crate::registry::{Content, Guard, Registry};
use crate::release::{image_of_pod, install_custom_resource};
use crate::service::Service;
use crate::streams_tests::install_openshift;
use crate::waiting::eventually;
use crate::webhook::{Webhook, by_url};

crate::tests![
    local_tags_are_pulled_from_the_registry_of_the_streams_while_there_is_one,
    streams_of_a_native_api_are_left_as_they_are,
];

const HOST: &str = "streams.example:5000";
const NOT_LOCAL: &str = "pulled from the source, or a pull-through cache of it: no registry host is set";

/// Where a stream is served, as its status has it.
fn repository(namespace: &Namespace, stream: &str) -> Value {
    namespace.get(&["imagestreams.pinstream.dev", stream])["status"]["dockerImageRepository"].clone()
}

/// Runs a command that succeeds, and gives what it printed and what it told.
fn ok(namespace: &Namespace, arguments: &str) -> (String, String) {
    let output = run(namespace, arguments);
    assert_eq!(output.code, Some(0), "{arguments}: {output:?}");
    (output.stdout, output.stderr)
}

/// The image that runs in a Pod of the Deployment `app`.
fn image_of_first_pod(namespace: &Namespace) -> Option<String> {
    let pods = namespace.get(&["pods", "--selector=app=app"]);
    pods["items"][0]["spec"]["containers"][0]["image"].as_str().map(str::to_owned)
}

/// Pulls what a Pod has from the registry of the streams, with a token of the namespace and with no other: first where
/// its source is there, and then where it is not.
fn pulls_without_the_source(
    plane: &ControlPlane,
    namespace: &Namespace,
    image: &str,
    (source, service): (&Registry, &Service),
) {
    let storage = plane.folder("kept").display().to_string();
    let server = pulling::registry(plane, namespace, &["--plain-http", "--storage", &storage], &[]);
    service.lead_to(vec![server.port]);
    let own = token(namespace, "puller", Some("app"));
    let stranger = token(&plane.namespace(), "stranger", Some("app"));
    let pull = |token: &str| {
        let credentials = format!("any:{token}");
        Skopeo::new(plane).pull(image, &["--src-tls-verify=false", "--src-creds", &credentials])
    };
    let pulled = pull(&own).unwrap();
    source.stop();
    assert!(pull(&own).unwrap() == pulled);
    pull(&stranger).unwrap_err();
    source.start_again();
}

/// The controller and its host are everybody's, hence a control plane of its own.
fn local_tags_are_pulled_from_the_registry_of_the_streams_while_there_is_one(plane: &ControlPlane) {
    let plane = plane.another();
    install_custom_resource(&plane);
    let (registry, namespace) = (Registry::start(&plane, Guard::Open), plane.namespace());
    let digest = registry.push("app", "1", &Content::image("app"));
    let source = format!("{}/app@{digest}", registry.host);
    let service = Service::start();
    let name = format!("127.0.0.1:{}", service.port);
    let host = format!("--registry-host={name}");
    let served = format!("{name}/{}/app", namespace.name);

    // One that is there before anybody knows of a host.
    Stream::apply(&namespace, &manifest("early", &[]));
    let first = controller(&plane, &[&host]);
    let (webhook, ca) = webhook_server(&plane, &[&host]);
    let pinned = Webhook::register(&plane, &namespace, by_url(webhook.port, "/mutate"), &ca);
    let early = format!("{name}/{}/early", namespace.name);
    eventually("a stream of before says where it is served", || repository(&namespace, "early") == *early);

    ok(&namespace, "create is app --lookup-local");
    let (_, told) = ok(&namespace, &format!("tag {}/app:1 app:1 --reference-policy local --insecure", registry.host));
    assert!(!told.contains("no registry host"), "{told}");
    assert_eq!(repository(&namespace, "app"), *served);
    let local = format!("{served}@{digest}");
    eventually("new Pods pull from the registry of the streams", || image_of_pod(&namespace, "app:1") == local);
    assert_eq!(image_of_pod(&namespace, "app:none"), format!("{served}:none"));
    assert_eq!(image_of_pod(&namespace, &local), local, "what is pinned stays");
    namespace.kubectl(&["create", "deployment", "app", "--image=app:1"]).ok();
    let template = &namespace.get(&["deployment", "app"])["spec"]["template"]["spec"]["containers"][0]["image"];
    assert_eq!(*template, *local);
    for command in ["describe istag app:1", "explain app:1", "explain deploy/app"] {
        let (printed, _) = ok(&namespace, command);
        assert!(printed.contains(&local), "{command}: {printed}");
    }
    let image = eventually("the Deployment has a Pod", || image_of_first_pod(&namespace));
    assert_eq!(image, local);
    pulls_without_the_source(&plane, &namespace, &image, (&registry, &service));

    drop((first, pinned, webhook));
    let _second = controller(&plane, &[]);
    let (webhook, ca) = webhook_server(&plane, &[]);
    let _pinned = Webhook::register(&plane, &namespace, by_url(webhook.port, "/mutate"), &ca);
    eventually("the host is forgotten", || {
        repository(&namespace, "app") == *"" && repository(&namespace, "early") == *""
    });
    eventually("new Pods pull from the source", || image_of_pod(&namespace, "app:1") == source);
    assert_eq!(image_of_pod(&namespace, "app:none"), "app:none");
    for command in ["describe is app", "describe istag app:1"] {
        let (printed, _) = ok(&namespace, command);
        assert!(printed.contains(NOT_LOCAL), "{command}: {printed}");
    }
    let (_, told) = ok(&namespace, "tag app:1 app:2 --reference-policy local");
    assert_eq!(told, format!("tag app:2 is {NOT_LOCAL}; see the flag --registry-host of the servers\n"));
}

fn streams_of_a_native_api_are_left_as_they_are(plane: &ControlPlane) {
    let plane = plane.another();
    install_openshift(&plane);
    let namespace = plane.namespace();
    let stream = manifest("app", &[]).to_string().replace("pinstream.dev/v1", "image.openshift.io/v1");
    namespace.kubectl_with_stdin(&["create", "--filename=-"], &stream).ok();
    let read = || namespace.get(&["imagestreams.image.openshift.io", "app"]);
    let before = read();
    let controller = controller(&plane, &[&format!("--registry-host={HOST}")]);
    eventually("it says that there is nothing to do", || controller.log().contains("nothing to do"));
    assert_eq!(read(), before);
}
