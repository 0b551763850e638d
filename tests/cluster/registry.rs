//! A real registry on a free loopback port, open or with TLS, passwords or tokens, and tiny images to push into it.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use reqwest::blocking::{Client, RequestBuilder};
use reqwest::{Certificate, Method, StatusCode};
use serde_json::{Value, json};

use crate::certificates::Authority;
use crate::control_plane::ControlPlane;
use crate::process::{Process, free_ports};
use crate::waiting::eventually;

/// The user that registries with credentials know.
pub const USER: &str = "puller";
/// Its password.
pub const PASSWORD: &str = "pull-secret";
/// The same as `htpasswd -B` writes it.
const HASH: &str = "$2b$05$AXol5uJ3sUN/05Zc4teqmeKOGQGHE4g.Gjg2RpmeDUeUswkrKJW12";

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// What a registry asks of those who come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Nothing, over plain HTTP.
    Open,
    /// Trust in a private CA.
    Tls,
    /// User and password.
    Password,
    /// A token from a token server, which asks for user and password.
    Token,
}

/// A running registry. Dropping it ends it.
pub struct Registry {
    /// `127.0.0.1:PORT`.
    pub host: String,
    /// The CA to trust, if it has TLS.
    pub ca: Option<PathBuf>,
    /// What it asks of those who come.
    pub guard: Guard,
    start: Box<dyn Fn() -> Process + Send + Sync>,
    process: Mutex<Option<Process>>,
    client: Client,
    tokens: Option<Arc<TokenServer>>,
}

impl Registry {
    /// Starts one with nothing in it.
    pub fn start(plane: &ControlPlane, guard: Guard) -> Self {
        let folder = plane.folder("registry");
        let [port] = free_ports();
        let authority = (guard == Guard::Tls).then(|| Authority::new(&folder, "registry-ca"));
        let tokens = (guard == Guard::Token).then(TokenServer::start);
        let mut http = json!({"addr": format!("127.0.0.1:{port}")});
        if let Some(authority) = &authority {
            let pair = authority.sign("registry", None, &["127.0.0.1", "localhost", "quay.io"]);
            http["tls"] = json!({"certificate": pair.certificate, "key": pair.key});
        }
        let mut config = json!({"version": 0.1, "log": {"level": "warn"}, "http": http,
            "storage": {"filesystem": {"rootdirectory": folder.join("content")}, "delete": {"enabled": true}}});
        if guard == Guard::Password {
            let file = folder.join("htpasswd");
            fs::write(&file, format!("{USER}:{HASH}\n")).unwrap();
            config["auth"] = json!({"htpasswd": {"realm": "registry", "path": file}});
        }
        if let Some(tokens) = &tokens {
            let keys = folder.join("jwks.json");
            fs::write(&keys, tokens.public_keys().to_string()).unwrap();
            let realm = format!("http://127.0.0.1:{}/token", tokens.port);
            config["auth"] = json!({"token": {"realm": realm, "service": "registry", "issuer": "test", "jwks": keys}});
        }
        let (file, log) = (folder.join("config.yml"), folder.join("log"));
        fs::write(&file, config.to_string()).unwrap();
        let program = plane.tool("registry");
        let arguments = vec!["serve".to_owned(), file.display().to_string()];
        let start = move || Process::start(&program, &arguments, &[("OTEL_TRACES_EXPORTER", "none")], &folder, &log);
        let mut client = Client::builder().no_proxy();
        if let Some(authority) = &authority {
            let ca = Certificate::from_pem(&fs::read(&authority.file).unwrap()).unwrap();
            client = client.tls_certs_only([ca]);
        }
        let registry = Self {
            host: format!("127.0.0.1:{port}"),
            ca: authority.map(|authority| authority.file),
            guard,
            start: Box::new(start),
            process: Mutex::new(None),
            client: client.build().unwrap(),
            tokens,
        };
        registry.start_again();
        registry
    }

    /// A tag of a stream that comes from `REPOSITORY:TAG` here.
    pub fn spec_tag(&self, name: &str, image: &str) -> Value {
        json!({"name": name, "from": {"kind": "DockerImage", "name": format!("{}/{image}", self.host)},
            "importPolicy": {"insecure": self.guard != Guard::Tls}})
    }

    /// Ends it, as an outage would; what is in it stays.
    pub fn stop(&self) {
        drop(self.process.lock().unwrap().take());
    }

    /// Starts it again at the same address.
    pub fn start_again(&self) {
        *self.process.lock().unwrap() = Some((self.start)());
        let is_up = || self.client.get(self.url("")).send().is_ok();
        eventually("the registry answers", is_up);
    }

