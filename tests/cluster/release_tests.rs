//! That Helm installs, upgrades, rolls back and uninstalls the chart, and that a release may do no more than it must.

use serde_json::json;

use crate::cert_manager;
use crate::chart::{define_foreign, find};
use crate::control_plane::ControlPlane;
use crate::release::{PINNED, Reach, Release, image_of_pod};
use crate::waiting::eventually;

crate::tests![
    a_release_is_upgraded_rolled_back_and_uninstalled,
    a_secret_of_the_user_is_served,
    a_certificate_of_cert_manager_is_served,
    replicas_agree_on_one_authority,
    the_service_account_may_do_what_it_must_and_no_more,
    excluded_namespaces_are_left_alone,
    image_streams_are_completed_and_refused,
];

fn a_release_is_upgraded_rolled_back_and_uninstalled(plane: &ControlPlane) {
    let release = Release::install(plane, Reach::Url, &json!({}));
    let namespace = release.working_namespace(&json!({}));
    let admin = plane.admin();
    let secret = || release.namespace.get(&["secret", &format!("{}-tls", release.name)])["data"].clone();
    let configuration = || admin.get(&["mutatingwebhookconfiguration", &release.name])["webhooks"].clone();
    let (made, announced) = (secret(), configuration()[0]["clientConfig"]["caBundle"].clone());
    assert!(made["ca.key"].is_string() && announced == made["ca.crt"]);
    let tested = release.namespace.helm(&["test", &release.name, "--timeout=90s"]).ok();
    assert!(tested.contains("Phase:          Succeeded"), "{tested}");

    // Neither takes away what Pinstream wrote into the release's objects.
    release.helm("upgrade", &["--set=webhook.timeoutSeconds=5,replicas=1", "--wait", "--timeout=90s"]).ok();
    assert_eq!(
        (&configuration()[0]["timeoutSeconds"], &configuration()[0]["clientConfig"]["caBundle"]),
        (&json!(5), &announced)
    );
    assert_eq!(secret(), made);
    assert_eq!(image_of_pod(&namespace, "keycloak:20.0"), PINNED);
    release.namespace.helm(&["rollback", &release.name, "--wait", "--timeout=90s"]).ok();
    assert_eq!(
        (&configuration()[0]["timeoutSeconds"], &configuration()[0]["clientConfig"]["caBundle"]),
        (&json!(3), &announced)
    );
    assert_eq!(secret(), made);
    assert_eq!(image_of_pod(&namespace, "keycloak:20.0"), PINNED);

    release.namespace.helm(&["uninstall", &release.name, "--wait", "--timeout=90s"]).ok();
    admin.kubectl(&["get", "mutatingwebhookconfiguration", &release.name]).refused();
    // The streams stay, and nothing is in the way of Pods.
    assert_eq!(image_of_pod(&namespace, "keycloak:20.0"), "keycloak:20.0");
    assert_eq!(namespace.get(&["imagestreams"])["items"].as_array().unwrap().len(), 3);
}

