//! When things come due, step by step and as a property over any order of events.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_mins(15);
const RULES: Rules = Rules { interval: INTERVAL, scheduled_per_minute: 60_000 };

/// A stream with one tag: generation of the spec, of its newest entry, of its failure.
fn stream(name: &str, generation: i64, item: Option<i64>, failure: Option<i64>, scheduled: bool) -> ImageStream {
    let items: Vec<Value> = item
        .map(|generation| json!({"dockerImageReference": "a", "image": "sha256:1", "generation": generation}))
        .into_iter()
        .collect();
    let conditions: Vec<Value> = failure
        .map(|generation| json!({"type": "ImportSuccess", "status": "False", "generation": generation}))
        .into_iter()
        .collect();
    serde_json::from_value(json!({"metadata": {"name": name, "namespace": "demo"},
        "spec": {"tags": [{"name": "1", "generation": generation, "importPolicy": {"scheduled": scheduled},
            "from": {"kind": "DockerImage", "name": "q.io/a:1"}}]},
        "status": {"tags": [{"tag": "1", "items": items, "conditions": conditions}]}}))
    .unwrap()
}

fn due(agenda: &mut Agenda, now: Duration) -> Option<Vec<String>> {
    agenda.next(now).map(|due| due.tags)
}

/// What was taken out last is done, with that verdict for all of it.
fn finish(agenda: &mut Agenda, verdict: Verdict, now: Duration) {
    let verdicts = [WHOLE_STREAM, "1", "2"].map(|tag| (tag.to_owned(), verdict));
    agenda.finish(&Key::new("demo", "app"), agenda.taken, &verdicts, now, 7 << 60);
}

#[test]
fn what_is_asked_for_is_due_at_once_and_once() {
    let mut agenda = Agenda::new(RULES);
    agenda.apply(&stream("app", 2, Some(1), None, false), SECOND, 0);
    assert_eq!(due(&mut agenda, SECOND), Some(vec!["1".to_owned()]));
    assert_eq!(due(&mut agenda, SECOND), None);
    agenda.apply(&stream("app", 2, Some(2), None, false), SECOND, 0);
    finish(&mut agenda, Verdict::Done, SECOND);
    assert_eq!((agenda.wake(), agenda.states()), (None, States { imported: 1, ..States::default() }));
}

#[test]
fn change_while_it_runs_is_due_afterwards_whatever_became_of_what_was_before() {
    for verdict in [Verdict::Done, Verdict::Again, Verdict::Later(None), Verdict::Never, Verdict::Away(None)] {
        let mut agenda = Agenda::new(RULES);
        agenda.apply(&stream("app", 2, None, None, false), SECOND, 0);
        agenda.next(SECOND).unwrap();
        agenda.apply(&stream("app", 3, Some(2), None, false), SECOND, 0);
        assert_eq!(due(&mut agenda, SECOND), None);
        finish(&mut agenda, verdict, SECOND);
        assert_eq!(due(&mut agenda, SECOND), Some(vec!["1".to_owned()]), "{verdict:?}");
        finish(&mut agenda, Verdict::Done, SECOND);
        assert_eq!(agenda.wake(), None);
    }
}

#[test]
fn change_while_it_runs_that_was_answered_too_is_over() {
    let mut agenda = Agenda::new(RULES);
    agenda.apply(&stream("app", 2, None, None, true), SECOND, 0);
    agenda.next(SECOND).unwrap();
    agenda.apply(&stream("app", 3, None, None, true), SECOND, 0);
    agenda.apply(&stream("app", 3, Some(3), None, true), SECOND, u64::MAX);
    finish(&mut agenda, Verdict::Done, SECOND);
    assert!(agenda.wake().unwrap() > INTERVAL * 9 / 10);
    agenda.apply(&stream("app", 4, None, None, true), SECOND, 0);
    agenda.next(SECOND).unwrap();
    agenda.apply(&stream("app", 5, None, None, true), SECOND, 0);
    agenda.apply(&stream("app", 5, None, Some(5), true), SECOND, u64::MAX);
    finish(&mut agenda, Verdict::Later(None), SECOND);
    assert!(agenda.wake().unwrap() > RETRY_FIRST * 9 / 10);
}

#[test]
fn what_is_to_be_settled_anew_while_it_runs_is_due_afterwards() {
    let (mut agenda, mut stream) = (Agenda::new(RULES), stream("app", 2, Some(2), None, false));
    stream.spec.docker_image_repository = "q.io/a".into();
    agenda.apply(&stream, SECOND, 0);
    let whole = Some(vec![WHOLE_STREAM.to_owned()]);
    assert_eq!(due(&mut agenda, SECOND), whole);
    // The same once more is no news; what failed for it waits.
    agenda.apply(&stream, SECOND, 0);
    finish(&mut agenda, Verdict::Later(None), SECOND);
    let now = agenda.wake().unwrap();
    assert!(now > SECOND + RETRY_FIRST / 2);
    assert_eq!(due(&mut agenda, now), whole);
    let mut copy = stream.spec.tags[0].clone();
    (copy.name, copy.reference) = ("2".to_owned(), true);
    stream.spec.tags.push(copy);
    agenda.apply(&stream, now, 0);
    finish(&mut agenda, Verdict::Done, now);
    assert_eq!(due(&mut agenda, now), whole);
}

