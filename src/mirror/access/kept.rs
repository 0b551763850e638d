//! What was decided lately, and for how long it counts. Bounded; time is an argument.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a yes counts.
const YES: Duration = Duration::from_mins(1);
/// How long it counts while nobody can be asked.
const YES_UNASKED: Duration = Duration::from_mins(10);
/// How long a no counts: whoever is given a right need not wait long.
const NO: Duration = Duration::from_secs(10);
/// How many are kept of each.
const KEPT_MAX: usize = 10_000;

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer<V> {
    /// With what goes with it.
    Yes(V),
    No,
}

/// Answers by their questions: a yes with what goes with it, or a no.
pub(super) struct Kept<K, V> {
    yes: Mutex<HashMap<K, (Instant, V)>>,
    no: Mutex<HashMap<K, Instant>>,
}

impl<K, V> Default for Kept<K, V> {
    fn default() -> Self {
        Self { yes: Mutex::default(), no: Mutex::default() }
    }
}

impl<K: Eq + Hash, V: Clone> Kept<K, V> {
    /// What was decided, if that still counts.
    pub(super) fn get(&self, question: &K, now: Instant) -> Option<Answer<V>> {
        if let Some((at, answer)) = locked(&self.yes).get(question)
            && now.saturating_duration_since(*at) < YES
        {
            return Some(Answer::Yes(answer.clone()));
        }
        let said_no = locked(&self.no).get(question).copied();
        said_no.filter(|at| now.saturating_duration_since(*at) < NO).map(|_| Answer::No)
    }

    /// The yes of some time ago, for when nobody can be asked.
    pub(super) fn get_old(&self, question: &K, now: Instant) -> Option<V> {
        let known = locked(&self.yes);
        let (_, answer) = known.get(question).filter(|(at, _)| now.saturating_duration_since(*at) < YES_UNASKED)?;
        Some(answer.clone())
    }

    /// It was decided at that time. Who only brings wrong questions can crowd out nobody's yes.
    pub(super) fn put(&self, question: K, answer: Answer<V>, now: Instant) {
        if let Answer::Yes(answer) = answer {
            let mut known = locked(&self.yes);
            make_room(&mut known, |(at, _)| now.saturating_duration_since(*at) < YES_UNASKED);
            known.insert(question, (now, answer));
            return;
        }
        locked(&self.yes).remove(&question);
        let mut known = locked(&self.no);
        make_room(&mut known, |at| now.saturating_duration_since(*at) < NO);
        known.insert(question, now);
    }
}

/// What does not count any more goes; if that is not enough, all of it.
fn make_room<K: Eq + Hash, V>(known: &mut HashMap<K, V>, counts: impl Fn(&V) -> bool) {
    if known.len() >= KEPT_MAX {
        known.retain(|_, value| counts(value));
    }
    if known.len() >= KEPT_MAX {
        known.clear();
    }
}

fn locked<T>(known: &Mutex<T>) -> MutexGuard<'_, T> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yes_counts_longer_than_no_and_longest_while_nobody_can_be_asked() {
        let (kept, began) = (Kept::default(), Instant::now());
        let after = |seconds: u64| began + Duration::from_secs(seconds);
        kept.put("a", Answer::Yes(1), began);
        kept.put("b", Answer::No, began);
        assert_eq!((kept.get(&"a", after(59)), kept.get(&"a", after(60))), (Some(Answer::Yes(1)), None));
        assert_eq!((kept.get(&"b", after(9)), kept.get(&"b", after(10))), (Some(Answer::No), None));
        assert_eq!((kept.get_old(&"a", after(599)), kept.get_old(&"a", after(600))), (Some(1), None));
        assert_eq!((kept.get_old(&"b", began), kept.get(&"c", began)), (None, None));
        // Whoever was refused since is not let in any more.
        kept.put("a", Answer::No, after(1));
        assert_eq!((kept.get(&"a", after(2)), kept.get_old(&"a", after(2))), (Some(Answer::No), None));
        kept.put("a", Answer::Yes(2), after(3));
        assert_eq!(kept.get(&"a", after(4)), Some(Answer::Yes(2)));
    }

    #[test]
    fn memory_is_bounded_and_nonsense_crowds_out_nobody() {
        let (kept, now) = (Kept::default(), Instant::now());
        kept.put(0, Answer::Yes(()), now);
        for number in 1..3 * KEPT_MAX {
            kept.put(number, Answer::No, now);
        }
        assert!(locked(&kept.no).len() <= KEPT_MAX);
        assert_eq!(kept.get(&0, now), Some(Answer::Yes(())));
        for number in 0..3 * KEPT_MAX {
            kept.put(number, Answer::Yes(()), now);
        }
        assert!(locked(&kept.yes).len() <= KEPT_MAX);
    }
}