fn a_secret_of_the_user_is_served(plane: &ControlPlane) {
    let folder = plane.folder("own-certificate");
    let mut certs = assert_cmd::Command::new(env!("CARGO_BIN_EXE_pinstream"));
    certs.args(["certs", "localhost", "--out"]).arg(&folder).assert().success();
    let at = |file: &str| folder.join(file).display().to_string();
    let values = json!({"certificates": {"mode": "secret",
        "secret": {"name": "own", "caBundle": std::fs::read_to_string(at("ca.crt")).unwrap()}}});
    let release = Release::install_prepared(plane, Reach::Url, &values, |namespace| {
        let (certificate, key) = (format!("--cert={}", at("tls.crt")), format!("--key={}", at("tls.key")));
        namespace.kubectl(&["create", "secret", "tls", "own", &certificate, &key]).ok();
    });
    release.working_namespace(&json!({}));
    // Who is given a certificate need not see a Secret nor write a webhook configuration.
    let account = plane.service_account(&release.namespace.name, &release.name);
    account.kubectl(&["get", "secret", "own"]).refused();
    account.kubectl(&["get", "mutatingwebhookconfiguration", &release.name]).refused();
    account.kubectl(&["get", "validatingwebhookconfiguration", &release.name]).refused();
    // Nor has it to do with namespaces and events without the policy.
    account.kubectl(&["get", "namespaces"]).ok();
    release.helm("upgrade", &["--set=policy.enabled=false", "--wait", "--timeout=90s"]).ok();
    eventually("the right is gone", || !account.kubectl(&["get", "namespaces"]).is_success);
    assert_eq!(account.kubectl(&["auth", "can-i", "create", "events.events.k8s.io"]).stdout.trim(), "no");
    assert_eq!(find(plane.admin(), &["validatingwebhookconfiguration", &release.name]), None);
}

fn a_certificate_of_cert_manager_is_served(plane: &ControlPlane) {
    define_foreign(plane.admin());
    let folder = plane.folder("cert-manager");
    let mut issuing = None;
    let values = json!({"certificates": {"mode": "cert-manager"}});
    let release = Release::install_prepared(plane, Reach::Url, &values, |namespace| {
        issuing = Some(cert_manager::issue(namespace, &folder));
    });
    issuing.unwrap().join().unwrap();
    let namespace = release.working_namespace(&json!({}));
    let injected = release.bundles();
    release.helm("upgrade", &["--set=webhook.timeoutSeconds=5", "--wait", "--timeout=90s"]).ok();
    assert_eq!(release.bundles(), injected);
    assert_eq!(image_of_pod(&namespace, "keycloak:20.0"), PINNED);
    assert_eq!(release.seen().failures(), 0);
}

fn replicas_agree_on_one_authority(plane: &ControlPlane) {
    let release = Release::install(plane, Reach::Service, &json!({"replicas": 3}));
    eventually("all replicas serve", || release.seen().admin_ports().len() == 3);
    let logs = release.seen().logs();
    assert_eq!(logs.matches("certificate authority and certificate made").count(), 1, "{logs}");
    let bundle = release.bundle();
    assert_eq!(bundle.matches("BEGIN CERTIFICATE").count(), 1, "{bundle}");
    release.working_namespace(&json!({}));
    assert_eq!(release.seen().failures(), 0);
}

fn the_service_account_may_do_what_it_must_and_no_more(plane: &ControlPlane) {
    let release = Release::install(plane, Reach::Service, &json!({}));
    let account = plane.service_account(&release.namespace.name, &release.name);
    let (own, name) = (release.namespace.name.as_str(), release.name.as_str());
    let secret = format!("{name}-tls");
    let may = |verb: &str, group: &str, resource: &str, namespace: &str, name: &str| {
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {"verb": verb, "group": group, "resource": resource, "namespace": namespace, "name": name}}});
        let answer = account.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &review).ok();
        answer["status"]["allowed"] == true
    };
    let registration = "admissionregistration.k8s.io";
    for (verb, group, resource, namespace, name) in [
        ("list", "pinstream.dev", "imagestreams", "", ""),
        ("watch", "image.openshift.io", "imagestreams", "", ""),
        ("list", "", "namespaces", "", ""),
        ("update", "", "secrets", own, &*secret),
        ("patch", registration, "mutatingwebhookconfigurations", "", name),
        ("patch", registration, "validatingwebhookconfigurations", "", name),
        ("create", "events.k8s.io", "events", own, ""),
        ("patch", "events.k8s.io", "events", own, ""),
    ] {
        assert!(may(verb, group, resource, namespace, name), "{verb} {resource} {name}");
    }
    for (verb, group, resource, namespace, name) in [
        ("update", "pinstream.dev", "imagestreams", own, "keycloak"),
        ("update", "pinstream.dev", "imagestreams/status", own, "keycloak"),
        ("get", "", "secrets", own, "another"),
        ("list", "", "secrets", own, ""),
        ("create", "", "secrets", own, ""),
        ("get", "", "secrets", "kube-system", &*secret),
        ("patch", registration, "mutatingwebhookconfigurations", "", "another"),
        ("create", registration, "mutatingwebhookconfigurations", "", ""),
        ("delete", registration, "mutatingwebhookconfigurations", "", name),
        ("patch", registration, "validatingwebhookconfigurations", "", "another"),
        ("create", registration, "validatingwebhookconfigurations", "", ""),
        ("list", "events.k8s.io", "events", own, ""),
        ("delete", "events.k8s.io", "events", own, "any"),
        ("get", "", "namespaces", "", own),
        ("get", "", "pods", own, ""),
        ("patch", "", "namespaces", "", own),
    ] {
        assert!(!may(verb, group, resource, namespace, name), "{verb} {resource} {name}");
    }
}

