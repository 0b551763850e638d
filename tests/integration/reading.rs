//! Commands that read image streams, whole: what they print of a directory, and what they exit with.

use std::fs;
use std::io::{BufRead as _, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

/// Streams of which all that is known was found so long ago that its age has two digits for a lifetime.
const STREAMS: &str = include_str!("reading/streams.yaml");
const EMPTY: &str = "apiVersion: pinstream.dev/v1\nkind: ImageStream\nmetadata: {name: later, namespace: demo}\n";
const RUNNING: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
const INDEX: &str = "sha256:3333333333333333333333333333333333333333333333333333333333333333";

/// A folder with the streams in `streams`, and with what was kept of their images.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let streams = folder.path().join("streams");
    fs::create_dir_all(streams.join(".pinstream/images")).unwrap();
    fs::write(streams.join("all.yaml"), STREAMS).unwrap();
    let metadata = |more: Value| {
        let mut metadata =
            json!({"kind": "DockerImage", "apiVersion": "image.openshift.io/1.0", "ContainerConfig": {}});
        metadata.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        metadata
    };
    let image = |digest: &str, more: Value| {
        let mut image = json!({"apiVersion": "image.openshift.io/v1", "kind": "Image", "metadata": {"name": digest},
            "dockerImageReference": format!("quay.io/first/place@{digest}"), "dockerImageMetadataVersion": "1.0"});
        image.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let file = format!("{}.json", digest.replace(':', "-"));
        fs::write(streams.join(".pinstream/images").join(file), image.to_string()).unwrap();
    };
    image(
        RUNNING,
        json!({"dockerImageMetadata": metadata(json!({"Id": "sha256:cc", "Created": "1990-01-01T00:00:00Z",
            "Architecture": "amd64", "Size": 215_530_000, "Config": {"User": "1000", "Entrypoint": ["/opt/kc.sh"],
                "Cmd": ["start"], "ExposedPorts": {"8080/tcp": {}, "8443/tcp": {}}, "Env": ["LANG=C", "PATH=/bin"]}})),
        "dockerImageLayers": [{"name": "sha256:aa", "size": 37_600_000, "mediaType": "l"},
            {"name": "sha256:bb", "size": 177_930_000, "mediaType": "l"}],
        "dockerImageManifestMediaType": "application/vnd.oci.image.manifest.v1+json"}),
    );
    let child = |architecture: &str, digit: &str| {
        json!({"digest": format!("sha256:{digit}"), "mediaType": "m",
        "manifestSize": 500, "architecture": architecture, "os": "linux"})
    };
    image(
        INDEX,
        json!({"dockerImageMetadata": metadata(json!({"Id": INDEX, "Created": "1990-01-01T00:00:00Z"})),
        "dockerImageManifests": [child("amd64", "aa"), child("arm64", "bb")],
        "dockerImageManifestMediaType": "application/vnd.oci.image.index.v1+json"}),
    );
    folder
}

fn command(folder: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pinstream"));
    command.args(line.split(' ')).env_clear().current_dir(folder);
    if !line.ends_with("--help") {
        command.env("PINSTREAM_STREAMS", "streams");
    }
    command
}

