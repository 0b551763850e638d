//! Whole commands: what they print, and what they exit with.

use std::fs;
use std::io::{BufRead as _, BufReader, Lines, Read as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, ChildStderr, Stdio};

use assert_cmd::Command;
use serde_json::{Value, json};

use crate::support::{Server, image, pod_review, stream};

fn pinstream(arguments: &[&str]) -> (Option<i32>, String, String) {
    pinstream_in(std::env::temp_dir().as_path(), arguments)
}

fn pinstream_in(folder: &std::path::Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_pinstream")).args(arguments).env_clear().current_dir(folder).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn help_teaches() {
    let commands = [
        "--help",
        "serve --help",
        "webhook --help",
        "registry --help",
        "certs --help",
        "crd --help",
        "resolve --help",
        "explain --help",
        "audit --help",
        "completion --help",
        "man --help",
        "version --help",
        "create istag --help",
        "tag --help",
        "import-image --help",
        "delete istag --help",
        "set image-lookup --help",
        "rollback --help",
    ];
    let help = commands.map(|arguments| {
        let arguments: Vec<_> = arguments.split(' ').collect();
        let (code, stdout, _) = pinstream(&arguments);
        assert_eq!(code, Some(0));
        format!("$ pinstream {}\n{stdout}", arguments.join(" "))
    });
    insta::assert_snapshot!(help.join("\n"));
}

#[test]
fn wrong_arguments_and_broken_surroundings_are_failures_with_a_next_step() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("streams")).unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let serve = ["serve", "--streams", "streams", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let with = |more: &[&str]| [&serve[..], more].concat().iter().map(ToString::to_string).collect::<Vec<_>>();
    let cases = [
        (with(&["--kind", "Rollout"]), "is no built-in kind that can be switched on"),
        (with(&["--tls-cert", "a"]), "--tls-key <FILE>"),
        (with(&["--idle-timeout", "0s"]), "it may not be zero"),
        (with(&["--registry-host", "https://r.io"]), "write a host with a dot, a port or localhost"),
        (with(&["--tls-cert", "a", "--tls-key", "b"]), "pinstream: a cannot be read: No such file"),
        (with(&["--log", "a=b=c"]), "--log \"a=b=c\" is no filter"),
        (vec!["serve".to_owned()], "--streams <DIR>"),
        (vec!["webhook".to_owned()], "no certificate to serve: give one with --tls-cert FILE and --tls-key FILE"),
        (
            vec!["registry".to_owned()],
            "--tls-cert FILE and --tls-key FILE (pinstream certs makes one), or serve plain HTTP",
        ),
        (vec!["webhook".to_owned(), "--source".to_owned(), "here".to_owned()], "or a directory with a slash: ./here"),
        (
            with(&[]).iter().map(|argument| argument.replace("127.0.0.1:0", &taken)).collect(),
            "choose another address with --listen (port 0 is any free one): Address already in use",
        ),
        (
            with(&[])
                .iter()
                .map(|argument| if argument == "streams" { "gone".to_owned() } else { argument.clone() })
                .collect(),
            "pinstream: the streams cannot be read: gone: the directory cannot be read: No such file or directory (os error 2); make it",
        ),
    ];
    for (arguments, expected) in cases {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let (code, stdout, stderr) = pinstream_in(folder.path(), &arguments);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{arguments:?}: {stderr}");
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
    }
}

/// A server that logs JSON.
struct Logged {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
    /// What was read of them, but for what was asked for.
    passed: Vec<Value>,
}

impl Logged {
    /// Starts it on free ports, where no cluster is known, and gives back the line that says where it serves.
    fn start(folder: &Path, arguments: &[&str]) -> (Self, Value) {
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_pinstream"))
            .args(arguments)
            .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .current_dir(folder)
            .env("HOME", folder)
            .env_remove("KUBECONFIG")
            .env_remove("KUBERNETES_SERVICE_HOST")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut process = Self { child, lines, passed: Vec::new() };
        let serving = process.line("serving");
        (process, serving)
    }

    /// Waits for the line with that message.
    fn line(&mut self, message: &str) -> Value {
        loop {
            let line: Value = serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap();
            if line["message"] == message {
                return line;
            }
            self.passed.push(line);
        }
    }

    /// The line with that message, which may have been there before another that was asked for.
    fn line_whenever(&mut self, message: &str) -> Value {
        let passed = self.passed.iter().position(|line| line["message"] == message);
        match passed {
            Some(place) => self.passed.remove(place),
            None => self.line(message),
        }
    }

    /// Ends it as Ctrl-C does; gives back its exit code and standard output.
    fn end(mut self) -> (Option<i32>, String) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let mut stdout = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        (self.child.wait().unwrap().code(), stdout)
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks a server whose certificate is in `ca` for its answer to a review: status and text.
fn ask(ca: &Path, address: &Value, review: &Value) -> (u16, String) {
    ask_at("/mutate", ca, address, review)
}

fn ask_at(path: &str, ca: &Path, address: &Value, review: &Value) -> (u16, String) {
    let ca = reqwest::Certificate::from_pem(&fs::read(ca).unwrap()).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([ca]).no_proxy().build().unwrap();
    let url = format!("https://{}{path}", address.as_str().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let answer = client.post(url).json(review).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    })
}

#[test]
fn webhook_serves_a_directory_too() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(pinstream_in(folder.path(), &["certs", "--out", "certs"]).0, Some(0));
    fs::create_dir(folder.path().join("streams")).unwrap();
    fs::write(folder.path().join("streams/app.json"), stream("app", &[("1", &image('a'))]).to_string()).unwrap();
    let certificate = ["--tls-cert", "certs/tls.crt", "--tls-key", "certs/tls.key", "--log-format", "json"];
    let (process, serving) =
        Logged::start(folder.path(), &[&["webhook", "--source", "./streams"][..], &certificate].concat());
    let (status, text) = ask(&folder.path().join("certs/ca.crt"), &serving["webhook"], &pod_review(&["app:1"]));
    assert!(status == 200 && text.contains("JSONPatch"), "{status} {text}");
    assert_eq!(process.end(), (Some(0), String::new()));
}

