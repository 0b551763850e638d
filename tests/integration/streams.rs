//! Streams that change while objects are admitted.

use std::fs;
use std::process::Command;

use reqwest::Client;
use serde_json::Value;

use crate::support::{Load, Server, image, leave_out, patch_of, pod_review, stream, until};

/// Many tags that all have one image.
fn version(digit: char) -> String {
    let names: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    let image = image(digit);
    let tags: Vec<_> = names.iter().map(|name| (name.as_str(), image.as_str())).collect();
    stream("app", &tags).to_string()
}

/// Complains if not all images of an answer are of one version.
fn mixed(response: &Value) -> Option<String> {
    let patch = patch_of(response);
    let mut images: Vec<_> = patch.as_array().unwrap().iter().map(|operation| operation["value"].to_string()).collect();
    let count = images.len();
    images.dedup();
    (count != 20 || images.len() != 1).then(|| patch.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_of_the_old_or_the_new_streams_and_never_of_both() {
    let server = Server::start(&[], |folder| fs::write(folder.join("streams/app.json"), version('a')).unwrap());
    let images: Vec<String> = (0..20).map(|number| format!("app:{number}")).collect();
    let review = pod_review(&images.iter().map(String::as_str).collect::<Vec<_>>());
    let client = server.client(&[], |client| client);
    let clients = (0..4).map(|_| {
        let client = client.clone();
        Box::new(move || client.clone()) as Box<dyn Fn() -> Client + Send>
    });
    let load = Load::start(&server.url(), clients.collect(), 1000, &review, mixed);
    for digit in ['b', 'c', 'd', 'a', 'b'] {
        fs::write(server.path("streams/next"), version(digit)).unwrap();
        fs::rename(server.path("streams/next"), server.path("streams/app.json")).unwrap();
        let wanted = image(digit);
        until("the new version is answered", async || {
            patch_of(&server.ask(&client, &review).await)[0]["value"] == wanted
        })
        .await;
        load.more(20).await;
    }
    let (asked, failures) = load.stop().await;
    assert!(failures.is_empty() && asked >= 100, "{} of {asked}: {:?}", failures.len(), failures.first());
}

#[tokio::test]
async fn broken_file_is_counted_and_its_last_good_streams_answer() {
    let server = Server::start(&[], |folder| fs::write(folder.join("streams/app.json"), version('a')).unwrap());
    let client = server.client(&[], |client| client);
    let first = async || patch_of(&server.ask(&client, &pod_review(&["app:1"])).await)[0]["value"].clone();
    fs::write(server.path("streams/app.json"), "{").unwrap();
    until("the problem is counted", async || server.metric("pinstream_source_problems").await == 1.0).await;
    assert_eq!(first().await, image('a'));
    fs::rename(server.path("streams"), server.path("aside")).unwrap();
    until("the loss is seen", async || server.metric("pinstream_source_synced").await == 0.0).await;
    assert_eq!((first().await, server.admin("/readyz").await.0), (image('a').into(), 200));
    fs::write(server.path("aside/app.json"), version('b')).unwrap();
    fs::rename(server.path("aside"), server.path("streams")).unwrap();
    until("the new streams answer", async || first().await == image('b')).await;
    assert_eq!(server.metric("pinstream_source_problems").await, 0.0);
}

/// The rest of the command line in a namespace of its own with few watches.
const FEW_WATCHES: [&str; 7] = [
    "unshare",
    "--user",
    "--map-root-user",
    "sh",
    "-c",
    "echo 3 > /proc/sys/user/max_inotify_watches && exec \"$@\"",
    "sh",
];

#[tokio::test]
async fn changes_are_seen_where_no_more_folders_can_be_watched() {
    let tried = Command::new(FEW_WATCHES[0]).args(&FEW_WATCHES[1..]).arg("true").output();
    if !tried.is_ok_and(|output| output.status.success()) {
        leave_out("there can be no user namespace here");
        return;
    }
    let file = |number: u32| format!("streams/{number}/app.json");
    let server = Server::start_by(&FEW_WATCHES, &["--log", "info"], |folder| {
        for number in 0..5 {
            fs::create_dir(folder.join(format!("streams/{number}"))).unwrap();
            let stream = stream(&format!("app{number}"), &[("1", &image('a'))]);
            fs::write(folder.join(file(number)), stream.to_string()).unwrap();
        }
    });
    let said = fs::read_to_string(server.path("stderr")).unwrap();
    assert!(said.contains("raise fs.inotify.max_user_watches") && said.contains("twice a second"), "{said}");
    let client = server.client(&[], |client| client);
    for number in 0..5 {
        fs::write(server.path(&file(number)), stream(&format!("app{number}"), &[("1", &image('b'))]).to_string())
            .unwrap();
        let review = pod_review(&[&format!("app{number}:1")]);
        until("the new version is answered", async || {
            patch_of(&server.ask(&client, &review).await)[0]["value"] == image('b')
        })
        .await;
    }
}