    /// Pushes an image and tags it. Gives its digest.
    pub fn push(&self, repository: &str, tag: &str, content: &Content) -> String {
        let digest = self.push_content(repository, content, Some(tag));
        let path = format!("{repository}/manifests/{tag}");
        assert_eq!(self.send(Method::HEAD, &path, repository, |request| request).0, StatusCode::OK);
        digest
    }

    /// Pushes an image of these layers. Gives its digest.
    pub fn push_layers(&self, repository: &str, layers: &[Vec<u8>]) -> String {
        self.put_blob(repository, b"{}");
        for layer in layers {
            self.put_blob(repository, layer);
        }
        let part = |bytes: &[u8]| json!({"digest": digest(bytes), "size": bytes.len()});
        let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": part(b"{}"),
            "layers": layers.iter().map(|layer| part(layer)).collect::<Vec<_>>()});
        self.put_manifest(repository, &manifest.to_string(), OCI_MANIFEST, None)
    }

    /// How often a blob was asked for, by its log.
    pub fn transfers(&self, repository: &str, digest: &str) -> usize {
        let log = self.process.lock().unwrap().as_ref().map(Process::log).unwrap_or_default();
        let asked = format!("\"GET /v2/{repository}/blobs/{digest} ");
        log.lines().filter(|line| line.contains(&asked)).count()
    }

    /// Takes a manifest away.
    pub fn delete(&self, repository: &str, digest: &str) {
        let path = format!("{repository}/manifests/{digest}");
        assert_eq!(self.send(Method::DELETE, &path, repository, |request| request).0, StatusCode::ACCEPTED);
    }

    fn push_content(&self, repository: &str, content: &Content, tag: Option<&str>) -> String {
        let (manifest, media_type) = match content {
            Content::Image { seed, docker } => (self.push_image(repository, seed, *docker), media_type(*docker, false)),
            Content::Index { images, docker } => {
                let children: Vec<_> = images
                    .iter()
                    .map(|(system, architecture, seed)| {
                        let manifest = self.push_image(repository, seed, *docker);
                        let digest = self.put_manifest(repository, &manifest, media_type(*docker, false), None);
                        json!({"mediaType": media_type(*docker, false), "digest": digest, "size": manifest.len(),
                            "platform": {"os": system, "architecture": architecture}})
                    })
                    .collect();
                let index = json!({"schemaVersion": 2, "mediaType": media_type(*docker, true), "manifests": children});
                (index.to_string(), media_type(*docker, true))
            }
        };
        self.put_manifest(repository, &manifest, media_type, tag)
    }

    fn push_image(&self, repository: &str, seed: &str, docker: bool) -> String {
        let layer = format!("layer of {seed}");
        let config =
            json!({"architecture": "amd64", "os": "linux", "created": "2026-01-02T03:04:05Z", "author": "test",
            "config": {"User": "1000", "Env": ["PATH=/bin", format!("SEED={seed}")], "Entrypoint": ["/hello"],
                "ExposedPorts": {"8080/tcp": {}}, "Labels": {"org.opencontainers.image.version": seed}},
            "rootfs": {"type": "layers", "diff_ids": [digest(layer.as_bytes())]}})
            .to_string();
        let (config_type, layer_type) = if docker {
            ("application/vnd.docker.container.image.v1+json", "application/vnd.docker.image.rootfs.diff.tar.gzip")
        } else {
            ("application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar+gzip")
        };
        for blob in [&layer, &config] {
            self.put_blob(repository, blob.as_bytes());
        }
        let descriptor =
            |text: &str, kind: &str| json!({"mediaType": kind, "digest": digest(text.as_bytes()), "size": text.len()});
        json!({"schemaVersion": 2, "mediaType": media_type(docker, false), "config": descriptor(&config, config_type),
            "layers": [descriptor(&layer, layer_type)]})
        .to_string()
    }

    fn put_blob(&self, repository: &str, blob: &[u8]) {
        let (status, location) =
            self.send(Method::POST, &format!("{repository}/blobs/uploads/"), repository, |request| request);
        assert_eq!(status, StatusCode::ACCEPTED);
        let separator = if location.contains('?') { '&' } else { '?' };
        let url = format!("{location}{separator}digest={}", digest(blob));
        let sent = self.authorized(self.client.put(url).body(blob.to_vec()), repository).send().unwrap();
        assert_eq!(sent.status(), StatusCode::CREATED, "{}", sent.text().unwrap());
    }

    fn put_manifest(&self, repository: &str, manifest: &str, media_type: &str, tag: Option<&str>) -> String {
        let digest = digest(manifest.as_bytes());
        let path = format!("{repository}/manifests/{}", tag.unwrap_or(&digest));
        let (status, _) = self.send(Method::PUT, &path, repository, |request| {
            request.header("content-type", media_type).body(manifest.to_owned())
        });
        assert_eq!(status, StatusCode::CREATED);
        digest
    }

    fn send(
        &self,
        method: Method,
        path: &str,
        repository: &str,
        with: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> (StatusCode, String) {
        let accept = [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST].join(", ");
        let request = with(self.client.request(method, self.url(path)).header("accept", accept));
        let answer = self.authorized(request, repository).send().unwrap();
        let location = answer.headers().get("location").map(|location| location.to_str().unwrap().to_owned());
        let location = location.unwrap_or_default();
        let location = if location.starts_with('/') { format!("{}{location}", self.base()) } else { location };
        (answer.status(), location)
    }

    fn authorized(&self, request: RequestBuilder, repository: &str) -> RequestBuilder {
        match (&self.tokens, self.guard) {
            (Some(tokens), _) => request.bearer_auth(tokens.token(repository, &["pull", "push", "delete"])),
            (None, Guard::Password) => request.basic_auth(USER, Some(PASSWORD)),
            (None, _) => request,
        }
    }

    fn base(&self) -> String {
        format!("{}://{}", if self.guard == Guard::Tls { "https" } else { "http" }, self.host)
    }

    fn url(&self, path: &str) -> String {
        format!("{}/v2/{path}", self.base())
    }
}

