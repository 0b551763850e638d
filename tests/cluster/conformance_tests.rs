//! The conformance suite of the OCI distribution specification. First it pushes images of every sort to a source, then
//! it pulls them all through the registry.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use reqwest::blocking::Client;
use serde_json::Value;

use crate::control_plane::ControlPlane;
use crate::importing::{Importing, Stream, manifest};
use crate::pulling::{registry, token};
use crate::registry::{Guard, Registry};
use crate::waiting::eventually;

crate::tests![Importing: the_suite_of_the_specification_finds_no_failure_in_pulling];

/// What it is to have tried and found good.
const PULLING: [&str; 8] = [
    "Ping",
    "Tag listing",
    "Manifest get by tag",
    "Manifest get by digest",
    "Manifest head by tag",
    "Manifest head by digest",
    "Blob get",
    "Blob head",
];
const NO_DELETE: [(&str, &str); 3] =
    [("OCI_API_BLOBS_DELETE", "false"), ("OCI_API_MANIFESTS_DELETE", "false"), ("OCI_API_TAGS_DELETE", "false")];

/// The suite.
struct Suite {
    program: PathBuf,
    folder: PathBuf,
}

impl Suite {
    fn new(plane: &ControlPlane) -> Self {
        Self { program: plane.tool("oci-conformance"), folder: plane.folder("conformance") }
    }

    /// Runs it against a registry without TLS, and gives its report. Its files are of no use: it crashes when it writes
    /// them after a run that pushes nothing.
    fn run(&self, host: &str, repository: &str, settings: &[(&str, &str)]) -> Report {
        let output = Command::new(&self.program)
            .env_clear()
            .envs([("OCI_REGISTRY", host), ("OCI_TLS", "disabled"), ("OCI_REPO1", repository)])
            .envs(NO_DELETE)
            .envs(settings.iter().copied())
            .current_dir(&self.folder)
            .output()
            .unwrap();
        Report(String::from_utf8(output.stdout).unwrap())
    }
}

/// What the suite prints: each test with its result, and then `NAME.......: RESULT` for each part of the specification.
struct Report(String);

impl Report {
    fn result(&self, name: &str) -> &str {
        let mut results = self.0.lines().filter_map(|line| line.split_once(':'));
        let found = results.rfind(|(left, _)| left.trim().trim_end_matches('.') == name);
        found.unwrap_or_else(|| panic!("no {name} in:\n{}", self.0)).1.trim()
    }

    fn count(&self, result: &str) -> usize {
        self.result(result).parse().unwrap()
    }
}

/// What is in a repository: tags, and the digests of manifests and blobs that they lead to.
#[derive(Default)]
struct Repository {
    tags: Vec<String>,
    manifests: BTreeSet<String>,
    blobs: BTreeSet<String>,
}

impl Repository {
    fn read(base: &str) -> Self {
        let client = Client::builder().no_proxy().build().unwrap();
        let accept = ["manifest", "index"].map(|kind| format!("application/vnd.oci.image.{kind}.v1+json")).join(", ");
        let get = |path: &str| {
            let answer = client.get(format!("{base}/{path}")).header("accept", &accept).send().unwrap();
            answer.error_for_status().unwrap()
        };
        let tags: Value = get("tags/list").json().unwrap();
        let tags: Vec<String> = tags["tags"].as_array().unwrap().iter().map(text).collect();
        let mut read = Self { tags: tags.clone(), ..Self::default() };
        let mut unread = tags;
        while let Some(version) = unread.pop() {
            let answer = get(&format!("manifests/{version}"));
            let digest = answer.headers()["docker-content-digest"].to_str().unwrap().to_owned();
            let manifest: Value = answer.json().unwrap();
            read.manifests.insert(digest);
            unread.extend(digests(&manifest["manifests"]));
            read.blobs.extend(digests(&manifest["layers"]));
            read.blobs.extend(manifest["config"]["digest"].as_str().map(str::to_owned));
        }
        read
    }
}

fn digests(descriptors: &Value) -> impl Iterator<Item = String> {
    descriptors.as_array().into_iter().flatten().map(|descriptor| text(&descriptor["digest"]))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// As the suite reads lists.
fn list<'a>(words: impl IntoIterator<Item = &'a String>) -> String {
    words.into_iter().map(String::as_str).collect::<Vec<_>>().join(" ")
}

fn the_suite_of_the_specification_finds_no_failure_in_pulling(site: &Importing) {
    let (plane, namespace) = (&site.plane, site.plane.namespace());
    let (source, tool) = (Registry::start(plane, Guard::Open), Suite::new(plane));
    tool.run(&source.host, "images", &[("OCI_REPO2", "others")]);
    let pushed = Repository::read(&format!("http://{}/v2/images", source.host));
    assert!(pushed.tags.iter().any(|tag| tag == "index-of-index"), "{:?}", pushed.tags);

    let spec: Vec<Value> = pushed.tags.iter().map(|tag| source.spec_tag(tag, &format!("images:{tag}"))).collect();
    let stream = Stream::apply(&namespace, &manifest("images", &spec));
    eventually("all tags are imported", || pushed.tags.iter().all(|tag| stream.history(tag).len() == 1));
    let storage = plane.folder("kept").display().to_string();
    let server = registry(plane, &namespace, &["--plain-http", "--storage", &storage], &[]);
    let (host, repository) = (format!("127.0.0.1:{}", server.port), format!("{}/images", namespace.name));
    let settings = [
        ("OCI_USERNAME", "any"),
        ("OCI_PASSWORD", &token(&namespace, "puller", Some("images"))),
        ("OCI_API_PUSH", "false"),
        // Referrers are not listed, which the specification allows.
        ("OCI_API_REFERRER", "false"),
        ("OCI_RO_DATA_TAGS", &list(&pushed.tags)),
        ("OCI_RO_DATA_MANIFESTS", &list(&pushed.manifests)),
        ("OCI_RO_DATA_BLOBS", &list(&pushed.blobs)),
    ];
    let pulls_all = || {
        let report = tool.run(&host, &repository, &settings);
        assert_eq!((report.count("FAIL"), report.count("Error"), report.count("Skip")), (0, 0, 0), "{}", report.0);
        let tried = pushed.tags.len() + pushed.manifests.len() + pushed.blobs.len();
        assert!(report.count("Pass") > 2 * tried, "{tried}: {}", report.0);
        for part in PULLING {
            assert_eq!(report.result(part), "Pass", "{part}");
        }
    };
    pulls_all();
    source.stop();
    pulls_all();
}
