//! The importer in simulated time: outages, two at once, ends at any moment, and the schedule of many tags.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use pinstream::index::{IndexedStream, Stale, Target};
use pinstream::stream::ImageStream;
use pinstream::stream::places::Places;
use pinstream::stream::types::SpecTag;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::memory::{INTERVAL, MemoryHome, Trouble, history, importer, result, stream};
use crate::upstream::Upstream;

const HOUR: Duration = Duration::from_hours(1);

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("app-{number}")).collect()
}

/// Waits for a condition, which may not take longer.
async fn within(limit: Duration, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            sleep(Duration::from_secs(1)).await;
        }
    };
    timeout(limit, waiting).await.expect("it should have come true by now");
}

/// Streams, each with tags of its own.
fn filled(streams: usize, tags: usize, policy: &Value) -> Arc<MemoryHome> {
    let home = MemoryHome::new();
    for name in names(streams) {
        let tags: Vec<_> = (0..tags).map(|tag| (tag.to_string(), format!("q.io/a/{name}:{tag}"))).collect();
        let tags: Vec<_> = tags.iter().map(|(tag, source)| (tag.as_str(), source.as_str())).collect();
        home.put(stream(&name, &tags, policy));
    }
    home
}

fn all_have(home: &MemoryHome, digest: &str) -> bool {
    let has = |(stream, tag): (_, &str)| result(stream, tag) == Some(Ok(digest.to_owned()));
    let all = home.all();
    all.iter().all(|stream| stream.spec.tags.iter().all(|tag| has((stream, &tag.name))))
}

#[tokio::test(start_paused = true)]
async fn registry_that_is_down_for_an_hour_is_asked_seldom_and_recovers_without_a_restart() {
    let home = filled(50, 2, &json!({"scheduled": true}));
    let upstream = Arc::new(Upstream::new(1, Duration::from_secs(2)));
    let mut running = JoinSet::new();
    running.spawn(importer(&home, &upstream));
    within(HOUR, || all_have(&home, &Upstream::digest(0))).await;
    upstream.set_down(true);
    upstream.push();
    let before = upstream.asked();
    let has_failed = |stream: &ImageStream, tag: &SpecTag| matches!(result(stream, &tag.name), Some(Err(_)));
    let all_failed = |stream: &ImageStream| stream.spec.tags.iter().all(|tag| has_failed(stream, tag));
    within(HOUR, || home.all().iter().all(all_failed)).await;
    sleep(HOUR).await;
    for stream in home.all() {
        assert_eq!(history(&stream, "0"), [Upstream::digest(0)], "the last good image stays");
        let name = &stream.metadata.name;
        let image = format!("q.io/a/{name}@{}", Upstream::digest(0)).into();
        let stale =
            Stale { reason: "ServiceUnavailable".into(), image_created: stream.status.tags[0].items[0].created };
        let resolved = Target::Pinned { image, stale: Some(Box::new(stale)) };
        assert_eq!(
            IndexedStream::new(&stream, &Places::default()).tag("0").unwrap().target,
            resolved,
            "and admission pins it"
        );
    }
    let within_the_hours: Vec<_> =
        upstream.asked().iter().map(|(source, times)| times.len() - before[source].len()).collect();
    // 30 s, doubled up to 15 min, a tenth more or less: at most 11 in an hour and the quarter before it.
    assert!(within_the_hours.iter().all(|count| (3..=11).contains(count)), "{within_the_hours:?}");

    upstream.set_down(false);
    within(INTERVAL * 2, || all_have(&home, &Upstream::digest(1))).await;
    assert_eq!(history(&home.get("app-0"), "0"), [Upstream::digest(1), Upstream::digest(0)]);
    let told = |what: &str| home.news().iter().filter(|news| news.ends_with(what)).count();
    within(INTERVAL, || told("ImportRecovered") == 100).await;
    assert_eq!(told("ImportFailed"), 100, "once for each tag");
}

/// The time within which all is imported once the home of the streams is back.
async fn catches_up(trouble: Trouble) -> (Duration, usize) {
    let home = filled(50, 2, &json!({}));
    let upstream = Arc::new(Upstream::new(1, Duration::from_millis(200)));
    home.has(trouble);
    let mut running = JoinSet::new();
    running.spawn(importer(&home, &upstream));
    sleep(HOUR).await;
    assert!(home.all().iter().all(|stream| stream.status.tags.is_empty()), "{trouble:?}");
    let asked = upstream.asked().values().map(Vec::len).max().unwrap_or_default();
    home.has(Trouble::None);
    let back = Instant::now();
    within(HOUR, || all_have(&home, &Upstream::digest(0))).await;
    (back.elapsed(), asked)
}

#[tokio::test(start_paused = true)]
async fn what_a_home_did_not_take_for_an_hour_is_imported_as_soon_as_it_is_back() {
    // One that refuses is not asked more often than a registry that fails, one that is away or full each minute.
    for (trouble, most) in [(Trouble::Away, 0), (Trouble::Full, 75), (Trouble::Refuses, 11)] {
        let (wait, asked) = catches_up(trouble).await;
        assert!(wait <= Duration::from_secs(2), "{trouble:?}: {wait:?}");
        assert!(asked <= most, "{trouble:?}: registries were asked {asked} times for a tag");
    }
}

