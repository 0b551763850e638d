//! Everything is killed, each process once and then at random, while Pods are created, tags move and images are pulled; then
//! nothing that was acknowledged is lost, nothing is there that never was, and all goes on by itself.

use std::env;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use crate::control_plane::ControlPlane;
use crate::disturbed::{Disturbed, TAG, Victim, image};
use crate::importing::{self, history, named, streams_path};
use crate::monitored::pods_path;
use crate::random::Random;
use crate::record::Record;
use crate::waiting::{eventually, eventually_within};

crate::tests![processes_killed_at_random_under_load_lose_nothing_and_tell_nothing_wrong];

/// How often something is killed, if this variable does not say more: so often that each is.
const ROUNDS: usize = Victim::ALL.len();
const ROUNDS_VARIABLE: &str = "PINSTREAM_TEST_ROUNDS";
/// Pods that are created between two kills, at most.
const PODS: u64 = 20;
/// How long what was killed stays away, at most, in milliseconds.
const AWAY: u64 = 1500;
/// How much older than the streams an answer may be: a watch that was lost is sought again after 30 s at the latest.
const OLD: Duration = Duration::from_secs(40);
/// The controllers of Kubernetes try again ever more seldom.
const SETTLED: Duration = Duration::from_mins(4);

fn processes_killed_at_random_under_load_lose_nothing_and_tell_nothing_wrong(plane: &ControlPlane) {
    let plane = plane.another();
    let disturbed = Disturbed::start(&plane);
    let record = Record::default();
    let mut random = Random::new();
    let rounds = env::var(ROUNDS_VARIABLE).map_or(ROUNDS, |rounds| ROUNDS.max(rounds.parse().unwrap()));
    let first = Victim::shuffled(&mut random);
    disturbed.begin(&record);
    thread::scope(|scope| {
        disturbed.load(scope, &record);
        for round in 0..rounds {
            let victim = first.get(round).copied().unwrap_or_else(|| Victim::any(&mut random));
            kill(&disturbed, &record, &mut random, victim);
        }
        record.end.store(true, Ordering::Relaxed);
    });
    eprintln!("{}", record.summary());
    histories_are_what_was_pushed(&disturbed, &record);
    pods_are_what_was_acknowledged(&disturbed, &record);
    deployments_have_their_pods(&disturbed, &record);
    let (pods, pulls) = (record.oldest_pod(), record.oldest_pull());
    eprintln!("Pods had images that were no longer current for {pods:?} at most, pulls {pulls:?}");
    assert!(pods < OLD && pulls < OLD);
    eventually("every process is ready", || disturbed.is_ready());
}

/// Kills this one or two, and starts them again a moment later.
fn kill(disturbed: &Disturbed, record: &Record, random: &mut Random, victim: Victim) {
    record.goes_on(1 + random.below(PODS));
    let mut victims: Vec<Victim> = (0..random.below(2)).map(|_| Victim::any(random)).chain([victim]).collect();
    victims.sort();
    victims.dedup();
    eprintln!("{victims:?} killed after {}", record.summary());
    for victim in &victims {
        disturbed.kill(*victim);
    }
    // It is away for a time, not until something happens: nothing may happen without it.
    thread::sleep(Duration::from_millis(random.below(AWAY)));
    for victim in victims {
        disturbed.start_again(victim);
    }
}

fn histories_are_what_was_pushed(disturbed: &Disturbed, record: &Record) {
    for (stream, expected) in record.histories() {
        let found = list(disturbed, &format!("{}/{stream}", streams_path(&disturbed.namespace.name)));
        assert_eq!(history(&named(&found["status"]["tags"], "tag", TAG)), expected, "{stream}");
        assert_eq!(found["metadata"]["annotations"]["move"], (expected.len() - 1).to_string(), "{stream}");
        let unknown = expected.iter().find(|image| importing::image(&disturbed.namespace, image).is_none());
        assert_eq!(unknown, None, "an image of {stream} is not kept");
    }
}

/// Each Pod that was acknowledged is there as it was, and no Pod has an image that its stream never had.
fn pods_are_what_was_acknowledged(disturbed: &Disturbed, record: &Record) {
    let list = list(disturbed, &pods_path(&disturbed.namespace));
    let stored = list["items"].as_array().unwrap();
    for pod in record.pods() {
        let found = stored.iter().find(|found| found["metadata"]["uid"] == pod.uid.as_str());
        let found = found.unwrap_or_else(|| panic!("Pod {} is lost", pod.name));
        assert_eq!(image(found), pod.answer.image, "{}", pod.name);
    }
    let histories = record.histories();
    for pod in stored {
        let is_known = histories.values().any(|images| images.iter().any(|known| known == image(pod)));
        assert!(is_known, "{} has {}", pod["metadata"]["name"], image(pod));
    }
}

fn deployments_have_their_pods(disturbed: &Disturbed, record: &Record) {
    let path = format!("/apis/apps/v1/namespaces/{}/deployments", disturbed.namespace.name);
    let has_pods = |list: &Value, name: &str| named_object(list, name)["status"]["replicas"] == 1;
    eventually_within(SETTLED, "every Deployment that was acknowledged has its Pod", || {
        disturbed.keep_running();
        let list = list(disturbed, &path);
        let missing: Vec<_> = record.deployments().into_iter().filter(|name| !has_pods(&list, name)).collect();
        if missing.is_empty() { Ok(()) } else { Err(missing.join(", ")) }
    });
}

fn named_object<'l>(list: &'l Value, name: &str) -> &'l Value {
    let mut items = list["items"].as_array().unwrap().iter();
    items.find(|item| item["metadata"]["name"] == name).unwrap_or_else(|| panic!("{name} is lost"))
}

/// What the API server has there, once it works again.
fn list(disturbed: &Disturbed, path: &str) -> Value {
    eventually("the API server answers", || {
        disturbed.ask(&Method::GET, path, None).and_then(|(status, body)| (status == 200).then_some(body))
    })
}