#[test]
fn stream_that_is_deleted_and_made_anew_while_it_runs_hears_nothing_of_the_one_before() {
    let (mut agenda, key) = (Agenda::new(RULES), Key::new("demo", "app"));
    agenda.apply(&stream("app", 1, None, None, false), SECOND, 0);
    let before = agenda.next(SECOND).unwrap();
    agenda.delete(&key);
    agenda.apply(&stream("app", 1, None, None, false), SECOND, 0);
    let after = agenda.next(SECOND).unwrap();
    agenda.finish(&key, before.number, &[("1".to_owned(), Verdict::Done)], SECOND, 0);
    assert_eq!((agenda.states().pending, due(&mut agenda, SECOND)), (1, None));
    agenda.finish(&key, after.number, &[("1".to_owned(), Verdict::Done)], SECOND, 0);
    assert_eq!(agenda.states().pending, 0);
}

#[test]
fn failure_comes_again_after_waits_that_double_up_to_a_limit() {
    let mut agenda = Agenda::new(RULES);
    agenda.apply(&stream("app", 2, None, None, false), SECOND, 0);
    let (mut now, mut waits) = (SECOND, Vec::new());
    for _ in 0..8 {
        agenda.next(now).unwrap();
        agenda.apply(&stream("app", 2, None, Some(2), false), now, 0);
        finish(&mut agenda, Verdict::Later(None), now);
        let next = agenda.wake().unwrap();
        waits.push(next.saturating_sub(now).as_secs());
        now = next;
    }
    let expected = [30_u64, 60, 120, 240, 480, 900, 900, 900];
    for (wait, expected) in waits.iter().zip(expected) {
        assert!((expected * 9 / 10..=expected * 11 / 10).contains(wait), "{waits:?}");
    }
    agenda.next(now).unwrap();
    agenda.apply(&stream("app", 2, Some(2), None, true), now, 0);
    finish(&mut agenda, Verdict::Done, now);
    let wait = agenda.wake().unwrap().saturating_sub(now);
    assert!(wait >= INTERVAL * 9 / 10 && wait <= INTERVAL * 11 / 10, "{wait:?}");
}

#[test]
fn registry_that_asks_for_patience_gets_it() {
    let mut agenda = Agenda::new(RULES);
    agenda.apply(&stream("app", 2, None, None, false), SECOND, 0);
    agenda.next(SECOND).unwrap();
    finish(&mut agenda, Verdict::Later(Some(Duration::from_hours(2))), SECOND);
    assert_eq!(agenda.wake(), Some(SECOND + Duration::from_hours(2)));
}

/// The wait after so many tries that came to this.
fn waits(agenda: &mut Agenda, verdict: Verdict, tries: usize, mut now: Duration) -> Vec<Duration> {
    let mut waits = Vec::new();
    for _ in 0..tries {
        agenda.next(now).unwrap();
        finish(agenda, verdict, now);
        waits.push(agenda.wake().unwrap().saturating_sub(now));
        now = agenda.wake().unwrap();
    }
    waits
}

#[test]
fn home_that_is_away_is_asked_soon_and_less_and_less_often() {
    let mut agenda = Agenda::new(RULES);
    agenda.apply(&stream("app", 2, None, None, false), SECOND, 0);
    let waits = waits(&mut agenda, Verdict::Away(None), 20, SECOND);
    assert!(waits[0] <= SECOND / 3 && waits.windows(2).all(|pair| pair[1] >= pair[0]), "{waits:?}");
    assert!(waits[10..].iter().all(|wait| *wait >= HOME_LONGEST * 9 / 10 && *wait <= HOME_LONGEST), "{waits:?}");
}

#[test]
fn what_waits_for_the_home_is_due_when_it_is_back() {
    for (verdict, longest) in [(Verdict::Away(None), HOME_LONGEST), (Verdict::Refused, RETRY_LONGEST)] {
        let mut agenda = Agenda::new(RULES);
        agenda.apply(&stream("app", 2, None, None, false), SECOND, 0);
        waits(&mut agenda, verdict, 12, SECOND);
        let now = agenda.wake().unwrap().saturating_sub(longest / 2);
        assert_eq!(due(&mut agenda, now), None);
        agenda.home_is_back(now);
        assert_eq!(due(&mut agenda, now), Some(vec!["1".to_owned()]));
        // One that comes and goes does not have everything tried all the time.
        finish(&mut agenda, verdict, now);
        let next = agenda.wake().unwrap();
        assert!(next <= now + RETRY_FIRST * 11 / 10);
        agenda.home_is_back(now + BACK_APART / 2);
        assert_eq!(agenda.wake(), Some(next));
    }
}

