//! A control plane: starts etcd, kube-apiserver and kube-controller-manager on free loopback ports, and ends them.
//!
//! There is no node, so nothing runs in the Pods; they stay pending.

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use reqwest::blocking::Client;
use rustix::process::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::certificates::{Authority, token_keys};
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
    api_server: Mutex<Option<Process>>,
    api_server_start: ApiServerStart,
    _controller_manager: Process,
    _etcd: Process,
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

/// Gives ServiceAccounts tokens.
pub struct Tokens {
    admin: User,
    access: Access,
}

impl Tokens {
    /// A ServiceAccount that is there, as a user whose files are named `file`, with a token of its own.
    pub fn service_account(&self, namespace: &str, name: &str, file: &str) -> User {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token");
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
        let token = self.admin.post(&path, &request).ok();
        let token = Credentials::Token(token["status"]["token"].as_str().unwrap());
        User::new(&self.access, file, &token, namespace)
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
        let (access, admin, etcd, api_server, api_server_start, controller_manager) = match result {
            Ok(parts) => parts,
            Err(error) => return Err(format!("{error}\nlogs: {}", folder.keep().display())),
        };
        Ok(Self {
            admin,
            access,
            api_server: Mutex::new(Some(api_server)),
            api_server_start,
            _controller_manager: controller_manager,
            _etcd: etcd,
            names: AtomicU32::default(),
            start_up: started.elapsed(),
            folder,
        })
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
        drop(self.api_server.lock().unwrap().take());
    }

    /// Starts the API server again, at the same address.
    pub fn start_api_server(&self) {
        let is_ready = || is_ready(&self.admin);
        let process = eventually("the API server's port is free", || {
            let mut process = self.api_server_start.start(self.api_server_start.port);
            let is_started = process.becomes_ready("kube-apiserver", is_ready).unwrap();
            is_started.then_some(process)
        });
        *self.api_server.lock().unwrap() = Some(process);
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

type Components = (Access, User, Process, Process, ApiServerStart, Process);

fn start_components(tools: &Tools, folder: &Path) -> Result<Components, String> {
    let (etcd, etcd_port) = start_etcd(tools, folder)?;
    let authority = Authority::new(folder, "ca");
    let administrator = authority.sign("admin", Some("system:masters"), &[]);
    let (token_key, token_public_key) = token_keys(folder);
    let mut start = ApiServerStart {
        program: tools.path("kube-apiserver").to_owned(),
        arguments: api_server_arguments(folder, &authority, etcd_port, &token_key, &token_public_key),
        folder: folder.to_owned(),
        port: 0,
    };
    let access = |port: u16| Access {
        tools: tools.clone(),
        server: format!("https://127.0.0.1:{port}"),
        ca: authority.file.clone(),
        folder: folder.to_owned(),
    };
    let admin = |port| User::new(&access(port), "admin", &Credentials::Certificate(&administrator), "default");
    let (api_server, [port]) =
        Process::listening("kube-apiserver", |[port]| start.start(port), |[port]| is_ready(&admin(port)))?;
    start.port = port;
    let (access, admin) = (access(port), admin(port));
    let controller_manager = start_controller_manager(&access, &authority, &token_key);
    try_eventually("kube-controller-manager makes ServiceAccounts", || {
        exists(&admin, "default", "serviceaccounts/default")
    })?;
    Ok((access, admin, etcd, api_server, start, controller_manager))
}

/// How the API server is started, and started again.
struct ApiServerStart {
    program: PathBuf,
    arguments: Vec<String>,
    folder: PathBuf,
    port: u16,
}

impl ApiServerStart {
    fn start(&self, port: u16) -> Process {
        let mut arguments = self.arguments.clone();
        arguments.push(format!("--secure-port={port}"));
        Process::start(&self.program, &arguments, &[], &self.folder, &self.folder.join("kube-apiserver.log"))
    }
}

fn start_etcd(tools: &Tools, folder: &Path) -> Result<(Process, u16), String> {
    let client = Client::builder().no_proxy().build().unwrap();
    let start = |[port, peer_port]: [u16; 2]| {
        let (url, peer_url) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{peer_port}"));
        let data = folder.join(format!("etcd-{port}"));
        let arguments = [
            format!("--data-dir={}", data.display()),
            format!("--listen-client-urls={url}"),
            format!("--advertise-client-urls={url}"),
            format!("--listen-peer-urls={peer_url}"),
            format!("--initial-advertise-peer-urls={peer_url}"),
            format!("--initial-cluster=default={peer_url}"),
            "--unsafe-no-fsync".to_owned(),
        ];
        Process::start(tools.path("etcd"), &arguments, &[], folder, &folder.join("etcd.log"))
    };
    let is_ready = |[port, _]: [u16; 2]| {
        let answer = client.get(format!("http://127.0.0.1:{port}/health")).send();
        answer.is_ok_and(|answer| answer.status().is_success())
    };
    let (process, [port, _]) = Process::listening("etcd", start, is_ready)?;
    Ok((process, port))
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

fn start_controller_manager(access: &Access, authority: &Authority, token_key: &Path) -> Process {
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
    let log = access.folder.join("kube-controller-manager.log");
    Process::start(access.tools.path("kube-controller-manager"), &arguments, &[], &access.folder, &log)
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
