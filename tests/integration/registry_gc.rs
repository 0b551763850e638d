//! `pinstream registry gc` over a directory of streams and a directory of images: what it shows, deletes and refuses.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use assert_cmd::Command;
use pinstream::digest::Digest;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A directory of streams beside one of images.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        fs::create_dir(home.0.path().join("streams")).unwrap();
        home
    }

    /// Keeps something that was used last so many hours ago.
    fn keep(&self, content: &str, hours: u64) -> Digest {
        let digest = Digest::of(content.as_bytes());
        let path = self.path(&digest);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        let used = SystemTime::now() - Duration::from_hours(hours);
        File::options().write(true).open(path).unwrap().set_modified(used).unwrap();
        digest
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.0.path().join("images/blobs/sha256").join(&digest.hex()[..2]).join(digest.hex())
    }

    /// It is written that something was given to everybody.
    fn give(&self, digest: &Digest) {
        fs::create_dir_all(self.given(digest)).unwrap();
        fs::write(self.given(digest).join("public"), "").unwrap();
    }

    fn given(&self, digest: &Digest) -> PathBuf {
        self.0.path().join("images/given/sha256").join(&digest.hex()[..2]).join(digest.hex())
    }

    fn has(&self, digest: &Digest) -> bool {
        self.path(digest).exists()
    }

    fn stream(&self, image: &str) {
        let stream = json!({
            "apiVersion": "pinstream.dev/v1",
            "kind": "ImageStream",
            "metadata": {"name": "app", "namespace": "web"},
            "status": {"tags": [{"tag": "1", "items": [
                {"created": null, "dockerImageReference": "", "image": "sha256:old", "generation": 2},
                {"created": null, "dockerImageReference": "", "image": image, "generation": 1},
            ]}]},
        });
        fs::write(self.0.path().join("streams/app.json"), stream.to_string()).unwrap();
    }

    /// Exit code, output, and what was said.
    fn gc(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_pinstream"))
            .args(["registry", "gc", "--streams", "streams", "--storage", "images"])
            .args(arguments)
            .env_clear()
            .current_dir(self.0.path())
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }
}

#[test]
fn what_no_stream_refers_to_is_shown_and_then_deleted() {
    let home = Home::new();
    let layer = home.keep("layer", 99);
    let manifest = json!({"layers": [{"digest": layer.as_str(), "size": 5}]}).to_string();
    let manifest = home.keep(&manifest, 99);
    let (old, older, young) = (home.keep("old", 25), home.keep("older", 73), home.keep("young", 23));
    home.stream(manifest.as_str());
    let gone = Digest::of(b"gone");
    for digest in [&layer, &older, &gone] {
        home.give(digest);
    }

    let (code, output, said) = home.gc(&[]);
    assert!(home.given(&gone).exists(), "what only looks deletes nothing");
    assert_eq!(
        (code, &*said),
        (Some(0), "would delete 2 with 8 bytes; --delete does it. 2 are referred to, 1 are not but too young\n")
    );
    assert_eq!(
        output.lines().map(|line| line.split(' ').next().unwrap()).collect::<Vec<_>>(),
        ["DIGEST", older.as_str(), old.as_str()]
    );
    assert!(output.contains("5       3d\n") && output.contains("3       25h\n"), "{output}");

    let (code, output, _) = home.gc(&["--delete", "--min-age", "48h", "-o", "json"]);
    let object: Value = serde_json::from_str(&output).unwrap();
    let items: Vec<_> =
        object["items"].as_array().unwrap().iter().map(|item| item["digest"].as_str().unwrap()).collect();
    assert_eq!((code, &object["deleted"], items), (Some(0), &json!(true), vec![older.as_str()]));
    assert_eq!(object["young"], json!({"objects": 2, "bytes": 8}));
    assert_eq!([&layer, &older, &gone].map(|digest| home.given(digest).exists()), [true, false, false]);
    assert!(!home.has(&older) && [&layer, &manifest, &old, &young].into_iter().all(|digest| home.has(digest)));

    let (code, output, said) = home.gc(&["--delete", "--min-age", "0s"]);
    assert!(
        code == Some(0) && output.lines().count() == 3 && said.starts_with("deleted 2 with 8 bytes."),
        "{output}{said}"
    );
    assert!(home.has(&layer) && home.has(&manifest) && !home.has(&young));
    assert_eq!(home.gc(&[]).2, "nothing to delete. 2 are referred to, 0 are not but too young\n");
}

#[test]
fn nothing_is_deleted_while_it_is_not_known_what_streams_refer_to() {
    let home = Home::new();
    let layer = home.keep("layer", 99);
    let (code, _, said) = home.gc(&["--delete"]);
    assert!(code == Some(2) && said.contains("no image stream refers to an image"), "{said}");
    home.stream(Digest::of(b"other").as_str());
    fs::write(home.0.path().join("streams/bad.yaml"), "kind: ImageStream\nspec: 7").unwrap();
    let (code, _, said) = home.gc(&["--delete"]);
    assert!(code == Some(2) && said.contains("files of image streams cannot be read (1)"), "{said}");
    assert!(home.has(&layer));
    let (code, output, _) = home.gc(&[]);
    assert!(code == Some(0) && output.contains(layer.as_str()), "{output}");
}

#[test]
fn storage_that_is_not_there_is_named_and_not_made() {
    let home = Home::new();
    let (code, _, said) = home.gc(&[]);
    assert!(code == Some(2) && said.contains("images cannot be kept in images"), "{said}");
    assert!(!home.0.path().join("images").exists());
}
