//! Commands that write image streams, with a real registry: on a cluster, where a controller imports, and over a
//! directory, where they do.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::control_plane::{ControlPlane, Namespace};
use crate::importing::{Importing, history, in_parallel, named};
use crate::registry::{Content, Guard, Registry};
use crate::streams_tests::install_openshift;
use crate::user::User;
use crate::waiting::eventually;

/// What runs on a control plane where a controller imports.
pub mod importing {
    use super::{
        Importing, commands_at_the_same_time_lose_nothing, streams_of_a_cluster_are_written_by_commands,
        streams_of_a_directory_are_written_by_commands, the_right_to_write_the_status_is_needed_and_named,
        workloads_are_looked_up_by_force,
    };

    crate::tests![Importing:
        streams_of_a_cluster_are_written_by_commands,
        streams_of_a_directory_are_written_by_commands,
        commands_at_the_same_time_lose_nothing,
        workloads_are_looked_up_by_force,
        the_right_to_write_the_status_is_needed_and_named,
    ];
}

crate::tests![a_native_api_is_written_as_it_wants];

/// Where commands work.
enum Place<'n> {
    Cluster(&'n Namespace),
    Directory(PathBuf),
}

/// What a command came to.
#[derive(Debug)]
pub struct Output {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Place<'_> {
    fn run(&self, arguments: &str) -> Output {
        match self {
            Self::Cluster(namespace) => run(namespace, arguments),
            Self::Directory(root) => pinstream("PINSTREAM_STREAMS", root.to_str().unwrap(), arguments),
        }
    }

    /// What a command that succeeded printed.
    fn ok(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        assert_eq!(output.code, Some(0), "{arguments}: {output:?}");
        output.stdout
    }

    /// The stream `app`.
    fn stream(&self) -> Value {
        match self {
            Self::Cluster(namespace) => namespace.get(&["imagestreams.pinstream.dev", "app"]),
            Self::Directory(root) => {
                serde_saphyr::from_str(&fs::read_to_string(root.join("default/app.yaml")).unwrap()).unwrap()
            }
        }
    }

    fn status(&self, tag: &str) -> Value {
        named(&self.stream()["status"]["tags"], "tag", tag)
    }

    #[track_caller]
    fn has_history(&self, tag: &str, expected: &[&str]) {
        assert_eq!(history(&self.status(tag)), expected, "tag {tag}");
    }
}

/// Runs a command on the cluster of a user.
/// Runs a command as a user.
pub fn run(user: &User, arguments: &str) -> Output {
    pinstream("KUBECONFIG", user.kubeconfig().to_str().unwrap(), arguments)
}

