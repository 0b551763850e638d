//! A node for the Pods of a release: runs our program with exactly the arguments, environment, mounted Secrets and
//! ServiceAccount of each Pod, and tells the API server how it goes, as a kubelet would.
//!
//! Three things differ, because all run on one machine without containers: ports are free ones, paths of mounts are
//! folders of the test, and the file with the ServiceAccount's token, which is renewed, is named by a kubeconfig. Webhook and registry have a Service each, as
//! the chart has it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::{Value, json};

use crate::control_plane::{ControlPlane, Tokens};
use crate::pinstream;
use crate::process::{Process, free_ports};
use crate::service::Service;
use crate::user::{Answer, User};

/// How often the node looks at its Pods.
const LOOK: Duration = Duration::from_millis(50);
/// How often it says that it is alive.
const RENEW: Duration = Duration::from_secs(5);

/// For how long tokens of ServiceAccounts are good, which is the least that there is, and when they are renewed.
const TOKEN: Duration = Duration::from_mins(10);
const TOKEN_RENEWED: Duration = Duration::from_mins(2);

/// Runs the Pods of a namespace that a selector names. Dropping it kills them.
pub struct Node {
    end: Arc<AtomicBool>,
    seen: Arc<Seen>,
    thread: Option<JoinHandle<()>>,
}

/// What the node tells tests.
#[derive(Default)]
pub struct Seen {
    /// Admin ports of the webhooks that are ready.
    admin_ports: Mutex<Vec<u16>>,
    /// Names and admin ports of all processes that are ready.
    processes: Mutex<Vec<(String, u16)>>,
    /// Processes that ended without being told to.
    failures: AtomicUsize,
    /// What all processes logged, of ended ones too.
    logs: Mutex<Vec<PathBuf>>,
}

impl Seen {
    pub fn admin_ports(&self) -> Vec<u16> {
        self.admin_ports.lock().unwrap().clone()
    }

    /// Names and admin ports of all processes that are ready, webhook or not.
    pub fn processes(&self) -> Vec<(String, u16)> {
        self.processes.lock().unwrap().clone()
    }

    /// The value of one line of the metrics of a webhook that is ready.
    pub fn metric(&self, line: &str) -> Option<f64> {
        pinstream::metric(*self.admin_ports().first()?, line)
    }

    pub fn failures(&self) -> usize {
        self.failures.load(Ordering::Relaxed)
    }

    pub fn logs(&self) -> String {
        self.each_log().concat()
    }

    /// What each container has logged.
    pub fn each_log(&self) -> Vec<String> {
        let logs = self.logs.lock().unwrap();
        logs.iter().map(|path| fs::read_to_string(path).unwrap_or_default()).collect()
    }
}

