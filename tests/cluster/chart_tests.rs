//! That the chart renders what it should, refuses what it cannot mean, and that a release can be changed and removed.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::chart::{CHART, cases, define_foreign, find, render};
use crate::control_plane::ControlPlane;
use crate::release::install_custom_resource;
use crate::user::User;

crate::tests![
    every_value_set_renders_what_was_agreed,
    every_render_is_accepted_by_the_api_server,
    helm_lint_finds_nothing,
    wrong_values_are_refused_with_a_reason,
    a_release_keeps_what_the_webhook_writes_until_it_is_uninstalled,
    an_upgrade_upgrades_the_custom_resource,
    the_stream_of_the_notes_can_be_made,
];

/// What `expected.yaml` begins with.
const HEADER: &str =
    "# What values.yaml renders to, but for custom resources, alerts and the dashboard, which have files of their own.
# Written by `INSTA_UPDATE=always cargo test --test cluster`; read the diff.\n";
const CONFIGURATION: [&str; 2] = ["mutatingwebhookconfiguration", "pinstream"];
const POLICY: [&str; 2] = ["validatingwebhookconfiguration", "pinstream"];
const SECRET: [&str; 2] = ["secret", "pinstream-tls"];

fn every_value_set_renders_what_was_agreed(plane: &ControlPlane) {
    for case in cases() {
        let rendered = HEADER.to_owned() + &without_files(&render(plane.admin(), "pinstream-system", &case.values));
        if std::env::var_os("INSTA_UPDATE").is_some_and(|update| update == "always") {
            fs::write(&case.expected, &rendered).unwrap();
        }
        let expected = fs::read_to_string(&case.expected).unwrap_or_default();
        let different = expected.lines().zip(rendered.lines()).find(|(expected, rendered)| expected != rendered);
        assert_eq!(different, None, "{}", case.expected.display());
        assert_eq!(rendered.len(), expected.len(), "{} is shorter or longer", case.expected.display());
    }
}

/// Kinds of which a part is a file of the chart, and where that part begins.
const FILES: [(&str, &str); 3] =
    [("CustomResourceDefinition", "\nspec:"), ("PrometheusRule", "\nspec:"), ("ConfigMap", "\ndata:")];

/// A render without what are files of the chart.
fn without_files(rendered: &str) -> String {
    let cut = |document: &str| {
        let file = FILES.iter().find(|(kind, _)| document.contains(&format!("\nkind: {kind}\n")));
        match file.and_then(|(_, begin)| document.split_once(begin)) {
            Some((before, _)) => format!("{before}\n"),
            None => document.to_owned(),
        }
    };
    rendered.split("---\n").map(cut).collect::<Vec<_>>().join("---\n")
}

fn every_render_is_accepted_by_the_api_server(plane: &ControlPlane) {
    let namespace = plane.namespace_with_labels(&json!({"pod-security.kubernetes.io/warn": "restricted"}));
    define_foreign(plane.admin());
    for case in cases() {
        let rendered = render(plane.admin(), &namespace.name, &case.values);
        let output = namespace.kubectl_with_stdin(&["apply", "--dry-run=server", "--filename=-"], &rendered);
        let warnings = output.stderr.clone();
        let accepted = output.ok().lines().filter(|line| line.ends_with("(server dry run)")).count();
        assert_eq!(accepted, rendered.matches("\napiVersion: ").count(), "{}", case.name);
        let is_restricted = !warnings.contains("would violate PodSecurity");
        assert_eq!(is_restricted, !rendered.contains("hostNetwork: true"), "{}: {warnings}", case.name);
    }
}

fn helm_lint_finds_nothing(plane: &ControlPlane) {
    for case in cases() {
        plane.admin().helm(&["lint", CHART, "--strict", "--values", case.values.to_str().unwrap()]).ok();
    }
}

