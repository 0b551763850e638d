//! The loop against an API server that follows a script, in simulated time: what it asks for, in which order and when,
//! and what its sink is told. How real API servers behave is seen by the cluster tests.

use std::sync::{Arc, Mutex};

use kube::core::Status;
use rstest::rstest;
use serde_json::Value;

use super::script::{Answer, End, Requests, bookmark, event, object, refusal, server, status};
use super::*;
use crate::store::kube::objects::Served;

const STREAMS: Subject = Subject::Streams(Preference::Pinstream);
const PODS: Subject = Subject::Pods;
const LEVELS: Subject = Subject::Levels;

/// What the sink was told.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    fn tell(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }
}

impl Sink for Told {
    fn begin_list(&mut self) {
        self.tell("begin");
    }

    fn end_list(&mut self) {
        self.tell("end");
    }

    fn apply(&mut self, item: Item) {
        self.tell(format!("+{}", item.key().name));
    }

    fn delete(&mut self, key: &Key) {
        self.tell(format!("-{}", key.name));
    }

    fn flush(&mut self) {
        self.tell("flush");
    }

    fn is_current(&mut self) {
        self.tell("current");
    }

    fn is_lost(&mut self, _since: Instant) {
        self.tell("lost");
    }
}

/// What happened: requests, and what the sink was told.
struct Happened(Arc<Requests>, Told);

impl Happened {
    fn requests(&self) -> Vec<String> {
        self.0.uris()
    }

    fn waits(&self) -> Vec<Duration> {
        self.0.waits()
    }

    fn told(&self) -> String {
        self.1.0.lock().unwrap().join(" ")
    }
}

/// Keeps what is watched until a request comes for which there is no answer left.
async fn follow(subject: Subject, script: Vec<Answer>) -> Happened {
    let (told, (client, requests)) = (Told::default(), server(script));
    tokio::select! {
        () = Watched::of(client, subject, told.clone()).keep() => {}
        () = requests.are_over() => {}
    }
    Happened(requests, told)
}

fn page(names: &[&str], version: &str, rest: &str) -> Answer {
    let items: Vec<Value> = names.iter().map(|name| object(name, version)).collect();
    script::page(&items, version, rest)
}

/// What asks for the first page.
fn list(subject: Subject) -> &'static str {
    match subject {
        Subject::Streams(_) => "/apis/pinstream.dev/v1/imagestreams?&limit=100",
        Subject::Pods => "/api/v1/pods?&fieldSelector=status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed&limit=500",
        Subject::Levels => "/api/v1/namespaces?&labelSelector=pinstream.dev%2Fpolicy&limit=500",
    }
}