/// Writes a kubeconfig of an API server that is not there.
fn write_kubeconfig(folder: &Path) {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let kubeconfig = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": format!("http://{closed}")}}],
        "users": [{"name": "c", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}]});
    fs::write(folder.join("kubeconfig"), kubeconfig.to_string()).unwrap();
}

#[test]
fn levels_are_those_of_flags_where_a_directory_is_served_and_no_cluster_answers() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(pinstream_in(folder.path(), &["certs", "--out", "certs"]).0, Some(0));
    fs::create_dir(folder.path().join("streams")).unwrap();
    write_kubeconfig(folder.path());
    let arguments = ["webhook", "--source", "./streams", "--tls-cert", "certs/tls.crt", "--tls-key", "certs/tls.key"];
    let policy = ["--log-format", "json", "--policy", "enforce", "--policy-events"];
    let absent = ["--kubeconfig", "kubeconfig", "--policy-ignore-labels"];
    for cluster in [&absent[..0], &absent[..2], &absent] {
        let (process, serving) = Logged::start(folder.path(), &[&arguments[..], &policy, cluster].concat());
        let ca = folder.path().join("certs/ca.crt");
        let (status, text) = ask_at("/validate", &ca, &serving["webhook"], &pod_review(&["app:1"]));
        assert!(status == 200 && text.contains("not pinned by digest"), "{status} {text}");
        assert_eq!(process.end().0, Some(0));
    }
}

#[test]
fn webhook_without_an_api_server_waits_for_it_and_answers_nothing() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(pinstream_in(folder.path(), &["certs", "--out", "certs"]).0, Some(0));
    write_kubeconfig(folder.path());
    let certificate = ["--tls-cert", "certs/tls.crt", "--tls-key", "certs/tls.key", "--log-format", "json"];
    let (mut process, serving) =
        Logged::start(folder.path(), &[&["webhook", "--kubeconfig", "kubeconfig"][..], &certificate].concat());
    let line = process.line_whenever("image streams cannot be read, not ready before they can");
    let error = line["error"].as_str().unwrap();
    assert!(error.starts_with("the API server cannot be reached: ") && error.contains("refused"), "{error}");
    let (status, text) = ask(&folder.path().join("certs/ca.crt"), &serving["webhook"], &pod_review(&["app:1"]));
    assert_eq!((status, text.as_str()), (503, "the image streams are not loaded yet; try again later\n"));
    assert_eq!(process.end(), (Some(0), String::new()));
}

#[test]
fn log_has_one_line_for_a_changed_object_and_no_bodies() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("app.json"), stream("app", &[("1", &image('a')), ("2", &image('b'))]).to_string())
        .unwrap();
    let (mut process, serving) = Logged::start(folder.path(), &["serve", "--streams", ".", "--log-format", "json"]);
    let mut review = pod_review(&["app:1", "app:2", "other"]);
    review["request"]["object"]["spec"]["containers"][0]["env"] = json!([{"name": "PASSWORD", "value": "hunter2"}]);
    ask(&folder.path().join("certs/dev/ca.crt"), &serving["webhook"], &review);

    let line = process.line("images pinned");
    assert_eq!(process.end(), (Some(0), String::new()));
    assert_eq!((&line["level"], &line["name"], &line["namespace"]), (&json!("INFO"), &json!("p"), &json!("demo")));
    let changes = format!("containers/0: app:1 -> {}, containers/1: app:2 -> {}", image('a'), image('b'));
    assert_eq!(line["changes"], changes);
    assert!(!line.to_string().contains("hunter2"));
}

#[test]
fn certificates_are_made_for_any_names_and_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let make = |more: &[&str]| {
        pinstream_in(folder.path(), &[&["certs", "--out", "web", "a.example", "10.0.0.7"], more].concat())
    };
    let (code, stdout, stderr) = make(&["--days", "30"]);
    assert_eq!((code, stdout.as_str()), (Some(0), "web/ca.crt\nweb/tls.crt\nweb/tls.key\n"), "{stderr}");
    assert!(stderr.starts_with("A certificate for a.example, 10.0.0.7, good until "), "{stderr}");
    let mode = fs::metadata(folder.path().join("web/tls.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let key = fs::read(folder.path().join("web/tls.key")).unwrap();
    let (code, _, stderr) = make(&[]);
    assert_eq!((code, stderr.as_str()), (Some(2), "pinstream: web/ca.crt is there already; --force overwrites it\n"));
    assert_eq!(fs::read(folder.path().join("web/tls.key")).unwrap(), key);
    assert_eq!(make(&["--force"]).0, Some(0));
    assert_ne!(fs::read(folder.path().join("web/tls.key")).unwrap(), key);
}

#[test]
fn start_says_where_it_serves_and_keeps_its_certificate() {
    let mut keys = Vec::new();
    let kept = tempfile::tempdir().unwrap();
    let certs = kept.path().join("dev");
    for _ in 0..2 {
        let server = Server::start(&["--certs-dir", certs.to_str().unwrap()], |_| ());
        assert!(
            server.greeting.contains("Pinstream serves the image streams of streams (0 now).\n"),
            "{}",
            server.greeting
        );
        assert!(server.greeting.contains(&format!("https://{}/mutate", server.webhook)));
        keys.push(fs::read(certs.join("tls.key")).unwrap());
    }
    assert_eq!(keys[0], keys[1]);
}
