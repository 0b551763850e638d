//! Upstreams that lie, break off, limit or never end: no client ever has a wrong blob, and nothing wrong is kept.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use pinstream::digest::Digest;
use pinstream::mirror::content::Limits;
use pinstream::mirror::{Contents as _, Part, PullError};
use pinstream::registry::Settings;
use pinstream::stream::Key;
use tokio::sync::Semaphore;

use crate::mirror::{Layered, Mirror, read, stream};
use crate::scripted::{Asked, Reply, Scripted, patient, soon};

const SIZE: usize = 600_000;

fn app() -> Key {
    Key::new("demo", "app")
}

/// What a registry answers to the request for the layer of an image of that number, from 0.
type Script = fn(&Layered, &Asked, usize) -> Reply;

/// A registry that has the image, but for its layer.
async fn registry(image: &Layered, script: Script) -> Scripted {
    let (image, count) = (image.clone(), AtomicUsize::new(0));
    Scripted::plain(move |asked| {
        if asked.path.ends_with(image.layer_digest.as_str()) {
            script(&image, asked, count.fetch_add(1, Ordering::SeqCst))
        } else {
            image.reply(asked)
        }
    })
    .await
}

fn layers(registry: &Scripted, image: &Layered) -> Vec<Option<usize>> {
    let asked = registry.asked().into_iter().filter(|asked| asked.path.ends_with(image.layer_digest.as_str()));
    asked.map(|asked| asked.from).collect()
}

async fn mirror(change: impl FnOnce(&mut Settings)) -> Mirror {
    Mirror::over(Arc::new(tempfile::tempdir().unwrap()), Limits::default(), change).await
}

/// The files that there are below the storage.
fn files(mirror: &Mirror) -> Vec<String> {
    let mut folders = vec![mirror.folder.path().to_owned()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path.display().to_string()) }
        }
    }
    files
}

/// The first `count` bytes of what is wanted, where all were announced.
fn broken(image: &Layered, asked: &Asked, count: usize) -> Reply {
    match image.rest(asked) {
        Reply::Whole { status, headers, body } => {
            Reply::Short { status, headers, announced: body.len(), body: body[..count].to_vec() }
        }
        other => other,
    }
}

/// What a registry does with the layer, what the client is told (`|`: or; one who is quick sees the body break off, one who
/// is not gets no body), and how often the registry is asked.
struct Fault(&'static str, Script, &'static str, usize);

const FAULTS: &[Fault] = &[
    Fault("absent", |_, _, _| Reply::status(404), "there is no 127.0.0.1:", 1),
    Fault("unauthorized", |_, _, _| Reply::status(401), "put a pull secret for 127.0.0.1:", 1),
    Fault("forbidden", |_, _, _| Reply::status(403), "refuses 127.0.0.1:", 1),
    Fault("failing", |_, _, _| Reply::status(500), "answers 500", 3),
    Fault("garbage", |_, _, _| Reply::Garbage, "cannot be reached", 3),
    Fault("loop", |_, asked, _| Reply::redirect(&asked.path), "redirects more than 5 times", 6),
    Fault("short", |_, _, _| Reply::text("short"), "has 5 bytes, its manifest says 600000", 1),
    Fault("huge", |_, _, _| Reply::Huge(100 << 20), "has 104857600 bytes, its manifest says 600000", 1),
    Fault("endless", |_, _, _| Reply::Endless, "the download of sha256:|sends more for sha256:", 1),
    Fault("wrong", |_, _, _| wrong(), "what was downloaded as sha256:", 1),
    Fault("cut", |image, asked, _| broken(image, asked, 0), "the download of sha256:|broke off its answer", 5),
    Fault("other-part", other_part, "the download of sha256:|sends another part", 2),
];

fn wrong() -> Reply {
    Reply::Whole { status: 200, headers: Vec::new(), body: vec![7; SIZE] }
}

