//! That many clients who want the same image at once are given it by one transfer of each blob, and take little memory.

use std::thread;

use reqwest::blocking::Client;

use crate::control_plane::ControlPlane;
use crate::layered::{Layered, Site, pull};
use crate::random::Random;
use crate::registry::{Guard, Registry};

crate::tests![a_crowd_is_given_an_image_by_one_transfer_of_each_layer];

const CLIENTS: usize = 50;
const LAYERS: usize = 4;
const LAYER: usize = 10_000_000;
const MOST_MEMORY: f64 = 200.0 * 1024.0 * 1024.0;

fn a_crowd_is_given_an_image_by_one_transfer_of_each_layer(plane: &ControlPlane) {
    let (registry, mut random) = (Registry::start(plane, Guard::Open), Random::new());
    let layers: Vec<_> = (0..LAYERS).map(|_| random.bytes(LAYER)).collect();
    let image = Layered::push(&registry, "app", &layers);
    let layers = image.layers.clone();
    let site = Site::new(plane, &[image]);
    let (server, ca) = site.start_secure();
    let base = format!("https://localhost:{}", server.port);
    thread::scope(|scope| {
        for first in 0..CLIENTS {
            let (ca, base, layers) = (ca.clone(), &base, &layers);
            scope.spawn(move || {
                let client = Client::builder().no_proxy().timeout(None).tls_certs_only([ca]).build().unwrap();
                // Not all in the same order.
                for layer in layers.iter().cycle().skip(first % LAYERS).take(LAYERS) {
                    assert_eq!(pull(&client, base, layer).as_ref(), Ok(layer));
                }
            });
        }
    });
    for layer in &layers {
        assert_eq!(registry.transfers("app", layer.as_str()), 1, "{layer}");
    }
    assert!(server.peak_memory() < MOST_MEMORY, "{} bytes", server.peak_memory());
    assert_eq!(server.metric("pinstream_pull_transfers"), Some(0.0));
}
