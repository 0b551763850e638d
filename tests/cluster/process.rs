//! Programs that run while a test does, and never longer: not even if the test process is killed.

use std::fs::File;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal};

use crate::waiting::{eventually, try_eventually};

/// Becomes the program, after leaving a watcher behind that reads from our pipe. The pipe ends with us, however we end;
/// then the watcher kills the program. A line says that there is nothing to kill any more.
const WATCHED: &str =
    "exec 3<&0; (read -r _ <&3 || kill -KILL $$) >/dev/null 2>&1 & exec \"$0\" \"$@\" 3<&- </dev/null";

/// How often another port is tried when somebody else was faster.
const PORT_ATTEMPTS: usize = 5;

/// A running program. Dropping it kills it.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program in a folder with nothing but this environment and `PATH`. What it says is added to `log`.
    pub fn start(
        program: &Path,
        arguments: &[String],
        environment: &[(&str, &str)],
        folder: &Path,
        log: &Path,
    ) -> Self {
        let file = File::options().create(true).append(true).open(log).unwrap();
        let child = Command::new("/bin/sh")
            .args(["-c", WATCHED])
            .arg(program)
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(environment.iter().copied())
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Self { child, log: log.to_owned() }
    }

    /// Starts a program that listens, and waits until it is ready. `start` is given free ports, and others if one of
    /// them is taken meanwhile.
    pub fn listening<const N: usize>(
        what: &str,
        mut start: impl FnMut([u16; N]) -> Self,
        is_ready: impl Fn([u16; N]) -> bool,
    ) -> Result<(Self, [u16; N]), String> {
        for _ in 0..PORT_ATTEMPTS {
            let ports = free_ports();
            let mut process = start(ports);
            if process.becomes_ready(what, || is_ready(ports))? {
                return Ok((process, ports));
            }
        }
        Err(format!("{what} found {PORT_ATTEMPTS} times that its ports are taken"))
    }

    /// Waits until it is ready, or until it ended because its port is taken (false).
    pub fn becomes_ready(&mut self, what: &str, is_ready: impl Fn() -> bool) -> Result<bool, String> {
        let earlier = self.log().len();
        let ended = try_eventually(&format!("{what} is ready; it wrote {}", self.log.display()), || {
            if is_ready() { Some(false) } else { self.has_ended().then_some(true) }
        })?;
        let log = self.log();
        let recent = log.get(earlier..).unwrap_or_default();
        match ended {
            false => Ok(true),
            true if recent.to_lowercase().contains("address already in use") => Ok(false),
            true => Err(format!("{what} ended before it was ready:\n{recent}")),
        }
    }

    pub fn has_ended(&mut self) -> bool {
        self.ended().is_some()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    pub fn id(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// What it said so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Sends SIGTERM.
    pub fn ask_to_end(&self) {
        rustix::process::kill_process(self.id(), Signal::TERM).unwrap();
    }

    /// Asks it to end, and waits until it has.
    pub fn terminate(mut self) -> ExitStatus {
        self.ask_to_end();
        let status = eventually("the program ends after SIGTERM", || self.child.try_wait().unwrap());
        self.release_watcher();
        status
    }

    fn release_watcher(&mut self) {
        if let Some(pipe) = &mut self.child.stdin {
            let _ = pipe.write_all(b"\n");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        self.release_watcher();
        let _ = self.child.wait();
    }
}

/// Ports that nobody listens on now, all different.
pub fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind(("127.0.0.1", 0)).unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}
