//! That a registry which is killed at any moment never gives nor keeps a wrong blob, and goes on where it was.

use std::fs::File;
use std::thread;
use std::time::{Duration, SystemTime};

use pinstream::digest::Digest;
use reqwest::blocking::Client;

use crate::control_plane::ControlPlane;
use crate::gate::Gate;
use crate::layered::{Layered, Site, pull};
use crate::pinstream::Pinstream;
use crate::random::Random;
use crate::registry::{Guard, Registry};
use crate::waiting::eventually;

crate::tests![a_registry_killed_at_any_moment_gives_and_keeps_nothing_wrong];

/// How often it is killed, each time while another image is pulled.
const TURNS: usize = 20;
const LAYERS: usize = 3;
const LAYER: usize = 1_500_000;
/// How many clients want each layer.
const CLIENTS: usize = 3;
/// What a dead process was downloading is removed when it is older than a minute.
const LONG_AGO: Duration = Duration::from_hours(1);

fn a_registry_killed_at_any_moment_gives_and_keeps_nothing_wrong(plane: &ControlPlane) {
    let (registry, gate, mut random) = (Registry::start(plane, Guard::Open), Gate::default(), Random::new());
    let mut layers = || (0..LAYERS).map(|_| random.bytes(LAYER)).collect::<Vec<_>>();
    let port = gate.lead_to(registry.host.rsplit_once(':').unwrap().1.parse().unwrap());
    let image = |layers: &[Vec<u8>]| Layered {
        repository: format!("127.0.0.1:{port}/app"),
        ..Layered::push(&registry, "app", layers)
    };
    let images: Vec<_> = (0..=TURNS).map(|_| image(&layers())).collect();
    let site = Site::new(plane, &images);

    let (server, before) = (site.start(), gate.passed());
    assert_eq!(pull_all(&server, &images[TURNS]), 0);
    let traffic = gate.passed() - before;
    // The last byte is given before the blob is in its place.
    is_idle(&server);
    drop(server);
    let (mut interrupted, mut left) = (0, 0);
    for turn in 0..TURNS {
        let server = site.start();
        eventually("what a dead process left is removed", || site.spools().is_empty());
        if let Some(last) = turn.checked_sub(1) {
            assert_eq!(pull_all(&server, &images[last]), 0, "what was interrupted is pulled");
            is_idle(&server);
        }
        // At times it has everything by then, and is about to keep it.
        gate.kill_after(1 + random.below(traffic + traffic / 10), server.id());
        interrupted += usize::from(pull_all(&server, &images[turn]) > 0);
        gate.spare();
        drop(server);
        for (name, found) in site.kept() {
            assert_eq!(found.as_str(), name, "turn {turn}");
        }
        left += age(&site);
    }
    assert!(interrupted > TURNS / 2 && left > 0, "{interrupted} pulls were interrupted, {left} downloads left");
    let server = site.start();
    assert_eq!(images.iter().map(|image| pull_all(&server, image)).sum::<usize>(), 0);
    is_idle(&server);
    let layers = images.iter().flat_map(|image| &image.layers);
    let kept = site.kept();
    for layer in layers {
        assert!(kept.iter().any(|(_, found)| found == layer), "{layer} is not kept");
    }
}

/// Pulls all layers of an image by several clients at once, and gives how many transfers failed. What comes to its end is
/// right.
fn pull_all(server: &Pinstream, image: &Layered) -> usize {
    let base = format!("http://127.0.0.1:{}", server.port);
    let pull_one = |layer: &Digest| {
        let client = Client::builder().no_proxy().timeout(None).build().unwrap();
        pull(&client, &base, layer).inspect(|found| assert_eq!(found, layer)).is_err()
    };
    thread::scope(|scope| {
        let layers = image.layers.iter().cycle().take(LAYERS * CLIENTS);
        let clients: Vec<_> = layers.map(|layer| scope.spawn(|| pull_one(layer))).collect();
        clients.into_iter().map(|client| usize::from(client.join().unwrap())).sum()
    })
}

fn is_idle(server: &Pinstream) {
    eventually("nothing is fetched any more", || server.metric("pinstream_upstream_fetches") == Some(0.0));
}

/// Makes what a dead process left look old. Gives how many files that are.
fn age(site: &Site) -> usize {
    let spools = site.spools();
    for path in &spools {
        File::options().write(true).open(path).unwrap().set_modified(SystemTime::now() - LONG_AGO).unwrap();
    }
    spools.len()
}
