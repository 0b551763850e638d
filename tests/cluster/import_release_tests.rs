//! That the controller of a release imports with the rights that the chart gives it, and with no more.

use jiff::{SignedDuration, Timestamp};
use pinstream::store::kube::{Access, collect_images, connect};
use serde_json::json;

use crate::control_plane::ControlPlane;
use crate::importing::{Stream, image, manifest};
use crate::registry::{Content, Guard, PASSWORD, Registry, USER};
use crate::release::{Reach, Release, image_of_pod};
use crate::user::User;
use crate::waiting::eventually;

crate::tests![a_release_imports_with_the_rights_of_its_chart_and_no_more];

fn a_release_imports_with_the_rights_of_its_chart_and_no_more(plane: &ControlPlane) {
    let plane = plane.another();
    let [with, without] = [(); 2].map(|()| plane.namespace());
    let registry = Registry::start(&plane, Guard::Password);
    for namespace in [&with, &without] {
        let server = format!("--docker-server={}", registry.host);
        let (user, password) = (format!("--docker-username={USER}"), format!("--docker-password={PASSWORD}"));
        namespace.kubectl(&["create", "secret", "docker-registry", "pull", &server, &user, &password]).ok();
    }
    let values = json!({
        "crds": {"install": true}, "webhook": {"namespaceSelector": {"matchLabels": null}},
        "controller": {"enabled": true, "secretNamespaces": [with.name], "registries": {"allow": ["127.0.0.1:*"]}},
    });
    let release = Release::install(&plane, Reach::Service, &values);
    let account = plane.service_account(&release.namespace.name, &format!("{}-controller", release.name));

    let digest = registry.push("app", "1", &Content::index("app"));
    let app = manifest("app", &[registry.spec_tag("1", "app:1")]);
    let stream = Stream::apply(&with, &app);
    stream.has_history("1", &[&digest]);
    eventually("Pods get the image", || image_of_pod(&with, "app:1") == format!("{}/app@{digest}", registry.host));
    eventually("the move is told", || stream.events().len() == 1);
    // The Secret of a namespace that is not named is there, but not to be seen.
    let condition = Stream::apply(&without, &app).fails("1");
    assert_eq!(condition["reason"], "Unauthorized", "{condition}");
    let may = |verb: &str, what: &str, namespace: &str| {
        account.kubectl(&["auth", "can-i", verb, what, "--namespace", namespace]).is_success
    };
    assert!(may("list", "secrets", &with.name) && !may("list", "secrets", &without.name));
    for (verb, what) in
        [("get", "secrets"), ("create", "pods"), ("update", "deployments"), ("delete", "imagestreams.pinstream.dev")]
    {
        assert!(!may(verb, what, &with.name), "{verb} {what}");
    }

    let kept = registry.push("app", "2", &Content::image("kept"));
    Stream::apply(&with, &manifest("kept", &[registry.spec_tag("2", "app:2")])).has_history("2", &[&kept]);
    with.kubectl(&["delete", "imagestream", "app"]).ok();
    let now = Timestamp::now();
    assert_eq!(collect(&account, now), 0);
    // An index and its two.
    assert_eq!(collect(&account, now + SignedDuration::from_hours(2)), 3);
    assert!(image(&with, &digest).is_none() && image(&with, &kept).is_some());
    assert_eq!(release.seen().failures(), 0, "{}", release.seen().logs());
}

/// Deletes the images that no stream refers to, with a user's rights, as if it were that time.
fn collect(user: &User, now: Timestamp) -> usize {
    let access = Access { kubeconfig: Some(user.kubeconfig().to_owned()), context: None };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async { collect_images(&connect(&access).await.unwrap(), now).await.unwrap() })
}
