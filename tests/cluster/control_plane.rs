//! A control plane: starts etcd, kube-apiserver and kube-controller-manager on free loopback ports, and ends them.
//!
//! There is no node, so nothing runs in the Pods; they stay pending.

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use reqwest::blocking::Client;
use rustix::process::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::certificates::{Authority, token_keys};
use crate::component::{Component, Start};
use crate::process::Process;
use crate::tools::Tools;
use crate::user::{Access, Credentials, User};
use crate::waiting::{eventually, try_eventually};

/// Under which names the API server is reached.
const SERVER_NAMES: [&str; 5] = ["localhost", "127.0.0.1", "10.0.0.1", "kubernetes.default", "kubernetes.default.svc"];

/// A running control plane. Dropping it ends it; its folder is kept if the test panics.
pub struct ControlPlane {
    admin: User,
    access: Access,
    parts: Parts,
    /// How many names were given away.
    names: AtomicU32,
    /// How long it took until it was ready.
    pub start_up: Duration,
    folder: TempDir,
}

/// A namespace of a test's own, as its administrator sees it.
#[derive(Clone)]
pub struct Namespace {
    pub name: String,
    admin: User,
}

/// For how long a ServiceAccount's token is good if nothing else is said.
const TOKEN: Duration = Duration::from_hours(1);

/// Gives ServiceAccounts tokens.
pub struct Tokens {
    admin: User,
    access: Access,
}

impl Tokens {
    /// A ServiceAccount that is there, as a user whose files are named `file`, with a token of its own.
    pub fn service_account(&self, namespace: &str, name: &str, file: &str) -> User {
        let token = self.token(namespace, name, TOKEN).unwrap();
        User::new(&self.access, file, &Credentials::Token(&token), namespace)
    }

    /// The same with a token in a file, which is another's to write and to renew.
    pub fn service_account_of_file(&self, namespace: &str, file: &str, token: &Path) -> User {
        User::new(&self.access, file, &Credentials::TokenFile(token), namespace)
    }

    /// A token of a ServiceAccount that is good for so long. Nothing while there is no API server.
    pub fn token(&self, namespace: &str, name: &str, good_for: Duration) -> Option<String> {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token");
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"expirationSeconds": good_for.as_secs()}});
        let answer = self.admin.ask(&Method::POST, &path, Some(&request)).ok()?;
        Some(answer.body["status"]["token"].as_str()?.to_owned())
    }
}

impl Deref for Namespace {
    type Target = User;

    fn deref(&self) -> &User {
        &self.admin
    }
}

impl ControlPlane {
    /// Starts one, and waits until it is ready and its controllers work.
    pub fn start(tools: &Tools) -> Result<Self, String> {
        let started = Instant::now();
        let folder = new_folder();
        let path = folder.path().to_owned();
        let result = start_components(tools, &path);
        let (access, admin, parts) = match result {
            Ok(parts) => parts,
            Err(error) => return Err(format!("{error}\nlogs: {}", folder.keep().display())),
        };
        Ok(Self { admin, access, parts, names: AtomicU32::default(), start_up: started.elapsed(), folder })
    }

