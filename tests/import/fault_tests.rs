//! Registries that answer wrongly, too late, too much or not at all: each ends in a clear condition of its own tag.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;

use crate::memory::{MemoryHome, importer, result, stream};
use crate::scripted::{Asked, Reply, Scripted, TinyImage, client, digest, patient, soon};

/// How many bytes an answer without an end may have sent: what is read, and what the system holds on the way.
const TAKEN_MAX: u64 = 24 << 20;

/// How many streams wait for each registry that never ends its answer: two of these would take all places.
const HANGING: usize = 110;

/// What a registry does, the reason and the words of the condition, and how many requests it takes.
struct Fault(&'static str, fn(&Asked) -> Reply, &'static str, &'static str, usize);

const FAULTS: &[Fault] = &[
    Fault("not-found", |_| Reply::status(404), "NotFound", "there is no 127.0.0.1:", 1),
    Fault("no-challenge", |_| Reply::status(401), "Unauthorized", "put a pull secret for 127.0.0.1:", 1),
    Fault("forbidden", |_| Reply::status(403), "Forbidden", "refuses 127.0.0.1:", 1),
    Fault("limited", |_| Reply::status(429).with("retry-after", "7"), "TooManyRequests", "wants fewer requests", 1),
    Fault("broken", |_| Reply::status(500), "InternalError", "answers 500", 3),
    Fault("garbage", |_| Reply::Garbage, "ServiceUnavailable", "cannot be reached", 3),
    Fault("cut", |_| Reply::Cut, "ServiceUnavailable", "broke off its answer", 3),
    Fault("endless", |_| Reply::Endless, "Invalid", "answers with more than 4096 KiB", 1),
    Fault("huge", |_| Reply::Huge(100 << 20), "Invalid", "answers with more than 4096 KiB", 1),
    Fault("loop", |asked| Reply::redirect(&asked.path), "InternalError", "redirects more than 5 times", 6),
    Fault("nowhere", |_| Reply::status(307), "InternalError", "redirects to nowhere", 1),
    Fault("elsewhere", |_| Reply::redirect("ftp://127.0.0.1/"), "InternalError", "redirects to ftp", 1),
    Fault("signed", |_| Reply::redirect(SIGNED), "ServiceUnavailable", "cannot be reached", 3),
    Fault("no-json", |_| Reply::text("{"), "Invalid", "manifest cannot be read", 1),
    Fault("deep-json", |_| Reply::text(&"[".repeat(1 << 20)), "Invalid", "manifest cannot be read", 1),
    Fault("schema-1", |_| Reply::json(&json!({"schemaVersion": 1})), "Invalid", "schema 1", 1),
    Fault("wrong-digest", wrong_digest, "InternalError", "sent something else than sha256:0000", 1),
    Fault("wrong-config", wrong_config, "InternalError", "sent something else than sha256:", 2),
    Fault("no-child", no_child, "NotFound", "there is no 127.0.0.1:", 2),
    Fault("endless-digest", endless_digest, "Invalid", "1024 KiB of digests, media types", 1),
    Fault("token-refused", |asked| token(asked, Reply::status(401)), "Unauthorized", "put a pull secret for", 2),
    Fault("token-broken", |asked| token(asked, Reply::status(500)), "InternalError", "answers 500", 2),
    Fault("token-missing", |asked| token(asked, Reply::json(&json!({}))), "InternalError", "with an empty token", 2),
    Fault("token-no-json", |asked| token(asked, Reply::text("?")), "InternalError", "with no token", 2),
    Fault("token-of-lines", |asked| token(asked, two_lines()), "InternalError", "a token that no header can have", 2),
    Fault("token-endless", |asked| token(asked, Reply::Endless), "Invalid", "more than 64 KiB", 2),
    Fault("token-large", |asked| token(asked, large()), "InternalError", "a token of more than 16 KiB", 2),
    Fault("token-nowhere", |_| Reply::bearer("nonsense"), "InternalError", "no URL: \"nonsense\"", 1),
];

/// Where nobody listens, with a secret in the way there.
const SIGNED: &str = "http://127.0.0.1:1/blob?X-Amz-Signature=s3cr3t";

fn wrong_digest(_: &Asked) -> Reply {
    let lie = format!("sha256:{}", "0".repeat(64));
    Reply::text(&TinyImage::new("a").manifest).with("docker-content-digest", lie)
}

fn wrong_config(asked: &Asked) -> Reply {
    if asked.path.contains("/blobs/") { Reply::text("{}") } else { TinyImage::new("a").reply(asked) }
}

fn no_child(asked: &Asked) -> Reply {
    let child = digest(b"missing");
    if asked.path.contains(&child) {
        return Reply::status(404);
    }
    Reply::json(&json!({"schemaVersion": 2, "manifests": [{"digest": child, "size": 7}]}))
}

fn endless_digest(_: &Asked) -> Reply {
    Reply::json(&json!({"schemaVersion": 2, "manifests": [{"digest": "a".repeat(1 << 20), "size": 7}]}))
}

fn two_lines() -> Reply {
    Reply::json(&json!({"token": "one\r\nx-two: 3"}))
}

fn large() -> Reply {
    Reply::json(&json!({"token": "t".repeat((16 << 10) + 1)}))
}

/// A token is wanted, and the token server says that.
fn token(asked: &Asked, reply: Reply) -> Reply {
    if asked.path.starts_with("/token") { reply } else { Reply::bearer(&format!("http://{}/token", asked.host)) }
}

/// A stream `name` with one tag from a registry that may be asked in plain HTTP.
fn tagged(name: &str, registry: &Scripted) -> serde_json::Value {
    stream(name, &[("1", &format!("{}/a/{name}:1", registry.host))], &json!({"insecure": true}))
}

/// More streams than there are places wait for two registries that never end their answers. Then come all other faults
/// at once, and a good stream last.
#[tokio::test(flavor = "multi_thread")]
async fn every_fault_ends_in_a_clear_condition_and_none_holds_up_another_stream() {
    let (home, good) = (MemoryHome::new(), TinyImage::new("good"));
    let (silent, slow) = (Scripted::plain(|_| Reply::Silent).await, Scripted::plain(|_| Reply::Drip).await);
    for number in 0..HANGING {
        home.put(tagged(&format!("silent-{number}"), &silent));
        home.put(tagged(&format!("slow-{number}"), &slow));
    }
    let mut running = JoinSet::new();
    let limited = client(|settings| {
        patient(settings);
        settings.concurrency = 8;
    });
    running.spawn(importer(&home, &Arc::new(limited)));
    soon("registries hang", async {
        while silent.hanging() + slow.hanging() < 16 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;

    let mut registries = Vec::new();
    for Fault(name, script, ..) in FAULTS {
        let registry = Scripted::plain(script).await;
        home.put(tagged(name, &registry));
        registries.push(registry);
    }
    let answering = good.clone();
    let registry = Scripted::plain(move |asked| answering.reply(asked)).await;
    home.put(tagged("with-a-good-registry", &registry));

    let is_done = |home: &MemoryHome| {
        let names = FAULTS.iter().map(|Fault(name, ..)| *name).chain(["with-a-good-registry"]);
        names.into_iter().all(|name| result(&home.get(name), "1").is_some())
    };
    soon("every import ends", home.until(is_done)).await;
    assert!(silent.hanging() > 0 && slow.hanging() > 0);
    assert!((0..HANGING).all(|number| result(&home.get(&format!("silent-{number}")), "1").is_none()));
    assert!(home.has_image(&good.digest));
    assert_eq!(result(&home.get("with-a-good-registry"), "1"), Some(Ok(good.digest)));
    for (Fault(name, _, expected, words, requests), registry) in FAULTS.iter().zip(&registries) {
        let (reason, message) = result(&home.get(name), "1").unwrap().unwrap_err();
        assert_eq!(reason, *expected, "{name}: {message}");
        assert!(message.contains(words) && message.len() < 2000, "{name}: {message}");
        assert_eq!(registry.asked().len(), *requests, "{name}: {:?}", registry.asked());
        assert!(registry.sent() < TAKEN_MAX, "{name}: {} bytes", registry.sent());
    }
    let told = format!("{:?} {:?}", home.all(), home.news());
    assert!(told.contains("signed") && !told.contains("s3cr3t"), "{told}");
}

/// More tags than one write takes; of one the image is more than an API server stores, say.
#[tokio::test]
async fn image_that_cannot_be_kept_holds_up_no_other_tag_of_its_stream() {
    let (home, good, bad) = (MemoryHome::new(), TinyImage::new("good"), TinyImage::new("bad"));
    let digests = [good.digest.clone(), bad.digest.clone()];
    let answer = move |asked: &Asked| if asked.path.contains("/bad/") { bad.reply(asked) } else { good.reply(asked) };
    let registry = Scripted::plain(answer).await;
    home.refuses_image(&digests[1]);
    let (good, bad) = (format!("{}/a/good:1", registry.host), format!("{}/a/bad/it:1", registry.host));
    let names: Vec<_> = (0..60).map(|number| format!("good-{number:02}")).collect();
    let tags = std::iter::once(("a-bad-one", &*bad)).chain(names.iter().map(|name| (&**name, &*good)));
    home.put(stream("app", &tags.collect::<Vec<_>>(), &json!({"insecure": true})));
    let mut running = JoinSet::new();
    running.spawn(importer(&home, &Arc::new(client(|_| {}))));
    let is_done = |home: &MemoryHome| names.iter().all(|name| result(&home.get("app"), name).is_some());
    soon("all others are imported", home.until(is_done)).await;
    let app = home.get("app");
    assert!(names.iter().all(|name| result(&app, name) == Some(Ok(digests[0].clone()))));
    assert_eq!(result(&app, "a-bad-one"), None);
}

#[tokio::test]
async fn registry_that_is_silent_or_slow_is_given_up() {
    let home = MemoryHome::new();
    let (silent, slow) = (Scripted::plain(|_| Reply::Silent).await, Scripted::plain(|_| Reply::Drip).await);
    home.put(tagged("silent", &silent));
    home.put(tagged("slow", &slow));
    let impatient = client(|settings| {
        settings.silence_timeout = Duration::from_millis(300);
        settings.total_timeout = Duration::from_millis(600);
    });
    let mut running = JoinSet::new();
    running.spawn(importer(&home, &Arc::new(impatient)));
    let failed = |home: &MemoryHome| ["silent", "slow"].iter().all(|name| result(&home.get(name), "1").is_some());
    soon("both fail", home.until(failed)).await;
    for name in ["silent", "slow"] {
        let (reason, message) = result(&home.get(name), "1").unwrap().unwrap_err();
        assert_eq!(reason, "Timeout", "{message}");
        assert!(message.contains("does not answer in time"), "{message}");
    }
    soon("connections are given up", async {
        while silent.hanging() + slow.hanging() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}
