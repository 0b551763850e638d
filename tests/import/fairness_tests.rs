//! Whoever has much to import, or from registries that are slow, holds up nobody else: with registries that never end
//! their answers, and in simulated time.

use std::sync::Arc;
use std::time::Duration;

use pinstream::stream::ImageStream;
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
async fn streams_with_tags_of_slow_registries_hold_up_none_that_answers() {
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
        while hanging() < 17 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;

    home.put(filled("app", &[format!("{}/a/b:1", good.host), format!("{}/a/b:1", slow[0].host)]));
    soon("another namespace imports", home.until(|home| is_imported(home, "app", "0"))).await;
    assert!(hanging() >= 17);
    assert_eq!(result(&home.get("app"), "1"), None, "a tag does not wait for another one's registry");
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

#[tokio::test(start_paused = true)]
async fn stream_with_many_tags_gives_up_its_place_to_others_and_is_imported_all_the_same() {
    let home = MemoryHome::new();
    let upstream = Arc::new(Upstream::new(1, Duration::from_secs(2)));
    let names: Vec<_> = (0..30).map(|number| format!("large-{number}")).collect();
    for name in &names {
        home.put(filled(name, &(0..400).map(|tag| format!("q.io/a/{name}:{tag}")).collect::<Vec<_>>()));
    }
    let mut running = JoinSet::new();
    running.spawn(importer(&home, &upstream));
    tokio::time::sleep(Duration::from_secs(1)).await;
    home.put(filled("small", &["q.io/a/small:1".to_owned()]));
    let waited = waited(&home, "small", "0").await;
    assert!(waited < Duration::from_secs(60), "{waited:?}");

    let is_imported =
        |stream: &ImageStream| stream.status.tags.iter().filter(|tag| !tag.items.is_empty()).count() == 400;
    let is_done = |home: &MemoryHome| names.iter().all(|name| is_imported(&home.get(name)));
    timeout(Duration::from_hours(1), home.until(is_done)).await.expect("all are imported");
    assert!(upstream.asked().values().all(|times| times.len() == 1), "each once");
}

#[tokio::test(start_paused = true)]
async fn tags_that_are_answered_at_the_same_time_are_one_write_and_do_not_wait_for_a_slow_one() {
    let home = MemoryHome::new();
    let mut images: Vec<_> = (0..40).map(|tag| format!("q.io/a/b:{tag}")).collect();
    home.put(filled("app", &images));
    images.push("q.io/a/slow:1".to_owned());
    let mut running = JoinSet::new();
    running.spawn(importer(&home, &Arc::new(Upstream::new(1, Duration::from_millis(100)))));
    waited(&home, "app", "0").await;
    assert!((0..40).all(|tag| is_imported(&home, "app", &tag.to_string())));
    assert_eq!(home.writes(), 2, "one made the stream");

    home.put(filled("late", &images));
    assert!(waited(&home, "late", "39").await < SLOW / 10);
    home.until(|home| result(&home.get("late"), "40").is_some()).await;
    assert_eq!((home.writes(), home.conflicts()), (5, 0));
}