#[test]
fn what_is_tried_while_the_home_comes_back_does_not_wait_for_long() {
    let mut agenda = Agenda::new(RULES);
    agenda.apply(&stream("app", 2, None, None, false), SECOND, 0);
    waits(&mut agenda, Verdict::Away(None), 12, SECOND);
    let now = agenda.wake().unwrap();
    agenda.next(now).unwrap();
    agenda.home_is_back(now);
    assert_eq!(due(&mut agenda, now), None);
    finish(&mut agenda, Verdict::Away(None), now);
    assert!(agenda.wake().unwrap() < now + SECOND / 2);
}

#[test]
fn home_that_asks_for_patience_gets_it_also_when_it_is_back() {
    let mut agenda = Agenda::new(RULES);
    agenda.apply(&stream("app", 2, None, None, false), SECOND, 0);
    let asked = Duration::from_secs(40);
    assert_eq!(waits(&mut agenda, Verdict::Away(Some(asked)), 1, SECOND), [asked]);
    agenda.home_is_back(SECOND * 2);
    assert_eq!(agenda.wake(), Some(SECOND + asked));
    // Whoever waits for longer than that need not any more.
    agenda.delete(&Key::new("demo", "app"));
    agenda.apply(&stream("app", 2, None, None, false), SECOND, 0);
    waits(&mut agenda, Verdict::Away(Some(SECOND)), 12, SECOND);
    let now = agenda.wake().unwrap().saturating_sub(HOME_LONGEST / 2);
    agenda.home_is_back(now);
    assert_eq!(agenda.wake(), Some(now));
}

#[test]
fn registry_and_home_do_not_answer_for_each_other() {
    let mut agenda = Agenda::new(RULES);
    agenda.apply(&stream("app", 2, None, None, false), SECOND, 0);
    waits(&mut agenda, Verdict::Away(None), 12, SECOND);
    let now = agenda.wake().unwrap();
    let first = waits(&mut agenda, Verdict::Later(None), 1, now)[0];
    assert!(first <= RETRY_FIRST * 11 / 10, "{first:?}");
    let next = agenda.wake();
    agenda.home_is_back(now);
    assert_eq!(agenda.wake(), next);
}

#[test]
fn what_is_on_schedule_comes_as_slowly_as_ever_when_the_home_is_back() {
    let mut agenda = Agenda::new(Rules { interval: INTERVAL, scheduled_per_minute: 60 });
    let names: Vec<_> = (0..100).map(|number| format!("app-{number}")).collect();
    for name in &names {
        agenda.apply(&stream(name, 1, Some(1), None, true), Duration::ZERO, u64::MAX);
    }
    let mut now = INTERVAL;
    for _ in &names {
        now = agenda.wake().unwrap().max(now);
        let due = agenda.next(now).unwrap();
        agenda.finish(&due.key, due.number, &[("1".to_owned(), Verdict::Away(Some(HOME_LONGEST)))], now, 0);
    }
    now += HOME_LONGEST;
    agenda.home_is_back(now);
    let taken = std::iter::from_fn(|| agenda.next(now)).count();
    assert!((1..=20).contains(&taken), "{taken}");
}

#[test]
fn what_is_refused_for_good_waits_for_a_change() {
    let mut agenda = Agenda::new(RULES);
    agenda.apply(&stream("app", 2, None, None, false), SECOND, 0);
    agenda.next(SECOND).unwrap();
    agenda.apply(&stream("app", 2, None, Some(2), false), SECOND, 0);
    finish(&mut agenda, Verdict::Never, SECOND);
    agenda.apply(&stream("app", 2, None, Some(2), false), SECOND, 0);
    assert_eq!((agenda.wake(), agenda.states().failed), (None, 1));
    agenda.apply(&stream("app", 3, None, Some(2), false), SECOND, 0);
    assert!(due(&mut agenda, SECOND).is_some());
}

#[test]
fn deleted_stream_is_never_due() {
    let mut agenda = Agenda::new(RULES);
    agenda.apply(&stream("app", 2, None, None, false), SECOND, 0);
    agenda.delete(&Key::new("demo", "app"));
    assert_eq!(agenda.next(SECOND), None);
    finish(&mut agenda, Verdict::Later(None), SECOND);
    assert_eq!((agenda.wake(), agenda.states()), (None, States::default()));
}

