//! Tests on a real control plane: etcd, kube-apiserver and kube-controller-manager, shared by all, a namespace each.
//!
//! Not run by libtest but by `main` below, which owns the control plane and leaves tests out where its programs are
//! missing. A test is a function that is given the control plane, and is listed in its module's `all`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that panics has failed, which is what it is for")]

mod availability_tests;
mod certificates;
mod chart;
mod chart_tests;
mod condition_tests;
mod constant;
mod control_plane;
mod control_plane_tests;
mod latency_bench;
mod node;
mod pinning_tests;
mod pinstream;
mod process;
mod release;
mod release_tests;
mod resolving_tests;
mod rotation_tests;
mod service;
mod streams_tests;
mod tools;
mod user;
mod waiting;
mod webhook;
mod workload_tests;

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use libtest_mimic::{Arguments, Trial};

use crate::control_plane::ControlPlane;
use crate::tools::Tools;

/// A test by its name.
pub type Test = (&'static str, fn(&ControlPlane));

/// The tests of a module by their names.
#[macro_export]
macro_rules! tests {
    ($($name:ident),+ $(,)?) => {
        pub const TESTS: &[$crate::Test] = &[$((concat!(module_path!(), "::", stringify!($name)), $name)),+];
    };
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let are_required = match tools::are_required() {
        Ok(are_required) => are_required,
        Err(error) => return failure(&error),
    };
    let tools = match Tools::find(are_required) {
        Ok(tools) => tools,
        Err(missing) if are_required => return failure(&missing),
        Err(missing) => {
            eprintln!("cluster tests are left out: {missing}");
            return ExitCode::SUCCESS;
        }
    };
    if arguments.bench {
        let plane = ControlPlane::start(&tools).unwrap();
        latency_bench::pod_creation(&plane);
        return ExitCode::SUCCESS;
    }
    let shared = Arc::new(Shared { tools, plane: OnceLock::new() });
    let tests = [
        chart_tests::TESTS,
        condition_tests::TESTS,
        control_plane_tests::TESTS,
        pinning_tests::TESTS,
        streams_tests::TESTS,
        release_tests::TESTS,
        resolving_tests::TESTS,
        workload_tests::TESTS,
        availability_tests::TESTS,
        rotation_tests::TESTS,
    ]
    .concat();
    let trials = tests.into_iter().map(|(name, test)| {
        let shared = Arc::clone(&shared);
        let name = name.split_once("::").map_or(name, |(_, name)| name);
        Trial::test(name, move || {
            test(shared.plane()?);
            Ok(())
        })
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    if let Some(Ok(plane)) = Arc::into_inner(shared).and_then(|shared| shared.plane.into_inner()) {
        eprintln!("the control plane was ready after {:.1} s", plane.start_up.as_secs_f64());
        plane.end(conclusion.has_failed());
    }
    conclusion.exit_code()
}

fn failure(reason: &str) -> ExitCode {
    eprintln!("cluster tests cannot run: {reason}");
    ExitCode::FAILURE
}

/// The control plane, started when the first test asks for it.
struct Shared {
    tools: Tools,
    plane: OnceLock<Result<ControlPlane, String>>,
}

impl Shared {
    fn plane(&self) -> Result<&ControlPlane, String> {
        self.plane.get_or_init(|| ControlPlane::start(&self.tools)).as_ref().map_err(Clone::clone)
    }
}