    /// Another one, for a test that cannot share.
    pub fn another(&self) -> Self {
        Self::start(&self.access.tools).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Ends it. Its folder is kept if that is said, and its path printed.
    pub fn end(mut self, is_folder_kept: bool) {
        if is_folder_kept {
            self.keep_folder();
        }
    }

    /// Who may do everything, at home in the namespace `default`.
    pub fn admin(&self) -> &User {
        &self.admin
    }

    /// A folder for a test, which goes with the control plane.
    pub fn folder(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().join(self.unique(name));
        fs::create_dir(&folder).unwrap();
        folder
    }

    /// One of the programs that tests run.
    pub fn tool(&self, program: &str) -> PathBuf {
        self.access.tools.path(program).to_owned()
    }

    /// A name that nobody else has.
    pub fn unique(&self, name: &str) -> String {
        format!("{name}-{}", self.names.fetch_add(1, Ordering::Relaxed))
    }

    /// A new namespace in which Pods can be made.
    pub fn namespace(&self) -> Namespace {
        self.namespace_with_labels(&json!({}))
    }

    pub fn namespace_with_labels(&self, labels: &Value) -> Namespace {
        self.namespace_named(&self.unique("test"), labels)
    }

    /// Like [`ControlPlane::namespace_with_labels`], of a name that is not taken.
    pub fn namespace_named(&self, name: &str, labels: &Value) -> Namespace {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        self.admin.post("/api/v1/namespaces", &namespace).ok();
        for path in ["serviceaccounts/default", "configmaps/kube-root-ca.crt"] {
            eventually(&format!("{path} of {name} is there"), || exists(&self.admin, name, path));
        }
        Namespace { name: name.to_owned(), admin: self.admin.at_home_in(name) }
    }

    /// A ServiceAccount that is there, as a user with a token of its own.
    pub fn service_account(&self, namespace: &str, name: &str) -> User {
        self.tokens().service_account(namespace, name, &self.unique(name))
    }

    /// Who can give ServiceAccounts tokens without this control plane at hand.
    pub fn tokens(&self) -> Tokens {
        Tokens { admin: self.admin.clone(), access: self.access.clone() }
    }

    /// Ends the API server at once, as a crash would. Only for a control plane of one's own.
    pub fn stop_api_server(&self) {
        self.kill(Part::ApiServer);
    }

    /// Starts the API server again, at the same address.
    pub fn start_api_server(&self) {
        self.start_again(Part::ApiServer);
    }

    /// Ends a program at once, as a crash would. Only for a control plane of one's own.
    pub fn kill(&self, part: Part) {
        self.component(part).kill();
    }

    /// Starts a program again that was killed. The API server needs etcd, and the controller manager the API server.
    pub fn start_again(&self, part: Part) {
        let is_ready = || match part {
            Part::Etcd => is_healthy(self.parts.etcd_port),
            Part::ApiServer => is_ready(&self.admin),
            // It serves nothing that tells.
            Part::ControllerManager => true,
        };
        self.component(part).start_again(is_ready);
    }

    /// Starts a program again if it ended by itself, as a kubelet would. The controller manager does so when the API
    /// server goes away while it starts.
    pub fn keep_running(&self, part: Part) {
        if self.component(part).has_ended() {
            self.start_again(part);
        }
    }

    fn component(&self, part: Part) -> &Component {
        match part {
            Part::Etcd => &self.parts.etcd,
            Part::ApiServer => &self.parts.api_server,
            Part::ControllerManager => &self.parts.controller_manager,
        }
    }

    fn keep_folder(&mut self) {
        self.folder.disable_cleanup(true);
        eprintln!("logs of the control plane: {}", self.folder.path().display());
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep_folder();
        }
    }
}

/// A program of a control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Etcd,
    ApiServer,
    ControllerManager,
}

/// The programs. They end in this order.
struct Parts {
    controller_manager: Component,
    api_server: Component,
    etcd: Component,
    etcd_port: u16,
}

fn start_components(tools: &Tools, folder: &Path) -> Result<(Access, User, Parts), String> {
    let (etcd, etcd_port) = start_etcd(tools, folder)?;
    let authority = Authority::new(folder, "ca");
    let administrator = authority.sign("admin", Some("system:masters"), &[]);
    let (token_key, token_public_key) = token_keys(folder);
    let program = tools.path("kube-apiserver").to_owned();
    let arguments = api_server_arguments(folder, &authority, etcd_port, &token_key, &token_public_key);
    let log = folder.join("kube-apiserver.log");
    let start = {
        let folder = folder.to_owned();
        move |port: u16| {
            let arguments = [&arguments[..], &[format!("--secure-port={port}")]].concat();
            Process::start(&program, &arguments, &[], &folder, &log)
        }
    };
    let access = |port: u16| Access {
        tools: tools.clone(),
        server: format!("https://127.0.0.1:{port}"),
        ca: authority.file.clone(),
        folder: folder.to_owned(),
    };
    let admin = |port| User::new(&access(port), "admin", &Credentials::Certificate(&administrator), "default");
    let (api_server, [port]) =
        Process::listening("kube-apiserver", |[port]| start(port), |[port]| is_ready(&admin(port)))?;
    let api_server = Component::new("kube-apiserver", api_server, Box::new(move || start(port)));
    let (access, admin) = (access(port), admin(port));
    let start = controller_manager_start(&access, &authority, &token_key);
    let controller_manager = Component::new("kube-controller-manager", start(), start);
    try_eventually("kube-controller-manager makes ServiceAccounts", || {
        exists(&admin, "default", "serviceaccounts/default")
    })?;
    Ok((access, admin, Parts { controller_manager, api_server, etcd, etcd_port }))
}

