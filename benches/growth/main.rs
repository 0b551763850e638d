//! What grows with the number of streams, and what does not: a decision, publishing a change, looking at a directory,
//! memory, and the time until a server is ready.
//!
//! `cargo bench --bench growth [-- plot]`; `plot` draws `docs/images/growth.svg` too. Each size is measured in a process of
//! its own, so that memory is what that size takes.

mod plot;

use std::fs;
use std::hint::black_box;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use pinstream::admission::decide::{Part, Question, Write, decide};
use pinstream::index::{IndexedStream, Snapshot};
use pinstream::store::directory::Directory;
use pinstream::stream::places::Places;
use pinstream::workload::{Kinds, Workload};
use serde_json::{Value, json};

use crate::plot::Panel;

type Error = Box<dyn std::error::Error>;

const SIZES: [usize; 6] = [1, 10, 100, 1_000, 10_000, 100_000];
const TAGS: usize = 10;
/// As many namespaces as there are streams, up to this.
const NAMESPACES: usize = 100;
const FILE: usize = 100;
/// How many Pods are decided by turns.
const PODS: usize = 4_096;
/// How often something short is done before its time is looked at, and how many such times there are.
const BATCH: u32 = 10_000;
const BATCHES: usize = 15;
/// Set in the process that measures one size.
const SIZE: &str = "PINSTREAM_BENCH_SIZE";
/// What is measured of each size.
const PANELS: [Panel; 6] = [
    Panel { title: "a Pod's decision", unit: "µs", scale: 1e6, accent: 0 },
    Panel { title: "publishing one change", unit: "µs", scale: 1e6, accent: 0 },
    Panel { title: "a look, nothing changed", unit: "ms", scale: 1e3, accent: 1 },
    Panel { title: "a look, one file changed", unit: "ms", scale: 1e3, accent: 1 },
    Panel { title: "ready after", unit: "s", scale: 1.0, accent: 2 },
    Panel { title: "resident memory", unit: "MiB", scale: 1.0 / 1024.0 / 1024.0, accent: 2 },
];
/// What is only printed: publishing a change if all streams are in one namespace, and what a tag takes of the memory beyond
/// that of one stream.
const PRINTED: [Panel; 2] = [
    Panel { title: "the same, one namespace", unit: "µs", scale: 1e6, accent: 0 },
    Panel { title: "memory of a tag", unit: "B", scale: 1.0, accent: 0 },
];

fn main() -> Result<(), Error> {
    if let Ok(size) = std::env::var(SIZE) {
        return measure(size.parse()?);
    }
    let columns = PANELS.iter().chain(&PRINTED);
    let titles: Vec<String> = columns.clone().map(|panel| format!("  {:>24}", panel.title)).collect();
    println!("{:>8}{}", "streams", titles.concat());
    let mut rows: Vec<Vec<f64>> = Vec::new();
    for size in SIZES {
        let measured = Command::new(std::env::current_exe()?).env(SIZE, size.to_string()).output()?;
        let measured = String::from_utf8(measured.stdout)?;
        let mut row: Vec<f64> = measured.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let (ready, resident) = serve(size)?;
        let one_namespace = row.pop().ok_or("nothing was measured")?;
        let least = rows.first().map_or(resident, |row| row[PANELS.len() - 1]);
        let tags = f64::from(u32::try_from(size * TAGS)?);
        row.extend([ready.as_secs_f64(), resident, one_namespace, (resident - least) / tags]);
        let shown = columns.clone().zip(&row).map(|(panel, value)| format!("  {:>24}", panel.show(*value)));
        println!("{size:8}{}", shown.collect::<String>());
        rows.push(row);
    }
    if std::env::args().any(|argument| argument == "plot") {
        fs::write("docs/images/growth.svg", plot::draw(&PANELS, &SIZES, &rows))?;
    }
    Ok(())
}

fn namespace(number: usize) -> String {
    format!("team-{}", number % NAMESPACES)
}

fn stream(number: usize) -> Value {
    stream_in(&namespace(number), number)
}

fn stream_in(namespace: &str, number: usize) -> Value {
    let tag = |tag: usize| {
        let digest = format!("sha256:{:064x}", number * TAGS + tag);
        let image = format!("registry.example.com/{namespace}/application-{number}@{digest}");
        json!({"tag": format!("{tag}.0"), "items": [{"created": "2026-01-01T00:00:00Z", "dockerImageReference": image,
            "image": digest, "generation": 1}]})
    };
    json!({"apiVersion": "pinstream.dev/v1", "kind": "ImageStream",
        "metadata": {"name": format!("application-{number}"), "namespace": namespace},
        "spec": {"lookupPolicy": {"local": true}}, "status": {"tags": (0..TAGS).map(tag).collect::<Vec<_>>()}})
}

fn indexed(stream: Value) -> Result<Arc<IndexedStream>, Error> {
    Ok(Arc::new(IndexedStream::new(&serde_json::from_value(stream)?, &Places::default())))
}

