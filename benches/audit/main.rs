//! What the audit of a large cluster costs the controller: time and memory from its start until the first audit is complete,
//! and processor time for each Pod and stream that changes then, in a small cluster and in one ten times as large.
//!
//! `cargo bench --bench audit`. The API server is a small one on loopback that makes Pods and streams up as they are asked
//! for; it shares the processors. The controller is the program itself, and what it takes is read from `/proc`.

mod controller;
mod objects;
mod server;

use std::thread;
use std::time::Duration;

use crate::controller::Controller;
use crate::objects::{STREAMS, moving_image};
use crate::server::Server;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// How many Pods there are.
const SIZES: [usize; 2] = [10_000, 100_000];
/// How many Pods change, one after the other, and how many times a stream does.
const CHANGES: u32 = 5_000;
/// Streams that change, one after the other and again.
const CHANGING: std::ops::Range<usize> = 1_000..2_000;
/// Pods that run the newest image of the tag that changes: 5 for each stream.
const MOVED: f64 = 5_000.0;
/// How long it is watched while nothing changes.
const QUIET: Duration = Duration::from_secs(20);

fn main() -> Result<(), Error> {
    SIZES.into_iter().try_for_each(measure)
}

fn measure(pods: usize) -> Result<(), Error> {
    let (server, folder) = (Server::start(pods)?, tempfile::tempdir()?);
    let (controller, ready) = Controller::start(folder.path(), server.address)?;
    println!("{pods} Pods, {STREAMS} streams");
    println!("  first audit after {:.1} s, of them processor {:.1} s", ready.as_secs_f64(), controller.cpu()?);
    println!("  memory {} MiB, at most {} MiB", controller.memory("VmRSS")?, controller.memory("VmHWM")?);

    let before = controller.cpu()?;
    thread::sleep(QUIET);
    let idle = (controller.cpu()? - before) / QUIET.as_secs_f64();
    println!("  nothing changes: {:.2} % of a core", idle * 100.0);

    let mutable = controller.sum("pinstream_audit_pods", "mutable")?;
    let (before, mut version) = (controller.cpu()?, 1);
    for pod in 0..CHANGES as usize {
        version += 1;
        server.change_pod(pod, version, &moving_image(pod))?;
    }
    controller.reaches("pinstream_audit_pods", "mutable", mutable + f64::from(CHANGES))?;
    println!("  a Pod changes: {:.0} µs of processor", each(controller.cpu()? - before));

    let current = controller.sum("pinstream_audit_pods", "current")?;
    let (before, mut more) = (controller.cpu()?, 0);
    while more * CHANGING.len() < CHANGES as usize {
        more += 1;
        for stream in CHANGING {
            version += 1;
            server.change_stream(stream, version, more)?;
        }
    }
    controller.reaches("pinstream_audit_pods", "current", current - MOVED)?;
    println!("  a stream changes: {:.0} µs of processor", each(controller.cpu()? - before));
    println!("  memory {} MiB, at most {} MiB", controller.memory("VmRSS")?, controller.memory("VmHWM")?);
    server.check()
}

/// Microseconds for each change, of so many seconds.
fn each(total: f64) -> f64 {
    total * 1e6 / f64::from(CHANGES)
}