fn start_etcd(tools: &Tools, folder: &Path) -> Result<(Component, u16), String> {
    let (program, folder) = (tools.path("etcd").to_owned(), folder.to_owned());
    let start = move |[port, peer_port]: [u16; 2]| {
        let (url, peer_url) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{peer_port}"));
        let data = folder.join(format!("etcd-{port}"));
        let arguments = [
            format!("--data-dir={}", data.display()),
            format!("--listen-client-urls={url}"),
            format!("--advertise-client-urls={url}"),
            format!("--listen-peer-urls={peer_url}"),
            format!("--initial-advertise-peer-urls={peer_url}"),
            format!("--initial-cluster=default={peer_url}"),
            // What a killed process has written the system still has.
            "--unsafe-no-fsync".to_owned(),
        ];
        Process::start(&program, &arguments, &[], &folder, &folder.join("etcd.log"))
    };
    let (process, ports) = Process::listening("etcd", &start, |[port, _]| is_healthy(port))?;
    Ok((Component::new("etcd", process, Box::new(move || start(ports))), ports[0]))
}

fn is_healthy(etcd_port: u16) -> bool {
    let client = Client::builder().no_proxy().build().unwrap();
    let answer = client.get(format!("http://127.0.0.1:{etcd_port}/health")).send();
    answer.is_ok_and(|answer| answer.status().is_success())
}

fn api_server_arguments(
    folder: &Path,
    authority: &Authority,
    etcd_port: u16,
    token_key: &Path,
    token_public_key: &Path,
) -> Vec<String> {
    let server = authority.sign("kube-apiserver", None, &SERVER_NAMES);
    let front = Authority::new(folder, "front-proxy-ca");
    let front_client = front.sign("front-proxy-client", None, &[]);
    let files = [
        ("client-ca-file", &authority.file),
        ("tls-cert-file", &server.certificate),
        ("tls-private-key-file", &server.key),
        ("requestheader-client-ca-file", &front.file),
        ("proxy-client-cert-file", &front_client.certificate),
        ("proxy-client-key-file", &front_client.key),
        ("service-account-signing-key-file", &token_key.to_owned()),
        ("service-account-key-file", &token_public_key.to_owned()),
    ]
    .map(|(flag, path)| format!("--{flag}={}", path.display()));
    let rest = [
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        // Endpoints cannot be on loopback, and nobody would use them.
        "--endpoint-reconciler-type=none",
        "--authorization-mode=Node,RBAC",
        "--allow-privileged",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--service-cluster-ip-range=10.0.0.0/16",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
    ];
    let etcd = format!("--etcd-servers=http://127.0.0.1:{etcd_port}");
    files.into_iter().chain(rest.map(str::to_owned)).chain([etcd]).collect()
}

fn controller_manager_start(access: &Access, authority: &Authority, token_key: &Path) -> Start {
    let pair = authority.sign("system:kube-controller-manager", None, &[]);
    let user = User::new(access, "kube-controller-manager", &Credentials::Certificate(&pair), "default");
    let arguments = [
        format!("--kubeconfig={}", user.kubeconfig().display()),
        format!("--service-account-private-key-file={}", token_key.display()),
        format!("--root-ca-file={}", authority.file.display()),
        "--use-service-account-credentials".to_owned(),
        "--leader-elect=false".to_owned(),
        // It serves nothing that tests need.
        "--secure-port=0".to_owned(),
        // As fast as tests create.
        "--kube-api-qps=1000".to_owned(),
        "--kube-api-burst=2000".to_owned(),
    ];
    let (program, folder) = (access.tools.path("kube-controller-manager").to_owned(), access.folder.clone());
    let log = folder.join("kube-controller-manager.log");
    Box::new(move || Process::start(&program, &arguments, &[], &folder, &log))
}

fn is_ready(admin: &User) -> bool {
    admin.ask(&Method::GET, "/readyz", None).is_ok_and(|answer| answer.status == 200)
}

fn exists(admin: &User, namespace: &str, path: &str) -> bool {
    let path = format!("/api/v1/namespaces/{namespace}/{path}");
    admin.ask(&Method::GET, &path, None).is_ok_and(|answer| answer.status == 200)
}

/// A folder named after this process. Folders of processes that ended without removing theirs, or that kept it, go.
fn new_folder() -> TempDir {
    let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix("cluster-").and_then(|rest| rest.split('-').next()?.parse().ok());
        let is_over = |pid| Pid::from_raw(pid).is_some_and(|pid| rustix::process::test_kill_process(pid).is_err());
        if owner.is_some_and(is_over) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let prefix = format!("cluster-{}-", std::process::id());
    tempfile::Builder::new().prefix(&prefix).tempdir_in(parent).unwrap()
}