/// Prints what one size costs, in seconds: a decision, publishing a change, and looks at a directory.
fn measure(size: usize) -> Result<(), Error> {
    let mut snapshot = Snapshot::default();
    for number in 0..size {
        snapshot.insert(indexed(stream(number))?);
    }
    let decided = decision(size, &snapshot)?;
    let change = change(snapshot, &indexed(stream(size / 2))?, BATCH);
    let [unchanged, one_file] = looks(size)?;
    let mut snapshot = Snapshot::default();
    for number in 0..size {
        snapshot.insert(indexed(stream_in("team", number))?);
    }
    let one_namespace = self::change(snapshot, &indexed(stream_in("team", size / 2))?, BATCH / 100);
    for time in [decided, change, unchanged, one_file, one_namespace] {
        print!("{} ", time.as_secs_f64());
    }
    Ok(())
}

/// Publishing a snapshot in which a stream has changed.
fn change(mut snapshot: Snapshot, changed: &Arc<IndexedStream>, batch: u32) -> Duration {
    let (mut published, size) = (snapshot.clone(), snapshot.stream_count());
    let took = typical(batch, || {
        snapshot.insert(Arc::clone(changed));
        published = black_box(snapshot.clone());
    });
    assert_eq!(published.stream_count(), size);
    took
}

/// The decision of a Pod with three short names, of Pods whose streams are all over the namespaces, so that what is looked
/// up is in no cache because it was just there.
fn decision(size: usize, snapshot: &Snapshot) -> Result<Duration, Error> {
    let kinds = Kinds::default();
    let kind = kinds.find("", "Pod").ok_or("a Pod is a kind")?;
    let spread = NAMESPACES.min(size);
    // Streams of one namespace are so far apart. The steps of a Weyl sequence meet all of them in no order.
    let pods: Vec<(String, Value)> = (0..PODS)
        .map(|pod| {
            let first = pod * 7_919 % spread;
            let among = size.div_ceil(spread);
            let chosen = [0, 1, 2].map(|nth| {
                let number = first + (pod * 3 + nth) * 104_729 % among * spread;
                if number < size { number } else { first }
            });
            let containers = chosen.map(|number| json!({"name": "c", "image": format!("application-{number}:3.0")}));
            (namespace(first), json!({"metadata": {"namespace": namespace(first)}, "spec": {"containers": containers}}))
        })
        .collect();
    let objects: Result<Vec<Workload>, _> = pods.iter().map(|(_, pod)| Workload::read(kind, pod)).collect();
    let objects = objects.map_err(|_| "a Pod cannot be read")?;
    let questions = pods.iter().zip(&objects).map(|((namespace, _), object)| Question {
        write: Write::Create,
        part: Part::Whole,
        namespace,
        kind,
        object,
    });
    let questions: Vec<Question> = questions.collect();
    assert!(questions.iter().all(|question| decide(question, snapshot).rewrites().count() == 3));
    let mut next = questions.iter().cycle();
    Ok(typical(BATCH, || {
        let question = next.next().unwrap_or(&questions[0]);
        drop(black_box(decide(black_box(question), black_box(snapshot))));
    }))
}

/// Looks at a directory in which nothing changed, and in which one of its files did.
fn looks(size: usize) -> Result<[Duration; 2], Error> {
    let folder = tempfile::tempdir()?;
    write(folder.path(), size)?;
    let mut directory = Directory::new(folder.path().to_owned(), Places::default());
    // By then all that was written has settled.
    let mut look = || directory.look(SystemTime::now() + Duration::from_secs(1));
    look();
    let unchanged = typical(1, || assert!(look().snapshot.is_none()));
    let mut times = Vec::new();
    for turn in 0..BATCHES {
        // Another stream each time, and back: its tags are as many, but the images are others.
        let first = stream(if turn % 2 == 0 { size } else { 0 });
        write_file(folder.path(), 0, size, Some(first))?;
        let started = Instant::now();
        let seen = look();
        times.push(started.elapsed());
        assert!(seen.snapshot.is_some_and(|snapshot| snapshot.stream_count() == size));
    }
    times.sort_unstable();
    Ok([unchanged, times[BATCHES / 2]])
}

/// The middle of the times that something takes.
fn typical(batch: u32, mut run: impl FnMut()) -> Duration {
    let mut batch = || {
        let started = Instant::now();
        (0..batch).for_each(|_| run());
        started.elapsed() / batch
    };
    let mut times: Vec<Duration> = (0..BATCHES).map(|_| batch()).collect();
    times.sort_unstable();
    times[BATCHES / 2]
}

/// Writes the streams of a size as files of a hundred each.
fn write(folder: &Path, size: usize) -> Result<(), Error> {
    (0..size).step_by(FILE).try_for_each(|first| write_file(folder, first, size, None))
}

/// Writes one of these files, with another stream in place of its first, if there is one.
fn write_file(folder: &Path, first: usize, size: usize, other: Option<Value>) -> Result<(), Error> {
    let mut items: Vec<Value> = (first..size.min(first + FILE)).map(stream).collect();
    if let (Some(item), Some(other)) = (items.first_mut(), other) {
        *item = other;
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    Ok(fs::write(folder.join(format!("{first}.json")), list.to_string())?)
}

/// How long `pinstream serve` takes until it is ready, and its resident size in bytes then.
fn serve(size: usize) -> Result<(Duration, f64), Error> {
    let folder = tempfile::tempdir()?;
    let streams = folder.path().join("streams");
    fs::create_dir(&streams)?;
    write(&streams, size)?;
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

/// The resident size of a process in bytes.
fn resident(process: &str) -> Result<f64, Error> {
    let status = fs::read_to_string(Path::new("/proc").join(process).join("status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no resident size")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? * 1024.0)
}
