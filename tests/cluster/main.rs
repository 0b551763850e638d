//! Tests on a real control plane: etcd, kube-apiserver and kube-controller-manager, shared by all, a namespace each.
//!
//! Not run by libtest but by `main` below, which owns the control plane and leaves tests out where its programs are
//! missing. A test is a function that is given the control plane, and is listed in its module's `all`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that panics has failed, which is what it is for")]

mod address_tests;
mod admission_policy_random_tests;
mod admission_policy_tests;
mod api_fault_tests;
mod audit_command_tests;
mod audit_tests;
mod availability_tests;
mod bucket_tests;
mod buckets;
mod cert_manager;
mod certificates;
mod chaos_tests;
mod chart;
mod chart_tests;
mod client_tests;
mod clock_tests;
mod command_tests;
mod component;
mod condition_tests;
mod conformance_tests;
mod constant;
mod control_plane;
mod control_plane_tests;
mod directory_tests;
mod disturbed;
mod faults;
mod gate;
mod idle_bench;
mod import_bench;
mod import_crash_tests;
mod import_leader_tests;
mod import_registry_tests;
mod import_release_tests;
mod import_tests;
mod importing;
mod judges;
mod latency_bench;
mod layered;
mod layout;
mod local_tests;
mod monitored;
mod monitoring_tests;
mod node;
mod partition_tests;
mod pictures_bench;
mod pinning_tests;
mod pinstream;
mod policy_condition_tests;
mod policy_tests;
mod process;
mod prometheus;
mod proxy;
mod pull_crash_tests;
mod pull_lie_tests;
mod pull_load_tests;
mod puller_tests;
mod pulling;
mod random;
mod reading_tests;
mod record;
mod reference_tests;
mod registry;
mod registry_access_tests;
mod release;
mod release_registry_tests;
mod release_tests;
mod resolving_tests;
mod rotation_tests;
mod saturation_bench;
mod sending;
mod service;
mod soak;
mod soak_model;
mod soak_moves;
mod soak_samples;
mod soak_tests;
mod storage_tests;
mod stream_writes_tests;
mod streams_tests;
mod tools;
mod tutorial_tests;
mod user;
mod waiting;
mod webhook;
mod wire;
mod workload_tests;

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use libtest_mimic::{Arguments, Trial};

use crate::control_plane::ControlPlane;
use crate::importing::Importing;
use crate::tools::Tools;

/// A test by its name, and on what it runs.
pub type Test<On = ControlPlane> = (&'static str, fn(&On));

/// The tests of a module by their names. They run on the control plane that is shared, or on what stands before them.
#[macro_export]
macro_rules! tests {
    ($on:ty: $($name:ident),+ $(,)?) => {
        pub const TESTS: &[$crate::Test<$on>] = &[$((concat!(module_path!(), "::", stringify!($name)), $name)),+];
    };
    ($($name:ident),+ $(,)?) => {
        $crate::tests![$crate::control_plane::ControlPlane: $($name),+];
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
        bench(&tools, arguments.filter.as_deref().unwrap_or_default());
        return ExitCode::SUCCESS;
    }
    let shared = Arc::new(Shared { tools, plane: OnceLock::new(), importing: OnceLock::new() });
    let importing = [
        bucket_tests::TESTS,
        client_tests::TESTS,
        conformance_tests::TESTS,
        command_tests::importing::TESTS,
        directory_tests::TESTS,
        import_registry_tests::TESTS,
        import_tests::TESTS,
        registry_access_tests::TESTS,
        release_registry_tests::TESTS,
    ]
    .concat();
    let tests = [
        chart_tests::TESTS,
        command_tests::TESTS,
        condition_tests::TESTS,
        control_plane_tests::TESTS,
        pinning_tests::TESTS,
        admission_policy_random_tests::TESTS,
        admission_policy_tests::TESTS,
        policy_condition_tests::TESTS,
        policy_tests::TESTS,
        reading_tests::TESTS,
        reference_tests::TESTS,
        streams_tests::TESTS,
        stream_writes_tests::TESTS,
        release_tests::TESTS,
        resolving_tests::TESTS,
        workload_tests::TESTS,
        import_crash_tests::TESTS,
        import_leader_tests::TESTS,
        import_release_tests::TESTS,
        local_tests::TESTS,
        monitoring_tests::TESTS,
        puller_tests::TESTS,
        pull_crash_tests::TESTS,
        pull_lie_tests::TESTS,
        pull_load_tests::TESTS,
        tutorial_tests::TESTS,
        audit_command_tests::TESTS,
        address_tests::TESTS,
        audit_tests::TESTS,
        clock_tests::TESTS,
        availability_tests::TESTS,
        api_fault_tests::TESTS,
        chaos_tests::TESTS,
        partition_tests::TESTS,
        rotation_tests::TESTS,
        soak_tests::TESTS,
        storage_tests::TESTS,
    ]
    .concat();
    let importing = importing.into_iter().map(|test| trial(&shared, test, Shared::importing));
    let trials = importing.chain(tests.into_iter().map(|test| trial(&shared, test, Shared::plane)));
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    if let Some(shared) = Arc::into_inner(shared) {
        let importing = shared.importing.into_inner().and_then(Result::ok).map(|importing| importing.plane);
        for plane in shared.plane.into_inner().and_then(Result::ok).into_iter().chain(importing) {
            eprintln!("the control plane was ready after {:.1} s", plane.start_up.as_secs_f64());
            plane.end(conclusion.has_failed());
        }
    }
    conclusion.exit_code()
}

/// A test that is given what it runs on.
fn trial<On: 'static>(shared: &Arc<Shared>, (name, test): Test<On>, on: fn(&Shared) -> Result<&On, String>) -> Trial {
    let shared = Arc::clone(shared);
    let name = name.split_once("::").map_or(name, |(_, name)| name);
    Trial::test(name, move || {
        test(on(&shared)?);
        Ok(())
    })
}

/// Runs the benches whose names contain that, each on a control plane of its own.
fn bench(tools: &Tools, filter: &str) {
    let benches: [Test; 7] = [
        ("pod_creation", latency_bench::pod_creation),
        ("import", import_bench::import),
        ("schedule", import_bench::schedule),
        ("pictures", pictures_bench::pictures),
        ("saturation", saturation_bench::saturation),
        ("idle", idle_bench::idle),
        ("soak", soak_tests::soak),
    ];
    for (_, bench) in benches.into_iter().filter(|(name, _)| name.contains(filter)) {
        bench(&ControlPlane::start(tools).unwrap());
    }
}

fn failure(reason: &str) -> ExitCode {
    eprintln!("cluster tests cannot run: {reason}");
    ExitCode::FAILURE
}

/// What tests run on, started when the first test asks for it.
struct Shared {
    tools: Tools,
    plane: OnceLock<Result<ControlPlane, String>>,
    importing: OnceLock<Result<Importing, String>>,
}

impl Shared {
    fn plane(&self) -> Result<&ControlPlane, String> {
        self.plane.get_or_init(|| ControlPlane::start(&self.tools)).as_ref().map_err(Clone::clone)
    }

    fn importing(&self) -> Result<&Importing, String> {
        self.importing.get_or_init(|| Importing::start(&self.tools)).as_ref().map_err(Clone::clone)
    }
}
