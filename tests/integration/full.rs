//! What happens when a file system has no room any more: nothing is lost or left half, what is known answers, and
//! everything goes on by itself when there is room again.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use pinstream::digest::Digest;
use serde_json::{Value, json};

use crate::room::{Room, clear, files, fill, give_back_a_page, inside, run};
use crate::support::{Server, image, patch_of, pod_review, stream, until};
use crate::upstream::Upstream;

const NO_ROOM: &str = "cannot be written: No space left on device (os error 28); make room on its file system";

/// A stream whose tag `1` has an image, and whose tag `2` is to be imported from that registry.
fn write(upstream: &Upstream, streams: &Path) {
    let mut app = stream("app", &[("1", &image('a'))]);
    let from = |name: &str| json!({"kind": "DockerImage", "name": name});
    let wanted = from(&format!("{}/up/app:1", upstream.address));
    app["spec"]["tags"] = json!([{"name": "2", "from": wanted, "importPolicy": {"insecure": true}}]);
    fs::write(streams.join("app.json"), app.to_string()).unwrap();
}

/// What the images of a Pod become.
async fn resolved(server: &Server, images: &[&str]) -> Vec<Value> {
    let client = server.client(&[], |client| client);
    let patch = patch_of(&server.ask(&client, &pod_review(images)).await);
    patch.as_array().unwrap().iter().map(|operation| operation["value"].clone()).collect()
}

