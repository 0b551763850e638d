//! The two that hold objects to the policy, side by side: the webhook of a release in one namespace, and the policy inside the
//! API server, as the chart renders it for the same values, in another.

use serde_json::{Value, json};

use crate::chart::define_foreign;
use crate::control_plane::{ControlPlane, Namespace};
use crate::release::{Reach, Release};
use crate::sending::{of_kind, path, pod_spec, post, valid};
use crate::user::Answer;
use crate::waiting::eventually;

/// An image that is not pinned, and that no stream has.
pub const UNPINNED: &str = "quay.io/team/app:1";

/// Both. What one refuses the other should, for the same reason.
pub struct Judges<'plane> {
    plane: &'plane ControlPlane,
    release: Release<'plane>,
    /// Where the webhook judges.
    webhook: Namespace,
    /// Where the API server does by itself.
    policy: Namespace,
}

impl<'plane> Judges<'plane> {
    /// Installs both with these values of the policy. Of the kinds of others they know `Certificate`, whose template is at
    /// `/spec/templates/1`, and `Issuer`, which is one itself.
    pub fn install(plane: &'plane ControlPlane, policy: &Value) -> Self {
        define_foreign(plane.admin());
        let foreign = |kind: &str, resource: &str, pointer: &str| json!({"group": "cert-manager.io", "kind": kind, "resource": resource, "versions": ["v1"], "pointer": pointer});
        let kinds = [foreign("Certificate", "certificates", "/spec/templates/1"), foreign("Issuer", "issuers", "")];
        let values = json!({"replicas": 1, "podTemplates": true, "kinds": kinds, "policy": policy});
        let release = Release::install(plane, Reach::Url, &values);
        let inside = format!("{}-inside", release.name);
        let values = format!(
            "policy.validatingAdmissionPolicy.enabled=true,webhook.namespaceSelector.matchLabels.for-release={inside}"
        );
        let template = "--show-only=templates/validatingadmissionpolicy.yaml";
        let rendered = release.helm("template", &[template, "--set", &values]).ok();
        plane.admin().kubectl_with_stdin(&["create", "--filename=-"], &rendered).ok();
        let webhook = release.user_namespace(&json!({}));
        let policy = plane.namespace_with_labels(&json!({"for-release": inside}));
        Self { plane, release, webhook, policy }
    }

    /// Name of the release, and of the policy.
    pub fn name(&self) -> &str {
        &self.release.name
    }

    /// Both namespaces.
    pub fn namespaces(&self) -> [&Namespace; 2] {
        [&self.webhook, &self.policy]
    }

    /// Labels both namespaces; `KEY-` takes a label away.
    pub fn label(&self, label: &str) {
        let names = self.namespaces().map(|namespace| &*namespace.name);
        self.plane.admin().kubectl(&[&["label", "--overwrite", "namespace"], &names[..], &[label]].concat()).ok();
    }

    /// Waits until both refuse objects of that kind that are not pinned, or let them pass.
    pub fn wait_until(&self, kind: &str, is_refused: bool) {
        // Under a name of its own: one that passes must not be there already.
        let mut probe = valid(kind, &pod_spec(&[UNPINNED]));
        probe["metadata"]["name"] = json!("probe");
        for (namespace, judge) in self.both() {
            eventually(&format!("{kind}s are refused by the {judge}: {is_refused}"), || {
                let answer = post(namespace, kind, probe.clone());
                refusal(&answer, judge).is_some() == is_refused
            });
        }
    }

    /// Has the policy enforced in both namespaces.
    pub fn enforce(&self) {
        self.label("pinstream.dev/policy=enforce");
        self.wait_until("Deployment", true);
    }

    /// What both say of a new object: what they refuse, nothing if it passes.
    pub fn judge(&self, kind: &str, object: &Value) -> Option<String> {
        self.judge_answers(|namespace| post(namespace, kind, object.clone()))
    }

    /// What both say of a change of an object that is there, made of what each namespace has.
    pub fn judge_change(&self, kind: &str, place: &str, change: &dyn Fn(&mut Value)) -> Option<String> {
        self.judge_answers(|namespace| {
            let at = format!("{}/{place}", path(namespace, kind));
            let whole = at.strip_suffix("/ephemeralcontainers").unwrap_or(&at);
            let mut object = namespace.ask(&reqwest::Method::GET, whole, None).unwrap().ok();
            change(&mut object);
            namespace.ask(&reqwest::Method::PUT, &format!("{at}?dryRun=All"), Some(&object)).unwrap()
        })
    }

    /// Stores an object in both namespaces.
    pub fn store(&self, kind: &str, object: &Value) {
        for namespace in self.namespaces() {
            namespace.post(&path(namespace, kind), &of_kind(kind, object.clone())).ok();
        }
    }

    fn judge_answers(&self, ask: impl Fn(&Namespace) -> Answer) -> Option<String> {
        let [webhook, policy] = self.both().map(|(namespace, judge)| refusal(&ask(namespace), judge));
        assert_eq!(webhook, policy, "the webhook and the API server differ");
        webhook
    }

    /// The namespaces, each with how its judge begins a refusal.
    fn both(&self) -> [(&Namespace, &'static str); 2] {
        [(&self.webhook, "admission webhook"), (&self.policy, "ValidatingAdmissionPolicy")]
    }
}

/// What a judge named as not pinned; nothing if the object passed. Other answers are failures.
fn refusal(answer: &Answer, judge: &str) -> Option<String> {
    if matches!(answer.status, 200 | 201) {
        return None;
    }
    let message = answer.body["message"].as_str().unwrap_or_default();
    let refused = message.split_once("not pinned by digest: ").and_then(|(_, rest)| rest.split_once(". Namespace "));
    let is_a_refusal = answer.status == 403 && message.contains(judge);
    match refused {
        Some((refused, _)) if is_a_refusal => Some(refused.to_owned()),
        _ => panic!("{}, not by the {judge}: {message}", answer.status),
    }
}
