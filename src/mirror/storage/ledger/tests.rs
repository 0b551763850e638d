//! Tests of what a directory is known to have: room, use, order, and looks while things change.

use rstest::rstest;

use super::*;

/// A moment, in seconds since the beginning.
fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn digest(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

/// A ledger with things of 10 bytes, used one second after the other.
fn ledger(names: &[&str]) -> Ledger {
    let mut ledger = Ledger::default();
    for (second, name) in (0..).zip(names) {
        ledger.reserve(&digest(name), 10, at(second));
        ledger.settle(&digest(name), true, at(second));
    }
    ledger
}

fn found(name: &str, size: u64, seconds: u64) -> Found {
    Found { digest: digest(name), size, used: at(seconds) }
}

/// What goes for something new.
fn victims(ledger: &Ledger, room: u64, budget: u64, is_needed: impl Fn(&Digest) -> bool) -> Option<Vec<Digest>> {
    let Some(shortage) = ledger.shortage(&digest("what is to come"), room, budget) else { return Some(Vec::new()) };
    let victims = shortage.victims(ledger.candidates(), is_needed, false)?;
    Some(victims.into_iter().map(|victim| victim.digest).collect())
}

fn total(ledger: &Ledger) -> (u64, usize) {
    (ledger.bytes(), ledger.objects())
}

#[rstest]
#[case::there_is_room(10, 40, &[], Some(""))]
#[case::oldest_first(10, 30, &[], Some("a b"))]
#[case::all_goes(30, 30, &[], Some("a b c"))]
#[case::not_what_is_needed(10, 30, &["a"], Some("b c"))]
#[case::as_much_as_must_be(10, 30, &["a", "b"], Some("c"))]
#[case::everything_is_needed(10, 30, &["a", "b", "c"], None)]
#[case::too_large(31, 30, &[], None)]
#[case::far_too_large(u64::MAX, 30, &[], None)]
fn room_is_made_by_what_was_used_least_lately(
    #[case] room: u64,
    #[case] budget: u64,
    #[case] needed: &[&str],
    #[case] expected: Option<&str>,
) {
    let needed: Vec<_> = needed.iter().map(|name| digest(name)).collect();
    let victims = victims(&ledger(&["a", "b", "c"]), room, budget, |digest| needed.contains(digest));
    let expected = expected.map(|names| names.split_whitespace().map(digest).collect());
    assert_eq!(victims, expected);
}

#[test]
fn room_is_made_for_a_while() {
    let mut ledger = Ledger::default();
    for number in 0..100_u8 {
        ledger.reserve(&Digest::of(&[number]), 1, at(u64::from(number)));
        ledger.settle(&Digest::of(&[number]), true, at(u64::from(number)));
    }
    assert_eq!(victims(&ledger, 1, 100, |_| false).unwrap().len(), 6);
}

#[test]
fn what_is_coming_stays_and_has_its_room() {
    let mut ledger = ledger(&["a"]);
    ledger.reserve(&digest("b"), 5, at(0));
    ledger.reserve(&digest("a"), 10, at(0));
    assert_eq!((total(&ledger), victims(&ledger, 1, 15, |_| false)), ((15, 2), None));
    assert!(!ledger.is_idle(&digest("b")));
    // One of two that bring the same comes too late, which changes nothing.
    ledger.reserve(&digest("b"), 5, at(0));
    ledger.settle(&digest("b"), true, at(1));
    ledger.settle(&digest("b"), false, at(1));
    ledger.settle(&digest("a"), false, at(1));
    assert_eq!((total(&ledger), ledger.is_idle(&digest("b"))), ((15, 2), true));
    ledger.reserve(&digest("c"), 7, at(2));
    ledger.settle(&digest("c"), false, at(2));
    assert_eq!(total(&ledger), (15, 2));
}

#[test]
fn use_is_written_down_now_and_then_and_checks_are_believed_for_a_day() {
    let mut ledger = ledger(&["a"]);
    let known = |touch, is_known| Use { touch, is_known };
    assert_eq!(ledger.use_of(&digest("a"), at(299)), known(false, true));
    assert_eq!(ledger.use_of(&digest("a"), at(300)), known(true, true));
    assert_eq!(ledger.use_of(&digest("a"), at(301)), known(false, true));
    assert_eq!(ledger.use_of(&digest("a"), at(86_400)), known(true, false));
    ledger.checked(&digest("a"), 10, at(86_400));
    assert_eq!(ledger.use_of(&digest("a"), at(86_401)), known(false, true));
    // A clock that went back.
    assert_eq!(ledger.use_of(&digest("a"), at(0)), known(false, true));
    assert_eq!(ledger.use_of(&digest("of another replica"), at(0)), known(true, false));
    ledger.checked(&digest("of another replica"), 5, at(0));
    assert_eq!(ledger.use_of(&digest("of another replica"), at(0)), known(false, true));
    assert_eq!(total(&ledger), (15, 2));
}

#[test]
fn use_by_another_replica_is_news_once() {
    let mut ledger = ledger(&["a", "b"]);
    assert!(!ledger.used_elsewhere(&digest("a"), at(0)));
    assert!(ledger.used_elsewhere(&digest("a"), at(9)));
    assert!(!ledger.used_elsewhere(&digest("a"), at(9)));
    assert_eq!(victims(&ledger, 1, 20, |_| false), Some(vec![digest("b")]));
}

#[test]
fn a_look_finds_what_others_did_and_not_what_was_done_meanwhile() {
    let mut ledger = ledger(&["a", "gone", "deleted"]);
    ledger.reserve(&digest("coming"), 3, at(5));
    ledger.begin_look();
    ledger.forget(&digest("deleted"));
    ledger.reserve(&digest("new"), 7, at(6));
    ledger.settle(&digest("new"), true, at(6));
    ledger.end_look(vec![found("a", 10, 0), found("deleted", 10, 2), found("of another", 20, 4)]);
    assert_eq!(total(&ledger), (10 + 20 + 7 + 3, 4));
    assert_eq!(victims(&ledger, 1, 40, |_| false).unwrap()[0], digest("a"));
    assert!(ledger.use_of(&digest("a"), at(1)).is_known);
    assert!(!ledger.use_of(&digest("of another"), at(4)).is_known);
    ledger.settle(&digest("coming"), false, at(9));
    assert_eq!(total(&ledger), (37, 3));
}

#[test]
fn what_has_another_size_is_to_be_checked_again() {
    let mut ledger = ledger(&["a"]);
    ledger.begin_look();
    ledger.end_look(vec![found("a", 9, 0)]);
    assert_eq!(total(&ledger), (9, 1));
    assert!(!ledger.use_of(&digest("a"), at(1)).is_known);
}

#[test]
fn what_is_replaced_takes_no_further_room() {
    let ledger = ledger(&["a", "b", "c"]);
    assert_eq!(ledger.shortage(&digest("a"), 10, 30), None);
    assert!(ledger.shortage(&digest("a"), 11, 30).is_some());
    assert_eq!((ledger.excess(30), ledger.excess(29)), (None, Some(Shortage { must: 1, enough: 2 })));
}

#[rstest]
#[case::what_nobody_needs_first(10, "a b", "c")]
#[case::then_what_is_needed(20, "a b", "c a")]
#[case::only_as_much_as_must_be(10, "a b c", "a")]
#[case::all(30, "b", "a c b")]
fn what_is_needed_goes_last_if_it_may(#[case] room: u64, #[case] needed: &str, #[case] expected: &str) {
    let ledger = ledger(&["a", "b", "c"]);
    let needed: Vec<_> = needed.split(' ').map(digest).collect();
    let shortage = ledger.shortage(&digest("new"), room, 30).unwrap();
    let victims = shortage.victims(ledger.candidates(), |digest| needed.contains(digest), true).unwrap();
    let expected: Vec<_> = expected.split(' ').map(digest).collect();
    assert_eq!(victims.into_iter().map(|victim| victim.digest).collect::<Vec<_>>(), expected);
}
