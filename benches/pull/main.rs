//! What pulling through the registry costs: blobs that are kept beside the same file from nginx, an image that is not kept
//! beside pulling it directly, and two hundred clients that want the same one at once.
//!
//! `cargo bench --bench pull [-- warm|cold|load]`. Servers are processes of their own and take turns in one run with one
//! client; the ratio of their throughputs is what counts, for the machine is noisy. Needs nginx, and the registry that
//! `tests/tools/build` builds.

mod client;
mod servers;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::Address;
use crate::servers::{Image, Nginx, Pinstream, Registry, write_stream};

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

fn main() -> Result<(), Error> {
    let chosen = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let folder = tempfile::tempdir()?;
    let site = Site::new(folder.path().to_owned())?;
    let parts: [Part; 3] = [("warm", Site::warm), ("cold", Site::cold), ("load", Site::load)];
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
        let image = registry.push(LAYERS, LAYER)?;
        write_stream(&folder, registry.socket, &image)?;
        Ok(Self { folder, registry, image })
    }

    /// A layer that is kept, again and again, beside the same file from nginx.
    fn warm(&self) -> Result<(), Error> {
        let storage = self.folder.join("kept");
        let layer = self.image.blobs.last().ok_or("no layers")?;
        let nginx = Nginx::start(&self.folder, &storage, self.registry.socket)?;
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
        let nginx = Nginx::start(&self.folder, &self.folder, self.registry.socket)?;
        for (what, upstream) in [("100 MB/s a connection", nginx.slow), ("loopback", self.registry.socket)] {
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
            let (before, started) = (self.registry.transfers()?, Instant::now());
            thread::scope(|scope| {
                let clients: Vec<_> = (0..CROWD).map(|_| scope.spawn(|| self.pull(&pinstream.address))).collect();
                clients.into_iter().try_for_each(|client| client.join().map_err(|_| "a client panicked")?)
            })?;
            println!(
                "{CROWD} clients, {what}: {:.0} s, {} transfers of {} blobs, {} MiB at most",
                started.elapsed().as_secs_f64(),
                self.registry.transfers()? - before,
                self.image.blobs.len(),
                pinstream.process.status("VmHWM")? / 1024
            );
        }
        Ok(())
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
