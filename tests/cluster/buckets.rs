//! A real server of S3 buckets on loopback.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pinstream::digest::Digest;
use pinstream::metrics::Metrics;
use pinstream::mirror::storage::{Place, Storage};

use crate::control_plane::ControlPlane;
use crate::process::Process;

/// The key of the one user that it knows.
pub const KEY: &str = "test-key";
/// The secret to it.
pub const SECRET: &str = "test-secret";

/// A server with one bucket, `images`.
pub struct Buckets {
    /// For what tests keep beside it.
    pub folder: PathBuf,
    /// Its URL.
    pub endpoint: String,
    _process: Process,
}

impl Buckets {
    /// Starts one whose bucket is empty.
    pub fn start(plane: &ControlPlane) -> Self {
        let folder = plane.folder("buckets");
        let content = folder.join("content");
        fs::create_dir_all(content.join("images")).unwrap();
        let (program, log) = (plane.tool("versitygw"), folder.join("log"));
        let environment = [("ROOT_ACCESS_KEY", KEY), ("ROOT_SECRET_KEY", SECRET)];
        let sidecar = folder.join("metadata");
        fs::create_dir(&sidecar).unwrap();
        let start = |[port]: [u16; 1]| {
            let address = format!("127.0.0.1:{port}");
            let text = |path: &Path| path.display().to_string();
            let arguments = ["--port", &address, "--quiet", "posix", "--sidecar", &text(&sidecar), &text(&content)]
                .map(str::to_owned);
            Process::start(&program, &arguments, &environment, &folder, &log)
        };
        let is_ready = |[port]: [u16; 1]| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        let (process, [port]) = Process::listening("the server of buckets", start, is_ready).unwrap();
        Self { endpoint: format!("http://127.0.0.1:{port}"), folder, _process: process }
    }

    /// A place in a bucket.
    pub fn place(&self, url: &str, secret: &str) -> Place {
        let environment = [
            ("AWS_ACCESS_KEY_ID", KEY),
            ("AWS_SECRET_ACCESS_KEY", secret),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL", &self.endpoint),
            ("AWS_ALLOW_HTTP", "true"),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut place = Place::parse(url, environment).unwrap();
        place.spool = Some(self.folder.join("spool"));
        place
    }

    /// What is kept in the bucket, as another process would see it.
    pub async fn open(&self) -> Storage {
        let place = self.place("s3://images/some/prefix", SECRET);
        Storage::open(&place, Arc::new(|_: &Digest| false), Metrics::new().unwrap().storage).await.unwrap()
    }
}
