//! Commands that write image streams, whole, over a directory: what they print, exit with, and leave in the files.

use std::fs;

use assert_cmd::Command;
use tempfile::TempDir;

/// A stream with a tag that has a history, one on a schedule, one that follows, and one that only was pushed.
const KEYCLOAK: &str = r#"# Ours.
apiVersion: pinstream.dev/v1
kind: ImageStream
metadata:
  name: keycloak
  labels: {app: login}
spec:
  tags:
  - name: "20.0"
    from: {kind: DockerImage, name: "quay.io/keycloak/keycloak:20.0"}
  - name: nightly
    from: {kind: DockerImage, name: "quay.io/keycloak/keycloak:nightly"}
    importPolicy: {scheduled: true}
  - name: stable
    from: {kind: ImageStreamTag, name: "20.0"}
status:
  tags:
  - tag: "20.0"
    items:
    - created: "2020-01-03T00:00:00Z"
      dockerImageReference: quay.io/keycloak/keycloak@sha256:3333333333333333333333333333333333333333333333333333333333333333
      image: sha256:3333333333333333333333333333333333333333333333333333333333333333
      generation: 1
    - created: "2020-01-02T00:00:00Z"
      dockerImageReference: quay.io/keycloak/keycloak@sha256:2222222222222222222222222222222222222222222222222222222222222222
      image: sha256:2222222222222222222222222222222222222222222222222222222222222222
      generation: 1
  - tag: nightly
    items:
    - created: "2020-01-03T00:00:00Z"
      dockerImageReference: quay.io/keycloak/keycloak@sha256:5555555555555555555555555555555555555555555555555555555555555555
      image: sha256:5555555555555555555555555555555555555555555555555555555555555555
      generation: 1
    - created: "2020-01-02T00:00:00Z"
      dockerImageReference: quay.io/keycloak/keycloak@sha256:4444444444444444444444444444444444444444444444444444444444444444
      image: sha256:4444444444444444444444444444444444444444444444444444444444444444
      generation: 1
  - tag: stable
    items:
    - created: "2020-01-03T00:00:00Z"
      dockerImageReference: quay.io/keycloak/keycloak@sha256:3333333333333333333333333333333333333333333333333333333333333333
      image: sha256:3333333333333333333333333333333333333333333333333333333333333333
      generation: 1
"#;

/// A directory of streams, and what was said to it.
struct Session {
    folder: TempDir,
    transcript: String,
}

impl Session {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("streams")).unwrap();
        fs::write(folder.path().join("streams/keycloak.yaml"), KEYCLOAK).unwrap();
        Self { folder, transcript: String::new() }
    }

    /// Runs a command over the directory, and writes down what it said.
    fn run(&mut self, arguments: &str) -> &mut Self {
        let output = Command::new(env!("CARGO_BIN_EXE_pinstream"))
            .args(arguments.split(' '))
            .env_clear()
            .env("PINSTREAM_STREAMS", "streams")
            .current_dir(self.folder.path())
            .output()
            .unwrap();
        self.transcript.extend(["$ pinstream ", arguments, "\n"]);
        self.transcript += &String::from_utf8(output.stdout).unwrap();
        for line in String::from_utf8(output.stderr).unwrap().lines() {
            self.transcript.extend([format!("! {line}").trim_end(), "\n"]);
        }
        let code = output.status.code().unwrap();
        if code != 0 {
            self.transcript.extend(["[exit ", &code.to_string(), "]\n"]);
        }
        self
    }

    /// Writes down a file, without the times of now.
    fn show(&mut self, file: &str) -> &mut Self {
        let text = fs::read_to_string(self.folder.path().join("streams").join(file)).unwrap();
        self.transcript.extend(["$ cat ", file, "\n"]);
        for line in text.lines() {
            let time = ["created: ", "creationTimestamp: ", "lastTransitionTime: "].iter().find_map(|field| {
                let at = line.find(field)? + field.len();
                Some(at).filter(|_| !line[at..].contains("2020-"))
            });
            self.transcript += time.map_or(line, |at| &line[..at]);
            self.transcript += if time.is_some() { "NOW\n" } else { "\n" };
        }
        self
    }

    fn text(&self) -> &str {
        &self.transcript
    }
}

#[test]
fn create_istag_makes_tags_that_are_not_there() {
    let mut session = Session::new();
    session
        .run("create istag keycloak:21.0 --from-image quay.io/keycloak/keycloak:21.0 --scheduled --wait=false")
        .run("create istag web:1 --from-image quay.io/demo/web:1 --reference --annotation description=ours")
        .run("create istag web:latest --from :1 --reference-policy LOCAL")
        .run("create istag web:pinned --from keycloak@2222 --dry-run")
        .run("create istag web:pushed")
        .show("default/web.yaml")
        .run("create istag keycloak:20.0 --from-image quay.io/keycloak/keycloak:20.0")
        .run("create istag web:2 --from keycloak:none")
        .run("create istag web:2 --from nosuch:1")
        .run("create istag web:2 --from keycloak:20.0 --scheduled")
        .run("create istag web:2 --from-image a --from b:1")
        .run("create istag web --from-image quay.io/demo/web:1");
    insta::assert_snapshot!(session.text());
}