fn watch(subject: Subject, version: &str) -> String {
    let how = "timeoutSeconds=290";
    let which = match subject {
        Subject::Streams(_) => format!("/apis/pinstream.dev/v1/imagestreams?&watch=true&{how}"),
        Subject::Pods => format!(
            "/api/v1/pods?&watch=true&{how}&fieldSelector=status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed"
        ),
        Subject::Levels => {
            format!("/api/v1/namespaces?&watch=true&{how}&labelSelector=pinstream.dev%2Fpolicy")
        }
    };
    format!("{which}&allowWatchBookmarks=true&resourceVersion={version}")
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn every_page_is_read_before_the_watch_begins_where_the_list_ended(
    #[values(STREAMS, PODS, LEVELS)] subject: Subject,
) {
    let happened = follow(subject, vec![page(&["a"], "6", "more"), page(&["b", "c"], "7", "")]).await;
    assert_eq!(happened.requests(), [list(subject), &format!("{}&continue=more", list(subject)), &watch(subject, "7")]);
    assert_eq!(happened.told(), "begin +a +b +c end flush");
}

#[rstest]
#[case(vec![refusal(503), Answer::Broken, refusal(429)])]
#[case(vec![Answer::Events(vec![], End::Closed)])]
#[case(vec![Answer::Events(vec![], End::Open)])]
#[tokio::test(start_paused = true)]
async fn what_passes_is_resumed_where_the_watch_was(
    #[values(STREAMS, PODS, LEVELS)] subject: Subject,
    #[case] trouble: Vec<Answer>,
) {
    let tries = trouble.len() + 1;
    let events = vec![event("MODIFIED", &object("a", "8")), event("DELETED", &object("b", "9")), bookmark("12")];
    let mut script = vec![page(&["a", "b"], "7", ""), Answer::Events(events, End::Closed)];
    script.extend(trouble);
    let happened = follow(subject, script).await;
    assert_eq!(happened.requests()[..2], [list(subject), &watch(subject, "7")]);
    assert_eq!(happened.requests()[2..], vec![watch(subject, "12"); tries]);
    assert!(happened.told().starts_with("begin +a +b end flush current +a -b flush lost"), "{}", happened.told());
}

#[rstest]
#[case(Answer::Events(vec![event("ERROR", &status(410))], End::Open))]
#[case(refusal(410))]
#[case(refusal(403))]
#[case(refusal(404))]
#[tokio::test(start_paused = true)]
async fn after_anything_else_everything_is_listed_again(
    #[values(STREAMS, PODS, LEVELS)] subject: Subject,
    #[case] trouble: Answer,
) {
    let happened = follow(subject, vec![page(&["a"], "7", ""), trouble, page(&["b"], "20", "")]).await;
    assert_eq!(happened.requests(), [list(subject), &watch(subject, "7"), list(subject), &watch(subject, "20")]);
    assert!(happened.told().ends_with("lost begin +b end flush"), "{}", happened.told());
}

#[rstest]
#[case(refusal(410))]
#[case(Answer::Broken)]
#[tokio::test(start_paused = true)]
async fn list_that_breaks_off_begins_again_at_its_first_page(
    #[values(STREAMS, PODS, LEVELS)] subject: Subject,
    #[case] trouble: Answer,
) {
    let happened = follow(subject, vec![page(&["a"], "6", "more"), trouble, page(&["b"], "9", "")]).await;
    assert_eq!(
        happened.requests(),
        [list(subject), &format!("{}&continue=more", list(subject)), list(subject), &watch(subject, "9")]
    );
    assert_eq!(happened.told(), "begin +a begin +b end flush");
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn watch_that_says_nothing_is_given_up(#[values(STREAMS, PODS, LEVELS)] subject: Subject) {
    let happened = follow(subject, vec![page(&[], "7", ""), Answer::Events(vec![bookmark("8")], End::Open)]).await;
    assert_eq!(happened.requests(), [list(subject), &watch(subject, "7"), &watch(subject, "8")]);
    assert!(happened.waits()[1] >= SILENCE_LIMIT, "{:?}", happened.waits());
    assert_eq!(happened.told(), "begin end flush current flush lost");
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn tries_become_fewer_until_one_succeeds(#[values(STREAMS, PODS, LEVELS)] subject: Subject) {
    let refused = || (0..20).map(|_| refusal(503));
    let heard = Answer::Events(vec![bookmark("8")], End::Closed);
    let happened = follow(subject, refused().chain([page(&[], "7", ""), heard]).chain(refused()).collect()).await;
    let waits = happened.waits();
    let (first, longest) = (Duration::from_millis(500), Duration::from_secs(30));
    for waits in [&waits[..20], &waits[21..]] {
        assert!(waits[0] <= first && waits.iter().all(|wait| *wait <= longest + Duration::from_millis(1)), "{waits:?}");
        assert!(waits[10..].iter().all(|wait| *wait >= longest / 2), "{waits:?}");
    }
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn api_server_that_is_back_is_asked_soon_again(#[values(STREAMS, PODS, LEVELS)] subject: Subject) {
    let away = || (0..10).map(|_| Answer::Broken);
    let starting = || (0..10).map(|_| refusal(503));
    let happened = follow(subject, away().chain(starting()).chain(away()).chain(starting()).collect()).await;
    let waits = happened.waits();
    let (first, longest) = (Duration::from_millis(500), Duration::from_secs(30));
    assert!(waits[9] >= longest / 2 && waits[10] <= first, "{waits:?}");
    // Once, so that one that comes and goes is not asked again and again.
    assert!(waits[20..].iter().all(|wait| *wait >= longest / 2), "{waits:?}");
}

#[rstest]
#[case(vec![])]
#[case(vec![event("ERROR", &status(410))])]
#[tokio::test(start_paused = true)]
async fn watches_that_end_at_once_become_fewer(
    #[case] events: Vec<String>,
    #[values(STREAMS, PODS, LEVELS)] subject: Subject,
) {
    // Without an error the watch is resumed; after one everything is listed first.
    let ended = || Answer::Events(events.clone(), End::Closed);
    let try_again = || if events.is_empty() { vec![ended()] } else { vec![ended(), page(&[], "7", "")] };
    let script = std::iter::once(page(&[], "7", "")).chain((0..20).flat_map(|_| try_again())).collect();
    let happened = follow(subject, script).await;
    let waits: Vec<_> = happened.waits().into_iter().filter(|wait| *wait >= Duration::from_millis(100)).collect();
    assert_eq!(waits.len(), 20, "{waits:?}");
    assert!(waits[10..].iter().all(|wait| *wait >= Duration::from_secs(15)), "{waits:?}");
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn what_was_forgotten_during_an_outage_is_listed_at_once(#[values(STREAMS, PODS, LEVELS)] subject: Subject) {
    let gone = Answer::Events(vec![event("ERROR", &status(410))], End::Closed);
    let outage = (0..10).map(|_| refusal(503));
    let script = std::iter::once(page(&[], "7", "")).chain(outage).chain([gone, page(&[], "8", "")]).collect();
    let happened = follow(subject, script).await;
    let waits: Vec<_> = happened.waits().into_iter().filter(|wait| *wait >= Duration::from_millis(100)).collect();
    assert!(waits[9] > Duration::from_secs(10) && waits[10] < Duration::from_secs(1), "{waits:?}");
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn api_server_that_asks_for_patience_gets_it(#[values(STREAMS, PODS, LEVELS)] subject: Subject) {
    let busy = |seconds| Answer::Patient(429, "Too many requests, please try again later.".to_owned(), seconds);
    let script = vec![busy("7"), busy("3600"), page(&[], "7", ""), busy("9"), Answer::Broken];
    let waits = follow(subject, script).await.waits();
    let expected = [7, 60, 0, 9].map(Duration::from_secs);
    for (wait, least) in waits.iter().zip(expected) {
        assert!(*wait >= least && *wait <= least * 11 / 10 + Duration::from_millis(1), "{waits:?}");
    }
    // It is for once.
    assert!(waits[4] < Duration::from_secs(5), "{waits:?}");
}

#[rstest]
#[case(401, false, "check the Pod's ServiceAccount token")]
#[case(403, false, "allow get, list and watch on imagestreams.pinstream.dev")]
#[case(404, false, "pinstream crd | kubectl apply")]
#[case(410, false, "listed again")]
#[case(429, true, "answers 429: because")]
#[case(503, true, "answers 503: because")]
fn refusal_names_the_next_step(#[case] code: u16, #[case] is_passing: bool, #[case] text: &str) {
    let status = Status { code, message: "because".to_owned(), ..Status::default() };
    let error = WatchError::of(&kube::Error::Api(status.boxed()), Collection::Streams(Served::Pinstream));
    assert_eq!(error.is_passing(), is_passing);
    assert!(error.to_string().contains(text), "{error}");
}

#[rstest]
#[case(404, Collection::Streams(Served::OpenShift), "no imagestreams.image.openshift.io")]
#[case(404, Collection::Streams(Served::OpenShift), "--source pinstream")]
#[case(404, Collection::Pods, "answers 404: because")]
#[case(403, Collection::Pods, "allow list and watch on pods in all namespaces")]
#[case(403, Collection::Pods, "or turn the audit off with --no-audit")]
#[case(403, Collection::Levelled, "allow list and watch on namespaces")]
fn refusal_is_of_what_was_asked_for(#[case] code: u16, #[case] collection: Collection, #[case] text: &str) {
    let status = Status { code, message: "because".to_owned(), ..Status::default() };
    let error = WatchError::of_status(&status, collection).to_string();
    assert!(error.contains(text), "{error}");
}
