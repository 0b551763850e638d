//! Whoever has much to import, or from registries that are slow, holds up nobody else: with registries that never end
//! their answers, and in simulated time.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::memory::{MemoryHome, importer, result, stream};
use crate::scripted::{Reply, Scripted, TinyImage, client, patient, soon};
use crate::upstream::{SLOW, Upstream};

/// A stream with a tag for each of these images.
fn filled(name: &str, images: &[String]) -> serde_json::Value {
    let tags: Vec<_> = (0..images.len()).map(|number| number.to_string()).collect();
    let tags: Vec<_> = tags.iter().zip(images).map(|(tag, image)| (tag.as_str(), image.as_str())).collect();
    stream(name, &tags, &json!({"insecure": true}))
}

fn is_imported(home: &MemoryHome, name: &str, tag: &str) -> bool {
    matches!(result(&home.get(name), tag), Some(Ok(_)))
}

/// How long it takes until that tag is imported.
async fn waited(home: &MemoryHome, name: &str, tag: &str) -> Duration {
    let began = Instant::now();
    let waiting = home.until(|home| is_imported(home, name, tag));
    timeout(Duration::from_hours(24), waiting).await.expect("it is never imported");
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_with_tags_of_slow_registries_hold_up_no_other_namespace() {
    // Eight tags of a stream are asked for at a time, and the same image once for all streams.
    const SLOW_AT_ONCE: usize = 7;
    let (home, image) = (MemoryHome::new(), TinyImage::new("good"));
    let good = Scripted::plain(move |asked| image.reply(asked)).await;
    let mut slow = Vec::new();
    for _ in 0..17 {
        slow.push(Scripted::plain(|_| Reply::Drip).await);
    }
    for number in 0..20 {
        let hosts = [&good].into_iter().chain(&slow).map(|registry| format!("{}/a/b:1", registry.host));
        home.put(filled(&format!("evil/app-{number}"), &hosts.collect::<Vec<_>>()));
    }
    let mut running = JoinSet::new();
    running.spawn(importer(&home, &Arc::new(client(patient))));
    let hanging = || slow.iter().map(Scripted::hanging).sum::<usize>();
    soon("slow registries take what they can", async {
        while hanging() < SLOW_AT_ONCE {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;

    home.put(filled("app", &[format!("{}/a/b:1", good.host)]));
    soon("another namespace imports", home.until(|home| is_imported(home, "app", "0"))).await;
    assert!(hanging() >= SLOW_AT_ONCE, "they hang on");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_answers_that_come_slowly_hold_up_no_other_namespace() {
    const LARGE: usize = 256 << 10;
    let (home, image) = (MemoryHome::new(), TinyImage::new(&"large".repeat(LARGE / 5)));
    let good = Scripted::plain(move |asked| image.reply(asked)).await;
    let mut slow = Vec::new();
    for number in 0..12 {
        slow.push(Scripted::plain(|_| Reply::Slowing(LARGE)).await);
        home.put(filled(&format!("evil/app-{number}"), &[format!("{}/a/b:1", slow[number].host)]));
    }
    let mut running = JoinSet::new();
    running.spawn(importer(&home, &Arc::new(client(patient))));
    soon("large answers are under way", async {
        while slow.iter().any(|registry| registry.sent() < LARGE as u64) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;

    home.put(filled("app", &[format!("{}/a/b:1", good.host)]));
    soon("another namespace imports", home.until(|home| is_imported(home, "app", "0"))).await;
}

#[tokio::test(start_paused = true)]
async fn namespace_with_hundreds_of_slow_registries_holds_up_no_other() {
    let home = MemoryHome::new();
    let mut running = JoinSet::new();
    running.spawn(importer(&home, &Arc::new(Upstream::new(1, Duration::from_secs(2)))));
    for number in 0..260 {
        let images: Vec<_> = (0..18).map(|tag| format!("{tag}-{number}.slow.example/a/b:1")).collect();
        home.put(filled(&format!("evil/app-{number}"), &images));
    }
    for number in 0..60 {
        tokio::time::sleep(SLOW / 4).await;
        let name = format!("app-{number}");
        home.put(filled(&name, &["quay.io/a/b:1".to_owned()]));
        let waited = waited(&home, &name, "0").await;
        assert!(waited < Duration::from_secs(5), "the one after {number} others waits for {waited:?}");
    }
}
