//! What happens when the clock of the machine jumps, by libfaketime: the time of day does, the time that passes does not.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::support::{Server, leave_out, until};
use crate::upstream::Upstream;

/// Says that it is a failure if libfaketime is not there.
const REQUIRED: &str = "PINSTREAM_TEST_FAKETIME";
/// Where Debian has it, below the folder of each architecture.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// The library. Without it the test is left out, unless `PINSTREAM_TEST_FAKETIME` says that it must not be.
fn library() -> Option<PathBuf> {
    let required = env::var(REQUIRED).unwrap_or_default();
    assert!(["", "required"].contains(&required.as_str()), "{REQUIRED} can only be `required`");
    let folders = fs::read_dir("/usr/lib").into_iter().flatten().map(|entry| entry.unwrap().path());
    let found = folders.map(|folder| folder.join(LIBRARY)).find(|path| path.is_file());
    if found.is_none() {
        let missing = "there is no libfaketime (Debian: apt-get install faketime)";
        assert!(required.is_empty(), "{missing}");
        leave_out(missing);
    }
    found
}

/// A server whose clock is so many seconds ahead as a file says.
struct Jumping {
    server: Server,
    clock: tempfile::TempDir,
}

impl Jumping {
    fn start(library: &Path, arguments: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        let clock = tempfile::tempdir().unwrap();
        set(clock.path(), 0);
        let variables = [
            format!("LD_PRELOAD={}", library.display()),
            format!("FAKETIME_TIMESTAMP_FILE={}", clock.path().join("ahead").display()),
            "FAKETIME_NO_CACHE=1".to_owned(),
            "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
        ];
        let by: Vec<&str> = std::iter::once("env").chain(variables.iter().map(String::as_str)).collect();
        Self { server: Server::start_by(&by, arguments, prepare), clock }
    }

    fn jump(&self, ahead: i64) {
        set(self.clock.path(), ahead);
    }

    /// The time that it has had on a core, in seconds.
    fn cpu(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.server.pid().as_raw_nonzero())).unwrap();
        let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
        fields.skip(11).take(2).map(|ticks| ticks.parse::<f64>().unwrap() / 100.0).sum()
    }
}

fn set(folder: &Path, ahead: i64) {
    fs::write(folder.join("new"), format!("{ahead:+}")).unwrap();
    fs::rename(folder.join("new"), folder.join("ahead")).unwrap();
}

/// A stream with that many tags to be imported, on schedule.
fn with_tags(upstream: &Upstream, status: &Value, count: usize) -> String {
    let from = json!({"kind": "DockerImage", "name": format!("{}/up/app:1", upstream.address)});
    let tag = |number| json!({"name": number, "from": from, "importPolicy": {"insecure": true, "scheduled": true}});
    let tags: Vec<Value> = (1..=count).map(|number| tag(number.to_string())).collect();
    json!({"apiVersion": "pinstream.dev/v1", "kind": "ImageStream", "metadata": {"name": "app", "namespace": "demo"},
        "spec": {"lookupPolicy": {"local": true}, "tags": tags}, "status": status})
    .to_string()
}

/// When each tag got its image.
fn created(server: &Server) -> Vec<Timestamp> {
    let stream: Value = serde_json::from_slice(&fs::read(server.path("streams/app.json")).unwrap()).unwrap();
    let tags = stream["status"]["tags"].as_array().cloned().unwrap_or_default();
    tags.iter().filter_map(|tag| tag["items"][0]["created"].as_str()?.parse().ok()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn clock_that_jumps_is_in_nobodys_way() {
    let Some(library) = library() else { return };
    let upstream = Upstream::start(1000).await;
    let arguments = ["--registry-listen", "127.0.0.1:0", "--registry-allow-address", "127.0.0.0/8"];
    let jumping = Jumping::start(&library, &arguments, |folder| {
        fs::write(folder.join("streams/app.json"), with_tags(&upstream, &json!({}), 1)).unwrap();
    });
    let (server, began, cpu) = (&jumping.server, Instant::now(), jumping.cpu());
    until("the first tag is imported", async || created(server).len() == 1).await;
    let now = created(server)[0];
    let mut asked = upstream.asked.load(Ordering::Relaxed);
    for (number, ahead) in [(2, DAY), (3, -HOUR), (4, 400 * DAY), (5, 0)] {
        jumping.jump(ahead);
        let client = server.client(&[], |client| client);
        let layer = format!("{}{}", server.registry(), upstream.layer_path());
        let pulled = async || client.get(&layer).send().await.unwrap().bytes().await.unwrap() == upstream.layer;
        until(&format!("the image is pulled, {ahead} s ahead"), pulled).await;
        let stream: Value = serde_json::from_slice(&fs::read(server.path("streams/app.json")).unwrap()).unwrap();
        fs::write(server.path("new"), with_tags(&upstream, &stream["status"], number)).unwrap();
        fs::rename(server.path("new"), server.path("streams/app.json")).unwrap();
        until("the new tag is imported", async || created(server).len() == number).await;
        let times = created(server);
        assert!((times[number - 1].duration_since(now).as_secs() - ahead).abs() < HOUR / 2, "{times:?}, {ahead}");
        assert_eq!(times[0], now, "what was imported stays as it was");
    }
    // Nothing else was due, whatever the clock said: a request for each new tag, and two for what was pulled.
    asked = upstream.asked.load(Ordering::Relaxed) - asked;
    assert!(asked <= 4 * 2 + 2, "{asked} requests");
    assert_eq!(server.metric("pinstream_source_synced").await, 1.0);
    let (spent, passed) = (jumping.cpu() - cpu, began.elapsed().as_secs_f64());
    assert!(spent < passed / 2.0 + 2.0, "{spent} s on a core in {passed} s");
}