fn said(server: &Server) -> String {
    fs::read_to_string(server.path("stderr")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_on_a_full_disk_answer_and_are_imported_when_there_is_room() {
    let Some(room) = Room::find() else { return };
    let upstream = Upstream::start(10).await;
    let server = room.serve("size=256k", true, &[], |seed| write(&upstream, &seed.join("streams")));
    let before = fs::read(server.path("seed/streams/app.json")).unwrap();
    until("it says what it cannot write", async || said(&server).contains(NO_ROOM)).await;
    assert_eq!(resolved(&server, &["app:1"]).await, [image('a')]);
    assert_eq!(fs::read(inside(&server, "streams/app.json")).unwrap(), before);

    clear(&server);
    let arrived = async || resolved(&server, &["app:2"]).await.iter().any(Value::is_string);
    until("the tag is imported", arrived).await;
    assert_eq!(resolved(&server, &["app:1"]).await, [image('a')]);
    for (path, content) in files(&inside(&server, "streams")) {
        let is_lock = path.ends_with("lock");
        assert!(is_lock || serde_json::from_slice::<Value>(&content).is_ok(), "{} is half", path.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn directory_without_room_for_a_folder_is_imported_when_there_is() {
    let Some(room) = Room::find() else { return };
    let upstream = Upstream::start(10).await;
    // For the root, the folder, the stream, and what is in the way.
    let server = room.serve("nr_inodes=23", false, &[], |seed| {
        write(&upstream, &seed.join("streams"));
        (0..20).for_each(|number| fs::write(seed.join(format!("filler{number}")), "").unwrap());
    });
    until("it says so", async || said(&server).contains("streams/.pinstream cannot be written: No space left")).await;
    assert_eq!(resolved(&server, &["app:1"]).await, [image('a')]);
    (0..20).for_each(|number| fs::remove_file(inside(&server, &format!("filler{number}"))).unwrap());
    until("the tag is imported", async || !resolved(&server, &["app:2"]).await.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_on_a_full_disk_change_nothing_and_say_what_to_do() {
    let Some(room) = Room::find() else { return };
    let server = room.serve("size=256k", false, &["--no-import"], |seed| {
        let app = stream("app", &[("1", &image('a'))]);
        fs::write(seed.join("streams/app.json"), app.to_string()).unwrap();
    });
    let commands: [&[&str]; 3] = [
        &["tag", "app:1", "app:2", "-n", "demo", "--streams", "streams"],
        &["create", "is", "new", "-n", "demo", "--streams", "streams"],
        &["set", "image-lookup", "app", "--enabled=false", "-n", "demo", "--streams", "streams"],
    ];
    fill(&server);
    let before = fs::read(inside(&server, "streams/app.json")).unwrap();
    for command in commands {
        let output = run(&server, command);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{command:?}: {error}");
        assert!(error.contains(NO_ROOM), "{command:?}: {error}");
    }
    assert_eq!(fs::read(inside(&server, "streams/app.json")).unwrap(), before);
    assert!(!inside(&server, "streams/demo/new.yaml").exists());
    let left: Vec<_> =
        files(&inside(&server, "streams")).into_iter().filter(|(path, _)| !path.ends_with("lock")).collect();
    assert_eq!(left.len(), 1, "nothing is left over: {left:?}");

    clear(&server);
    for command in commands {
        let output = run(&server, command);
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(inside(&server, "streams/demo/new.yaml").exists());
}

#[tokio::test]
async fn certificates_are_replaced_together_or_not_at_all() {
    let Some(room) = Room::find() else { return };
    let server = room.serve("size=256k", false, &["--no-import"], |_| ());
    let make = |arguments: &[&str]| run(&server, &[&["certs", "--out", "certs"], arguments].concat());
    assert!(make(&[]).status.success());
    let before = files(&inside(&server, "certs"));
    assert_eq!(before.len(), 3);
    fill(&server);
    // Enough for the first of three.
    give_back_a_page(&server);
    let output = make(&["--force"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("certs/tls.crt") && error.contains(NO_ROOM), "{error}");
    assert_eq!(files(&inside(&server, "certs")), before);
    clear(&server);
    assert!(make(&["--force"]).status.success());
    assert_ne!(files(&inside(&server, "certs")), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_pulled_from_their_source_while_the_disk_is_full_and_kept_when_there_is_room() {
    let Some(room) = Room::find() else { return };
    // The layer is larger than the file system will have room for, until there is.
    let upstream = Upstream::start(1 << 20).await;
    let arguments = ["--no-import", "--registry-listen", "127.0.0.1:0", "--storage", "room/kept"];
    let server = room.serve("size=2m", false, &arguments, |seed| {
        fs::write(seed.join("streams/app.json"), upstream.stream().to_string()).unwrap();
    });
    fill(&server);
    (0..100).for_each(|_| give_back_a_page(&server));
    let client = server.client(&[], |client| client);
    let layer = async || {
        let answer = client.get(format!("{}{}", server.registry(), upstream.layer_path())).send().await.unwrap();
        (answer.status().as_u16(), answer.bytes().await.unwrap())
    };
    for _ in 0..3 {
        assert_eq!(layer().await, (200, upstream.layer.clone()));
    }
    let full = r#"pinstream_storage_keep_failures_total{reason="full"}"#;
    assert!(server.metric(full).await > 0.0);
    let told = "what was pulled is not kept error=room/kept/spool: No space left on device (os error 28); look whether";
    assert_eq!(said(&server).matches(told).count(), 1, "{}", said(&server));
    let is_whole = |(path, content): &(PathBuf, Vec<u8>)| path.ends_with(Digest::of(content).hex());
    assert!(files(&inside(&server, "kept/blobs")).iter().all(is_whole));
    assert!(files(&inside(&server, "kept/spool")).is_empty());

    clear(&server);
    let kept = async || layer().await.0 == 200 && server.metric("pinstream_storage_objects").await == 2.0;
    until("manifest and layer are kept", kept).await;
    upstream.is_gone.store(true, Ordering::Relaxed);
    assert_eq!(layer().await, (200, upstream.layer.clone()));
}

#[tokio::test(flavor = "multi_thread")]
async fn pull_in_the_middle_of_which_the_disk_is_full_is_completed_from_its_source() {
    for knows_ranges in [true, false] {
        let Some(room) = Room::find() else { return };
        let upstream = Upstream::start(1 << 20).await;
        upstream.knows_ranges.store(knows_ranges, Ordering::Relaxed);
        let arguments = ["--no-import", "--registry-listen", "127.0.0.1:0", "--storage", "room/kept"];
        let server = room.serve("size=4m", false, &arguments, |seed| {
            fs::write(seed.join("streams/app.json"), upstream.stream().to_string()).unwrap();
        });
        let client = server.client(&[], |client| client);
        // What is not a layer comes at once.
        let manifest = format!("{}/v2/demo/app/manifests/1", server.registry());
        assert_eq!(client.get(manifest).send().await.unwrap().status(), 200);
        upstream.gate.send_replace(false);
        let begin = async |range: &str| {
            let layer = format!("{}{}", server.registry(), upstream.layer_path());
            let mut answer = client.get(layer).header("range", range).send().await.unwrap();
            let first = answer.chunk().await.unwrap().unwrap();
            (answer, first.to_vec())
        };
        let (mut whole, mut came) = begin("bytes=0-").await;
        let (mut part, mut came_of_part) = begin("bytes=7-199999").await;
        fill(&server);
        upstream.gate.send_replace(true);
        while let Some(chunk) = whole.chunk().await.unwrap() {
            came.extend_from_slice(&chunk);
        }
        while let Some(chunk) = part.chunk().await.unwrap() {
            came_of_part.extend_from_slice(&chunk);
        }
        assert!(came == upstream.layer && came_of_part == upstream.layer[7..200_000]);
        assert!(server.metric(r#"pinstream_storage_keep_failures_total{reason="full"}"#).await > 0.0);
        until("nothing is left of it", async || files(&inside(&server, "kept/spool")).is_empty()).await;
        assert_eq!(server.metric("pinstream_storage_objects").await, 1.0);
    }
}
