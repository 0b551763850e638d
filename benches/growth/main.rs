//! How what a webhook costs grows with the number of streams: looking up, one change, memory, and the time until it is ready.
//!
//! `cargo bench --bench growth`. Each size is measured in a process of its own, and by `pinstream serve` over files of a
//! hundred streams each.

use std::fs;
use std::hint::black_box;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pinstream::admission::decide::{Part, Question, Write, decide};
use pinstream::index::{IndexedStream, Snapshot};
use pinstream::stream::places::Places;
use pinstream::workload::{Kinds, Workload};
use serde_json::{Value, json};

type Error = Box<dyn std::error::Error>;

const SIZES: [usize; 4] = [1, 100, 10_000, 100_000];
const TAGS: usize = 10;
/// As many namespaces as there are streams, up to this.
const NAMESPACES: usize = 100;
const FILE: usize = 100;
/// How often something short is done before its time is looked at, and how many such times there are.
const BATCH: u32 = 10_000;
const BATCHES: usize = 15;
/// Set in the process that measures one size.
const SIZE: &str = "PINSTREAM_BENCH_SIZE";

fn main() -> Result<(), Error> {
    if let Ok(size) = std::env::var(SIZE) {
        return measure(size.parse()?);
    }
    println!("streams  a Pod of 3  one change  bytes a tag  ready after  resident");
    for size in SIZES {
        let measured = Command::new(std::env::current_exe()?).env(SIZE, size.to_string()).output()?;
        let (ready, resident) = serve(size)?;
        let measured = String::from_utf8(measured.stdout)?;
        println!("{size:7}  {}  {ready:10.2?}  {:4} MiB", measured.trim_end(), resident / 1024);
    }
    Ok(())
}

fn namespace(number: usize) -> String {
    format!("team-{}", number % NAMESPACES)
}

fn stream(number: usize) -> Value {
    let tag = |tag: usize| {
        let digest = format!("sha256:{:064x}", number * TAGS + tag);
        let image = format!("registry.example.com/{}/application-{number}@{digest}", namespace(number));
        json!({"tag": format!("{tag}.0"), "items": [{"created": "2026-01-01T00:00:00Z", "dockerImageReference": image,
            "image": digest, "generation": 1}]})
    };
    json!({"apiVersion": "pinstream.dev/v1", "kind": "ImageStream",
        "metadata": {"name": format!("application-{number}"), "namespace": namespace(number)},
        "spec": {"lookupPolicy": {"local": true}}, "status": {"tags": (0..TAGS).map(tag).collect::<Vec<_>>()}})
}

fn indexed(stream: Value) -> Result<Arc<IndexedStream>, Error> {
    Ok(Arc::new(IndexedStream::new(&serde_json::from_value(stream)?, &Places::default())))
}

/// Prints what one size costs.
fn measure(size: usize) -> Result<(), Error> {
    let before = resident("self")?;
    let mut snapshot = Snapshot::default();
    for number in 0..size {
        snapshot.insert(indexed(stream(number))?);
    }
    let bytes = (resident("self")?.saturating_sub(before)) * 1024 / u64::try_from(size * TAGS)?;

    let chosen = [0, size / 2, size - 1].map(|number| number - number % NAMESPACES.min(size));
    let containers = chosen.map(|number| json!({"name": "c", "image": format!("application-{number}:3.0")}));
    let pod = json!({"metadata": {"namespace": namespace(0)}, "spec": {"containers": containers}});
    let kinds = Kinds::default();
    let kind = kinds.find("", "Pod").ok_or("a Pod is a kind")?;
    let object = Workload::read(kind, &pod).map_err(|_| "the Pod cannot be read")?;
    let namespace = namespace(0);
    let question = Question { write: Write::Create, part: Part::Whole, namespace: &namespace, kind, object: &object };
    assert_eq!(decide(&question, &snapshot).rewrites().count(), 3);
    let decided = typical(|| drop(black_box(decide(black_box(&question), black_box(&snapshot)))));

    let changed = indexed(stream(size / 2))?;
    let mut published = snapshot.clone();
    let change = typical(|| {
        snapshot.insert(Arc::clone(&changed));
        published = black_box(snapshot.clone());
    });
    assert_eq!(published.stream_count(), size);
    let bytes = if size < FILE { "-".to_owned() } else { bytes.to_string() };
    println!("{decided:10.1?}  {change:10.1?}  {bytes:>11}");
    Ok(())
}

/// The middle of the times that something takes.
fn typical(mut run: impl FnMut()) -> Duration {
    let mut batch = || {
        let started = Instant::now();
        (0..BATCH).for_each(|_| run());
        started.elapsed() / BATCH
    };
    let mut times: Vec<Duration> = (0..BATCHES).map(|_| batch()).collect();
    times.sort_unstable();
    times[BATCHES / 2]
}

/// How long `pinstream serve` takes until it is ready, and its resident size in kB then.
fn serve(size: usize) -> Result<(Duration, u64), Error> {
    let folder = tempfile::tempdir()?;
    let streams = folder.path().join("streams");
    fs::create_dir(&streams)?;
    for first in (0..size).step_by(FILE) {
        let items: Vec<Value> = (first..size.min(first + FILE)).map(stream).collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        fs::write(streams.join(format!("{first}.json")), list.to_string())?;
    }
    let started = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_pinstream"))
        .args(["serve", "--no-import", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--streams"])
        .arg(&streams)
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let lines = BufReader::new(child.stdout.take().ok_or("no standard output")?).lines();
    // The last line of its greeting.
    let is_ready = lines.map_while(Result::ok).any(|line| line.contains("Ctrl-C"));
    let (ready, resident) = (started.elapsed(), resident(&child.id().to_string()));
    child.kill()?;
    child.wait()?;
    if is_ready {
        Ok((ready, resident?))
    } else {
        Err(format!("no server of {size} streams, {}", streams.display()).into())
    }
}

/// The resident size of a process in kB.
fn resident(process: &str) -> Result<u64, Error> {
    let status = fs::read_to_string(Path::new("/proc").join(process).join("status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no resident size")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
