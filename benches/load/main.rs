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
/// How long a round takes that is not counted.
const WARM_UP: Duration = Duration::from_millis(500);
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

    fn ours(&self, payload: &Payload) -> Result<Target<'_>, Error> {
        let (client, body) = (self.client(Via::Http2)?, payload.body().into());
        Ok(Target { name: "webhook", client, url: self.webhook.url(0), body, server: Some(&self.webhook) })
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
        let pair = |index: usize, via: Via| {
            let ours = Target { client: self.client(via)?, ..self.ours(&self.payloads[index])? };
            let (url, server) = (constant.url(index), Some(&constant));
            Ok::<_, Error>([Target { name: "constant", url, server, ..ours.clone() }, ours])
        };
        let by_rate = |[constant, webhook]: [&Round; 2]| webhook.rate / constant.rate;
        let others = [Via::Http1, Via::Wrk].into_iter().filter(|via| via.is_there()).map(|via| (0, via));
        for (index, via) in (0..self.payloads.len()).map(|index| (index, Via::Http2)).chain(others) {
            let pair = pair(index, via)?;
            let name = format!("{}, {} bytes, {}", self.payloads[index].name, pair[0].body.len(), via.name());
            report(&name, &pair, &self.in_turns(&pair, None).await?, by_rate);
        }
        for rate in RATES {
            let pair = pair(0, Via::Http2)?;
            let rounds = self.in_turns(&pair, Some(rate)).await?;
            let p99 = |[constant, webhook]: [&Round; 2]| webhook.p99.as_secs_f64() / constant.p99.as_secs_f64();
            report(&format!("{}, {rate} a second, p99", self.payloads[0].name), &pair, &rounds, p99);
        }
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
            for theirs in &payloads {
                // It pins whatever is written, unchanged or not.
                let expected = vec![pinned.clone(); theirs.expected.len()];
                theirs.check(&expected, &runtime.block_on(client.ask(&digester.url(0), theirs.body().into()))?)?;
            }
            for (ours, theirs) in self.payloads.iter().zip(&payloads) {
                let (body, server) = (theirs.body().into(), Some(&digester));
                let theirs = Target { name: "digester", client: client.clone(), url: digester.url(0), body, server };
                let pair = [theirs, self.ours(ours)?];
                let rounds = runtime.block_on(self.in_turns(&pair, None))?;
                report(&format!("{}, its registry at {delay:?}", ours.name), &pair, &rounds, times_faster);
            }
        }
        Ok(())
    }

    /// The webhook and a peer, which is given images of the registry.
    async fn beside_peer(&self, peer: &Peer) -> Result<(), Error> {
        let client = peer.client()?;
        let image = format!("{}/app", self.registry.socket);
        let images = Images { written: format!("{image}:1"), pinned: format!("{image}@{}", self.digest) };
        for (ours, theirs) in self.payloads.iter().zip(Payload::all(&images)) {
            let body = Bytes::from(theirs.body());
            let answer = client.ask(&peer.url, body.clone()).await?;
            let made = peer::made_of(&theirs, &answer, &self.digest);
            let theirs = Target { name: &peer.name, client: client.clone(), url: peer.url.clone(), body, server: None };
            let pair = [theirs, self.ours(ours)?];
            let rounds = self.in_turns(&pair, None).await?;
            report(&format!("{}, {made} by {}", ours.name, peer.name), &pair, &rounds, times_faster);
        }
        Ok(())
    }

    /// Rounds of two servers by turns, either of them first every other time: as many reviews as it takes, one after the other
    /// on each connection, or so many a second. The first round is not counted.
    async fn in_turns(&self, pair: &[Target<'_>; 2], rate: Option<u32>) -> Result<Vec<[Round; 2]>, Error> {
        let mut rounds = Vec::new();
        for number in 0..=ROUNDS {
            let mut round = [Round::default(); 2];
            for side in if number % 2 == 0 { [0, 1] } else { [1, 0] } {
                round[side] = pair[side].round(rate, if number == 0 { WARM_UP } else { self.length }).await?;
            }
            rounds.push(round);
        }
        Ok(rounds.split_off(1))
    }
}

/// A server that is asked.
#[derive(Clone)]
struct Target<'s> {
    name: &'s str,
    client: Client,
    url: String,
    body: Bytes,
    /// If its processor time can be told.
    server: Option<&'s Server>,
}

impl Target<'_> {
    async fn round(&self, rate: Option<u32>, length: Duration) -> Result<Round, Error> {
        let cpu = || self.server.map(Server::cpu).transpose().map(Option::unwrap_or_default);
        let before = cpu()?;
        let mut round = match rate {
            Some(rate) => self.client.open(&self.url, &self.body, rate, length).await?,
            None => self.client.closed(&self.url, &self.body, length).await?,
        };
        round.cpu = cpu()?.saturating_sub(before).div_f64(round.rate * length.as_secs_f64());
        Ok(round)
    }
}

fn times_faster([theirs, ours]: [&Round; 2]) -> f64 {
    ours.rate / theirs.rate
}

/// Prints the middle of each figure of two servers, and the middle of their ratios.
fn report(name: &str, pair: &[Target<'_>; 2], rounds: &[[Round; 2]], ratio: impl Fn([&Round; 2]) -> f64) {
    let sorted = |figure: &dyn Fn(&[Round; 2]) -> f64| {
        let mut all: Vec<f64> = rounds.iter().map(figure).collect();
        all.sort_by(f64::total_cmp);
        all
    };
    let ratios = sorted(&|[first, second]| ratio([first, second]));
    println!("{name}: ratio {:.2} ({:.2} to {:.2})", ratios[ROUNDS / 2], ratios[0], ratios[ROUNDS - 1]);
    for (side, target) in pair.iter().enumerate() {
        let middle = |figure: fn(&Round) -> f64| sorted(&|round| figure(&round[side]))[ROUNDS / 2];
        let (rate, cpu) = (middle(|round| round.rate), middle(|round| round.cpu.as_secs_f64() * 1e6));
        let [p50, p99, late] =
            [|round: &Round| round.p50, |round: &Round| round.p99, |round: &Round| round.late].map(|time| {
                let millis = sorted(&|round| time(&round[side]).as_secs_f64() * 1e3);
                millis[ROUNDS / 2]
            });
        print!("    {:18} {rate:7.0}/s  p50 {p50:8.3} ms  p99 {p99:8.3} ms", target.name);
        print!("{}", if cpu > 0.0 { format!("  CPU {cpu:.1} µs each") } else { String::new() });
        println!("{}", if late > 0.0 { format!("  sent up to {late:.3} ms late") } else { String::new() });
    }
}