#[test]
fn tag_sets_tags_to_every_form_of_source() {
    let mut session = Session::new();
    session
        .run("tag quay.io/keycloak/keycloak:20.0.3 keycloak:20.0 --wait=false")
        .run("tag quay.io/keycloak/keycloak:20.0 keycloak:20.0 --scheduled --wait=false")
        .run("tag keycloak:stable keycloak:prod other/keycloak:prod")
        .run("tag keycloak:stable keycloak:latest --alias")
        .run("tag keycloak@sha256:2222222222222222222222222222222222222222222222222222222222222222 keycloak:old")
        .run("tag keycloak@2222 keycloak:old")
        .run("tag busybox keycloak:box --reference")
        .run("tag keycloak:box keycloak:copy --wait=false")
        .run("tag quay.io/demo/web:1 web:1 --dry-run")
        .run("tag -d keycloak:prod keycloak:nightly")
        .show("keycloak.yaml")
        .show("other/keycloak.yaml");
    insta::assert_snapshot!(session.text());
}

#[test]
fn tag_says_what_is_wrong_and_what_is_not_there() {
    let mut session = Session::new();
    session
        .run("tag keycloak:20.0")
        .run("tag keycloak:20.0 keycloak:bad#tag")
        .run("tag keycloak:20.0 keycloak")
        .run("tag nosuch:1 keycloak:x")
        .run("tag keycloak:none keycloak:x")
        .run("tag keycloak@ff keycloak:x")
        .run("tag keycloak:20.0 keycloak:x --scheduled")
        .run("tag quay.io/keycloak/keycloak:1 keycloak:x --alias")
        .run("tag keycloak:20.0 other:x --alias")
        .run("tag quay.io/keycloak/keycloak:1 keycloak:x --source=istag")
        .run("tag quay.io/keycloak/keycloak:1 keycloak:x --reference-policy=remote")
        .run("tag quay.io/keycloak/keycloak:1 ../keycloak:x")
        .run("tag quay.io/keycloak/keycloak:1 keycloak:x -n ..")
        .run("tag -d keycloak:none")
        .run("tag -d nosuch:1")
        .run("tag -d keycloak:20.0 --scheduled");
    insta::assert_snapshot!(session.text());
}

#[test]
fn import_image_asks_again_or_anew() {
    let mut session = Session::new();
    session
        .run("import-image keycloak:stable --wait=false")
        .run("import-image keycloak --all --dry-run=server")
        .run("import-image keycloak:21.0 --from quay.io/keycloak/keycloak:21.0 --insecure --scheduled --wait=false")
        .run("import-image web:1 --from quay.io/demo/web:1 --confirm --import-mode=legacy --wait=false")
        .show("default/web.yaml")
        .run("import-image nosuch")
        .run("import-image keycloak")
        .run("import-image keycloak:20.0 --from quay.io/demo/web:1")
        .run("import-image keycloak:20.0 --all")
        .run("import-image keycloak@sha256:2222222222222222222222222222222222222222222222222222222222222222")
        .run("tag keycloak@2222 keycloak:fixed")
        .run("import-image keycloak:fixed");
    insta::assert_snapshot!(session.text());
}

#[test]
fn registries_that_may_not_be_asked_are_refused_and_failures_are_told() {
    let mut session = Session::new();
    session
        .run("tag 127.0.0.1:1/demo/web:1 web:1 --registry-block 127.0.0.1:*")
        .run("create istag web:1 --from-image 127.0.0.1:1/demo/web:1 --registry-allow quay.io");
    insta::assert_snapshot!(session.text());
}

#[test]
fn delete_takes_what_is_there_and_names_the_rest() {
    let mut session = Session::new();
    session
        .run("delete istag keycloak:nightly --dry-run")
        .run("delete istag keycloak:nightly keycloak:none nosuch:1 keycloak:20.0")
        .show("keycloak.yaml")
        .run("delete is keycloak --dry-run=server")
        .run("delete is nosuch keycloak")
        .run("delete is keycloak")
        .run("delete is Bad_Name")
        .run("delete istag keycloak");
    insta::assert_snapshot!(session.text());
}

#[test]
fn image_lookup_is_set_and_listed() {
    let mut session = Session::new();
    session
        .run("set image-lookup")
        .run("set image-lookup keycloak")
        .run("set image-lookup keycloak")
        .run("create is web")
        .run("set image-lookup --list")
        .run("set image-lookup keycloak --enabled=false --dry-run")
        .run("set image-lookup -l app=login --enabled=false")
        .run("set image-lookup --all")
        .run("set image-lookup web --list")
        .run("set image-lookup -l app=none")
        .run("set image-lookup -n empty")
        .run("set image-lookup nosuch")
        .run("set image-lookup deploy/web")
        .run("set image-lookup secret/web")
        .run("set image-lookup -l =x");
    insta::assert_snapshot!(session.text());
}

#[test]
fn rollback_goes_back_and_forth() {
    let mut session = Session::new();
    session
        .run("rollback keycloak:20.0 --dry-run")
        .run("rollback keycloak:20.0")
        .run("rollback keycloak:20.0")
        .run("rollback keycloak:nightly")
        .run("rollback keycloak:nightly --to 5555 --hold")
        .run("rollback keycloak:stable --to 2")
        .show("keycloak.yaml");
    insta::assert_snapshot!(session.text());
}

#[test]
fn rollback_refuses_where_there_is_no_way_back() {
    let mut session = Session::new();
    session
        .run("tag keycloak@2222 keycloak:new")
        .run("rollback keycloak:new")
        .run("rollback keycloak:none")
        .run("rollback nosuch:1")
        .run("rollback keycloak:20.0 --to 7")
        .run("rollback keycloak:20.0 --to 1")
        .run("rollback keycloak:20.0 --to 4444")
        .run("rollback keycloak:20.0 --to yesterday");
    insta::assert_snapshot!(session.text());
}
