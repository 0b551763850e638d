//! Finds the programs that cluster tests run, or has `tests/tools/build` build them.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Each program with the module that pins its version, and how it is asked for its own. One that cannot be asked is taken
/// only as it was built here.
const PROGRAMS: [(&str, &str, &[&str]); 9] = [
    ("etcd", "etcd/go.mod go.etcd.io/etcd/server/v3", &["--version"]),
    ("helm", "helm/go.mod helm.sh/helm/v4", &["version", "--short"]),
    ("kube-apiserver", KUBERNETES, &["--version"]),
    ("kube-controller-manager", KUBERNETES, &["--version"]),
    ("registry", "registry/go.mod github.com/distribution/distribution/v3", &["--version"]),
    ("kubectl", KUBERNETES, &["version", "--client"]),
    ("oci-conformance", "conformance/go.mod github.com/opencontainers/distribution-spec/conformance", &[]),
    ("skopeo", "skopeo/go.mod github.com/containers/skopeo", &["--version"]),
    ("versitygw", "versitygw/go.mod github.com/versity/versitygw", &["--version"]),
];
const KUBERNETES: &str = "kubernetes/go.mod k8s.io/kubernetes";

/// Whether a missing program is to be built, and a failure if it cannot be.
pub fn are_required() -> Result<bool, String> {
    match env::var("PINSTREAM_TEST_CLUSTER").as_deref() {
        Ok("required") => Ok(true),
        Err(_) | Ok("") => Ok(false),
        Ok(other) => Err(format!("PINSTREAM_TEST_CLUSTER is {other}; it can only be `required`")),
    }
}

/// The programs, all of them.
#[derive(Clone)]
pub struct Tools(BTreeMap<&'static str, PathBuf>);

impl Tools {
    /// Looks in `KUBEBUILDER_ASSETS` and `PATH` for programs of the pinned minor versions, then among those that were
    /// built; builds what is missing if they are required. An error says what is missing and how to get it.
    pub fn find(are_required: bool) -> Result<Self, String> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/build");
        let run = |arguments: &[&str]| {
            let output = Command::new(&script).args(arguments).stderr(Stdio::inherit()).output();
            let output = output.map_err(|error| format!("{}: {error}", script.display()))?;
            let folder = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
            if output.status.success() { Ok(PathBuf::from(folder)) } else { Err("tests/tools/build failed".to_owned()) }
        };
        let built = run(&["--folder"])?;
        let found = || PROGRAMS.into_iter().filter_map(|program| Some((program.0, locate(program, &built)?))).collect();
        let mut tools = Self(found());
        if are_required && tools.0.len() < PROGRAMS.len() {
            run(&[])?;
            tools = Self(found());
        }
        let missing: Vec<_> =
            PROGRAMS.iter().map(|program| program.0).filter(|name| !tools.0.contains_key(name)).collect();
        if missing.is_empty() {
            return Ok(tools);
        }
        Err(format!(
            "{} not found; tests/tools/build builds what is missing (some 20 minutes, needs Go)",
            missing.join(", ")
        ))
    }

    pub fn path(&self, program: &str) -> &Path {
        &self.0[program]
    }
}

/// The version of Kubernetes that is wanted, such as `1.36.3`.
pub fn kubernetes_version() -> String {
    wanted(KUBERNETES)
}

fn locate((name, pin, question): (&str, &str, &[&str]), built: &Path) -> Option<PathBuf> {
    let folders = ["KUBEBUILDER_ASSETS", "PATH"].into_iter().filter_map(env::var_os);
    let mut candidates = folders.flat_map(|folders| env::split_paths(&folders).collect::<Vec<_>>());
    let fits = |path: &PathBuf| {
        path.is_file() && !question.is_empty() && minor(&version_of(path, question)) == minor(&wanted(pin))
    };
    let there = candidates.by_ref().map(|folder| folder.join(name)).find(fits);
    there.or_else(|| Some(built.join(name)).filter(|path| path.is_file()))
}

/// The version that a module pins, or that is asked for in its place.
fn wanted(pin: &str) -> String {
    if let (KUBERNETES, Ok(version)) = (pin, env::var("PINSTREAM_TEST_KUBERNETES")) {
        return first_version(&version);
    }
    let (file, module) = pin.split_once(' ').unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools").join(file);
    let text = fs::read_to_string(path).unwrap();
    let mut pinned = text.lines().filter_map(|line| line.trim_start_matches("require").trim().strip_prefix(module));
    first_version(pinned.find(|rest| rest.starts_with(" v")).unwrap())
}

/// What a program says that its version is; empty if it does not run.
fn version_of(program: &Path, question: &[&str]) -> String {
    let output = Command::new(program).args(question).output();
    // Some begin with their own path, which may have a version in it.
    let said = |output: Output| String::from_utf8_lossy(&output.stdout).replace(&*program.to_string_lossy(), "");
    output.map(|output| first_version(&said(output))).unwrap_or_default()
}

fn first_version(text: &str) -> String {
    let mut words = text.split(|character: char| !character.is_ascii_digit() && character != '.');
    let is_version = |word: &&str| word.contains('.') && word.starts_with(|first: char| first.is_ascii_digit());
    words.find(is_version).unwrap_or_default().to_owned()
}

fn minor(version: &str) -> Vec<&str> {
    version.split('.').take(2).collect()
}
