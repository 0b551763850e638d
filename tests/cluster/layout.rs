//! Images as they are built: an OCI layout on disk with an index of two platforms, whose layers are tar archives.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::registry::digest;

/// Bytes of the large file in each image.
const CONTENT: usize = 300_000;
const BLOCK: usize = 512;

/// A layout.
pub struct Layout(PathBuf);

impl Layout {
    /// Writes one into an empty folder. Another seed makes other images.
    pub fn write(folder: &Path, seed: &str) -> Self {
        let layout = Self(folder.to_owned());
        fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
        fs::write(folder.join("oci-layout"), json!({"imageLayoutVersion": "1.0.0"}).to_string()).unwrap();
        let images = ["amd64", "arm64"].map(|architecture| layout.add_image(architecture, seed));
        let kind = "application/vnd.oci.image.index.v1+json";
        let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": images});
        let index = layout.add(kind, index.to_string().as_bytes());
        let named = |mut descriptor: Value, name: &str| {
            descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
            descriptor
        };
        let manifests = [named(index, "index"), named(images[0].clone(), "image")];
        fs::write(folder.join("index.json"), json!({"schemaVersion": 2, "manifests": manifests}).to_string()).unwrap();
        layout
    }

    /// The index, as clients name it.
    pub fn index(&self) -> String {
        format!("oci:{}:index", self.0.display())
    }

    /// One image of it.
    pub fn image(&self) -> String {
        format!("oci:{}:image", self.0.display())
    }

    fn add_image(&self, architecture: &str, seed: &str) -> Value {
        let numbers = (0_u32..).flat_map(u32::to_le_bytes);
        let content: Vec<u8> = format!("{architecture} {seed}\n").bytes().chain(numbers).take(CONTENT).collect();
        let layers = [archive("base", seed.as_bytes()), archive("content", &content)];
        let layers = layers.map(|layer| self.add("application/vnd.oci.image.layer.v1.tar", &layer));
        let config = json!({"architecture": architecture, "os": "linux", "config": {"Entrypoint": ["/content"]},
            "rootfs": {"type": "layers", "diff_ids": [layers[0]["digest"], layers[1]["digest"]]}});
        let config = self.add("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers});
        let mut descriptor = self.add(kind, manifest.to_string().as_bytes());
        descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
        descriptor
    }

    /// Adds a blob, and describes it.
    fn add(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = digest(bytes);
        fs::write(self.0.join("blobs").join(digest.replace(':', "/")), bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }
}

/// A tar archive of one file.
fn archive(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000755\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{:011o}\0", content.len()));
    put(136, "00000000000\0");
    put(148, "        0");
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let padding = content.len().next_multiple_of(BLOCK) - content.len();
    [&header[..], content, &vec![0; padding], &[0; 2 * BLOCK]].concat()
}
