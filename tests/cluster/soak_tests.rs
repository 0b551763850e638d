//! That nothing wrong is answered and nothing is lost under mixed load; for a minute as a test, for an hour as a bench.

use std::time::Duration;

use crate::control_plane::ControlPlane;
use crate::soak::{Found, Soak};

crate::tests![mixed_load_gets_no_wrong_answer];

/// Another length of the bench than an hour, in minutes.
const MINUTES: &str = "PINSTREAM_SOAK_MINUTES";

/// Long enough for a turn of everything: the schedule has a minute, and a CA is good for two.
const SHORT: Duration = Duration::from_secs(110);

fn mixed_load_gets_no_wrong_answer(plane: &ControlPlane) {
    let found = run(plane, SHORT);
    assert!(found.images > 0 && found.moves > 0 && found.pulls > 0 && found.bundles > 0);
}

/// An hour of it, after which nothing may have grown.
pub fn soak(plane: &ControlPlane) {
    let minutes = std::env::var(MINUTES).map_or(60, |minutes| minutes.parse().unwrap());
    let found = run(plane, Duration::from_mins(minutes));
    println!("{}", found.samples);
    assert_eq!(found.samples.growth(), [""; 0]);
}

fn run(plane: &ControlPlane, length: Duration) -> Found {
    // It fills a control plane with objects, and its controller imports the streams of all namespaces.
    let own = plane.another();
    let found = Soak::new(&own).run(length);
    assert!(found.wrong.is_empty(), "{} wrong answers: {:#?}", found.wrong.len(), found.wrong);
    found
}