#[tokio::test(start_paused = true)]
async fn registry_that_is_down_is_not_asked_sooner_because_a_home_is_back() {
    let home = filled(10, 1, &json!({}));
    let upstream = Arc::new(Upstream::new(1, Duration::from_millis(200)));
    upstream.set_down(true);
    let mut running = JoinSet::new();
    running.spawn(importer(&home, &upstream));
    // Half of the time nobody can be told that the registry fails.
    let mut troubles = [Trouble::Full, Trouble::None].into_iter().cycle();
    for trouble in troubles.by_ref().take(120) {
        home.has(trouble);
        sleep(HOUR / 120).await;
    }
    let most = upstream.asked().values().map(Vec::len).max().unwrap();
    assert!((5..=11).contains(&most), "a source was asked {most} times");
}

#[tokio::test(start_paused = true)]
async fn two_importers_that_both_believe_to_lead_write_one_history() {
    for seed in 0..10 {
        let home = filled(5, 5, &json!({"scheduled": true}));
        let upstream = Arc::new(Upstream::new(seed, Duration::from_mins(2)));
        let mut running = JoinSet::new();
        running.spawn(importer(&home, &upstream));
        running.spawn(importer(&home, &upstream));
        for _ in 0..8 {
            sleep(INTERVAL / 3).await;
            upstream.push();
        }
        within(INTERVAL * 2, || all_have(&home, &Upstream::digest(8))).await;
        let order: BTreeMap<_, _> = (0..=8).map(|number| (Upstream::digest(number), number)).collect();
        for stream in home.all() {
            for tag in &stream.spec.tags {
                let history: Vec<_> = history(&stream, &tag.name).iter().map(|digest| order[digest]).collect();
                let is_falling = history.windows(2).all(|pair| pair[0] > pair[1]);
                assert!(is_falling, "seed {seed}, {} {}: {history:?}", stream.metadata.name, tag.name);
            }
        }
        assert!(home.conflicts() > 0, "seed {seed}: they never met");
    }
}

/// What must not depend on interruptions: everything but times.
fn settled(home: &MemoryHome) -> Vec<Value> {
    let without_times = |mut value: Value| {
        for events in value["status"]["tags"].as_array_mut().into_iter().flatten() {
            for item in events["items"].as_array_mut().unwrap() {
                item.as_object_mut().unwrap().remove("created");
            }
        }
        value
    };
    home.all().iter().map(|stream| without_times(serde_json::to_value(stream).unwrap())).collect()
}

/// Polls so many times and lets go. Says whether that was the end of it.
async fn polled(times: usize, work: impl Future<Output = ()>) -> bool {
    let mut work = pin!(work);
    let mut left = times;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        work.as_mut().poll(context).map(|()| true)
    })
    .await
}

/// Streams with something of every kind: tags of a registry, a tag that follows another, one that is new and unnumbered.
fn mixed() -> Arc<MemoryHome> {
    let home = filled(2, 2, &json!({}));
    home.put(json!({"metadata": {"name": "mixed", "namespace": "demo", "generation": 1}, "spec": {"tags": [
        {"name": "new", "from": {"kind": "DockerImage", "name": "q.io/a/b:1"}},
        {"name": "prod", "from": {"kind": "ImageStreamTag", "name": "new"}}]}}));
    home
}

#[tokio::test(start_paused = true)]
async fn importer_that_ends_at_any_moment_and_begins_again_reaches_the_same_end() {
    let undisturbed = mixed();
    let upstream = Arc::new(Upstream::new(1, Duration::from_secs(1)));
    let mut running = JoinSet::new();
    running.spawn(importer(&undisturbed, &upstream));
    within(HOUR, || is_imported(&undisturbed)).await;
    drop(running);
    let (mut untouched, mut complete) = (0, 0);
    for first in 1..80 {
        let home = mixed();
        assert!(!polled(first, importer(&home, &upstream)).await);
        untouched += usize::from(settled(&home) == settled(&mixed()));
        complete += usize::from(is_imported(&home));
        // The one after it does not live long either.
        assert!(!polled(80 - first, importer(&home, &upstream)).await);
        let mut running = JoinSet::new();
        running.spawn(importer(&home, &upstream));
        within(HOUR, || is_imported(&home)).await;
        assert_eq!(settled(&home), settled(&undisturbed), "ended after {first} steps");
    }
    let between = 79 - untouched - complete;
    assert!(
        untouched > 0 && complete > 0 && between > 10,
        "{untouched} untouched, {between} between, {complete} complete"
    );
}

fn is_imported(home: &MemoryHome) -> bool {
    let all = home.all();
    all.iter().all(|stream| stream.spec.tags.iter().all(|tag| !history(stream, &tag.name).is_empty()))
}

#[tokio::test(start_paused = true)]
async fn schedule_of_ten_thousand_tags_is_spread_over_the_minutes() {
    let home = filled(1000, 10, &json!({"scheduled": true}));
    let upstream = Arc::new(Upstream::new(1, Duration::from_millis(200)));
    let mut running = JoinSet::new();
    running.spawn(importer(&home, &upstream));
    within(HOUR, || all_have(&home, &Upstream::digest(0))).await;
    drop(running);
    let before: usize = upstream.asked().values().map(Vec::len).sum();
    assert_eq!(before, 10_000);

    // A new process, which knows of no schedule.
    running = JoinSet::new();
    running.spawn(importer(&home, &upstream));
    sleep(HOUR / 2).await;
    let mut minutes = BTreeMap::new();
    for (source, times) in upstream.asked() {
        assert!((2..=4).contains(&times.len()), "{source}: {times:?}");
        for time in &times[1..] {
            *minutes.entry(time.as_secs() / 60).or_insert(0) += 1;
        }
    }
    // 10,000 in 15 minutes are 667 a minute; 1,000 and what has been saved up for 10 s may come.
    assert!(minutes.values().all(|count| *count <= 1167), "{minutes:?}");
    assert!(minutes.len() >= 30, "{minutes:?}");
}