fn pinstream(variable: &str, value: &str, arguments: &str) -> Output {
    let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_pinstream"));
    let output = command.args(arguments.split(' ')).env_clear().env(variable, value).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Output { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn streams_of_a_cluster_are_written_by_commands(site: &Importing) {
    let namespace = site.plane.namespace();
    tags_are_made_moved_rolled_back_and_deleted(site, &Place::Cluster(&namespace));
    failures_are_told(site, &Place::Cluster(&namespace));
}

fn streams_of_a_directory_are_written_by_commands(site: &Importing) {
    let place = Place::Directory(site.plane.folder("streams"));
    tags_are_made_moved_rolled_back_and_deleted(site, &place);
    failures_are_told(site, &place);
}

fn tags_are_made_moved_rolled_back_and_deleted(site: &Importing, place: &Place<'_>) {
    let (registry, repository) = (site.registry(Guard::Open), site.plane.unique("commands"));
    let push =
        |tag: &str, seed: &str| registry.push(&repository, tag, &Content::image(&format!("{repository} {seed}")));
    let image = format!("{}/{repository}", registry.host);
    let (one, two) = (push("1", "one"), push("2", "two"));

    let made = "imagestream.pinstream.dev/app created\n";
    assert_eq!(place.ok("create is app"), made);
    place.ok(&format!("create istag app:a --from-image {image}:1 --insecure"));
    place.has_history("a", &[&one]);
    place.ok("create istag app:follows --from :a");
    place.has_history("follows", &[&one]);
    place.ok(&format!("tag {image}:2 app:a --insecure"));
    place.has_history("a", &[&two, &one]);
    place.has_history("follows", &[&two, &one]);
    assert_eq!(place.ok("tag app:a app:kept"), format!("Tag app:kept set to app@{two}.\n"));
    place.has_history("kept", &[&two]);
    place.ok(&format!("tag app@{} app:kept", &one["sha256:".len()..][..12]));
    place.has_history("kept", &[&one, &two]);

    let three = push("2", "three");
    let output = place.ok("import-image app:follows");
    assert!(output.starts_with("imagestream.pinstream.dev/app imported\n\nName:\t\t\tapp\n"), "{output}");
    assert!(output.contains(&format!("\nImage Name:\tapp:a\nDocker Image:\t{image}@{three}\n")), "{output}");
    place.has_history("a", &[&three, &two, &one]);
    place.ok("rollback app:a --dry-run=server");
    place.has_history("a", &[&three, &two, &one]);
    place.ok("rollback app:a");
    place.has_history("a", &[&two, &three, &two, &one]);
    assert_eq!(named(&place.stream()["spec"]["tags"], "name", "a")["from"]["name"], format!("app@{two}"));

    place.ok(&format!("tag {image}:2 app:a --insecure --scheduled"));
    let output = place.run(&format!("rollback app:a --to {one}"));
    assert!(output.stderr.contains("The next scheduled import sets it"), "{output:?}");
    let times = history(&place.status("a")).iter().filter(|image| **image == one).count();
    assert_eq!(times, 2, "{output:?}");
    assert_eq!(named(&place.stream()["spec"]["tags"], "name", "a")["importPolicy"]["scheduled"], true);

    place.ok("delete istag app:a --dry-run=server");
    place.ok("delete istag app:a");
    assert_eq!(place.status("a"), Value::Null);
    assert_eq!(named(&place.stream()["spec"]["tags"], "name", "a"), Value::Null);
    assert_eq!(place.run("delete istag app:a").code, Some(1));
    place.ok("tag -d app:kept");
    place.ok("set image-lookup app");
    assert_eq!(place.ok("set image-lookup"), "NAME  LOCAL\napp   true\n");
    place.ok("delete is app");
    assert_eq!(place.run("set image-lookup app").code, Some(1));

    let output = place.ok(&format!("import-image app --all --from {image} --confirm --insecure"));
    assert!(output.starts_with("imagestream.pinstream.dev/app imported\n\nName:"), "{output}");
    assert_eq!(output.matches("\nImage Name:\tapp:").count(), 2, "{output}");
    place.has_history("1", &[&one]);
    place.has_history("2", &[&three]);
}

fn failures_are_told(site: &Importing, place: &Place<'_>) {
    let registry: &Registry = site.registry(Guard::Open);
    let missing = format!("{}/none/such:1", registry.host);
    let output = place.run(&format!("tag {missing} app:bad --insecure"));
    assert_eq!((output.code, &*output.stdout), (Some(1), &*format!("Tag app:bad set to {missing}.\n")));
    assert!(output.stderr.contains("error: tag bad failed: "), "{output:?}");
    let output = place.run("import-image app:bad");
    assert_eq!(output.code, Some(1));
    assert!(output.stdout.starts_with("imagestream.pinstream.dev/app imported with errors\n\nName:"), "{output:?}");
    assert!(output.stdout.contains("  ! error: Import failed (NotFound): "), "{output:?}");
    assert!(output.stderr.contains("pinstream: 1 tag could not be imported"), "{output:?}");
    assert_eq!(place.run("import-image app:bad --wait=false").code, Some(0));
}

fn commands_at_the_same_time_lose_nothing(site: &Importing) {
    let namespace = site.plane.namespace();
    let directory = Place::Directory(site.plane.folder("streams"));
    for place in [Place::Cluster(&namespace), directory] {
        place.ok("create is app");
        in_parallel(4, |number| {
            for more in 0..3 {
                place.ok(&format!("tag q.io/a:{number} app:{number}-{more} --reference"));
            }
        });
        let stream = place.stream();
        assert_eq!(stream["spec"]["tags"].as_array().unwrap().len(), 12, "{stream}");
        assert_eq!(stream["status"]["tags"].as_array().unwrap().len(), 12, "{stream}");
    }
}

fn workloads_are_looked_up_by_force(site: &Importing) {
    const ANNOTATION: &str = "alpha.image.policy.openshift.io/resolve-names";
    let namespace = site.plane.namespace();
    let place = Place::Cluster(&namespace);
    namespace.kubectl(&["create", "deployment", "web", "--image=app:1"]).ok();
    namespace.kubectl(&["create", "job", "once", "--image=app:1"]).ok();
    assert_eq!(place.ok("set image-lookup deploy/web --list"), "NAME             LOCAL\ndeployments/web  false\n");
    assert_eq!(
        place.ok("set image-lookup deploy/web job/once"),
        "deployment.apps/web image lookup updated\njob.batch/once image lookup updated\n"
    );
    let template = || namespace.get(&["deployment", "web"])["spec"]["template"]["metadata"]["annotations"].clone();
    assert_eq!(template(), json!({ANNOTATION: "*"}));
    assert_eq!(namespace.get(&["job", "once"])["metadata"]["annotations"][ANNOTATION], "*");
    assert_eq!(place.ok("set image-lookup deploy/web"), "deployment.apps/web image lookup unchanged\n");
    place.ok("set image-lookup deploy/web --enabled=false --dry-run=server");
    assert_eq!(template(), json!({ANNOTATION: "*"}));
    place.ok("set image-lookup deploy/web --enabled=false");
    assert_eq!(template(), Value::Null);
    let output = place.run("set image-lookup deploy/none");
    assert_eq!((output.code, output.stdout.as_str()), (Some(1), ""), "{output:?}");
}

fn the_right_to_write_the_status_is_needed_and_named(site: &Importing) {
    let namespace = site.plane.namespace();
    let account = site.plane.service_account(&namespace.name, "default");
    let grant = |name: &str, verbs: &str, resource: &str| {
        let (verbs, resource) = (format!("--verb={verbs}"), format!("--resource={resource}"));
        namespace.kubectl(&["create", "role", name, &verbs, &resource]).ok();
        let (role, account) = (format!("--role={name}"), format!("--serviceaccount={}:default", namespace.name));
        namespace.kubectl(&["create", "rolebinding", name, &role, &account]).ok();
    };
    grant("editor", "get,list,create,patch,delete", "imagestreams.pinstream.dev");
    eventually("the rights are known", || run(&account, "set image-lookup").code == Some(0));
    assert_eq!(run(&account, "create istag app:1 --from-image q.io/a:1 --reference").code, Some(0));
    let output = run(&account, "delete istag app:1");
    assert!(output.code == Some(2) && output.stderr.contains("imagestreams/status"), "{output:?}");
    grant("status", "patch", "imagestreams.pinstream.dev/status");
    eventually("the history is deleted too", || run(&account, "delete istag app:1").code == Some(0));
    assert_eq!(run(&account, "delete istag app:1").code, Some(1));
}

/// A resource of the OpenShift group numbers its tags itself; without its tags as resources, they are taken out of it.
fn a_native_api_is_written_as_it_wants(plane: &ControlPlane) {
    let plane = &plane.another();
    install_openshift(plane);
    let namespace = plane.namespace();
    let ok = |arguments: &str| {
        let output = run(&namespace, arguments);
        assert_eq!(output.code, Some(0), "{arguments}: {output:?}");
        output.stdout
    };
    let stream = || namespace.get(&["imagestreams.image.openshift.io", "app"]);
    assert_eq!(ok("create is app"), "imagestream.image.openshift.io/app created\n");
    ok("tag q.io/demo/app:1 app:1 --wait=false");
    ok("tag q.io/demo/app:2 app:2 --reference --wait=false");
    let generation = |tag: &str| named(&stream()["spec"]["tags"], "name", tag)["generation"].clone();
    assert_eq!(generation("1"), 0);
    ok("set image-lookup app");
    assert_eq!(stream()["spec"]["lookupPolicy"]["local"], true);
    let deleted = "imagestreamtag.image.openshift.io \"app:1\" deleted from";
    assert!(ok("delete istag app:1").starts_with(deleted));
    assert_eq!(named(&stream()["spec"]["tags"], "name", "1"), Value::Null);
    assert_eq!(run(&namespace, "delete istag app:1").code, Some(1));
}
