//! Whole commands: what they print, and what they exit with.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use assert_cmd::Command;
use serde_json::json;

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
    let help = ["--help", "serve --help", "certs --help"].map(|arguments| {
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
        (
            with(&[]).iter().map(|argument| argument.replace("127.0.0.1:0", &taken)).collect(),
            "choose another address with --listen (port 0 is any free one): Address already in use",
        ),
        (
            with(&[])
                .iter()
                .map(|argument| if argument == "streams" { "gone".to_owned() } else { argument.clone() })
                .collect(),
            "pinstream: the streams cannot be read: gone: the directory cannot be read: No such file",
        ),
    ];
    for (arguments, expected) in cases {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let (code, stdout, stderr) = pinstream_in(folder.path(), &arguments);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{arguments:?}: {stderr}");
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
    }
}

#[test]
fn log_has_one_line_for_a_changed_object_and_no_bodies() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("app.json"), stream("app", &[("1", &image('a')), ("2", &image('b'))]).to_string())
        .unwrap();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_pinstream"))
        .args(["serve", "--streams", ".", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .args(["--log-format", "json"])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut line_of = |message: &str| loop {
        let line: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        if line["message"] == message {
            return line;
        }
    };
    let serving = line_of("serving");
    let mut review = pod_review(&["app:1", "app:2", "other"]);
    review["request"]["object"]["spec"]["containers"][0]["env"] = json!([{"name": "PASSWORD", "value": "hunter2"}]);
    let ca = fs::read(folder.path().join("certs/dev/ca.crt")).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([reqwest::Certificate::from_pem(&ca).unwrap()]).no_proxy();
    let url = format!("https://{}/mutate", serving["webhook"].as_str().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { client.build().unwrap().post(url).json(&review).send().await.unwrap() });

    let line = line_of("images pinned");
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
    let mut stdout = String::new();
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    assert_eq!((child.wait().unwrap().code(), stdout.as_str()), (Some(0), ""));
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
