//! Images with layers of some size, `pinstream registry` over a stream that has them, and clients that check what they get.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use pinstream::digest::Digest;
use reqwest::Certificate;
use reqwest::blocking::Client;
use serde_json::{Value, json};

use crate::control_plane::ControlPlane;
use crate::pinstream::Pinstream;
use crate::registry::Registry;

/// An image that a registry has, or says so.
pub struct Layered {
    /// `HOST/REPOSITORY`, from where it is pulled.
    pub repository: String,
    pub manifest: String,
    pub layers: Vec<Digest>,
}

impl Layered {
    /// Pushes it.
    pub fn push(registry: &Registry, repository: &str, layers: &[Vec<u8>]) -> Self {
        let manifest = registry.push_layers(repository, layers);
        let repository = format!("{}/{repository}", registry.host);
        Self { repository, manifest, layers: layers.iter().map(|layer| Digest::of(layer)).collect() }
    }
}

/// Where a registry of the stream `demo/app` keeps what it needs.
pub struct Site<'p> {
    plane: &'p ControlPlane,
    pub folder: PathBuf,
}

impl<'p> Site<'p> {
    /// A stream with these images, one a tag.
    pub fn new(plane: &'p ControlPlane, images: &[Layered]) -> Self {
        let folder = plane.folder("pulled");
        let item = |image: &Layered| {
            json!([{"created": "2026-01-01T00:00:00Z", "generation": 1, "image": image.manifest,
                "dockerImageReference": format!("{}@{}", image.repository, image.manifest)}])
        };
        let spec = |(tag, image): (usize, &Layered)| {
            json!({"name": tag.to_string(), "importPolicy": {"insecure": true},
                "from": {"kind": "DockerImage", "name": format!("{}@{}", image.repository, image.manifest)}})
        };
        let status = |(tag, image): (usize, &Layered)| json!({"tag": tag.to_string(), "items": item(image)});
        let stream = json!({"apiVersion": "pinstream.dev/v1", "kind": "ImageStream",
            "metadata": {"name": "app", "namespace": "demo"},
            "spec": {"tags": images.iter().enumerate().map(spec).collect::<Vec<Value>>()},
            "status": {"tags": images.iter().enumerate().map(status).collect::<Vec<Value>>()}});
        fs::create_dir(folder.join("streams")).unwrap();
        fs::write(folder.join("streams/app.json"), stream.to_string()).unwrap();
        Self { plane, folder }
    }

    /// Starts the registry with plain HTTP.
    pub fn start(&self) -> Pinstream {
        self.start_with(&["--plain-http"])
    }

    /// Starts the registry with HTTPS. Gives its CA too.
    pub fn start_secure(&self) -> (Pinstream, Certificate) {
        let certificates = self.plane.folder("certificates");
        let mut certs = assert_cmd::Command::new(env!("CARGO_BIN_EXE_pinstream"));
        certs.args(["certs", "localhost", "--out"]).arg(&certificates).assert().success();
        let file = |name: &str| certificates.join(name).display().to_string();
        let ca = Certificate::from_pem(&fs::read(file("ca.crt")).unwrap()).unwrap();
        (self.start_with(&["--tls-cert", &file("tls.crt"), "--tls-key", &file("tls.key")]), ca)
    }

    fn start_with(&self, arguments: &[&str]) -> Pinstream {
        let path = |name: &str| self.folder.join(name).display().to_string();
        let (streams, kept) = (path("streams"), path("kept"));
        let fixed = ["registry", "--streams", &streams, "--storage", &kept];
        Pinstream::start(self.plane, &[&fixed[..], arguments].concat(), &[])
    }

    /// Everything that is in its place in the storage, each with what its name says and what it is.
    pub fn kept(&self) -> Vec<(String, Digest)> {
        let named = |path: &Path| format!("sha256:{}", path.file_name().unwrap().to_string_lossy());
        let files = files(&self.folder.join("kept/blobs"));
        files.iter().map(|path| (named(path), Digest::of(&fs::read(path).unwrap()))).collect()
    }

    /// What is being downloaded, or was when its process died.
    pub fn spools(&self) -> Vec<PathBuf> {
        files(&self.folder.join("kept/spool"))
    }
}

/// Pulls a blob from `BASE/v2/demo/app`, and gives the digest of what came. An error is a transfer that was refused or broke
/// off.
pub fn pull(client: &Client, base: &str, blob: &Digest) -> Result<Digest, String> {
    let answer = client.get(format!("{base}/v2/demo/app/blobs/{blob}")).send();
    let mut answer =
        answer.and_then(reqwest::blocking::Response::error_for_status).map_err(|error| error.to_string())?;
    let (mut hasher, mut piece) = (blob.hasher(), vec![0; 64 << 10]);
    loop {
        match answer.read(&mut piece) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(length) => hasher.update(&piece[..length]),
            Err(error) => return Err(error.to_string()),
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).map(|entries| entries.map(|entry| entry.unwrap().path()).collect::<Vec<_>>());
    let paths = entries.unwrap_or_default().into_iter();
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
