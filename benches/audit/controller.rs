//! A controller as a process of its own, and what it takes.

use std::fs;
use std::io::{BufRead as _, BufReader, Lines};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use reqwest::blocking::Client;
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};

use crate::Error;

/// How long something may take.
const PATIENCE: Duration = Duration::from_mins(3);
/// What times in `/proc` are counted in, in a second.
const TICKS: f64 = 100.0;

/// A running controller. Dropping it asks it to end, and waits.
pub struct Controller {
    process: Child,
    admin: SocketAddr,
    client: Client,
}

/// What was written until the first audit was complete.
type Log = Lines<BufReader<ChildStderr>>;

impl Controller {
    /// Starts it beside an API server, and waits for the first audit. Says how long that took.
    pub fn start(folder: &Path, server: SocketAddr) -> Result<(Self, Duration), Error> {
        let kubeconfig = folder.join("kubeconfig");
        let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "bench",
            "clusters": [{"name": "bench", "cluster": {"server": format!("http://{server}")}}],
            "users": [{"name": "bench", "user": {}}],
            "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}]});
        fs::write(&kubeconfig, config.to_string())?;
        let started = Instant::now();
        let mut process = Command::new(env!("CARGO_BIN_EXE_pinstream"))
            .args(["controller", "--source=pinstream", "--lease=system/controller", "--admin-listen=127.0.0.1:0"])
            .args(["--log-format=json", "--kubeconfig"])
            .arg(kubeconfig)
            .stderr(Stdio::piped())
            .spawn()?;
        let mut log = BufReader::new(process.stderr.take().ok_or("no standard error")?).lines();
        let admin = find(&mut log, "controller started")?["admin"].as_str().ok_or("no address")?.parse()?;
        find(&mut log, "first audit is complete")?;
        let elapsed = started.elapsed();
        // Nobody reads on, and a pipe that is full would hold the controller up.
        thread::spawn(move || log.for_each(drop));
        Ok((Self { process, admin, client: Client::builder().no_proxy().build()? }, elapsed))
    }

    /// A line of its status in MiB, as `VmHWM`.
    pub fn memory(&self, name: &str) -> Result<u64, Error> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).ok_or("no such line")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1024)
    }

    /// Seconds of processor time so far.
    pub fn cpu(&self) -> Result<f64, Error> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        // The name may have blanks. After it come the state and 10 more fields, then the times of the program and the kernel.
        let (_, fields) = stat.rsplit_once(')').ok_or("no name")?;
        let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u32>).sum::<Result<u32, _>>()?;
        Ok(f64::from(ticks) / TICKS)
    }

    /// All series of a metric with a state, together.
    pub fn sum(&self, metric: &str, state: &str) -> Result<f64, Error> {
        let text = self.client.get(format!("http://{}/metrics", self.admin)).send()?.text()?;
        let end = format!("state=\"{state}\"}}");
        let series = text.lines().filter_map(|line| line.rsplit_once(' '));
        let chosen = series.filter(|(series, _)| series.starts_with(metric) && series.ends_with(&end));
        Ok(chosen.map(|(_, value)| value.parse::<f64>()).sum::<Result<f64, _>>()?)
    }

    /// Waits until a sum is as large as that.
    pub fn reaches(&self, metric: &str, state: &str, expected: f64) -> Result<(), Error> {
        let began = Instant::now();
        while (self.sum(metric, state)? - expected).abs() > 0.5 {
            if began.elapsed() > PATIENCE {
                return Err(format!("{metric} of {state} is not {expected}").into());
            }
            thread::sleep(Duration::from_millis(500));
        }
        Ok(())
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(Pid::from_child(&self.process), Signal::TERM);
        let _ = self.process.wait();
    }
}

/// The line of a log with this message. Warnings on the way are shown.
fn find(log: &mut Log, message: &str) -> Result<Value, Error> {
    for line in log {
        let line = line?;
        let event: Value = serde_json::from_str(&line)?;
        if event["message"] == message {
            return Ok(event);
        }
        if event["level"] == "WARN" || event["level"] == "ERROR" {
            eprintln!("{line}");
        }
    }
    Err(format!("the controller ended without {message:?}").into())
}
