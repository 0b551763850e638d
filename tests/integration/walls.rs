//! The walls of the house: which module may use which.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::support::repository;

/// For each pure module, the modules that it may use beside those below itself.
const PURE: &[(&str, &[&str])] = &[
    ("reference", &[]),
    ("stream", &["reference"]),
    ("workload", &["reference"]),
    ("glob", &[]),
    ("json", &[]),
    ("policy", &["glob"]),
    ("index", &["reference", "stream"]),
    ("audit", &["digest", "reference", "stream"]),
    ("admission/before", &["workload"]),
    ("admission/decide", &["reference", "stream", "workload", "index"]),
    ("admission/judge", &["reference", "stream", "workload", "policy", "admission"]),
    ("admission/review", &["reference", "stream", "workload", "index", "policy", "admission", "json"]),
    ("admission/streams", &["reference", "stream", "admission", "crd"]),
    ("store/documents", &["stream"]),
    ("store/edit", &[]),
    ("store/directory/ledger", &["stream"]),
    ("store/kube/table", &["index", "stream"]),
    ("store/kube/watch/trouble", &[]),
    ("controller/agenda", &["stream"]),
    ("controller/queue", &["stream", "fair"]),
    ("registry/address", &["glob", "reference"]),
    ("registry/challenge", &[]),
    ("registry/manifest", &["image"]),
    ("registry/pace", &[]),
    ("registry/patience", &[]),
    ("mirror/access/anonymous", &[]),
    ("mirror/handler/path", &["digest", "reference", "stream"]),
    ("mirror/storage/layout", &["digest"]),
    ("mirror/storage/ledger", &["digest"]),
    ("digest", &[]),
    ("mirror/content/facts", &["digest", "registry"]),
    ("mirror/content/recent", &[]),
    ("image", &[]),
    ("backoff", &[]),
    ("fair", &[]),
    ("server/authority", &["server"]),
    ("server/issue", &["server"]),
    ("crd", &["stream"]),
    ("cli/age", &[]),
    ("cli/table", &[]),
    ("cli/selector", &[]),
    ("cli/image_tag", &["image", "stream"]),
    ("cli/describe/stream", &["stream"]),
    ("cli/describe/image", &["image"]),
];

/// What nothing pure may name: clocks, async, the outside world.
const IMPURE: &[&str] = &[
    "tokio",
    "axum",
    "hyper",
    "kube::",
    "tracing",
    "std::fs",
    "std::env",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "::now()",
];

/// For each shared module, what it may not use.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("server", &["admission", "store", "stream", "index", "workload", "cli", "config"]),
    ("store", &["admission", "server", "cli", "config", "workload", "controller"]),
    ("registry", &["admission", "store", "server", "cli", "config", "workload", "controller", "index"]),
    ("controller", &["admission", "cli", "config", "workload", "index"]),
    ("admission", &["server", "cli", "config"]),
    ("mirror", &["admission", "server", "cli", "config", "workload", "controller", "index"]),
    ("metrics", &["server", "store", "cli", "config"]),
];

/// The crates of the Kubernetes API.
const CLUSTER: &[&str] = &["kube::", "k8s_openapi"];
/// Where alone they may be used.
const CLUSTER_USERS: &[&str] = &["src/store/kube/", "src/controller/"];

/// Lines of a module's files that are no comment and stand before its tests.
fn code_of(module: &str) -> Vec<(String, String)> {
    let root = repository().join("src");
    let mut files: Vec<_> = [root.join(format!("{module}.rs"))].into_iter().filter(|path| path.exists()).collect();
    let mut folders = vec![root.join(module)];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).into_iter().flatten().map(|entry| entry.unwrap().path());
        for path in entries {
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    let is_test = |path: &Path| path.file_name() == Some("tests.rs".as_ref());
    let lines = |path: std::path::PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap().to_owned();
        let name = path.strip_prefix(repository()).unwrap().display().to_string();
        let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        lines.map(|line| (name.clone(), line.to_owned())).collect::<Vec<_>>()
    };
    files.into_iter().filter(|path| !is_test(path)).flat_map(lines).collect()
}

/// The top module that a line takes from this crate.
fn used(line: &str) -> Option<&str> {
    let path = line.split("crate::").nth(1)?;
    path.split(|character: char| !character.is_alphanumeric() && character != '_').next()
}

#[test]
fn pure_modules_stay_pure() {
    for (module, allowed) in PURE {
        let own = module.split('/').next().unwrap();
        for (file, line) in code_of(module) {
            let foreign = used(&line).filter(|used| *used != own && !allowed.contains(used));
            assert_eq!(foreign, None, "{file}: {line}");
            assert!(!IMPURE.iter().any(|word| line.contains(word)), "{file}: {line}");
        }
    }
}

#[test]
fn shared_modules_know_nothing_of_those_above() {
    for (module, forbidden) in FORBIDDEN {
        for (file, line) in code_of(module) {
            assert!(used(&line).is_none_or(|used| !forbidden.contains(&used)), "{file}: {line}");
        }
    }
}

#[test]
fn cluster_api_is_used_in_few_places() {
    let modules = fs::read_dir(repository().join("src")).unwrap().map(|entry| entry.unwrap().path());
    let modules: BTreeSet<_> = modules.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    let lines = modules.iter().flat_map(|module| code_of(module));
    for (file, line) in lines.filter(|(file, _)| !CLUSTER_USERS.iter().any(|user| file.starts_with(user))) {
        // The store's own module has the name of the crate.
        let line = line.replace("store::kube::", "");
        assert!(!CLUSTER.iter().any(|name| line.contains(name)), "{file}: {line}");
    }
}

#[test]
fn every_file_says_what_it_owns() {
    let mut folders = ["src", "tests", "benches", "fuzz/fuzz_targets"].map(|folder| repository().join(folder)).to_vec();
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension() == Some("rs".as_ref()) {
                assert!(fs::read_to_string(&path).unwrap().starts_with("//! "), "{}", path.display());
            }
        }
    }
}
