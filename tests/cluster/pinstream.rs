//! The built `pinstream`, running beside a control plane.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use reqwest::blocking::Client;
use rustix::process::Pid;

use crate::control_plane::ControlPlane;
use crate::process::Process;

/// In how many pieces Linux counts a second.
const TICKS: f64 = 100.0;

/// Registries of tests are on this machine, where none is in a cluster.
pub const LOOPBACK_REGISTRIES: (&str, &str) = ("PINSTREAM_REGISTRY_ALLOW_ADDRESS", "127.0.0.0/8");

/// A running `pinstream` that is ready. Dropping it kills it.
pub struct Pinstream {
    process: Process,
    /// Port of the webhook, HTTPS, on 127.0.0.1.
    pub port: u16,
    /// Port of health and metrics, plain HTTP, on 127.0.0.1.
    pub admin_port: u16,
}

impl Pinstream {
    /// Starts it with these arguments and nothing but this environment, in a folder of its own, and waits until it is
    /// ready. Where it listens is told by `PINSTREAM_LISTEN` and `PINSTREAM_ADMIN_LISTEN`.
    pub fn start(plane: &ControlPlane, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::try_start(plane, arguments, environment).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Like [`Pinstream::start`]; if it ends early or does not become ready, the error has what it logged.
    pub fn try_start(plane: &ControlPlane, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Self, String> {
        Self::start_until(plane, arguments, environment, "/readyz")
    }

    /// Like [`Pinstream::start`], but does not wait until it is ready.
    pub fn start_alive(plane: &ControlPlane, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_until(plane, arguments, environment, "/livez").unwrap_or_else(|error| panic!("{error}"))
    }

    fn start_until(
        plane: &ControlPlane,
        arguments: &[&str],
        environment: &[(&str, &str)],
        path: &str,
    ) -> Result<Self, String> {
        let folder = plane.folder("pinstream");
        let log = folder.join("log");
        let arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
        let start = |[port, admin_port]: [u16; 2]| {
            let (listen, admin_listen) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{admin_port}"));
            let addresses =
                [("PINSTREAM_LISTEN", &*listen), ("PINSTREAM_ADMIN_LISTEN", &*admin_listen), LOOPBACK_REGISTRIES];
            let program = Path::new(env!("CARGO_BIN_EXE_pinstream"));
            Process::start(program, &arguments, &[&addresses, environment].concat(), &folder, &log)
        };
        let is_ready = |[_, port]: [u16; 2]| ask(port, path).is_some_and(|(status, _)| status == 200);
        let (process, [port, admin_port]) = Process::listening("pinstream", start, is_ready)?;
        Ok(Self { process, port, admin_port })
    }

    /// `pinstream serve` over the example streams, moved to a namespace, with a certificate for these names.
    pub fn serve_examples(plane: &ControlPlane, namespace: &str, names: &[&str]) -> (Self, PathBuf) {
        let folder = plane.folder("serve");
        let (streams, certificates) = (folder.join("streams"), folder.join("certs"));
        fs::create_dir(&streams).unwrap();
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/streams")).unwrap() {
            let path = entry.unwrap().path();
            // Whoever served them has a folder beside them.
            if path.is_file() {
                let text = fs::read_to_string(&path).unwrap();
                let text = text.replace("namespace: demo", &format!("namespace: {namespace}"));
                fs::write(streams.join(path.file_name().unwrap()), text).unwrap();
            }
        }
        let mut certs = assert_cmd::Command::new(env!("CARGO_BIN_EXE_pinstream"));
        certs.arg("certs").args(names).arg("--out").arg(&certificates).assert().success();
        let environment = [
            ("PINSTREAM_STREAMS", streams.to_str().unwrap()),
            ("PINSTREAM_TLS_CERT", &certificates.join("tls.crt").display().to_string()),
            ("PINSTREAM_TLS_KEY", &certificates.join("tls.key").display().to_string()),
        ];
        (Self::start(plane, &["serve"], &environment), certificates.join("ca.crt"))
    }

    /// Status and text of `/readyz`, `/livez` or `/metrics`.
    pub fn admin(&self, path: &str) -> (u16, String) {
        ask(self.admin_port, path).expect("it serves health and metrics while it runs")
    }

    /// The value of one line of the metrics; nothing if there is no such line.
    pub fn metric(&self, line: &str) -> Option<f64> {
        metric(self.admin_port, line)
    }

    /// The most memory that it had, in bytes.
    pub fn peak_memory(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id().as_raw_pid())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")).unwrap();
        peak.parse::<f64>().unwrap() * 1024.0
    }

    /// The time that it had on a core, in seconds. The metric of it has whole seconds only.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id().as_raw_pid())).unwrap();
        // The name, which may have blanks, is in parentheses; user and system time are the 14th and 15th field.
        let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
        fields.skip(11).take(2).map(|ticks| ticks.parse::<f64>().unwrap() / TICKS).sum()
    }

    /// The process.
    pub fn id(&self) -> Pid {
        self.process.id()
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Ends it like a kubelet, with SIGTERM, and waits until it has ended.
    pub fn terminate(self) -> ExitStatus {
        self.process.terminate()
    }
}

/// The value of one line of the metrics; nothing if there is no such line.
pub fn metric(admin_port: u16, line: &str) -> Option<f64> {
    let (_, text) = ask(admin_port, "/metrics")?;
    text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' ')?.parse().ok())
}

/// Status and text of a path of health and metrics; nothing if nobody answers.
pub fn ask(port: u16, path: &str) -> Option<(u16, String)> {
    let client = Client::builder().no_proxy().build().unwrap();
    let answer = client.get(format!("http://127.0.0.1:{port}{path}")).send().ok()?;
    Some((answer.status().as_u16(), answer.text().ok()?))
}