/// Something to push: the same seed makes the same bytes.
pub enum Content {
    /// One image.
    Image { seed: String, docker: bool },
    /// Several, each with operating system, architecture and seed.
    Index { images: Vec<(String, String, String)>, docker: bool },
}

impl Content {
    pub fn image(seed: &str) -> Self {
        Self::Image { seed: seed.to_owned(), docker: false }
    }

    /// An OCI index of an image for amd64 and one for arm64.
    pub fn index(seed: &str) -> Self {
        Self::Index { images: two(seed), docker: false }
    }

    /// The same as Docker writes it.
    pub fn docker_list(seed: &str) -> Self {
        Self::Index { images: two(seed), docker: true }
    }
}

fn two(seed: &str) -> Vec<(String, String, String)> {
    let image = |architecture: &str| ("linux".to_owned(), architecture.to_owned(), format!("{seed}-{architecture}"));
    vec![image("arm64"), image("amd64")]
}

fn media_type(docker: bool, index: bool) -> &'static str {
    match (docker, index) {
        (false, false) => OCI_MANIFEST,
        (false, true) => OCI_INDEX,
        (true, false) => DOCKER_MANIFEST,
        (true, true) => DOCKER_LIST,
    }
}

/// `sha256:…`.
pub fn digest(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// Gives tokens to whoever knows user and password.
struct TokenServer {
    port: u16,
    key: EcdsaKeyPair,
}

impl TokenServer {
    fn start() -> Arc<Self> {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref()).unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let server = Arc::new(Self { port: listener.local_addr().unwrap().port(), key });
        let serving = Arc::clone(&server);
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                serving.answer(connection);
            }
        });
        server
    }

    fn answer(&self, mut connection: TcpStream) {
        let lines = BufReader::new(connection.try_clone().unwrap()).lines();
        let head: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
        let expected = format!("authorization: basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
        let is_known = head.iter().any(|line| line.to_lowercase() == expected.to_lowercase());
        let scope = head.first().and_then(|line| line.split("scope=repository%3A").nth(1)).unwrap_or_default();
        let repository = scope.split("%3A").next().unwrap_or_default().replace("%2F", "/");
        let (status, body) = if is_known {
            ("200 OK", json!({"token": self.token(&repository, &["pull"]), "expires_in": 300}).to_string())
        } else {
            ("401 Unauthorized", "{}".to_owned())
        };
        let length = body.len();
        let _ = write!(connection, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
    }

    fn token(&self, repository: &str, actions: &[&str]) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let header = json!({"typ": "JWT", "alg": "ES256", "kid": "test"});
        let claims = json!({"iss": "test", "sub": USER, "aud": "registry", "exp": now + 300, "nbf": now - 10, "iat": now,
            "jti": "test", "access": [{"type": "repository", "name": repository, "actions": actions}]});
        let encoded = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", encoded(&header), encoded(&claims));
        let signature = self.key.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn public_keys(&self) -> Value {
        let point = self.key.public_key().as_ref();
        let coordinate = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "test",
            "x": coordinate(&point[1..33]), "y": coordinate(&point[33..65])}]})
    }
}