impl Node {
    /// Runs the Pods of `namespace` with these labels, and has each Service lead to those that are ready and run the
    /// command it is given with.
    pub fn start(plane: &ControlPlane, namespace: &str, selector: &str, services: &[(&'static str, Service)]) -> Self {
        let name = plane.unique("node");
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
        plane.admin().post("/api/v1/nodes", &node).ok();
        let (end, seen) = (Arc::<AtomicBool>::default(), Arc::<Seen>::default());
        let kubelet = Kubelet {
            name,
            namespace: namespace.to_owned(),
            selector: selector.to_owned(),
            admin: plane.admin().clone(),
            tokens: plane.tokens(),
            folder: plane.folder("node"),
            services: services.to_vec(),
            seen: Arc::clone(&seen),
            running: BTreeMap::new(),
        };
        let thread = thread::spawn({
            let end = Arc::clone(&end);
            move || kubelet.run(&end)
        });
        Self { end, seen, thread: Some(thread) }
    }

    pub fn seen(&self) -> &Seen {
        &self.seen
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(thread::panicking() || ended.is_none_or(|ended| ended.is_ok()), "the node panicked");
    }
}

struct Kubelet {
    name: String,
    namespace: String,
    selector: String,
    admin: User,
    tokens: Tokens,
    folder: PathBuf,
    services: Vec<(&'static str, Service)>,
    seen: Arc<Seen>,
    running: BTreeMap<String, Running>,
}

/// A Pod's process.
struct Running {
    process: Process,
    /// The command that it runs.
    command: String,
    port: u16,
    admin_port: u16,
    /// The ServiceAccount that it is, the file with its token, and when that was written.
    account: String,
    token: PathBuf,
    token_since: Instant,
    /// As the API server was told last.
    is_ready: bool,
    is_told_to_end: bool,
}

impl Kubelet {
    fn run(mut self, end: &AtomicBool) {
        let mut renewed = None;
        while !end.load(Ordering::Relaxed) {
            if renewed.is_none_or(|since: Instant| since.elapsed() > RENEW) {
                self.renew();
                self.renew_tokens();
                renewed = Some(Instant::now());
            }
            let path = format!("{}?labelSelector={}", self.pods(), self.selector);
            // While there is no API server, the Pods run on.
            if let Ok(Answer { status: 200, body }) = self.admin.ask(&Method::GET, &path, None) {
                self.look_at(body["items"].as_array().unwrap());
            }
            thread::sleep(LOOK);
        }
        for path in [format!("/api/v1/nodes/{}", self.name), self.lease()] {
            let _ = self.admin.ask(&Method::DELETE, &path, None);
        }
    }

    fn pods(&self) -> String {
        format!("/api/v1/namespaces/{}/pods", self.namespace)
    }

    fn lease(&self) -> String {
        format!("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{}", self.name)
    }

    /// Says that the node is alive; otherwise its Pods are taken for lost.
    fn renew(&self) {
        let status = json!({"status": {"conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]}});
        let _ = self.admin.ask(&Method::PATCH, &format!("/api/v1/nodes/{}/status", self.name), Some(&status));
        let now = format!("{:.6}", jiff::Timestamp::now());
        let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": self.name},
            "spec": {"holderIdentity": self.name, "leaseDurationSeconds": 40, "renewTime": now}});
        if self.admin.ask(&Method::PATCH, &self.lease(), Some(&lease)).is_ok_and(|answer| answer.status == 404) {
            let leases = self.lease().rsplit_once('/').unwrap().0.to_owned();
            let _ = self.admin.ask(&Method::POST, &leases, Some(&lease));
        }
    }

    fn look_at(&mut self, pods: &[Value]) {
        let name_of = |pod: &Value| pod["metadata"]["name"].as_str().unwrap().to_owned();
        self.running.retain(|name, _| pods.iter().any(|pod| name_of(pod) == *name));
        for pod in pods {
            let name = name_of(pod);
            if pod["spec"]["nodeName"].is_null() {
                self.bind(&name);
            } else if !pod["metadata"]["deletionTimestamp"].is_null() {
                self.stop(&name);
            } else if let Some(running) = self.running.get_mut(&name) {
                if let Some(status) = running.process.ended() {
                    self.running.remove(&name);
                    self.after(pod, status);
                }
            } else if !is_over(pod)
                && let Some(running) = self.start(pod)
            {
                self.running.insert(name, running);
            }
        }
        self.probe();
    }

    /// A process ended by itself. One that is not to be started again was a task, and its Pod is over.
    fn after(&self, pod: &Value, status: ExitStatus) {
        if pod["spec"]["restartPolicy"] != "Never" {
            self.seen.failures.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let path = format!("{}/{}/status", self.pods(), pod["metadata"]["name"].as_str().unwrap());
        let phase = if status.success() { "Succeeded" } else { "Failed" };
        let _ = self.admin.ask(&Method::PATCH, &path, Some(&json!({"status": {"phase": phase}})));
    }

    fn bind(&self, name: &str) {
        let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": self.name}});
        let _ = self.admin.ask(&Method::POST, &format!("{}/{name}/binding", self.pods()), Some(&binding));
    }

    /// SIGTERM first; the Pod is gone when its process is.
    fn stop(&mut self, name: &str) {
        let has_ended = self.running.get_mut(name).is_none_or(|running| {
            if !running.is_told_to_end {
                running.process.ask_to_end();
                running.is_told_to_end = true;
            }
            running.process.has_ended()
        });
        if has_ended {
            self.running.remove(name);
            let path = format!("{}/{name}?gracePeriodSeconds=0", self.pods());
            let _ = self.admin.ask(&Method::DELETE, &path, None);
        }
    }

    /// Nothing if one of its Secrets or volumes is not there yet.
    fn start(&self, pod: &Value) -> Option<Running> {
        let name = pod["metadata"]["name"].as_str().unwrap();
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder).unwrap();
        let container = &pod["spec"]["containers"][0];
        let mounts = self.mount(pod, container, &folder)?;
        let account = pod["spec"]["serviceAccountName"].as_str().unwrap();
        let token = folder.join("token");
        self.write_token(account, &token)?;
        let kubeconfig = self.tokens.service_account_of_file(&self.namespace, name, &token).kubeconfig().to_owned();
        let log = folder.join("log");
        self.seen.logs.lock().unwrap().push(log.clone());
        let [port, admin_port] = free_ports();
        let written: Vec<&str> = array(&container["args"]).map(|argument| argument.as_str().unwrap()).collect();
        let command = written[0].to_owned();
        let arguments: Vec<String> = written
            .iter()
            .map(|argument| match argument.split_once('=') {
                Some(("--listen", _)) => format!("--listen=127.0.0.1:{port}"),
                Some(("--admin-listen", _)) => format!("--admin-listen=127.0.0.1:{admin_port}"),
                Some((flag, value)) => format!("{flag}={}", here(value, &mounts)),
                None => (*argument).to_owned(),
            })
            .collect();
        let kubeconfig = kubeconfig.display().to_string();
        let environment: Vec<(&str, &str)> = array(&container["env"])
            .map(|variable| (variable["name"].as_str().unwrap(), variable["value"].as_str().unwrap()))
            .chain([("PINSTREAM_KUBECONFIG", kubeconfig.as_str())])
            .collect();
        let program = Path::new(env!("CARGO_BIN_EXE_pinstream"));
        let process = Process::start(program, &arguments, &environment, &folder, &log);
        Some(Running {
            process,
            command,
            port,
            admin_port,
            account: account.to_owned(),
            token,
            token_since: Instant::now(),
            is_ready: false,
            is_told_to_end: false,
        })
    }

    /// Replaces a token as a whole, as a kubelet does.
    fn write_token(&self, account: &str, path: &Path) -> Option<()> {
        let token = self.tokens.token(&self.namespace, account, TOKEN)?;
        let new = path.with_extension("new");
        fs::write(&new, token).unwrap();
        fs::rename(&new, path).unwrap();
        Some(())
    }

    /// Gives processes other tokens long before those that they have expire.
    fn renew_tokens(&mut self) {
        let mut running = std::mem::take(&mut self.running);
        for running in running.values_mut().filter(|running| running.token_since.elapsed() > TOKEN_RENEWED) {
            if self.write_token(&running.account, &running.token).is_some() {
                running.token_since = Instant::now();
            }
        }
        self.running = running;
    }

    /// Has what a container mounts in folders; gives back which folder stands for which path.
    fn mount(&self, pod: &Value, container: &Value, folder: &Path) -> Option<Vec<(String, PathBuf)>> {
        let mut mounts = Vec::new();
        for mount in array(&container["volumeMounts"]) {
            let volume = array(&pod["spec"]["volumes"]).find(|volume| volume["name"] == mount["name"]).unwrap();
            let place = match volume["persistentVolumeClaim"]["claimName"].as_str() {
                Some(claim) => self.volume_of(claim)?,
                None => folder.join(volume["name"].as_str().unwrap()),
            };
            fs::create_dir_all(&place).unwrap();
            if !volume["secret"].is_null() {
                self.write_secret(&volume["secret"], &place)?;
            }
            mounts.push((mount["mountPath"].as_str().unwrap().to_owned(), place));
        }
        Some(mounts)
    }

    fn write_secret(&self, source: &Value, place: &Path) -> Option<()> {
        let path = format!("/api/v1/namespaces/{}/secrets/{}", self.namespace, source["secretName"].as_str().unwrap());
        let Ok(Answer { status: 200, body }) = self.admin.ask(&Method::GET, &path, None) else { return None };
        for item in array(&source["items"]) {
            let data = body["data"][item["key"].as_str().unwrap()].as_str()?;
            fs::write(place.join(item["path"].as_str().unwrap()), STANDARD.decode(data).unwrap()).unwrap();
        }
        Some(())
    }

    /// The folder of a claim, which outlives Pods. Nothing while the claim is not bound: then it is given a volume.
    fn volume_of(&self, claim: &str) -> Option<PathBuf> {
        let folder = self.folder.join(format!("volume-{claim}"));
        let path = format!("/api/v1/namespaces/{}/persistentvolumeclaims/{claim}", self.namespace);
        let Ok(Answer { status: 200, body }) = self.admin.ask(&Method::GET, &path, None) else { return None };
        if body["status"]["phase"] == "Bound" {
            return Some(folder);
        }
        let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume",
            "metadata": {"name": format!("{}-{claim}", self.namespace)},
            "spec": {"capacity": body["spec"]["resources"]["requests"], "accessModes": body["spec"]["accessModes"],
                "hostPath": {"path": folder}, "claimRef": {"namespace": self.namespace, "name": claim}}});
        let _ = self.admin.ask(&Method::POST, "/api/v1/persistentvolumes", Some(&volume));
        None
    }

    /// Has the Services lead to the processes that are ready, and tells the API server which they are.
    fn probe(&mut self) {
        let pods = self.pods();
        for (name, running) in &mut self.running {
            let is_ready = pinstream::ask(running.admin_port, "/readyz").is_some_and(|(status, _)| status == 200);
            if is_ready != running.is_ready {
                let status = if is_ready { "True" } else { "False" };
                let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "lastTransitionTime": jiff::Timestamp::now().to_string()});
                let status = json!({"status": {"phase": "Running", "conditions": [condition("PodScheduled", "True"),
                    condition("Initialized", "True"), condition("ContainersReady", status), condition("Ready", status)]}});
                let told = self.admin.ask(&Method::PATCH, &format!("{pods}/{name}/status"), Some(&status));
                running.is_ready = if told.is_ok_and(|answer| answer.status == 200) { is_ready } else { !is_ready };
            }
        }
        let is_ready = |running: &Running| running.is_ready && !running.is_told_to_end;
        let processes = self.running.iter().filter(|(_, running)| is_ready(running));
        *self.seen.processes.lock().unwrap() =
            processes.map(|(name, running)| (name.clone(), running.admin_port)).collect();
        let ready: Vec<&Running> = self.running.values().filter(|running| is_ready(running)).collect();
        for (command, service) in &self.services {
            let serving = ready.iter().filter(|running| running.command == *command);
            service.lead_to(serving.map(|running| running.port).collect());
        }
        let webhooks = ready.iter().filter(|running| running.command == "webhook");
        *self.seen.admin_ports.lock().unwrap() = webhooks.map(|running| running.admin_port).collect();
    }
}

fn is_over(pod: &Value) -> bool {
    ["Succeeded", "Failed"].iter().any(|phase| pod["status"]["phase"] == *phase)
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A value in which paths of mounts are those on this machine.
fn here(value: &str, mounts: &[(String, PathBuf)]) -> String {
    let found = mounts.iter().find_map(|(path, place)| Some(place.display().to_string() + value.strip_prefix(path)?));
    found.unwrap_or_else(|| value.to_owned())
}