/// Exit code, standard output and standard error of a command.
fn run(folder: &Path, line: &str) -> (i32, String, String) {
    let output = command(folder, line).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Years that go by, in two digits.
fn ageless(text: &str) -> String {
    let mut parts = text.split(" years ago");
    let mut ageless = parts.next().unwrap().to_owned();
    for part in parts {
        let digits = ageless.trim_end_matches(|letter: char| letter.is_ascii_digit()).len();
        assert_eq!(ageless.len() - digits, 2, "{ageless}");
        ageless.replace_range(digits.., "NN");
        ageless += " years ago";
        ageless += part;
    }
    ageless
}

/// What is seen of commands in a terminal, with standard error after standard output.
fn session(lines: &[&str]) -> String {
    let folder = folder();
    let shown = lines.iter().map(|line| {
        let (code, stdout, stderr) = run(folder.path(), line);
        let stderr = stderr.lines().map(|line| ["! ", line, "\n"].concat()).collect::<String>();
        format!("$ pinstream {line}\n{}{stderr}=> {code}\n", ageless(&stdout))
    });
    shown.collect::<Vec<_>>().join("\n")
}

#[test]
fn streams_are_listed() {
    insta::assert_snapshot!(session(&[
        "get is -n demo",
        "get is -n demo keycloak",
        "get is -A -o wide",
        "get is -A -l team=web,!internal",
        "get is -n demo keycloak nothing tools none",
        "get is -n demo -o name",
    ]));
}

#[test]
fn tags_are_listed() {
    insta::assert_snapshot!(session(&[
        "get istag -n demo",
        "get istag -n demo -o wide keycloak:20.0 tools:1.36",
        "get istag -A -l team=web -o name",
        "get istag -n demo keycloak:20.0 keycloak:nothing tools:pending keycloak:broken tools:reference",
    ]));
}

#[test]
fn streams_and_tags_are_printed_as_objects() {
    insta::assert_snapshot!(session(&[
        "get is -n demo keycloak -o yaml",
        "get is -n other -o json",
        "get istag -n demo keycloak:20.0 -o yaml",
        "get istag -n other -o json",
    ]));
}

#[test]
fn streams_are_described() {
    insta::assert_snapshot!(session(&["describe is -n demo keycloak", "describe is tools internal -n demo"]));
}

#[test]
fn images_of_tags_are_described() {
    insta::assert_snapshot!(session(&[
        "describe istag keycloak:20.0 -n demo",
        "describe istag tools:latest -n demo",
        "describe istag mirror:1 -n other",
    ]));
}

#[test]
fn what_is_described_for_people_is_printed_for_programs_as_well() {
    let folder = folder();
    for (described, got) in [
        ("describe is keycloak -n demo -o json", "get is keycloak -n demo -o json"),
        ("describe is keycloak -n demo -o yaml", "get is keycloak -n demo -o yaml"),
        ("describe istag keycloak:20.0 -n demo -o yaml", "get istag keycloak:20.0 -n demo -o yaml"),
        ("describe is keycloak tools -n demo -o json", "get is keycloak tools -n demo -o json"),
    ] {
        assert_eq!(run(folder.path(), described), run(folder.path(), got), "{described}");
    }
    let (code, stdout, _) = run(folder.path(), "set image-lookup keycloak --list -n demo -o json");
    assert_eq!(
        (code, serde_json::from_str::<Value>(&stdout).unwrap()),
        (0, json!({"items": [{"name": "keycloak", "local": true}]}))
    );
    assert_eq!(run(folder.path(), "set image-lookup keycloak -n demo -o json").0, 2);
}

#[test]
fn histories_are_told() {
    insta::assert_snapshot!(session(&[
        "history keycloak:20.0 -n demo",
        "history keycloak:20.0 -n demo -o wide",
        "history tools:reference -n demo -o yaml",
        "history keycloak:stable -n demo -o json",
    ]));
}

#[test]
fn where_there_is_nothing_it_is_said() {
    insta::assert_snapshot!(session(&[
        "get is",
        "get is -A -l team=none",
        "get istag",
        "get is -o yaml",
        "describe is nothing",
        "describe is internal",
        "describe istag keycloak:broken -n demo",
        "describe istag tools:pending -n demo",
        "history keycloak:nothing -n demo",
        "history internal:1 -n demo",
        "history nothing:1 -n demo",
    ]));
}

#[test]
fn what_cannot_be_meant_is_refused_with_an_example() {
    insta::assert_snapshot!(session(&[
        "get",
        "get is Keycloak",
        "get is keycloak -A",
        "get is keycloak -l app=web",
        "get is -l a=b=c",
        "get is -o table-of-contents",
        "get istag keycloak",
        "describe is",
        "describe istag keycloak",
        "history keycloak",
        "get is --streams nowhere",
    ]));
}

#[test]
fn help_has_examples() {
    let lines = ["get --help", "get is --help", "get istag --help", "describe --help", "describe is --help"];
    insta::assert_snapshot!(session(&[&lines[..], &["describe istag --help", "history --help"]].concat()));
}

/// Puts a file in the place of another at once, as editors do.
fn replace(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join("new"), text).unwrap();
    fs::rename(folder.join("new"), folder.join("streams").join(name)).unwrap();
}

