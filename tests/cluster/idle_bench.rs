//! What the processes of a release take that have nothing to do, beside a real API server: time until they are ready,
//! memory, and processor.

use std::time::{Duration, Instant};

use crate::control_plane::ControlPlane;
use crate::importing::{controller, webhook_server};
use crate::pinstream::Pinstream;
use crate::release::install_custom_resource;

/// For how long they come to rest, and are watched then.
const REST: Duration = Duration::from_secs(10);
const WATCHED: Duration = Duration::from_mins(2);

/// Prints what each of them takes.
pub fn idle(plane: &ControlPlane) {
    install_custom_resource(plane);
    let (storage, kubeconfig) = (plane.folder("storage"), plane.admin().kubeconfig().display().to_string());
    let storage = storage.display().to_string();
    let registry = ["registry", "--kubeconfig", &kubeconfig, "--plain-http", "--storage", &storage];
    let starts: [(&str, &dyn Fn() -> Pinstream); 3] = [
        ("webhook", &|| webhook_server(plane, &[]).0),
        ("controller", &|| controller(plane, &[])),
        ("registry", &|| Pinstream::start(plane, &registry, &[])),
    ];
    let running = starts.map(|(name, start)| {
        let began = Instant::now();
        let process = start();
        (name, began.elapsed(), process)
    });
    std::thread::sleep(REST);
    let before = running.each_ref().map(|(_, _, process)| process.cpu_seconds());
    std::thread::sleep(WATCHED);
    for ((name, ready, process), before) in running.iter().zip(before) {
        let share = (process.cpu_seconds() - before) / WATCHED.as_secs_f64();
        let memory = process.metric("process_resident_memory_bytes").unwrap() / 1024.0 / 1024.0;
        println!("{name:12} ready after {ready:.2?}, {memory:.1} MiB, {:.3} % of a core", share * 100.0);
    }
}
