//! What was of use lately: so much and no more, and what was not used for longest goes first.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Values that were used lately, each with a weight.
pub(super) struct Recent<K, V> {
    limit: usize,
    state: Mutex<State<K, V>>,
}

struct State<K, V> {
    entries: HashMap<K, Entry<V>>,
    /// When each was used last, by a clock that ticks with each use.
    by_use: BTreeMap<u64, K>,
    clock: u64,
    weight: usize,
}

struct Entry<V> {
    value: V,
    weight: usize,
    used: u64,
}

impl<K: Clone + Eq + Hash, V: Clone> Recent<K, V> {
    /// All together weigh at most `limit`.
    pub(super) fn new(limit: usize) -> Self {
        let state = State { entries: HashMap::new(), by_use: BTreeMap::new(), clock: 0, weight: 0 };
        Self { limit, state: Mutex::new(state) }
    }

    /// The value of a key, which is used thereby.
    pub(super) fn get(&self, key: &K) -> Option<V> {
        let mut state = self.locked();
        let State { entries, by_use, clock, .. } = &mut *state;
        let entry = entries.get_mut(key)?;
        *clock += 1;
        by_use.remove(&entry.used);
        by_use.insert(*clock, key.clone());
        entry.used = *clock;
        Some(entry.value.clone())
    }

    /// Keeps a value in place of the one that is there.
    pub(super) fn put(&self, key: K, value: V, weight: usize) {
        let mut state = self.locked();
        state.remove(&key);
        state.clock += 1;
        let used = state.clock;
        state.weight += weight;
        state.by_use.insert(used, key.clone());
        state.entries.insert(key, Entry { value, weight, used });
        while state.weight > self.limit {
            let Some(oldest) = state.by_use.first_key_value().map(|(_, key)| key.clone()) else { return };
            state.remove(&oldest);
        }
    }

    fn locked(&self) -> MutexGuard<'_, State<K, V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash, V> State<K, V> {
    fn remove(&mut self, key: &K) {
        if let Some(entry) = self.entries.remove(key) {
            self.by_use.remove(&entry.used);
            self.weight -= entry.weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let recent = Recent::new(3);
        for key in ["a", "b", "c"] {
            recent.put(key, key.to_owned(), 1);
        }
        assert_eq!(recent.get(&"a").as_deref(), Some("a"));
        recent.put("d", "d".to_owned(), 1);
        assert_eq!(["a", "b", "c", "d"].map(|key| recent.get(&key).is_some()), [true, false, true, true]);
        recent.put("d", "e".to_owned(), 2);
        assert_eq!((recent.get(&"a"), recent.get(&"c").is_some()), (None, true));
        assert_eq!(recent.get(&"d").as_deref(), Some("e"));
        recent.put("f", "f".to_owned(), 4);
        assert!(recent.get(&"f").is_none() && recent.get(&"d").is_none());
    }
}
