//! What a server takes that has nothing to do: memory and processor, over the examples, and over 10,000 streams × 10 tags
//! × 5 images.
//!
//! `cargo bench --bench memory`, with and without importing. Prints the resident size from `/proc` once everything is loaded
//! and has come to rest, and then how long it ran.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const STREAMS: usize = 10_000;
const TAGS: usize = 10;
const ITEMS: usize = 5;
/// How long it is watched, after a while in which it comes to rest.
const REST: Duration = Duration::from_secs(5);
const WATCHED: Duration = Duration::from_secs(30);

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    report("idle over examples/streams", Path::new("examples/streams"))?;
    let folder = tempfile::tempdir()?;
    for number in 0..STREAMS {
        fs::write(folder.path().join(format!("{number}.json")), stream(number).to_string())?;
    }
    report("a file for each of 10,000 streams", folder.path())?;

    let folder = tempfile::tempdir()?;
    let items: Vec<Value> = (0..STREAMS).map(stream).collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    fs::write(folder.path().join("all.json"), list.to_string())?;
    drop((items, list));
    report("10,000 streams in one list", folder.path())
}

fn stream(number: usize) -> Value {
    let history = |tag: usize| {
        let item = |item: usize| {
            let digest = format!("sha256:{:064x}", (number * TAGS + tag) * ITEMS + item);
            let image = format!("registry.example.com/team-{}/application-{number}@{digest}", number % 100);
            json!({"created": "2026-01-01T00:00:00Z", "dockerImageReference": image, "image": digest, "generation": 2})
        };
        json!({"tag": format!("{tag}.0"), "items": (0..ITEMS).map(item).collect::<Vec<_>>()})
    };
    let spec = |tag: usize| {
        let from = format!("registry.example.com/team-{}/application-{number}:{tag}.0", number % 100);
        json!({"name": format!("{tag}.0"), "annotations": null, "from": {"kind": "DockerImage", "name": from},
            "generation": 2, "importPolicy": {"scheduled": true}, "referencePolicy": {"type": "Source"}})
    };
    json!({"apiVersion": "pinstream.dev/v1", "kind": "ImageStream",
        "metadata": {"name": format!("application-{number}"), "namespace": format!("team-{}", number % 100)},
        "spec": {"lookupPolicy": {"local": true}, "tags": (0..TAGS).map(spec).collect::<Vec<_>>()},
        "status": {"dockerImageRepository": "", "tags": (0..TAGS).map(history).collect::<Vec<_>>()}})
}

fn report(what: &str, streams: &Path) -> Result<(), Error> {
    serve(what, streams, &[])?;
    serve("  the same with --no-import", streams, &["--no-import"])
}

fn serve(what: &str, streams: &Path, flags: &[&str]) -> Result<(), Error> {
    let certs = tempfile::tempdir()?;
    let started = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_pinstream"))
        .arg("serve")
        .args(flags)
        .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--certs-dir"])
        .arg(certs.path())
        .arg("--streams")
        .arg(streams)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let stdout = child.stdout.take().ok_or("no standard output")?;
    for line in BufReader::new(stdout).lines() {
        if line?.starts_with("Pinstream serves") {
            break;
        }
    }
    let elapsed = started.elapsed();
    thread::sleep(REST);
    let status = fs::read_to_string(format!("/proc/{}/status", child.id()))?;
    let size = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse::<u32>().map_or(f64::NAN, |kib| f64::from(kib) / 1024.0)
    };
    let before = ran(child.id())?;
    thread::sleep(WATCHED);
    let idle = ran(child.id())?.saturating_sub(before).as_secs_f64() / WATCHED.as_secs_f64();
    println!(
        "{what:35} resident {:6.1} MiB, peak {:6.1} MiB, ready after {elapsed:.1?}, then {:.3} % of a core",
        size("VmRSS:"),
        size("VmHWM:"),
        100.0 * idle
    );
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// How long all threads of a process ran; `/proc/PID/stat` counts in hundredths of a second, which is too coarse.
fn ran(process: u32) -> Result<Duration, Error> {
    let mut sum = Duration::ZERO;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        sum += Duration::from_nanos(text.split_whitespace().next().ok_or("an empty schedstat")?.parse()?);
    }
    Ok(sum)
}