fn wrong_values_are_refused_with_a_reason(plane: &ControlPlane) {
    let digest = format!("image.digest=sha256:{}", "g".repeat(64));
    let cases = [
        ("webhok.port=1", "additional properties 'webhok' not allowed"),
        ("webhook.failurepolicy=Fail", "at '/webhook': additional properties 'failurepolicy' not allowed"),
        ("webhook.failurePolicy=ignore", "must be one of 'Ignore', 'Fail'"),
        ("webhook.imageStreams.failurePolicy=ignore", "must be one of 'Ignore', 'Fail'"),
        ("webhook.timeoutSeconds=31", "maximum: got 31, want 30"),
        ("webhook.url=http://pinstream.example", "at '/webhook/url'"),
        ("webhook.namespaceSelector.matchExpressions[0].key=a", "missing property 'operator'"),
        ("pin.default=on", "must be one of 'workload', 'pod', 'off'"),
        ("pin.defualt=off", "at '/pin': additional properties 'defualt' not allowed"),
        ("source=./streams", "at '/source'"),
        ("kinds[0].kind=Rollout", "missing properties 'group', 'resource', 'versions', 'pointer'"),
        ("certificates.mode=vault", "must be one of 'self', 'cert-manager', 'secret'"),
        ("certificates.mode=secret", "at '/certificates/secret/name'"),
        ("certificates.self.lifetime=90d", "at '/certificates/self/lifetime'"),
        ("image.tags=1", "at '/image': additional properties 'tags' not allowed"),
        (&digest, "at '/image/digest'"),
        ("replicas=two", "at '/replicas': got string, want integer"),
        ("resources.limts.cpu=1", "at '/resources': additional properties 'limts' not allowed"),
        ("probes.readiness.period=1", "at '/probes/readiness': additional properties 'period' not allowed"),
        ("policy.level=off", "must be one of 'audit', 'warn', 'enforce'"),
        ("policy.exceptions[0]=", "at '/policy/exceptions/0'"),
        ("policy.exceptions[0]=[a]", "at '/policy/exceptions/0'"),
        ("policy.failurePolicy=ignore", "must be one of 'Ignore', 'Fail'"),
        ("policy.annotations=true", "at '/policy': additional properties 'annotations' not allowed"),
        ("podDisruptionBudget.maxUnavailable=0", "minimum: got 0, want 1"),
        ("terminationGracePeriodSeconds=24", "requests would be cut off"),
        ("registry.enabled=true", "at '/registry/host': minLength"),
        ("registry.enabled=true,registry.host=r.io", "registry.certificate.secretName must name a Secret"),
        (
            "registry.enabled=true,registry.host=r.io,registry.certificate.mode=cert-manager",
            "registry.certificate.issuerRef.name must name an issuer",
        ),
        (
            "registry.enabled=true,registry.host=r.io,registry.certificate.mode=none,registry.replicas=2",
            "registry.replicas is more than 1",
        ),
        ("registry.storage.bucket=minio:9000/images", "at '/registry/storage/bucket'"),
        ("registry.caches[0]=docker.io", "at '/registry/caches/0'"),
        ("serviceAccount.create=false", "serviceAccount.name must name an existing ServiceAccount"),
    ];
    for (value, reason) in cases {
        let refusal = plane.admin().helm(&["template", CHART, "--set", value]).refused();
        assert!(refusal.contains(reason), "{value}: {refusal}");
    }
}

/// The webhook configuration is everybody's, hence a control plane of its own.
fn a_release_keeps_what_the_webhook_writes_until_it_is_uninstalled(plane: &ControlPlane) {
    let own = plane.another();
    let namespace = own.namespace();
    for server_side in ["--server-side=true", "--server-side=false"] {
        let change = |arguments: &[&str]| namespace.helm(&[arguments, &[server_side]].concat()).ok();
        change(&["install", "pinstream", CHART]);
        assert_eq!(find(&namespace, &SECRET).unwrap().get("data"), None);
        assert_eq!(bundles(&namespace), [const { None }; 5]);
        let bundle = write_as_the_webhook(&namespace);

        change(&["upgrade", "pinstream", CHART, "--set", "webhook.timeoutSeconds=5,registry.host=registry.example"]);
        assert_eq!(find(&namespace, &CONFIGURATION).unwrap()["webhooks"][0]["timeoutSeconds"], 5);
        assert_eq!(bundles(&namespace), vec![Some(bundle.clone()); 5]);
        change(&["rollback", "pinstream", "1"]);
        change(&["upgrade", "pinstream", CHART, "--set", "webhook.url=https://pinstream.example"]);
        assert_eq!(bundles(&namespace), vec![Some(bundle.clone()); 5]);
        assert_eq!(find(&namespace, &SECRET).unwrap()["data"]["ca.crt"], json!(bundle));

        namespace.kubectl_with_stdin(&["create", "--filename=-"], STREAM).ok();
        namespace.helm(&["uninstall", "pinstream"]).ok();
        let selector = "--selector=app.kubernetes.io/instance=pinstream";
        let kinds = "all,secrets,serviceaccounts,roles,rolebindings,clusterroles,clusterrolebindings,\
                     poddisruptionbudgets,mutatingwebhookconfigurations,validatingwebhookconfigurations,\
                     validatingadmissionpolicies,validatingadmissionpolicybindings,crd";
        let left = namespace.kubectl(&["get", kinds, selector, "--output=name"]).ok();
        let kept = ["images", "imagestreams"]
            .map(|plural| format!("customresourcedefinition.apiextensions.k8s.io/{plural}.pinstream.dev"));
        assert_eq!(left.trim(), kept.join("\n"));
        namespace.kubectl(&["delete", "imagestream", "kept"]).ok();
    }
}

