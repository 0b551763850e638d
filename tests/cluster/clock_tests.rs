//! A controller whose clock jumps, by libfaketime, beside an API server whose clock does not.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::control_plane::ControlPlane;
use crate::importing::{Stream, manifest};
use crate::pinstream::Pinstream;
use crate::registry::{Content, Guard, Registry};
use crate::release::install_custom_resource;
use crate::waiting::eventually;

crate::tests![clock_that_jumps_costs_nobody_the_lead];

const HOUR: i64 = 3600;

/// The library. Without it the test is left out, unless `PINSTREAM_TEST_FAKETIME` says that it must not be.
fn library() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let found = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).find(|path| path.is_file());
    if found.is_none() {
        let missing = "there is no libfaketime (Debian: apt-get install faketime)";
        assert!(env::var_os("PINSTREAM_TEST_FAKETIME").is_none_or(|required| required.is_empty()), "{missing}");
        eprintln!("left out: {missing}");
    }
    found
}

/// Has the clock be so many seconds ahead.
fn set(file: &Path, ahead: i64) {
    let new = file.with_extension("new");
    fs::write(&new, format!("{ahead:+}")).unwrap();
    fs::rename(new, file).unwrap();
}

fn clock_that_jumps_costs_nobody_the_lead(plane: &ControlPlane) {
    let Some(library) = library() else { return };
    let plane = plane.another();
    install_custom_resource(&plane);
    let (registry, namespace) = (Registry::start(&plane, Guard::Open), plane.namespace());
    let clock = plane.folder("clock").join("ahead");
    set(&clock, 0);
    let kubeconfig = plane.admin().kubeconfig().display().to_string();
    let start = |name: &str, environment: &[(&str, &str)]| {
        let identity = format!("--identity={name}");
        let arguments =
            ["controller", "--kubeconfig", &kubeconfig, "--registry-rate=0", "--lease=default/c", &identity];
        Pinstream::start(&plane, &arguments, environment)
    };
    let faked = [
        ("LD_PRELOAD", library.to_str().unwrap()),
        ("FAKETIME_TIMESTAMP_FILE", clock.to_str().unwrap()),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ];
    let leads = |controller: &Pinstream| controller.metric("pinstream_leader") == Some(1.0);
    let lease = || plane.admin().get(&["lease", "c"])["spec"].clone();
    let jumping = start("jumping", &faked);
    eventually("it leads", || leads(&jumping));
    let steady = start("steady", &[]);

    let mut digests = Vec::new();
    for (number, ahead) in [0, 24 * HOUR, -HOUR, 0].into_iter().enumerate() {
        set(&clock, ahead);
        let renewed = lease()["renewTime"].clone();
        eventually("the Lease is renewed", || lease()["renewTime"] != renewed);
        let version = number.to_string();
        digests.insert(0, registry.push("app", &version, &Content::image(&version)));
        let tag = registry.spec_tag("1", &format!("app:{version}"));
        let newest_first: Vec<&str> = digests.iter().map(String::as_str).collect();
        Stream::apply(&namespace, &manifest("app", &[tag])).has_history("1", &newest_first);
        assert!(leads(&jumping) && !leads(&steady), "{ahead} s ahead");
    }
    assert_eq!(lease()["leaseTransitions"].as_i64().unwrap_or_default(), 0);
    set(&clock, 24 * HOUR);
    drop(jumping);
    eventually("the other one leads", || leads(&steady));
}
