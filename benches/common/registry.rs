//! A real registry for benches: a process of its own that ends with this.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use pinstream::digest::Digest;
use reqwest::blocking::Client;
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};

use crate::Error;

pub const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// A running program. Dropping it asks it to end, and waits.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait();
    }
}

/// A real registry, with plain HTTP and one repository, `app`.
pub struct Registry {
    pub socket: SocketAddr,
    client: Client,
    _process: Running,
}

impl Registry {
    /// Starts it below a folder, where its log is `registry.log`. It is the one that tests of the cluster run against.
    pub fn start(folder: &Path) -> Result<Self, Error> {
        let built = Command::new("tests/tools/build").arg("--folder").output()?;
        let program = Path::new(String::from_utf8(built.stdout)?.trim()).join("registry");
        let socket = free()?;
        let config = json!({"version": 0.1, "log": {"level": "warn"}, "http": {"addr": socket.to_string()},
            "storage": {"filesystem": {"rootdirectory": folder.join("upstream")}}});
        fs::write(folder.join("registry.yml"), config.to_string())?;
        let file = File::create(log(folder))?;
        let mut command = Command::new(&program);
        command.arg("serve").arg(folder.join("registry.yml")).env("OTEL_TRACES_EXPORTER", "none");
        command.stdout(file.try_clone()?).stderr(file);
        let started = command.spawn().map_err(|error| format!("{}: {error}; see tests/tools/build", program.display()));
        let process = Running(started?);
        answers(socket)?;
        let client = Client::builder().no_proxy().timeout(None).build()?;
        Ok(Self { socket, client, _process: process })
    }

    /// Pushes a blob.
    pub fn push_blob(&self, content: Vec<u8>) -> Result<Digest, Error> {
        let digest = Digest::of(&content);
        let begun = self.client.post(format!("http://{}/v2/app/blobs/uploads/", self.socket)).send()?;
        let begun = begun.error_for_status()?;
        let location = begun.headers().get("location").ok_or("no location")?.to_str()?;
        let put = self.client.put(format!("{location}&digest={digest}")).body(content);
        put.send()?.error_for_status()?;
        Ok(digest)
    }

    /// Pushes a manifest as the tag `1`.
    pub fn push_manifest(&self, manifest: &Value) -> Result<Digest, Error> {
        let manifest = manifest.to_string();
        let digest = Digest::of(manifest.as_bytes());
        let put = self.client.put(format!("http://{}/v2/app/manifests/1", self.socket));
        put.header("content-type", MANIFEST_TYPE).body(manifest).send()?.error_for_status()?;
        Ok(digest)
    }
}

/// Where a registry that was started below a folder logs what it is asked.
pub fn log(folder: &Path) -> PathBuf {
    folder.join("registry.log")
}

/// An address that nobody listens on now.
pub fn free() -> Result<SocketAddr, Error> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Waits until somebody listens on it.
pub fn answers(socket: SocketAddr) -> Result<(), Error> {
    let started = Instant::now();
    while let Err(error) = TcpStream::connect(socket) {
        if started.elapsed() > Duration::from_secs(10) {
            return Err(format!("nobody listens on {socket}: {error}").into());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
