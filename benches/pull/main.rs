//! What pulling through the registry costs: blobs that are kept beside the same file from nginx, an image that is not kept
//! beside pulling it directly, and two hundred clients that want the same one at once, also while the registry is killed.
//!
//! `cargo bench --bench pull [-- warm|cold|load|kill]`. Servers are processes of their own and take turns in one run with one
//! client; the ratio of their throughputs is what counts, for the machine is noisy. Needs nginx, and the registry that
//! `tests/tools/build` builds.

mod client;
#[path = "../common/registry.rs"]
mod registry;
mod servers;

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::Address;
use crate::registry::{Registry, log};
use crate::servers::{Image, Nginx, Pinstream, random, slow, write_stream};

type Error = Box<dyn std::error::Error + Send + Sync>;

const ROUNDS: usize = 5;
/// How long a round of reading what is kept takes.
const LENGTH: Duration = Duration::from_secs(2);
const LAYERS: usize = 5;
const LAYER: usize = 100_000_000;
/// How many blobs clients pull at a time.
const AT_A_TIME: usize = 3;
/// How many clients come at once.
const CROWD: usize = 200;
/// How often the registry is killed.
const KILLS: usize = 20;

fn main() -> Result<(), Error> {
    let chosen = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let folder = tempfile::tempdir()?;
    let site = Site::new(folder.path().to_owned())?;
    let parts: [Part; 4] = [("warm", Site::warm), ("cold", Site::cold), ("load", Site::load), ("kill", Site::kill)];
    parts.into_iter().filter(|(name, _)| name.contains(&chosen)).try_for_each(|(_, part)| part(&site))
}

