//! Requests per second and latencies over loopback HTTPS: the webhook beside the same server with constant answers, and
//! beside peers.
//!
//! `cargo bench --bench load [-- SECONDS] [--digester PROGRAM] [--peer NAME=URL,ca=FILE[,host=HOST]]...`. Servers are
//! processes of their own and take turns in one run with one client; ratios are what counts, for the machine is noisy. The
//! constant server answers each review with the bytes that the webhook answered it with, so what it saves is the thinking.
//! Before anything is timed every patch is applied and has to give the right images. Where `wrk` is installed it is a client
//! too. k8s-digester asks a real registry, which `tests/tools/build` builds. A peer is any other webhook that runs already:
//! what it makes of images of that registry is told, and how many reviews it answers, whatever that is.

mod client;
#[path = "../common/payloads.rs"]
mod payloads;
mod peer;
#[path = "../common/registry.rs"]
mod registry;
mod servers;

use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Bytes;

use crate::client::{Client, Round, Via};
use crate::payloads::{Images, Payload};
use crate::peer::Peer;
use crate::registry::Registry;
use crate::servers::{Server, constant, late};

type Error = Box<dyn std::error::Error + Send + Sync>;

const ROUNDS: usize = 5;
/// Requests a second where latencies are measured.
const RATES: [u32; 3] = [1_000, 5_000, 10_000];
/// How long the registry of a peer takes for an answer.
const DELAYS: [Duration; 2] = [Duration::ZERO, Duration::from_millis(20)];

fn main() -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if let Some(folder) = std::env::var_os(servers::CONSTANT) {
        return runtime.block_on(constant(Path::new(&folder)));
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let seconds = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(2);
    let values = |flag: &'static str| arguments.windows(2).filter(move |pair| pair[0] == flag).map(|pair| &pair[1]);
    let peers: Vec<Peer> = values("--peer").map(|peer| peer.parse()).collect::<Result<_, _>>()?;
    let folder = tempfile::tempdir()?;
    let site = Site::new(folder.path(), Duration::from_secs(seconds))?;
    runtime.block_on(site.beside_constant())?;
    for program in values("--digester") {
        site.beside_digester(&runtime, Path::new(program))?;
    }
    peers.iter().try_for_each(|peer| runtime.block_on(site.beside_peer(peer)))
}

/// A webhook over one stream, whose image is in a real registry.
struct Site {
    folder: PathBuf,
    registry: Registry,
    /// The digest of the image.
    digest: String,
    webhook: Server,
    payloads: Vec<Payload>,
    length: Duration,
}

impl Site {
    fn new(folder: &Path, length: Duration) -> Result<Self, Error> {
        let registry = Registry::start(folder)?;
        let digest = servers::push(&registry)?;
        let pinned = format!("{}/app@{digest}", registry.socket);
        let webhook = Server::webhook(folder, &pinned)?;
        let payloads = Payload::all(&Images { written: "app:1".to_owned(), pinned });
        Ok(Self { folder: folder.to_owned(), registry, digest, webhook, payloads, length })
    }

    fn client(&self, via: Via) -> Result<Client, Error> {
        Client::new(via, &self.folder.join("certs/ca.crt"), "localhost")
    }

    async fn beside_constant(&self) -> Result<(), Error> {
        let http2 = self.client(Via::Http2)?;
        let mut answers = Vec::new();
        for payload in &self.payloads {
            let answer = http2.ask(&self.webhook.url(0), payload.body().into()).await?;
            payload.check(&payload.expected, &answer)?;
            answers.push(answer);
        }
        let constant = Server::constant(&self.folder, &answers)?;
        println!("{ROUNDS} rounds of {} s for each server, {} connections", self.length.as_secs(), client::CONNECTIONS);
        for (index, payload) in self.payloads.iter().enumerate() {
            self.throughput(&constant, (index, payload), Via::Http2).await?;
        }
        for via in [Via::Http1, Via::Wrk].into_iter().filter(|via| via.is_there()) {
            self.throughput(&constant, (0, &self.payloads[0]), via).await?;
        }
        for rate in RATES {
            self.latency(&constant, rate).await?;
        }
        Ok(())
    }

    /// As many reviews as it takes, one after the other on each connection.
    async fn throughput(&self, constant: &Server, (index, payload): (usize, &Payload), via: Via) -> Result<(), Error> {
        let (client, body) = (self.client(via)?, Bytes::from(payload.body()));
        let mut pairs = Vec::new();
        for _ in 0..ROUNDS {
            let mut pair = Vec::new();
            for server in [constant, &self.webhook] {
                let before = server.cpu()?;
                let mut round = client.closed(&server.url(index), &body, self.length).await?;
                round.cpu = server.cpu()?.saturating_sub(before).div_f64(round.rate * self.length.as_secs_f64());
                pair.push(round);
            }
            pairs.push(pair);
        }
        let name = format!("{}, {} bytes, {}", payload.name, body.len(), via.name());
        report(&name, ["constant", "webhook"], &pairs, |[constant, webhook]| webhook.rate / constant.rate);
        Ok(())
    }