const STREAM: &str = "{apiVersion: pinstream.dev/v1, kind: ImageStream, metadata: {name: kept}, spec: {}}";

/// The CA of each webhook: three that pin, two that hold to the policy.
fn bundles(user: &User) -> Vec<Option<String>> {
    let configurations = [CONFIGURATION, POLICY].map(|words| find(user, &words).unwrap());
    let webhooks = configurations.iter().flat_map(|configuration| configuration["webhooks"].as_array().unwrap());
    webhooks.map(|webhook| Some(webhook["clientConfig"]["caBundle"].as_str()?.to_owned())).collect()
}

/// Fills the Secret, and the CA of the webhooks, as somebody else than Helm. Gives back the CA.
fn write_as_the_webhook(user: &User) -> String {
    let path = "--output=jsonpath={.clusters[0].cluster.certificate-authority-data}";
    let ca = user.kubectl(&["config", "view", "--raw", path]).ok();
    let change = |words: &[&str], change: &dyn Fn(&mut Value)| {
        let mut object = find(user, words).unwrap();
        change(&mut object);
        user.kubectl_with_stdin(&["replace", "--filename=-"], &object.to_string()).ok();
    };
    change(&SECRET, &|secret| secret["data"] = json!({"ca.crt": ca}));
    for words in [CONFIGURATION, POLICY] {
        change(&words, &|configuration| {
            for webhook in configuration["webhooks"].as_array_mut().unwrap() {
                webhook["clientConfig"]["caBundle"] = json!(ca);
            }
        });
    }
    ca
}

fn an_upgrade_upgrades_the_custom_resource(plane: &ControlPlane) {
    let own = plane.another();
    let namespace = own.namespace();
    let name = ["crd", "imagestreams.pinstream.dev"];
    namespace.helm(&["install", "pinstream", CHART]).ok();
    assert_eq!(find(&namespace, &name).unwrap()["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");

    let chart = own.folder("chart");
    copy(Path::new(CHART), &chart);
    let file = chart.join("files/crds/imagestreams.yaml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("ImageStreamList", "ImageStreamCollection")).unwrap();
    namespace.helm(&["upgrade", "pinstream", chart.to_str().unwrap()]).ok();
    assert_eq!(find(&namespace, &name).unwrap()["spec"]["names"]["listKind"], "ImageStreamCollection");
}

fn the_stream_of_the_notes_can_be_made(plane: &ControlPlane) {
    install_custom_resource(plane);
    let namespace = plane.namespace();
    let notes = |values: &str| {
        let arguments = ["install", "pinstream", CHART, "--dry-run=client", "--set", "crds.install=false", "--set"];
        let printed = namespace.helm(&[&arguments[..], &[values]].concat()).ok();
        printed.split_once("\nNOTES:\n").unwrap().1.to_owned()
    };
    let manifest = notes("source=pinstream").split('\'').nth(1).unwrap().to_owned();
    namespace.kubectl_with_stdin(&["apply", "--filename=-"], &manifest).ok();
    assert_eq!(namespace.get(&["imagestream", "keycloak"])["spec"]["tags"][0]["name"], "20.0");
    for (values, expected) in [
        ("source=openshift", "kubectl get imagestreams.image.openshift.io --all-namespaces"),
        ("source=/streams", "read from the directory /streams"),
        ("controller.enabled=false", "kubectl get imagestreams --all-namespaces"),
        ("pin.default=off", "Namespaces without the label: off."),
        ("webhook.failurePolicy=Fail", "objects with a short image name are refused"),
        ("policy.level=warn", "Images that are not pinned by digest are warned of."),
        ("policy.failurePolicy=Fail", "refused if one of their images is not pinned"),
        ("policy.validatingAdmissionPolicy.enabled=true", "the API server refuses those that are not pinned by itself"),
        ("certificates.mode=cert-manager", "Secret pinstream-cert-manager-tls has its certificate"),
        (
            "registry.enabled=true,registry.host=images.example,registry.certificate.secretName=tls",
            "server = \"https://images.example\"",
        ),
    ] {
        assert!(notes(values).contains(expected), "{values}: {}", notes(values));
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}