/// A command that goes on, whose lines are read as they come. Dropping it kills it.
struct Watching {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watching {
    fn start(folder: &Path, line: &str) -> Self {
        let mut child = command(folder, line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        ageless(&self.lines.next().unwrap().unwrap())
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn changes_are_watched_until_ctrl_c() {
    let folder = folder();
    let mut watching = Watching::start(folder.path(), "get is -n demo -w");
    let header = watching.line();
    let first: Vec<_> = (0..3).map(|_| watching.line().split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(first, ["internal", "keycloak", "tools"]);

    replace(folder.path(), "later.yaml", EMPTY);
    assert_eq!(watching.line(), "later");
    let changed = STREAMS.replacen("\"20.0\"\n", "\"20.1\"\n", 2);
    replace(folder.path(), "all.yaml", &changed);
    let line = watching.line();
    assert!(line.starts_with("keycloak") && line.contains("20.1"), "{line}");
    assert_eq!(line.find("NN years"), header.find("UPDATED"), "{header}\n{line}");

    fs::remove_file(folder.path().join("streams/later.yaml")).unwrap();
    let mut told = BufReader::new(watching.child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(told.any(|line| line == "imagestream.pinstream.dev/later is gone"));
    let pid = rustix::process::Pid::from_child(&watching.child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(watching.child.wait().unwrap().code(), Some(0));
}

#[test]
fn list_that_is_empty_at_first_has_its_header_before_the_first_line() {
    let folder = folder();
    let mut watching = Watching::start(folder.path(), "get is -n new -w");
    let mut told = BufReader::new(watching.child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(told.next().unwrap(), "there are no image streams in namespace new; -A shows those of all");
    replace(folder.path(), "later.yaml", &EMPTY.replace("demo", "new"));
    assert_eq!([watching.line(), watching.line()], ["NAME    IMAGE REPOSITORY   TAGS   UPDATED", "later"]);
}

#[test]
fn watched_objects_follow_each_other() {
    let folder = folder();
    let mut watching = Watching::start(folder.path(), "get istag tools:1.36 -n demo -o yaml -w");
    while watching.line() != "    type: Source" {}
    let changed = STREAMS.replace(&"2".repeat(64), &"4".repeat(64));
    replace(folder.path(), "all.yaml", &changed);
    assert_eq!([watching.line(), watching.line()], ["---", "apiVersion: pinstream.dev/v1"]);
    while !watching.line().contains(&"4".repeat(64)) {}
}

#[test]
fn nothing_is_written_where_streams_are_read() {
    let folder = folder();
    let private = folder.path().join("streams/.pinstream");
    fs::remove_dir_all(&private).unwrap();
    for line in ["get is -n demo", "get istag -n demo", "describe is keycloak -n demo", "history keycloak:20.0 -n demo"]
    {
        assert_eq!(run(folder.path(), line).0, 0, "{line}");
    }
    assert!(!private.exists());
}

#[test]
fn reader_that_stopped_is_no_failure() {
    let folder = folder();
    for line in ["get is -n demo", "get is -n demo -w", "describe is keycloak -n demo", "history keycloak:20.0 -n demo"]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command(folder.path(), line).stdout(writer).output().unwrap();
        assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()), "{line}");
    }
}
