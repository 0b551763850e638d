//! That on a cluster nobody's stream leads to the Pod of the importer or of the registry itself.

use std::net::{IpAddr, UdpSocket};

use reqwest::blocking::Client;
use serde_json::json;

use crate::control_plane::ControlPlane;
use crate::importing::{Stream, manifest, streams_path};
use crate::pinstream::{LOOPBACK_REGISTRIES, Pinstream};
use crate::pulling;
use crate::registry::{Content, Guard, Registry};
use crate::release::install_custom_resource;

crate::tests![a_pod_is_not_made_to_ask_itself];

/// An address of this machine that is not loopback, if it has one: where its packets would come from. None is sent.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn a_pod_is_not_made_to_ask_itself(plane: &ControlPlane) {
    let plane = plane.another();
    install_custom_resource(&plane);
    let (registry, namespace) = (Registry::start(&plane, Guard::Open), plane.namespace());
    let digest = registry.push("app", "1", &Content::image("app"));
    // As in a cluster, where nothing is said of this machine.
    let nothing_said = [(LOOPBACK_REGISTRIES.0, "192.0.2.0/24")];
    let kubeconfig = plane.admin().kubeconfig().display().to_string();
    let controller = Pinstream::start(&plane, &["controller", "--kubeconfig", &kubeconfig], &nothing_said);
    let condition = Stream::apply(&namespace, &manifest("app", &[registry.spec_tag("1", "app:1")])).fails("1");
    assert_eq!(condition["reason"], "Forbidden", "{condition}");
    assert!(condition["message"].as_str().unwrap().contains("is not asked: its address 127.0.0.1"), "{condition}");
    if let Some(own) = own_address() {
        let from = json!({"kind": "DockerImage", "name": format!("{own}:1/app:1")});
        let stream = Stream::apply(&namespace, &manifest("own", &[json!({"name": "1", "from": from})]));
        let condition = stream.fails("1");
        let words = format!("is not asked: its address {own}");
        assert!(condition["message"].as_str().unwrap().contains(&words), "{condition}");
    }
    drop(controller);

    let item = json!({"created": "2026-01-02T03:04:05Z", "generation": 1, "image": digest,
        "dockerImageReference": format!("{}/app@{digest}", registry.host)});
    let status = json!({"status": {"tags": [{"tag": "1", "items": [item]}]}});
    let path = format!("{}/app/status", streams_path(&namespace.name));
    namespace.ask(&reqwest::Method::PATCH, &path, Some(&status)).unwrap().ok();
    let storage = plane.folder("kept").display().to_string();
    let server = pulling::registry(&plane, &namespace, &["--plain-http", "--storage", &storage], &nothing_said);
    let token = pulling::token(&namespace, "puller", Some("app"));
    let url = format!("http://127.0.0.1:{}/v2/{}/app/manifests/{digest}", server.port, namespace.name);
    let answer = Client::builder().no_proxy().build().unwrap().get(url).bearer_auth(token).send().unwrap();
    assert_eq!(server.metric("pinstream_source_age_seconds"), Some(0.0));
    let (status, body) = (answer.status(), answer.text().unwrap());
    assert!(!status.is_success() && body.contains("is not asked: its address 127.0.0.1"), "{status}: {body}");
}