/// A part of the bench by its name.
type Part = (&'static str, fn(&Site) -> Result<(), Error>);

/// An image in a registry, and a stream that has it.
struct Site {
    folder: PathBuf,
    registry: Registry,
    image: Image,
}

impl Site {
    fn new(folder: PathBuf) -> Result<Self, Error> {
        let mut certs = Command::new(env!("CARGO_BIN_EXE_pinstream"));
        certs.args(["certs", "localhost", "--out"]).arg(folder.join("certs"));
        certs.stdout(Stdio::null()).stderr(Stdio::null()).status()?;
        let registry = Registry::start(&folder)?;
        let image = Image::push(&registry, LAYERS, LAYER)?;
        write_stream(&folder, registry.socket, &image)?;
        Ok(Self { folder, registry, image })
    }

    /// A layer that is kept, again and again, beside the same file from nginx.
    fn warm(&self) -> Result<(), Error> {
        let storage = self.folder.join("kept");
        let layer = self.image.blobs.last().ok_or("no layers")?;
        let nginx = Nginx::start(&self.folder, &storage)?;
        let file = format!("/blobs/{}/{}/{}", layer.algorithm(), &layer.hex()[..2], layer.hex());
        let path = format!("/v2/demo/app/blobs/{layer}");
        let secure = Address::tls(nginx.tls, &self.folder.join("certs/ca.crt"))?;
        for (what, is_secure, other) in [("HTTP", false, Address::plain(nginx.plain)), ("HTTPS", true, secure)] {
            let pinstream = Pinstream::start(&self.folder, &storage, is_secure)?;
            // Fetched, and read once more to be checked.
            for _ in 0..2 {
                pinstream.address.connect()?.get(&path, |_| ())?;
                settle(&pinstream)?;
            }
            for connections in [1, 8] {
                let name = format!("kept, {what}, {connections} connections");
                let rounds = [(&other, &file), (&pinstream.address, &path)];
                compare(&name, || Ok([again(rounds[0], connections)?, again(rounds[1], connections)?]))?;
            }
        }
        Ok(())
    }

    /// All blobs of the image once, directly and through a registry that has nothing yet.
    fn cold(&self) -> Result<(), Error> {
        let slow = slow(self.registry.socket)?;
        for (what, upstream) in [("100 MB/s a connection", slow), ("loopback", self.registry.socket)] {
            write_stream(&self.folder, upstream, &self.image)?;
            for at_a_time in [1, AT_A_TIME] {
                let direct = Address::plain(upstream);
                let name = format!("cold, {what}, {at_a_time} at a time");
                compare(&name, || {
                    let direct = once(&direct, &self.image.paths("app"), at_a_time)?;
                    let storage = tempfile::tempdir_in(&self.folder)?;
                    let pinstream = Pinstream::start(&self.folder, storage.path(), false)?;
                    let through = once(&pinstream.address, &self.image.paths("demo/app"), at_a_time)?;
                    settle(&pinstream)?;
                    Ok([direct, through])
                })?;
            }
        }
        Ok(())
    }

    /// Many clients at once, each of which checks what it gets.
    fn load(&self) -> Result<(), Error> {
        write_stream(&self.folder, self.registry.socket, &self.image)?;
        for (what, is_secure) in [("HTTP", false), ("HTTPS", true)] {
            let storage = tempfile::tempdir_in(&self.folder)?;
            let pinstream = Pinstream::start(&self.folder, storage.path(), is_secure)?;
            let (before, started) = (self.transfers()?, Instant::now());
            thread::scope(|scope| {
                let clients: Vec<_> = (0..CROWD).map(|_| scope.spawn(|| self.pull(&pinstream.address))).collect();
                clients.into_iter().try_for_each(|client| client.join().map_err(|_| "a client panicked")?)
            })?;
            println!(
                "{CROWD} clients, {what}: {:.0} s, {} transfers of {} blobs, {} MiB at most",
                started.elapsed().as_secs_f64(),
                self.transfers()? - before,
                self.image.blobs.len(),
                pinstream.process.status("VmHWM")? / 1024
            );
        }
        Ok(())
    }

    /// How often the source was asked for blobs up to now, by its log.
    fn transfers(&self) -> Result<usize, Error> {
        let log = fs::read_to_string(log(&self.folder))?;
        Ok(log.lines().filter(|line| line.contains("\"GET /v2/app/blobs/")).count())
    }

    /// Many clients at once, and the registry is killed while they pull what it has not kept yet. What came whole, and what is
    /// kept, has to be right; then one client pulls what was interrupted.
    fn kill(&self) -> Result<(), Error> {
        write_stream(&self.folder, self.registry.socket, &self.image)?;
        let (mut whole, mut broken, mut kept) = (0, 0, 0);
        for _ in 0..KILLS {
            let storage = tempfile::tempdir_in(&self.folder)?;
            let pinstream = Pinstream::start(&self.folder, storage.path(), false)?;
            // Each layer is on its way from the beginning, for clients begin with another one.
            let (taken, end) = (AtomicUsize::new(0), random_below(LAYERS * LAYER * CROWD / 3)?);
            let pulled = thread::scope(|scope| -> Result<Vec<bool>, Error> {
                let client = |index: usize| {
                    let (address, taken) = (pinstream.address.clone(), &taken);
                    scope.spawn(move || self.pull_from(&address, index, taken))
                };
                let clients: Vec<_> = (0..CROWD).map(client).collect();
                while taken.load(Ordering::Relaxed) < end {
                    thread::sleep(Duration::from_millis(5));
                }
                pinstream.process.kill()?;
                let pulled = clients.into_iter().map(|client| client.join().map_err(|_| "a client panicked")?);
                Ok(pulled.collect::<Result<Vec<_>, Error>>()?.concat())
            })?;
            whole += pulled.iter().filter(|is_whole| **is_whole).count();
            broken += pulled.iter().filter(|is_whole| !**is_whole).count();
            drop(pinstream);
            kept += self.check_kept(storage.path())?;
            let pinstream = Pinstream::start(&self.folder, storage.path(), false)?;
            self.pull(&pinstream.address)?;
            settle(&pinstream)?;
            self.check_kept(storage.path())?;
        }
        println!("{KILLS} kills: {whole} blobs came whole, {broken} broke off, {kept} were kept; none was wrong");
        Ok(())
    }

    /// Pulls the blobs beginning with some other, and counts what comes, until the registry is gone. Gives whether each that
    /// was asked for came whole.
    fn pull_from(&self, address: &Address, first: usize, taken: &AtomicUsize) -> Result<Vec<bool>, Error> {
        let (paths, mut pulled) = (self.image.paths("demo/app"), Vec::new());
        let Ok(mut connection) = address.connect() else { return Ok(pulled) };
        for index in (0..paths.len()).map(|step| (first + step) % paths.len()) {
            let mut hasher = self.image.blobs[index].hasher();
            let got = connection.get(&paths[index], |bytes| {
                taken.fetch_add(bytes.len(), Ordering::Relaxed);
                hasher.update(bytes);
            });
            pulled.push(got.is_ok());
            if got.is_err() {
                break;
            }
            if hasher.finish() != self.image.blobs[index] {
                return Err(format!("what came is not {}", self.image.blobs[index]).into());
            }
        }
        Ok(pulled)
    }

    /// Everything that is in its place in the storage is what its name says. Gives how many blobs of the image that are.
    fn check_kept(&self, storage: &Path) -> Result<usize, Error> {
        let mut kept = 0;
        for digest in &self.image.blobs {
            let place = storage.join("blobs").join(digest.algorithm()).join(&digest.hex()[..2]).join(digest.hex());
            if let Ok(mut file) = File::open(place) {
                let mut hasher = digest.hasher();
                let mut piece = vec![0; 1 << 20];
                loop {
                    match file.read(&mut piece)? {
                        0 => break,
                        length => hasher.update(&piece[..length]),
                    }
                }
                if hasher.finish() != *digest {
                    return Err(format!("what is kept is not {digest}").into());
                }
                kept += 1;
            }
        }
        Ok(kept)
    }

    /// All blobs of the image, as a client that checks their digests.
    fn pull(&self, address: &Address) -> Result<(), Error> {
        let mut connection = address.connect()?;
        for (digest, path) in self.image.blobs.iter().zip(self.image.paths("demo/app")) {
            let mut hasher = digest.hasher();
            connection.get(&path, |bytes| hasher.update(bytes))?;
            if hasher.finish() != *digest {
                return Err(format!("what came is not {digest}").into());
            }
        }
        Ok(())
    }
}

/// Waits until nothing is fetched or written any more.
fn settle(pinstream: &Pinstream) -> Result<(), Error> {
    while pinstream.metric("pinstream_upstream_fetches")? > 0.0 {
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Bytes a second of the other and of ours, in turns, and their ratio.
fn compare(name: &str, mut round: impl FnMut() -> Result<[f64; 2], Error>) -> Result<(), Error> {
    let rounds: Vec<[f64; 2]> = (0..ROUNDS).map(|_| round()).collect::<Result<_, _>>()?;
    let middle = |value: fn(&[f64; 2]) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        (values[0], values[ROUNDS / 2], values[ROUNDS - 1])
    };
    let (other, ours, (least, ratio, most)) =
        (middle(|round| round[0]).1, middle(|round| round[1]).1, middle(|round| round[1] / round[0]));
    println!(
        "{name:40} {:6.0} MB/s beside {:6.0} MB/s, ratio {ratio:.2} ({least:.2} to {most:.2})",
        ours / 1e6,
        other / 1e6
    );
    Ok(())
}

/// Reads the same again and again on so many connections. Gives bytes a second.
fn again((address, path): (&Address, &String), connections: usize) -> Result<f64, Error> {
    let started = Instant::now();
    let read = || -> Result<u64, Error> {
        let (mut connection, mut bytes) = (address.connect()?, 0);
        while started.elapsed() < LENGTH {
            bytes += connection.get(path, |_| ())?;
        }
        Ok(bytes)
    };
    rate(started, &read, connections)
}

/// Reads each path once, so many at a time. Gives bytes a second.
fn once(address: &Address, paths: &[String], at_a_time: usize) -> Result<f64, Error> {
    let (started, next) = (Instant::now(), AtomicUsize::new(0));
    let read = || -> Result<u64, Error> {
        let (mut connection, mut bytes) = (address.connect()?, 0);
        while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
            bytes += connection.get(path, |_| ())?;
        }
        Ok(bytes)
    };
    rate(started, &read, at_a_time)
}

fn rate(started: Instant, read: &(dyn Fn() -> Result<u64, Error> + Sync), count: usize) -> Result<f64, Error> {
    let bytes = thread::scope(|scope| -> Result<u64, Error> {
        let clients: Vec<_> = (0..count).map(|_| scope.spawn(read)).collect();
        let read: Result<Vec<u64>, Error> =
            clients.into_iter().map(|client| client.join().map_err(|_| "a client panicked")?).collect();
        Ok(read?.into_iter().sum())
    })?;
    #[expect(clippy::cast_precision_loss, reason = "bytes of a few seconds are far below 2^52")]
    let bytes = bytes as f64;
    Ok(bytes / started.elapsed().as_secs_f64())
}

/// A random number below a limit.
fn random_below(limit: usize) -> Result<usize, Error> {
    let bytes = random(size_of::<usize>())?;
    let bytes = bytes.try_into().map_err(|_| "a number has other bytes")?;
    Ok(usize::from_ne_bytes(bytes) % limit)
}
