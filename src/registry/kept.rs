//! What is remembered of registries for a while, within bounds: whoever writes streams decides how many there are. Time is
//! an argument.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

/// How often what does not count any more is looked for.
const SWEPT_EVERY: Duration = Duration::from_mins(1);

/// Values by their keys. Of those that weigh too much together, the ones go that were not used for longest.
#[derive(Debug)]
pub(super) struct Kept<K, V> {
    weight_max: usize,
    weight: usize,
    entries: HashMap<K, Entry<V>>,
    /// Keys by their last use.
    uses: BTreeMap<u64, K>,
    next_use: u64,
    swept: Option<Instant>,
}

/// What is kept.
#[derive(Debug)]
pub(super) struct Lasting<V> {
    pub(super) value: V,
    pub(super) weight: usize,
    pub(super) until: Instant,
}

#[derive(Debug)]
struct Entry<V> {
    lasting: Lasting<V>,
    used: u64,
}

impl<K: Clone + Eq + Hash, V> Kept<K, V> {
    /// Nothing is kept; what is will weigh so much at most.
    pub(super) fn new(weight_max: usize) -> Self {
        Self { weight_max, weight: 0, entries: HashMap::new(), uses: BTreeMap::new(), next_use: 0, swept: None }
    }

    /// What is kept under a key, if it still counts. That is a use.
    pub(super) fn get(&mut self, key: &K, now: Instant) -> Option<&V> {
        let entry = self.entries.get_mut(key).filter(|entry| entry.lasting.until > now)?;
        if let Some(key) = self.uses.remove(&entry.used) {
            entry.used = self.next_use;
            self.uses.insert(self.next_use, key);
            self.next_use += 1;
        }
        Some(&entry.lasting.value)
    }

    /// Keeps something in place of what was under that key.
    pub(super) fn put(&mut self, key: K, lasting: Lasting<V>, now: Instant) {
        self.remove(&key);
        self.sweep(now);
        if lasting.weight > self.weight_max {
            return;
        }
        while self.weight + lasting.weight > self.weight_max
            && let Some((_, oldest)) = self.uses.pop_first()
        {
            self.remove(&oldest);
        }
        self.weight += lasting.weight;
        self.uses.insert(self.next_use, key.clone());
        self.entries.insert(key, Entry { lasting, used: self.next_use });
        self.next_use += 1;
    }

    /// Keeps it no longer.
    pub(super) fn remove(&mut self, key: &K) {
        if let Some(entry) = self.entries.remove(key) {
            self.weight -= entry.lasting.weight;
            self.uses.remove(&entry.used);
        }
    }

    /// Drops what does not count any more, now and then.
    fn sweep(&mut self, now: Instant) {
        if self.swept.is_some_and(|swept| now < swept + SWEPT_EVERY) {
            return;
        }
        self.swept = Some(now);
        let over: Vec<K> =
            self.entries.iter().filter(|(_, entry)| entry.lasting.until <= now).map(|(key, _)| key.clone()).collect();
        for key in over {
            self.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lasting(weight: usize, until: Instant) -> Lasting<usize> {
        Lasting { value: weight, weight, until }
    }

    #[test]
    fn what_was_not_used_for_longest_makes_room() {
        let (mut kept, now) = (Kept::new(10), Instant::now());
        let until = now + Duration::from_secs(1);
        kept.put("a", lasting(4, until), now);
        kept.put("b", lasting(4, until), now);
        assert_eq!(kept.get(&"a", now), Some(&4));
        kept.put("c", lasting(6, until), now);
        assert_eq!(["a", "b", "c"].map(|key| kept.get(&key, now).copied()), [Some(4), None, Some(6)]);
        kept.put("d", lasting(11, until), now);
        assert_eq!(["a", "c", "d"].map(|key| kept.get(&key, now).copied()), [Some(4), Some(6), None]);
        kept.put("a", lasting(1, until), now);
        kept.put("e", lasting(3, until), now);
        assert_eq!(["a", "c", "e"].map(|key| kept.get(&key, now).copied()), [Some(1), Some(6), Some(3)]);
        for key in ["a", "c", "e", "f"] {
            kept.remove(&key);
        }
        assert_eq!((kept.weight, kept.entries.len(), kept.uses.len()), (0, 0, 0));
    }

    #[test]
    fn what_does_not_count_any_more_is_dropped() {
        let (mut kept, now) = (Kept::new(1000), Instant::now());
        for key in 0..100 {
            kept.put(key, lasting(1, now + Duration::from_secs(1)), now);
        }
        assert_eq!(kept.get(&0, now + Duration::from_secs(1)), None);
        let later = now + SWEPT_EVERY;
        kept.put(100, lasting(1, later + Duration::from_secs(1)), later);
        assert_eq!((kept.weight, kept.entries.len(), kept.uses.len()), (1, 1, 1));
        assert_eq!(kept.get(&100, later), Some(&1));
    }
}
