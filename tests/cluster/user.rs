//! Somebody who uses a cluster: with kubectl, with helm, or by asking the API server directly.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::blocking::Client;
use reqwest::{Certificate, Identity, Method};
use serde_json::{Value, json};

use crate::certificates::Pair;
use crate::tools::Tools;

/// How a user proves who it is.
pub enum Credentials<'a> {
    Certificate(&'a Pair),
    Token(&'a str),
    /// A token in a file, which others renew.
    TokenFile(&'a Path),
}

/// Where a cluster is, and what its users work with.
#[derive(Clone)]
pub struct Access {
    pub tools: Tools,
    pub server: String,
    pub ca: PathBuf,
    /// Where kubeconfigs are written, and the home of kubectl and helm.
    pub folder: PathBuf,
}

/// A user of a cluster, in a namespace.
#[derive(Clone)]
pub struct User {
    access: Access,
    kubeconfig: PathBuf,
    client: Client,
    token: Option<String>,
}

/// What a command came to.
#[derive(Debug)]
pub struct Output {
    command: String,
    pub is_success: bool,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// What a command that succeeded printed.
    pub fn ok(self) -> String {
        assert!(self.is_success, "{} failed:\n{}{}", self.command, self.stderr, self.stdout);
        self.stdout
    }

    /// What a command that was refused complained.
    pub fn refused(self) -> String {
        assert!(!self.is_success, "{} succeeded:\n{}{}", self.command, self.stderr, self.stdout);
        self.stderr
    }
}

/// What the API server answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

impl Answer {
    /// The object of an answer that is a success.
    pub fn ok(self) -> Value {
        assert!((200..300).contains(&self.status), "{}: {}", self.status, self.body);
        self.body
    }
}

impl User {
    /// A user called `name` whose commands are about `namespace` unless they say another.
    pub fn new(access: &Access, name: &str, credentials: &Credentials, namespace: &str) -> Self {
        let read = |path: &Path| fs::read(path).unwrap();
        let roots = [Certificate::from_pem(&read(&access.ca)).unwrap()];
        let builder = Client::builder().tls_certs_only(roots).no_proxy();
        let (user, builder, token) = match credentials {
            Credentials::Certificate(pair) => {
                let (certificate, key) = (read(&pair.certificate), read(&pair.key));
                let user = json!({"client-certificate-data": STANDARD.encode(&certificate),
                    "client-key-data": STANDARD.encode(&key)});
                let identity = Identity::from_pem(&[key, certificate].concat()).unwrap();
                (user, builder.identity(identity), None)
            }
            Credentials::TokenFile(path) => (json!({"tokenFile": path}), builder, None),
            Credentials::Token(token) => (json!({"token": token}), builder, Some((*token).to_owned())),
        };
        let ca = STANDARD.encode(read(&access.ca));
        let kubeconfig = access.folder.join(format!("{name}.kubeconfig"));
        let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": access.server, "certificate-authority-data": ca}}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": name, "namespace": namespace}}]});
        fs::write(&kubeconfig, config.to_string()).unwrap();
        Self { access: access.clone(), kubeconfig, client: builder.build().unwrap(), token }
    }

    /// The same user, whose commands are about another namespace.
    pub fn at_home_in(&self, namespace: &str) -> Self {
        let mut config: Value = serde_json::from_slice(&fs::read(&self.kubeconfig).unwrap()).unwrap();
        config["contexts"][0]["context"]["namespace"] = namespace.into();
        let name = self.kubeconfig.file_stem().unwrap().to_str().unwrap();
        let kubeconfig = self.access.folder.join(format!("{name}@{namespace}.kubeconfig"));
        fs::write(&kubeconfig, config.to_string()).unwrap();
        Self { kubeconfig, ..self.clone() }
    }

    /// Where the API server is, `https://HOST:PORT`.
    pub fn server(&self) -> &str {
        &self.access.server
    }

    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    pub fn kubectl(&self, arguments: &[&str]) -> Output {
        self.run("kubectl", arguments, None)
    }

    pub fn kubectl_with_stdin(&self, arguments: &[&str], stdin: &str) -> Output {
        self.run("kubectl", arguments, Some(stdin))
    }

    pub fn helm(&self, arguments: &[&str]) -> Output {
        self.run("helm", arguments, None)
    }

    /// The object that kubectl gets by these words, such as `["deployment", "web"]`.
    pub fn get(&self, words: &[&str]) -> Value {
        let output = self.kubectl(&[&["get", "--output=json"], words].concat());
        serde_json::from_str(&output.ok()).unwrap()
    }

    /// Asks the API server, without kubectl's time to start.
    pub fn ask(&self, method: &Method, path: &str, body: Option<&Value>) -> Result<Answer, reqwest::Error> {
        let mut request = self.client.request(method.clone(), format!("{}{path}", self.access.server));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            let form = if *method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
            request = request.header("Content-Type", form).body(body.to_string());
        }
        let answer = request.send()?;
        let status = answer.status().as_u16();
        let text = answer.text()?;
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok(Answer { status, body })
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask(&Method::POST, path, Some(body)).unwrap()
    }

    fn run(&self, program: &str, arguments: &[&str], stdin: Option<&str>) -> Output {
        let mut child = Command::new(self.access.tools.path(program))
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.access.folder)
            .env("KUBECONFIG", &self.kubeconfig)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        if let (Some(mut pipe), Some(text)) = (child.stdin.take(), stdin) {
            pipe.write_all(text.as_bytes()).unwrap();
        }
        let output = child.wait_with_output().unwrap();
        Output {
            command: format!("{program} {}", arguments.join(" ")),
            is_success: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