fn other_part(image: &Layered, asked: &Asked, number: usize) -> Reply {
    match broken(image, asked, 300_000) {
        Reply::Short { body, announced, .. } if number > 0 => {
            Reply::Short { status: 206, headers: vec![("content-range", "bytes 5-9/600000".into())], announced, body }
        }
        other => other,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_and_not_kept() {
    for Fault(name, script, told, count) in FAULTS {
        let image = Layered::new(1, SIZE);
        let registry = registry(&image, *script).await;
        let mirror = mirror(|_| {}).await;
        mirror.put(stream(&app(), &[("1", &[(&format!("{}/a", registry.host), &image.digest)])]));
        let got = soon(name, mirror.blob(&app(), &image.layer_digest)).await;
        let error = got.expect_err(name);
        assert!(told.split('|').any(|told| error.contains(told)), "{name}: {error}");
        mirror.idle().await;
        assert_eq!(layers(&registry, &image).len(), *count, "{name}");
        assert!(!mirror.is_kept(&image.layer_digest).await, "{name}");
        assert!(!files(&mirror).iter().any(|file| file.contains(image.layer_digest.hex())), "{name}");
        // Nothing else suffers.
        assert_eq!(mirror.blob(&app(), &image.config_digest()).await.unwrap(), image.config.as_bytes(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limit_of_upstream_is_passed_on() {
    let image = Layered::new(1, SIZE);
    let registry = registry(&image, |_, _, _| Reply::status(429).with("retry-after", "7")).await;
    let mirror = mirror(|_| {}).await;
    mirror.put(stream(&app(), &[("1", &[(&format!("{}/a", registry.host), &image.digest)])]));
    mirror.manifest(&app(), &image.digest).await.unwrap();
    let limited = mirror.content.blob(&app(), &image.layer_digest, Part::Whole).await.map(|_| ());
    let Err(PullError::TooManyRequests { after: Some(after), .. }) = limited else { panic!("{limited:?}") };
    assert!(after <= Duration::from_secs(7), "{after:?}");
    assert_eq!(mirror.metric("pinstream_upstream_errors_total{reason=\"TooManyRequests\"}").await, 1);
    assert_eq!(layers(&registry, &image).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_blob_never_arrives_whole_and_the_next_repository_is_asked_then() {
    let image = Layered::new(1, SIZE);
    let liar = registry(&image, |_, _, _| wrong()).await;
    let honest = registry(&image, |image, asked, _| image.rest(asked)).await;
    let mirror = mirror(|_| {}).await;
    let repositories = [&liar, &honest].map(|registry| format!("{}/a", registry.host));
    let items = [(repositories[0].as_str(), &image.digest), (repositories[1].as_str(), &image.digest)];
    mirror.put(stream(&app(), &[("1", &items)]));
    let wrong = mirror.blob(&app(), &image.layer_digest).await.unwrap_err();
    assert!(wrong.contains("what was downloaded as"), "{wrong}");
    mirror.idle().await;
    assert!(!mirror.is_kept(&image.layer_digest).await);
    // The liar is not asked again while there is another.
    assert_eq!(mirror.blob(&app(), &image.layer_digest).await.unwrap(), image.layer);
    assert_eq!((layers(&liar, &image).len(), layers(&honest, &image).len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_part_of_a_wrong_blob_arrives_whole() {
    let image = Layered::new(1, SIZE);
    let liar = registry(&image, |_, _, _| wrong()).await;
    let mirror = mirror(|_| {}).await;
    mirror.put(stream(&app(), &[("1", &[(&format!("{}/a", liar.host), &image.digest)])]));
    for part in [Part::Between(0, 999), Part::Between(0, 0), Part::From(100), Part::Last(1)] {
        let blob = mirror.content.blob(&app(), &image.layer_digest, part).await;
        assert!(match blob {
            Ok(blob) => read(blob).await.1.is_err(),
            Err(_) => true,
        });
        mirror.idle().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn download_that_broke_off_is_resumed_where_it_was() {
    let resumed: Script = |image, asked, number| {
        if number < 3 { broken(image, asked, 100_000) } else { image.rest(asked) }
    };
    let begun_anew: Script = |image, asked, number| {
        if number == 0 {
            return broken(image, asked, 100_000);
        }
        Reply::Whole { status: 200, headers: Vec::new(), body: image.layer.clone() }
    };
    for (script, from) in
        [(resumed, vec![None, Some(100_000), Some(200_000), Some(300_000)]), (begun_anew, vec![None, Some(100_000)])]
    {
        let image = Layered::new(1, SIZE);
        let registry = registry(&image, script).await;
        let mirror = mirror(|_| {}).await;
        mirror.put(stream(&app(), &[("1", &[(&format!("{}/a", registry.host), &image.digest)])]));
        assert_eq!(mirror.blob(&app(), &image.layer_digest).await.unwrap(), image.layer);
        assert_eq!(layers(&registry, &image), from);
        mirror.idle().await;
        assert!(mirror.is_kept(&image.layer_digest).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn download_whose_registry_vanished_is_resumed_where_it_was() {
    let image = Layered::new(1, SIZE);
    let registry = registry(&image, |image, asked, number| match number {
        0 => Reply::Vanished { announced: SIZE, body: image.layer[..100_000].to_vec() },
        _ => image.rest(asked),
    })
    .await;
    let hurried = |settings: &mut Settings| settings.silence_timeout = Duration::from_millis(300);
    let mirror = mirror(hurried).await;
    mirror.put(stream(&app(), &[("1", &[(&format!("{}/a", registry.host), &image.digest)])]));
    let got = soon("the blob comes", mirror.blob(&app(), &image.layer_digest)).await;
    assert_eq!(got.unwrap(), image.layer);
    assert_eq!(layers(&registry, &image), [None, Some(100_000)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_repository_goes_on_where_one_broke_off() {
    let image = Layered::new(1, SIZE);
    let breaking = registry(&image, |image, asked, number| match number {
        0 => broken(image, asked, 250_000),
        _ => Reply::status(404),
    })
    .await;
    let sound = registry(&image, |image, asked, _| image.rest(asked)).await;
    let mirror = mirror(|_| {}).await;
    let repositories = [&breaking, &sound].map(|registry| format!("{}/a", registry.host));
    let items = [(repositories[0].as_str(), &image.digest), (repositories[1].as_str(), &image.digest)];
    mirror.put(stream(&app(), &[("1", &items)]));
    assert_eq!(mirror.blob(&app(), &image.layer_digest).await.unwrap(), image.layer);
    assert_eq!(layers(&sound, &image), [Some(250_000)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn upstream_that_is_silent_or_too_slow_is_given_up() {
    for reply in [Reply::Silent, Reply::Drip] {
        let image = Layered::new(1, SIZE);
        let (script, answer) = (image.clone(), reply.clone());
        let registry = Scripted::plain(move |asked| {
            if asked.path.ends_with(script.layer_digest.as_str()) { answer.clone() } else { script.reply(asked) }
        })
        .await;
        let hurried = |settings: &mut Settings| {
            settings.silence_timeout = Duration::from_millis(300);
            settings.total_timeout = Duration::from_millis(600);
        };
        let mirror = mirror(hurried).await;
        mirror.keep_manifest(&image).await;
        mirror.put(stream(&app(), &[("1", &[(&format!("{}/a", registry.host), &image.digest)])]));
        soon("it is given up", mirror.blob(&app(), &image.layer_digest)).await.unwrap_err();
        mirror.idle().await;
        soon("nothing hangs", async {
            while registry.hanging() > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn source_that_stalls_holds_no_more_room_than_what_it_sent() {
    const ANNOUNCED: usize = 1 << 30;
    const SENT: usize = 1 << 20;
    let mut image = Layered::new(1, SENT);
    image.manifest = image.manifest.replace(&format!("\"size\":{SENT}"), &format!("\"size\":{ANNOUNCED}"));
    image.digest = Digest::of(image.manifest.as_bytes());
    let registry =
        registry(&image, |image, _, _| Reply::Vanished { announced: ANNOUNCED, body: image.layer.clone() }).await;
    let mirror = mirror(patient).await;
    mirror.put(stream(&app(), &[("1", &[(&format!("{}/a", registry.host), &image.digest)])]));
    let mut blob = mirror.content.blob(&app(), &image.layer_digest, Part::Whole).await.unwrap();
    assert_eq!(blob.size, ANNOUNCED as u64);
    // The last piece that came may not be written down yet.
    soon("it begins to come", async {
        let mut came = 0;
        while came < SENT / 2 {
            came += blob.body.next().await.unwrap().unwrap().len();
        }
    })
    .await;
    let spool = files(&mirror).into_iter().find(|file| file.contains(image.layer_digest.hex())).unwrap();
    let held = fs::metadata(spool).unwrap().blocks() * 512;
    assert!(held < 4 * SENT as u64, "{held} bytes of the disk are held");
}

#[tokio::test(flavor = "multi_thread")]
async fn process_that_ends_leaves_no_half_and_tells_who_waits() {
    let image = Layered::new(1, SIZE);
    let gate = Arc::new(Semaphore::new(0));
    let (held, script) = (Arc::clone(&gate), image.clone());
    let registry = Scripted::plain(move |asked| {
        if !asked.path.ends_with(script.layer_digest.as_str()) {
            return script.reply(asked);
        }
        if asked.from.is_some() {
            return Reply::Held(Arc::clone(&held), Box::new(script.reply(asked)));
        }
        broken(&script, asked, 300_000)
    })
    .await;
    let mut mirror = mirror(patient).await;
    mirror.put(stream(&app(), &[("1", &[(&format!("{}/a", registry.host), &image.digest)])]));
    let blob = mirror.content.blob(&app(), &image.layer_digest, Part::Whole).await.unwrap();
    soon("it hangs in the middle", async {
        while layers(&registry, &image).len() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    mirror.stop().await;
    let (came, end) = read(blob).await;
    assert!(end.unwrap_err().contains("given up") && came < 300_000);
    assert!(!files(&mirror).iter().any(|file| file.contains(image.layer_digest.hex())));
    let refused = mirror.blob(&app(), &image.layer_digest).await.unwrap_err();
    assert!(refused.contains("was given up"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn manifest_that_is_wrong_is_not_passed_on() {
    let image = Layered::new(1, SIZE);
    for (reply, told) in [
        (Reply::text("{}"), "sent something else than sha256:"),
        (Reply::Endless, "answers with more than 4096 KiB"),
        (Reply::Cut, "broke off its answer"),
        (Reply::status(404), "there is no 127.0.0.1:"),
    ] {
        let registry = Scripted::plain(move |_| reply.clone()).await;
        let mirror = mirror(|_| {}).await;
        mirror.put(stream(&app(), &[("1", &[(&format!("{}/a", registry.host), &image.digest)])]));
        let refused = mirror.manifest(&app(), &image.digest).await.unwrap_err().to_string();
        assert!(refused.contains(told), "{refused}");
        assert_eq!(files(&mirror), [""; 0]);
    }
}
