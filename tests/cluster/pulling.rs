//! Pulling from the registry of the streams: `pinstream registry` on a control plane, who may pull, and a client.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::control_plane::{ControlPlane, Namespace};
use crate::pinstream::Pinstream;

/// `pinstream registry` with no more rights than it needs, and these arguments.
pub fn registry(
    plane: &ControlPlane,
    namespace: &Namespace,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> Pinstream {
    let name = plane.unique("registry");
    let resources = |group: &str, resources: &[&str], verbs: &[&str]| json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
    let rules = [
        resources("pinstream.dev", &["imagestreams"], &["list", "watch"]),
        resources("", &["secrets"], &["list"]),
        resources("authentication.k8s.io", &["tokenreviews"], &["create"]),
        resources("authorization.k8s.io", &["subjectaccessreviews"], &["create"]),
    ];
    let account = json!({"kind": "ServiceAccount", "name": name, "namespace": namespace.name});
    apply(
        namespace,
        &[
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace.name}}),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules}),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}, "subjects": [account]}),
        ],
    );
    let user = plane.service_account(&namespace.name, &name);
    let kubeconfig = user.kubeconfig().display().to_string();
    Pinstream::start(plane, &[&["registry", "--kubeconfig", &kubeconfig], arguments].concat(), environment)
}

/// A ServiceAccount of a namespace with a token, which may pull `stream` of that namespace if one is named.
pub fn token(namespace: &Namespace, name: &str, stream: Option<&str>) -> String {
    let metadata = json!({"name": name, "namespace": namespace.name});
    let mut objects = vec![json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})];
    if let Some(stream) = stream {
        objects.push(json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata,
            "rules": [{"apiGroups": ["pinstream.dev"], "resources": ["imagestreams/layers"], "resourceNames": [stream], "verbs": ["get"]}]}));
        objects.push(json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace.name}]}));
    }
    apply(namespace, &objects);
    let path = format!("/api/v1/namespaces/{}/serviceaccounts/{name}/token", namespace.name);
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    namespace.post(&path, &request).ok()["status"]["token"].as_str().unwrap().to_owned()
}

fn apply(namespace: &Namespace, objects: &[Value]) {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    namespace.kubectl_with_stdin(&["apply", "--filename=-"], &list.to_string()).ok();
}

/// The files of a pulled image by their names: its manifests, its configurations and its layers.
pub type Pulled = BTreeMap<String, Vec<u8>>;

/// The client of containers/image, which Podman, Buildah and CRI-O pull with as well.
pub struct Skopeo<'p> {
    plane: &'p ControlPlane,
    program: PathBuf,
}

impl<'p> Skopeo<'p> {
    /// One that nobody has logged in with.
    pub fn new(plane: &'p ControlPlane) -> Self {
        Self { plane, program: plane.tool("skopeo") }
    }

    /// Copies an image. The error is what it complained of.
    pub fn copy(&self, from: &str, to: &str, arguments: &[&str]) -> Result<(), String> {
        self.run(&[&["--insecure-policy", "copy"], arguments, &[from, to]].concat()).map(drop)
    }

    /// Pulls `HOST/NAME:TAG` or `HOST/NAME@DIGEST`.
    pub fn pull(&self, image: &str, arguments: &[&str]) -> Result<Pulled, String> {
        let folder = self.plane.folder("pulled");
        self.copy(&format!("docker://{image}"), &format!("dir:{}", folder.display()), arguments)?;
        let files = fs::read_dir(&folder).unwrap().map(Result::unwrap);
        let pulled = files
            .map(|file| (file.file_name().to_string_lossy().into_owned(), fs::read(file.path()).unwrap()))
            .collect();
        fs::remove_dir_all(folder).unwrap();
        Ok(pulled)
    }

    /// The tags of `HOST/NAME`.
    pub fn tags(&self, repository: &str, arguments: &[&str]) -> Result<Value, String> {
        let listed = self.run(&[&["list-tags"], arguments, &[&format!("docker://{repository}")]].concat())?;
        Ok(serde_json::from_str::<Value>(&listed).unwrap()["Tags"].take())
    }

    fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let home = self.plane.folder("home");
        let mut command = Command::new(&self.program);
        command.args(arguments).env_clear().env("HOME", &home).env("TMPDIR", &home);
        let output = command.output().unwrap();
        fs::remove_dir_all(home).unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }
}