    /// A small Pod, so often a second, whatever the answers take.
    async fn latency(&self, constant: &Server, rate: u32) -> Result<(), Error> {
        let (client, body) = (self.client(Via::Http2)?, Bytes::from(self.payloads[0].body()));
        let mut pairs = Vec::new();
        for _ in 0..ROUNDS {
            let mut pair = Vec::new();
            for server in [constant, &self.webhook] {
                pair.push(client.open(&server.url(0), &body, rate, self.length).await?);
            }
            pairs.push(pair);
        }
        let p99 = |round: &Round| round.p99.as_secs_f64();
        let name = format!("{}, {rate} a second, p99", self.payloads[0].name);
        report(&name, ["constant", "webhook"], &pairs, |[constant, webhook]| p99(webhook) / p99(constant));
        Ok(())
    }

    /// The webhook and k8s-digester, whose registry takes its time.
    fn beside_digester(&self, runtime: &tokio::runtime::Runtime, program: &Path) -> Result<(), Error> {
        for delay in DELAYS {
            let socket = if delay.is_zero() { self.registry.socket } else { late(self.registry.socket, delay)? };
            let digester = Server::digester(&self.folder, program)?;
            // It keeps the tag.
            let pinned = format!("{socket}/app:1@{}", self.digest);
            let payloads = Payload::all(&Images { written: format!("{socket}/app:1"), pinned: pinned.clone() });
            let client = self.client(Via::Http2)?;
            for (payload, theirs) in self.payloads.iter().zip(&payloads) {
                let (body, their_body) = (Bytes::from(payload.body()), Bytes::from(theirs.body()));
                // It pins whatever is written, unchanged or not.
                let expected = vec![pinned.clone(); theirs.expected.len()];
                theirs.check(&expected, &runtime.block_on(client.ask(&digester.url(0), their_body.clone()))?)?;
                let theirs = (&client, &*digester.url(0), &their_body);
                let ours = (&client, &*self.webhook.url(0), &body);
                let pairs = runtime.block_on(self.in_turns(theirs, ours))?;
                let name = format!("{}, its registry at {delay:?}", payload.name);
                report(&name, ["digester", "webhook"], &pairs, |[theirs, ours]| ours.rate / theirs.rate);
            }
        }
        Ok(())
    }

    /// The webhook and a peer, which is given images of the registry.
    async fn beside_peer(&self, peer: &Peer) -> Result<(), Error> {
        let (client, their_client) = (self.client(Via::Http2)?, peer.client()?);
        let image = format!("{}/app", self.registry.socket);
        let images = Images { written: format!("{image}:1"), pinned: format!("{image}@{}", self.digest) };
        for (ours, theirs) in self.payloads.iter().zip(Payload::all(&images)) {
            let (body, their_body) = (Bytes::from(ours.body()), Bytes::from(theirs.body()));
            let answer = their_client.ask(&peer.url, their_body.clone()).await?;
            let made = peer::made_of(&theirs, &answer, &self.digest);
            let theirs = (&their_client, &*peer.url, &their_body);
            let pairs = self.in_turns(theirs, (&client, &self.webhook.url(0), &body)).await?;
            let name = format!("{}, {made} by {}", ours.name, peer.name);
            report(&name, [&peer.name, "webhook"], &pairs, |[theirs, ours]| ours.rate / theirs.rate);
        }
        Ok(())
    }

    /// Rounds of two servers, each with who asks it, where and what.
    async fn in_turns(
        &self,
        theirs: (&Client, &str, &Bytes),
        ours: (&Client, &str, &Bytes),
    ) -> Result<Vec<Vec<Round>>, Error> {
        let mut pairs = Vec::new();
        for _ in 0..ROUNDS {
            let mut pair = Vec::new();
            for (client, url, body) in [theirs, ours] {
                pair.push(client.closed(url, body, self.length).await?);
            }
            pairs.push(pair);
        }
        Ok(pairs)
    }
}

/// Prints the middle rounds of two servers, and the middle of their ratios.
fn report(name: &str, servers: [&str; 2], pairs: &[Vec<Round>], ratio: impl Fn([&Round; 2]) -> f64) {
    let mut ratios: Vec<f64> = pairs.iter().map(|pair| ratio([&pair[0], &pair[1]])).collect();
    ratios.sort_by(f64::total_cmp);
    println!("{name}: ratio {:.2} ({:.2} to {:.2})", ratios[ROUNDS / 2], ratios[0], ratios[ROUNDS - 1]);
    for (side, server) in servers.into_iter().enumerate() {
        let mut rounds: Vec<&Round> = pairs.iter().map(|pair| &pair[side]).collect();
        rounds.sort_by(|a, b| a.rate.total_cmp(&b.rate));
        let Round { rate, cpu, p50, p99 } = rounds[ROUNDS / 2];
        let cpu = if cpu.is_zero() { String::new() } else { format!("  CPU {cpu:.1?} each") };
        println!("    {server:8} {rate:7.0}/s  p50 {p50:7.0?}  p99 {p99:7.0?}{cpu}");
    }
}