fn excluded_namespaces_are_left_alone(plane: &ControlPlane) {
    // The chart as it is, so that the release is for every namespace of this control plane.
    let plane = plane.another();
    let values = json!({"crds": {"install": true}, "webhook": {"namespaceSelector": {"matchLabels": null}}});
    let release = Release::install(&plane, Reach::Service, &values);
    release.working_namespace(&json!({}));
    let names = ["kube-system", "kube-node-lease", release.namespace.name.as_str()];
    // The Pods that are tried below are not restricted.
    plane.admin().kubectl(&["label", "namespace", names[2], "pod-security.kubernetes.io/enforce-"]).ok();
    for name in names {
        let namespace = plane.admin().at_home_in(name);
        Release::add_streams(&namespace);
    }
    // What an import would be seen by elsewhere is seen here by now.
    release.working_namespace(&json!({}));
    for name in names {
        let namespace = plane.admin().at_home_in(name);
        eventually("there is a ServiceAccount", || namespace.kubectl(&["get", "serviceaccount", "default"]).is_success);
        assert_eq!(image_of_pod(&namespace, "keycloak:20.0"), "keycloak:20.0", "{name}");
    }
}

fn image_streams_are_completed_and_refused(plane: &ControlPlane) {
    let values = json!({"controller": {"importMode": "Legacy", "registries": {"block": ["blocked.example"]}}});
    let release = Release::install(plane, Reach::Service, &values);
    let namespace = release.working_namespace(&json!({}));
    let webhooks = plane.admin().get(&["mutatingwebhookconfiguration", &release.name])["webhooks"].clone();
    let bundles = webhooks.as_array().unwrap().iter().map(|webhook| &webhook["clientConfig"]["caBundle"]);
    let bundles: Vec<_> = bundles.collect();
    assert!(
        bundles.len() == 3 && bundles.iter().all(|bundle| bundle.is_string() && *bundle == bundles[0]),
        "{webhooks}"
    );

    let stream = |name: &str, image: &str| {
        let tags = json!([{"name": "1", "from": {"kind": "DockerImage", "name": image}}]);
        json!({"apiVersion": "pinstream.dev/v1", "kind": "ImageStream", "metadata": {"name": name}, "spec": {"tags": tags}})
            .to_string()
    };
    let create = ["create", "--filename=-"];
    namespace.kubectl_with_stdin(&create, &stream("app", "quay.io/a:1")).ok();
    let tag = namespace.get(&["imagestream", "app"])["spec"]["tags"][0].clone();
    assert_eq!((&tag["generation"], &tag["importPolicy"]["importMode"]), (&json!(1), &json!("Legacy")));
    let complaint = namespace.kubectl_with_stdin(&create, &stream("other", "blocked.example/a:1")).refused();
    assert!(complaint.contains("Forbidden: images may not be imported from blocked.example"), "{complaint}");
}