#[test]
fn schedule_is_spread_and_bounded_in_each_minute() {
    let mut agenda = Agenda::new(Rules { interval: INTERVAL, scheduled_per_minute: 600 });
    for number in 0..10_000_u64 {
        let stream = stream(&format!("app-{number}"), 1, Some(1), None, true);
        agenda.apply(&stream, Duration::ZERO, number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    }
    assert_eq!(agenda.states().scheduled, 10_000);
    let mut per_minute = Vec::new();
    for minute in 0..20_u64 {
        let mut count = 0;
        for second in 0..60 {
            let now = Duration::from_secs(minute * 60 + second);
            while let Some(due) = agenda.next(now) {
                count += due.tags.len();
                let random = count as u64 * 0x9e37_79b9_7f4a;
                agenda.finish(&due.key, due.number, &[("1".to_owned(), Verdict::Done)], now, random);
            }
        }
        per_minute.push(count);
    }
    assert!(per_minute.iter().all(|count| (500..=700).contains(count)), "{per_minute:?}");
    assert!(agenda.overdue(Duration::from_mins(20)) > Duration::ZERO);
    assert_eq!(
        (agenda.late(Duration::from_mins(14)), agenda.late(Duration::from_hours(2))),
        (0, agenda.backlog(Duration::from_hours(2)))
    );
}

#[test]
fn unnumbered_and_copied_tags_make_the_stream_itself_due() {
    let mut agenda = Agenda::new(RULES);
    let mut unnumbered = stream("app", 0, None, None, false);
    unnumbered.spec.tags[0].generation = None;
    agenda.apply(&unnumbered, SECOND, 0);
    assert_eq!(due(&mut agenda, SECOND), Some(vec![WHOLE_STREAM.to_owned(), "1".to_owned()]));
    let mut copied = stream("copy", 1, None, None, false);
    copied.spec.tags[0].reference = true;
    agenda.apply(&copied, SECOND, 0);
    assert_eq!(due(&mut agenda, SECOND), Some(vec![WHOLE_STREAM.to_owned()]));
}

#[test]
fn stream_whose_status_says_another_registry_is_settled() {
    let mut agenda = Agenda::new(RULES).served_at(RegistryHost::At("reg.io".to_owned()));
    let mut stream = stream("app", 2, Some(2), None, false);
    agenda.apply(&stream, SECOND, 0);
    assert_eq!(due(&mut agenda, SECOND), Some(vec![WHOLE_STREAM.to_owned()]));
    stream.status.docker_image_repository = "reg.io/demo/app".into();
    agenda.apply(&stream, SECOND, 0);
    finish(&mut agenda, Verdict::Done, SECOND);
    assert_eq!(due(&mut agenda, SECOND), None);

    let mut agenda = Agenda::new(RULES).served_at(RegistryHost::Nowhere);
    agenda.apply(&stream, SECOND, 0);
    assert_eq!(due(&mut agenda, SECOND), Some(vec![WHOLE_STREAM.to_owned()]));
    let mut agenda = Agenda::new(RULES);
    agenda.apply(&stream, SECOND, 0);
    assert_eq!(due(&mut agenda, SECOND), None);
}

proptest! {
    /// Whatever happens in whatever order, a stream is never given twice at a time, and what is left over is
    /// consistent.
    #[test]
    fn no_stream_runs_twice_at_a_time(steps in prop::collection::vec((0_u8..6, 0_u8..6, 0_i64..4, any::<u64>()), 0..200)) {
        let mut agenda = Agenda::new(RULES);
        let mut running: Vec<Due> = Vec::new();
        let mut now = Duration::ZERO;
        for (step, name, generation, random) in steps {
            now += Duration::from_secs(random % 100);
            let key = Key::new("demo", &name.to_string());
            match step {
                0 => agenda.apply(&stream(&key.name, generation, Some(1), None, true), now, random),
                1 => agenda.apply(&stream(&key.name, generation, None, Some(generation), false), now, random),
                2 => {
                    agenda.delete(&key);
                    running.retain(|due| due.key != key);
                }
                3 => if let Some(due) = agenda.next(now) {
                    prop_assert!(running.iter().all(|other| other.key != due.key));
                    running.push(due);
                },
                4 => agenda.home_is_back(now),
                _ => if let Some(due) = running.pop() {
                    let verdict = [Verdict::Done, Verdict::Again, Verdict::Later(None), Verdict::Never, Verdict::Away(None), Verdict::Refused][usize::from(name)];
                    let verdicts: Vec<_> = due.tags.iter().map(|tag| (tag.clone(), verdict)).collect();
                    agenda.finish(&due.key, due.number, &verdicts, now, random);
                },
            }
            let slots = agenda.urgent.len() + agenda.routine.len();
            let entries: usize = agenda.streams.values().filter(|stream| stream.out.is_none())
                .map(|stream| stream.entries.values().filter(|entry| entry.at.is_some()).count()).sum();
            prop_assert_eq!(slots, entries);
        }
    }
}
