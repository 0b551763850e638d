//! Importing into a directory: `pinstream serve` over files, with real registries.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::gate::Gate;
use crate::importing::{Importing, named};
use crate::pinstream::Pinstream;
use crate::process::Process;
use crate::registry::{Content, Guard, PASSWORD, Registry, USER};
use crate::waiting::eventually;

crate::tests![Importing: files_get_the_status_and_keep_everything_else,
    logins_of_docker_are_used, a_server_killed_at_any_moment_leaves_whole_files];

/// Files of the test with kills, and how often the server is killed.
const FILES: u32 = 24;
const KILLS: u64 = 12;

/// A stream with two tags, one of which follows the other.
fn text(registry: &Registry, name: &str, image: &str) -> String {
    let from = format!("{{kind: DockerImage, name: \"{}/{image}\"}}", registry.host);
    format!(
        "# {name} of the test\napiVersion: pinstream.dev/v1\nkind: ImageStream\nmetadata:\n  name: {name}   # its name\n\
         spec:\n  tags:\n  - name: \"1\"\n    from: {from}\n    importPolicy: {{insecure: true}}   # no TLS\n  \
         - name: latest\n    from: {{kind: ImageStreamTag, name: \"1\"}}\n"
    )
}

fn serve(site: &Importing, streams: &Path, environment: &[(&str, &str)]) -> Pinstream {
    Pinstream::start(&site.plane, &["serve", "--streams", streams.to_str().unwrap()], environment)
}

/// The images in the history of a tag, newest first, as the file has it.
fn history(file: &Path, tag: &str) -> Vec<String> {
    let stream: Value = serde_saphyr::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let items = named(&stream["status"]["tags"], "tag", tag)["items"].clone();
    items.as_array().into_iter().flatten().map(|item| item["image"].as_str().unwrap().to_owned()).collect()
}

/// Waits for a history.
fn becomes(file: &Path, tag: &str, expected: &[&str]) {
    eventually("the status is written", || {
        let found = history(file, tag);
        if found == expected { Ok(()) } else { Err(format!("tag {tag} of {} has {found:?}", file.display())) }
    });
}

fn files_get_the_status_and_keep_everything_else(site: &Importing) {
    let (registry, streams) = (site.registry(Guard::Open), site.plane.folder("streams"));
    let [first, second, third] =
        ["1", "2", "3"].map(|tag| registry.push("directory/app", tag, &Content::index(&format!("directory-{tag}"))));
    let file = streams.join("app.yaml");
    let written = text(registry, "app", "directory/app:1");
    fs::write(&file, &written).unwrap();
    let server = serve(site, &streams, &[]);
    becomes(&file, "latest", &[&first]);
    assert!(fs::read_to_string(&file).unwrap().starts_with(&written));
    assert!(streams.join(".pinstream/images").join(format!("{}.json", first.replace(':', "-"))).exists());

    let edit = |from: &str, to: &str| fs::write(&file, fs::read_to_string(&file).unwrap().replace(from, to)).unwrap();
    edit("app:1\"", "app:2\"");
    becomes(&file, "latest", &[&second, &first]);
    assert!(server.terminate().success());

    // A change that was made while nobody looked counts as well.
    edit("app:2\"", "app:3\"");
    let server = serve(site, &streams, &[]);
    becomes(&file, "1", &[&third, &second, &first]);
    edit("app:3\"", "app:none\"");
    eventually("the failure is told", || fs::read_to_string(&file).unwrap().contains("reason: NotFound"));
    assert_eq!(history(&file, "1"), [third, second, first]);
    drop(server);
}

fn logins_of_docker_are_used(site: &Importing) {
    let (registry, streams) = (site.registry(Guard::Password), site.plane.folder("streams"));
    let digest = registry.push("private/app", "1", &Content::image("directory-private"));
    let file = streams.join("app.yaml");
    fs::write(&file, text(registry, "app", "private/app:1")).unwrap();
    let docker = site.plane.folder("docker");
    let server = serve(site, &streams, &[("DOCKER_CONFIG", docker.to_str().unwrap())]);
    eventually("the refusal is told", || fs::read_to_string(&file).unwrap().contains("reason: Unauthorized"));
    drop(server);
    let auth = STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let config = json!({"auths": {&registry.host: {"auth": auth}}});
    fs::write(docker.join("config.json"), config.to_string()).unwrap();
    let _server = serve(site, &streams, &[("DOCKER_CONFIG", docker.to_str().unwrap())]);
    becomes(&file, "1", &[&digest]);
}

fn a_server_killed_at_any_moment_leaves_whole_files(site: &Importing) {
    let (registry, streams) = (site.registry(Guard::Open), site.plane.folder("streams"));
    let gate = Gate::default();
    let port = gate.lead_to(registry.host.rsplit_once(':').unwrap().1.parse().unwrap());
    let mut expected: Vec<(PathBuf, String)> = Vec::new();
    for number in 0..FILES {
        let digest = registry.push("killed/app", &number.to_string(), &Content::image(&format!("killed-{number}")));
        let file = streams.join(format!("app-{number}.yaml"));
        let text = text(registry, &format!("app-{number}"), &format!("killed/app:{number}"));
        fs::write(&file, text.replace(&registry.host, &format!("127.0.0.1:{port}"))).unwrap();
        expected.push((file, digest));
    }
    let is_done = || expected.iter().all(|(file, digest)| history(file, "latest") == [digest.as_str()]);
    let folder = site.plane.folder("killed");
    let start = || {
        let arguments = ["serve", "--streams", streams.to_str().unwrap(), "--registry-rate=0"];
        let free = ["--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"];
        let arguments: Vec<_> = arguments.into_iter().chain(free).map(str::to_owned).collect();
        Process::start(Path::new(env!("CARGO_BIN_EXE_pinstream")), &arguments, &[], &folder, &folder.join("log"))
    };
    for kill in 0..KILLS {
        let mut server = start();
        // Later and later in what there is to do; whatever is left when it comes too late is done.
        gate.kill_after(1 + kill * 3, server.id());
        eventually("the server is killed, or has nothing to do any more", || server.has_ended() || is_done());
        gate.spare();
        // Reading them is the test: none is half written.
        for (file, _) in &expected {
            assert!(history(file, "1").len() <= 1);
        }
    }
    let _server = start();
    for (file, digest) in &expected {
        becomes(file, "latest", &[digest]);
        assert_eq!(fs::read_to_string(file).unwrap().matches("\nstatus:").count(), 1);
    }
}
